"""One fixup, from the files of the outputs to files that are written and checked; and one after the other for all of a store."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nix_harden.errors import FindingsRefused, HardenError, SeveralErrors
from nix_harden.fixup import packages, references, report
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.outputs import Read, read_outputs
from nix_harden.fixup.plan import leave, make_plan
from nix_harden.model import Output, Plan
from nix_harden.saying.progress import Progress
from nix_harden.settings import Settings

if TYPE_CHECKING:
    from nix_harden.fixup.write import Written
    from nix_harden.prelinking.outputs import Done

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Together:
    """Packages that were hardened by one fixup, and the paths of its inputs; `plan` is None where `error` says why it failed."""

    packages: tuple[Output, ...]
    inputs: tuple[str, ...]
    plan: Plan | None
    written: "Written | None" = None
    error: HardenError | None = None


def fixup(settings: Settings, say: Say) -> "tuple[Plan, Written | None]":
    """Read, resolve, decide, prove, write and check, and prelink where that is asked for; `say` is told what people should know, before a byte changes.

    Raises a HardenError where the outputs cannot be hardened.
    """
    found = read(settings)
    for error in found.unread:
        say(f"{report.NAME}: {'error' if settings.strict else 'warning'}: {error}; left as it is")
    catalog = Catalog(settings, found)
    plan = _proven(found, catalog, settings) if found.files else Plan(())
    if refused := tuple(references.refused(plan, references.from_environ(os.environ, settings), settings)):
        raise SeveralErrors(refused)
    warnings = list(report.findings(plan))
    reasons = report.reasons(plan) if settings.verbose else ()
    for line in (*reasons, *report.remarks(plan, settings), *report.outdated(_outdated(plan, catalog)), *warnings):
        say(line)
    if settings.strict and (found.unread or warnings):
        raise FindingsRefused(len(found.unread) + len(warnings))
    written = write(plan, settings)
    if written is not None:
        from nix_harden.fixup.check import check
        from nix_harden.fixup.proof import confirm

        if written.refused:
            plan = leave(plan, written.refused)
            try:
                confirm(plan, catalog, settings, searches=False)
                if settings.strict:
                    raise FindingsRefused(len(written.refused), written=True)
            except HardenError:
                for line in report.written(written):
                    say(line)
                raise
        check(plan, settings)
    if settings.prelink:
        prelink(settings, say)
    return plan, written


def prelink(settings: Settings, say: Say) -> "tuple[Done, ...]":
    """Prelink the programs of the outputs that have enough to gain, and say what became of each."""
    from nix_harden.prelinking import outputs

    done = outputs.prelink_outputs(settings)
    for line in outputs.text(done, settings):
        say(line)
    if settings.strict and (failures := outputs.failures(done)):
        raise FindingsRefused(failures, written=True)
    return done


def _outdated(plan: Plan, catalog: Catalog) -> dict[str, str]:
    """The modules of prelinked programs that are written, or load what is, by program."""
    found = ((each.file.paths[0], catalog.module(each.file.object)) for each in plan.decisions)
    modules = {path: module for path, module in found if module is not None}
    edited = {os.path.realpath(path) for edit in plan.edits for path in edit.paths} if modules else set()
    return {
        path: module.path
        for path, module in modules.items()
        if not edited.isdisjoint((os.path.realpath(path), *module.objects()))
    }


def _proven(found: Read, catalog: Catalog, settings: Settings) -> Plan:
    from nix_harden.fixup.proof import settle

    return settle(lambda held: make_plan(found.files, catalog, settings, held), catalog, settings, searches=False)


def fixup_store(settings: Settings, say: Say, progress: Progress) -> Iterator[Together]:
    """Harden every package of the store directory, each once all that it refers to is done; one that fails keeps none of the others.

    Raises UsageError, ReadError where the directory holds no packages to change.
    """
    found = packages.packages(settings.store, dry_run=settings.dry_run)
    refers_to = packages.references(found, settings.store, progress)
    outputs = {package.name: package for package in found}
    done = 0
    for names in packages.order(refers_to):
        progress(done, len(found), names[0])
        mine = tuple(outputs[name] for name in names)
        inputs = tuple(outputs[name].path for name in packages.closure(names, refers_to))
        try:
            plan, written = fixup(replace(settings, outputs=mine, inputs=inputs), say)
            yield Together(mine, inputs, plan, written)
        except HardenError as error:
            yield Together(mine, inputs, None, None, error)
        done += len(names)


def read(settings: Settings) -> Read:
    """What lies in the outputs, without the copies that a killed run has left there."""
    found = read_outputs(settings.outputs)
    if found.leftovers and not settings.dry_run:
        from nix_harden.fixup.write import remove_leftovers

        remove_leftovers(found.leftovers)
    return found


def write(plan: Plan, settings: Settings) -> "Written | None":
    """Carry out a plan, unless this is a dry run or nothing is to be written: None then."""
    if settings.dry_run or not plan.edits:
        return None
    from nix_harden.fixup.write import outputs_of_build, write_all

    return write_all(plan.edits, settings, outputs_of_build(os.environ, settings))
