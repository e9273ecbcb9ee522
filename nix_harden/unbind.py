"""The way back: absolute names become bare again, and the search path gets the directories that they named; pure."""

import os
import re
from collections.abc import Mapping, Sequence

from nix_harden.model import Decision, Edit, File, PathAction, Plan, Verdict
from nix_harden.policy import FILE_RULES, FileCase, first
from nix_harden.search import own_text
from nix_harden.settings import Settings

# What nuke-refs and remove-references-to leave of a store path: a hash of nothing but e.
NUKED = re.compile(r"/e{32}-")
UNBOUND = "was bound"


def make_plan(files: Sequence[File], copies: Mapping[str, str], settings: Settings) -> Plan:
    """Unbind every file: NEEDED, SONAME and version needs by their basenames, each directory once in the search path.

    `copies` maps an absolute name to the copy that is to be found instead.
    """
    return Plan(tuple(_decide(file, copies, settings) for file in files))


def _decide(file: File, copies: Mapping[str, str], settings: Settings) -> Decision:
    obj = file.object
    if fired := first(FILE_RULES, FileCase(file), settings):
        rule, detail = fired
        return Decision(file, Verdict(obj.path, None, rule.name, detail), None, (), (), "", None)
    needed = tuple(
        Verdict(name, os.path.basename(name), UNBOUND) if os.path.isabs(name) else Verdict(name, None, "bare already")
        for name in obj.needed
    )
    soname = None
    if obj.soname is not None and os.path.isabs(obj.soname):
        soname = Verdict(obj.soname, os.path.basename(obj.soname), UNBOUND)
    text, _ = own_text(obj)
    have = [entry for entry in text.split(":") if entry]
    added = [
        directory
        for directory in dict.fromkeys(os.path.dirname(copies.get(each.name, each.name)) for each in needed if each.new)
        if directory not in have and not NUKED.search(directory)
    ]
    replaced = tuple(dict.fromkeys((verdict.name, verdict.new) for verdict in needed if verdict.new))
    edit = None
    if replaced or soname:
        edit = Edit(
            file.paths,
            obj,
            soname.new if soname else None,
            replaced,
            PathAction.SET if added else PathAction.KEEP,
            ":".join([*have, *added]),
            obj.rpath is not None and obj.runpath is None,
        )
    return Decision(file, None, soname, needed, (), f"gets back {' '.join(added)}" if added else "as it is", edit)
