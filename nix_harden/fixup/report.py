"""From values to text and JSON; decides nothing."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nix_harden.fixup.plan import BOUND_ALREADY
from nix_harden.fixup.policy import ANSWERS, EXCLUDED, NEEDED_RULES
from nix_harden.model import ABSENT, Decision, Kind, Plan, Resolution, Verdict
from nix_harden.names import LIBC
from nix_harden.saying.words import count, human
from nix_harden.settings import Settings, matches

if TYPE_CHECKING:
    from nix_harden.fixup.run import Together
    from nix_harden.fixup.write import Written

NAME = "nix-harden-needed"
THE_LOADER = NEEDED_RULES[0].name
# Files that nobody expects to be bound.
EXPECTED = frozenset(("nothing dynamic", "separate debug file"))
NOT_FOUND = "not found"
NO_LIBC = "not found: no C library is in sight, neither of a program here nor of an input; --input says where it is"
# What every C library has, under these names.
THE_LIBC = ("libc.so.*", "libc.so", "libm.so.*", "libpthread.so.*", "libdl.so.*", "librt.so.*")
FEW = 4  # directories that a warning lists
ADVICE = {NOT_FOUND: "tried: ", "two different files": "say which with hardenNeededBind: "}
FINDINGS = frozenset(rule.name for rule in NEEDED_RULES if rule.finding)


def summary(plan: Plan, settings: Settings) -> Iterator[str]:
    """One line an output that has ELF files: its libraries and programs, the names bound, what was left and why."""
    outputs = [output.name for output in settings.outputs]
    by_output = {name: [decision for decision in plan.decisions if decision.file.output == name] for name in outputs}
    for name, decisions in by_output.items():
        if decisions:
            yield f"{NAME}: {name}: {_contents(decisions)}; {_names(decisions, settings)}{_left_alone(decisions)}"
    if not plan.decisions:
        yield f"{NAME}: no ELF files in {', '.join(outputs)}"


def total(done: "Sequence[Together]", settings: Settings) -> str:
    """One line for all packages of a store: how many there are, what was written, and how many failed."""
    plans = [each.plan for each in done if each.plan is not None]
    holders = {decision.file.output for plan in plans for decision in plan.decisions}
    packages = count(sum(len(each.packages) for each in done), "package", "packages")
    failed = sum(len(each.packages) for each in done if each.error is not None)
    without = sum(len(each.packages) for each in done) - len(holders) - failed
    bound = sum(is_newly_bound(verdict) for plan in plans for each in plan.decisions for verdict in each.needed)
    files = sum(len(each.written.outcomes) for each in done if each.written)
    in_place = sum(each.written.in_place for each in done if each.written)
    words = f"{NAME}: {packages}, {without} without ELF files: {_bound(bound, settings)}"
    words += f"; {count(files, 'file', 'files')} written, {in_place} in place" if not settings.dry_run else ""
    return words + (f"; {failed} failed" if failed else "")


def _contents(decisions: Sequence[Decision]) -> str:
    kinds = Counter(decision.file.object.kind for decision in decisions)
    counts = [count(kinds[Kind.LIBRARY], "library", "libraries"), count(kinds[Kind.PROGRAM], "program", "programs")]
    if kinds[Kind.PLUGIN]:
        counts.append(count(kinds[Kind.PLUGIN], "plugin", "plugins"))
    return ", ".join(counts)


def _names(decisions: Sequence[Decision], settings: Settings) -> str:
    verdicts = [verdict for decision in decisions for verdict in decision.needed]
    bound = sum(is_newly_bound(verdict) for verdict in verdicts)
    already = sum(verdict.why == BOUND_ALREADY for verdict in verdicts)
    bare = Counter(
        (verdict.name, verdict.why) for verdict in verdicts if verdict.new is None and verdict.why != THE_LOADER
    )
    text = _bound(bound, settings)
    if already:
        text += f" ({already} already)"
    if bare:
        text += f", {bare.total()} left bare: {_list(bare)}"
    return text


def _bound(number: int, settings: Settings) -> str:
    return f"{count(number, 'name', 'names')} {'would be bound' if settings.dry_run else 'bound'}"


def _left_alone(decisions: Sequence[Decision]) -> str:
    skipped = [decision.skipped for decision in decisions if decision.skipped]
    told = Counter((os.path.basename(verdict.name), verdict.why) for verdict in skipped if verdict.why not in EXPECTED)
    return f"; {count(told.total(), 'file', 'files')} left alone: {_list(told)}" if told else ""


def _list(reasons: Counter[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({why})" + (f" ×{times}" if times > 1 else "") for (name, why), times in reasons.items())


def findings(plan: Plan) -> Iterator[str]:
    """A sentence for each name that nobody can bind without help, however many files have it, and one for all names of a missing C library."""
    found = [
        _Left(decision.file.object.path, verdict, resolution)
        for decision in plan.decisions
        for verdict, resolution in zip(decision.needed, decision.resolutions, strict=False)
        if verdict.new is None and (verdict.why in FINDINGS or "/" in verdict.name)
    ]
    no_libc = any(left.lacks(THE_LIBC) for left in found)
    grouped: dict[tuple[str, str], list[_Left]] = {}
    for left in found:
        same = no_libc and left.lacks(LIBC)
        grouped.setdefault(("", NO_LIBC) if same else (left.verdict.name, left.verdict.why), []).append(left)
    for (_, why), places in grouped.items():
        names = list(dict.fromkeys(left.verdict.name for left in places))
        path, verdict = places[0].path, places[0].verdict
        files = len({left.path for left in places}) - 1
        others = f" and in {count(files, 'more file', 'more files')}" if files else ""
        stays = f"{'stays' if len(names) == 1 else 'stay'} {'as it is' if '/' in verdict.name else 'bare'}"
        detail = _tried(places[0])
        advice = f" ({ADVICE.get(verdict.why, '')}{detail})" if detail else ""
        yield f"{NAME}: warning: {path}: {', '.join(names)} {stays}{others}: {why}{advice}"


@dataclass(frozen=True, slots=True)
class _Left:
    """A name of a file that stays as it is, by the verdict on it."""

    path: str
    verdict: Verdict
    resolution: Resolution

    def lacks(self, names: Sequence[str]) -> bool:
        """Whether it is one of these names, and no file was found for it."""
        return self.verdict.why == NOT_FOUND and matches(names, self.verdict.name) is not None


def _tried(left: _Left) -> str:
    """The detail of a verdict; of many directories that hold nothing of the name, how many there are."""
    tried = {at.path: at for at in left.resolution.tried}
    if left.verdict.why != NOT_FOUND or len(tried) <= FEW:
        return left.verdict.detail
    absent = sum(at.why == ABSENT for at in tried.values())
    refused = [f"{at.path} ({at.why})" for at in tried.values() if at.why != ABSENT]
    rest = [*refused[:FEW], *([f"{len(refused) - FEW} more that hold it"] if len(refused) > FEW else [])]
    return "; ".join([*rest, f"{absent} directories without it, which --verbose or NIX_DEBUG=1 lists"])


def remarks(plan: Plan, settings: Settings) -> Iterator[str]:
    """A sentence for what is left so that no program breaks, and for what is done as asked and may not be what is meant."""
    for decision in plan.decisions:
        if decision.soname and decision.soname.why == ANSWERS:
            yield f"{NAME}: {decision.file.object.path}: SONAME {decision.soname.name} stays: {_because(decision.soname)}"
        for verdict in decision.needed:
            if verdict.why == ANSWERS:
                yield f"{NAME}: {decision.file.object.path}: {verdict.name} stays as it is: {_because(verdict)}"
            if verdict.why == BOUND_ALREADY and verdict.detail:
                path = decision.file.object.path
                yield f"{NAME}: warning: {path}: is bound to {verdict.name}, though {verdict.detail} is here; `nix-harden unharden` first if that is meant"
    yield from _shared(plan)


def outdated(modules: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each program whose module will not fit what is written."""
    for path, module in modules.items():
        yield f"{NAME}: warning: {path}: its module {module} does not fit what is written now, so that ld.so does all by itself; prelink it again"


def idle(plans: Sequence[Plan], settings: Settings) -> Iterator[str]:
    """A sentence for each name that the user gives a meaning to, and that nothing needs."""
    needed = {name for plan in plans for decision in plan.decisions for name in decision.file.object.needed}
    for name, _ in settings.bind:
        if name not in needed:
            yield f"{NAME}: warning: hardenNeededBind names {name}, which no file here needs"


def _shared(plan: Plan) -> Iterator[str]:
    """A sentence where a plugin of another build, which no walk sees, may have shared a library by its SONAME and will do so no more."""
    changed = [
        each
        for each in plan.decisions
        if each.edit and each.edit.soname and "/" not in (each.edit.before.soname or "/")
    ]
    opener = next((each.file.object.path for each in plan.decisions if each.file.object.opens_libraries), None)
    if changed and opener:
        first = changed[0].edit.before.soname if changed[0].edit else ""
        rest = f" and {count(len(changed) - 1, 'more SONAME', 'more SONAMEs')}" if len(changed) > 1 else ""
        yield f'{NAME}: warning: {opener} opens libraries, and {first}{rest} become absolute: a plugin of another build that names one of them loads its own copy; hardenNeededMode = "needed" keeps them shared'


def written(done: "Written | None") -> Iterator[str]:
    """A sentence for each file that was not, and how many were written, in which of the two ways; none where none was to be."""
    if done is None:
        return
    for refused in done.refused:
        yield f"{NAME}: warning: {refused}"
    for path, why in done.blind:
        yield f"{NAME}: warning: {path}: written, and read again by nix-harden alone: pyelftools fails on it ({why})"
    files, in_place = len(done.outcomes), done.in_place
    if files:
        added = sum(each.added for each in done.outcomes)
        growth = f", which added {human(added)}" if added > 0 else ""
        yield f"{NAME}: {count(files, 'file', 'files')} written, {in_place} in place and {files - in_place} by patchelf{growth}"


def still_absolute(plan: Plan) -> Iterator[str]:
    """A sentence for each name that unharden did not make bare, but for those of files that the user leaves out."""
    for decision in plan.decisions:
        obj, skipped = decision.file.object, decision.skipped
        if skipped is not None and skipped.why == EXCLUDED:
            continue
        verdicts = [*decision.needed, *([decision.soname] if decision.soname else [])]
        if skipped is not None:
            verdicts = [replace(skipped, name=name) for name in (*obj.needed, *([obj.soname] if obj.soname else []))]
        for verdict in verdicts:
            if verdict.new is None and os.path.isabs(verdict.name):
                yield f"{NAME}: warning: {obj.path}: {verdict.name} stays absolute: {_because(verdict)}"


def reasons(plan: Plan) -> Iterator[str]:
    """Every decision on every file, with the rule or the search that made it."""
    for decision in plan.decisions:
        path = decision.file.object.path
        if decision.skipped:
            yield f"{path}: left alone ({_because(decision.skipped)})"
            continue
        if decision.soname:
            yield f"{path}: SONAME {_outcome(decision.soname)}"
        for verdict in decision.needed:
            yield f"{path}: NEEDED {_outcome(verdict)}"
        yield f"{path}: search path {decision.edit.action.value if decision.edit else 'keep'} ({decision.runpath})"


def as_json(plan: Plan) -> dict[str, Any]:
    """The whole plan as plain values, as schemas/plan.json says."""
    return {"version": 1, "files": [_file(decision) for decision in plan.decisions]}


def as_json_of_store(done: "Sequence[Together]", store: str) -> dict[str, Any]:
    """The plans for all packages of a store as plain values, as schemas/store.json says."""
    return {
        "version": 1,
        "store": store,
        "fixups": [
            {
                "packages": [package.path for package in each.packages],
                "inputs": list(each.inputs),
                "errors": str(each.error).splitlines() if each.error is not None else [],
                "plan": each.plan and as_json(each.plan),
            }
            for each in done
        ],
    }


def is_newly_bound(verdict: Verdict) -> bool:
    return verdict.new is not None and verdict.new != verdict.name


def _because(verdict: Verdict) -> str:
    return f"{verdict.why}: {verdict.detail}" if verdict.detail else verdict.why


def _outcome(verdict: Verdict) -> str:
    if verdict.new is None:
        return f"{verdict.name or 'none'} stays ({_because(verdict)})"
    if verdict.why == BOUND_ALREADY:
        return f"{verdict.name} ({BOUND_ALREADY})"
    return f"{verdict.name} -> {verdict.new} ({_because(verdict)})"


def _file(decision: Decision) -> dict[str, Any]:
    obj, edit = decision.file.object, decision.edit
    # the way back searches for nothing
    resolutions = decision.resolutions or tuple(Resolution(verdict.name, None, "") for verdict in decision.needed)
    return {
        "path": obj.path,
        "links": list(decision.file.paths[1:]),
        "output": decision.file.output,
        "kind": obj.kind.value,
        "abi": str(obj.abi),
        "skipped": decision.skipped and _because(decision.skipped),
        "soname": decision.soname and _verdict(decision.soname),
        "needed": [
            {**_verdict(verdict), **_trail(resolution)}
            for verdict, resolution in zip(decision.needed, resolutions, strict=True)
        ],
        "search_path": {
            "tag": "RPATH" if obj.rpath is not None and obj.runpath is None else "RUNPATH",
            "old": obj.runpath if obj.runpath is not None else obj.rpath,
            "action": edit.action.value if edit else "keep",
            "new": edit.search_path if edit and edit.search_path else None,
            "why": decision.runpath,
        },
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"old": verdict.name, "new": verdict.new, "why": verdict.why, "detail": verdict.detail}


def _trail(resolution: Resolution) -> dict[str, Any]:
    return {
        "file": resolution.candidate and resolution.candidate.real,
        "found_by": resolution.how or None,
        "tried": [{"path": tried.path, "why": tried.why} for tried in resolution.tried],
        "rivals": [rival.path for rival in resolution.rivals],
    }
