"""The audits of many packages as one: totals, rows for tables, and what differs from another state; pure but for reading.

What is kept of a package is a few rows, so that memory grows with programs and findings, and not with what an audit says of each file.
"""

import csv
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from nix_harden import __version__
from nix_harden.errors import ReadError, UsageError
from nix_harden.saying.progress import Progress

AUDIT = "audit.json"
BARE, TWICE = "bare-name", "soname-twice"
WORST = 10
COLUMNS = ("name", "files", "programs", "error", "warning", "note", "bare", "lookups", "lookups_bare", "symbols")
COMPARED = ("packages", "files", "programs", "error", "warning", "bare", "lookups", "symbols")

Row = dict[str, Any]


def join(path: str, before: str | None, progress: Progress) -> Row:
    """What the audits in a list say together, as schemas/set.json has it. Raises ReadError, UsageError."""
    old = _read(before) if before is not None else None
    if old is not None and not (isinstance(old, dict) and {"summary", "packages"} <= old.keys()):
        raise UsageError("--before", f"{before} is not what `nix-harden audit-set --json` prints; say a file that is")
    packages: list[Row] = []
    programs: list[Row] = []
    findings: list[Row] = []
    unknown: list[str] = []
    bare: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    checks: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    lines = list(_lines(path))
    for number, (name, place) in enumerate(lines):
        progress(number, len(lines), name)
        if place is None:
            unknown.append(name)
            continue
        audit = _audit(place)
        package, own = _package(name, audit)
        packages.append(package)
        programs += own
        for each in audit["findings"]:
            if each["check"] == BARE:
                bare[each["reason"] or "", each["severity"]][name] += 1
            else:
                checks[each["check"], each["severity"]][name] += 1
                if each["severity"] != "note":
                    kept = ("severity", "check", "path", "subject", "message")
                    findings.append({"package": name} | {key: each[key] for key in kept})
    summary = _summary(packages, unknown)
    return {
        "version": 1,
        "nix_harden": __version__,
        "summary": summary,
        "before": None if old is None else _compared(old, summary, packages),
        "packages": packages,
        "programs": programs,
        "findings": findings,
        "reasons": [_counted(("reason", "severity"), key, found) for key, found in sorted(bare.items())],
        "checks": [_counted(("check", "severity"), key, found) for key, found in sorted(checks.items())],
        "duplicates": list(_duplicates(findings)),
        "worst": [each["name"] for each in sorted(packages, key=_badness)[:WORST] if any(_badness(each)[:3])],
        "not_evaluated": unknown,
    }


def _lines(path: str) -> Iterator[tuple[str, str | None]]:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file.read().splitlines():
                name, tab, place = line.partition("\t")
                if name:
                    yield name, place if tab else None
    except (OSError, UnicodeDecodeError) as error:
        raise ReadError(path, str(getattr(error, "strerror", None) or error)) from error


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise ReadError(path, f"it is no JSON: {error}") from error


def _audit(place: str) -> Any:
    """One audit. Raises ReadError."""
    path = os.path.join(place, AUDIT) if os.path.isdir(place) else place
    found = _read(path)
    if not isinstance(found, dict) or not {"roots", "findings", "summary"} <= found.keys():
        raise ReadError(path, "it is not what `nix-harden audit --json` prints")
    return found


def _package(name: str, audit: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """The row of a package, and those of its programs."""
    started = [root for root in audit["roots"] if root["lookups"] is not None]
    programs = [
        {
            "package": name,
            "path": root["path"],
            "libraries": max(0, root["objects"] - 1),
            "lookups": root["lookups"]["now"],
            "lookups_bare": root["lookups"]["bare"],
            "symbols": root["symbols"],
        }
        for root in started
    ]
    counted = Counter(each["severity"] for each in audit["findings"])
    is_open = [each for each in audit["findings"] if each["check"] == BARE and each["severity"] != "note"]
    row = {
        "name": name,
        "files": audit["summary"]["files"],
        "programs": len(programs),
        **{severity: counted[severity] for severity in ("error", "warning", "note")},
        "bare": len(is_open),
        **{key: sum(each[key] or 0 for each in programs) for key in ("lookups", "lookups_bare", "symbols")},
    }
    return row, programs


def _badness(package: Mapping[str, Any]) -> tuple[Any, ...]:
    """Errors first, then warnings, then lookups in vain."""
    return -package["error"], -package["warning"], -package["lookups"], package["name"]


def _summary(packages: list[Row], unknown: list[str]) -> Row:
    sums = {key: sum(each[key] for each in packages) for key in COLUMNS[1:]}
    return {"packages": len(packages), "not_evaluated": len(unknown), **sums}


def _counted(names: tuple[str, str], key: tuple[str, str], found: Counter[str]) -> Row:
    most = [name for name, _ in sorted(found.items(), key=lambda each: (-each[1], each[0]))]
    return {**dict(zip(names, key, strict=True)), "number": found.total(), "packages": most}


def _duplicates(findings: list[Row]) -> Iterator[Row]:
    """SONAMEs of which a program maps two files, with the packages where one does."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in findings:
        if each["check"] == TWICE:
            found[each["subject"]][each["package"]] += 1
    for soname, where in sorted(found.items(), key=lambda each: (-each[1].total(), each[0])):
        yield {"name": soname, "number": where.total(), "packages": sorted(where)}


def _compared(old: Mapping[str, Any], summary: Row, packages: list[Row]) -> Row:
    """What another state had, and which packages are new, gone, better or worse since."""
    was, now = ({each["name"]: each for each in state} for state in (old["packages"], packages))
    changed = [(name, _badness(was[name])[:2], _badness(now[name])[:2]) for name in sorted(was.keys() & now.keys())]
    return {
        "summary": {key: old["summary"].get(key, 0) for key in COMPARED},
        "new": sorted(now.keys() - was.keys()),
        "gone": sorted(was.keys() - now.keys()),
        "better": [name for name, one, other in changed if other > one],
        "worse": [name for name, one, other in changed if other < one],
    }


def as_csv(done: Mapping[str, Any]) -> str:
    """A row a package."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(done["packages"])
    return text.getvalue()


def verdict(done: Mapping[str, Any]) -> str:
    """The sum in a sentence."""
    sums = done["summary"]
    without = f", and {sums['not_evaluated']:,} could not be evaluated" if sums["not_evaluated"] else ""
    return (
        f"{_many(sums['packages'], 'package', 'packages')}, {_many(sums['programs'], 'program', 'programs')}: "
        f"{_many(sums['error'], 'error', 'errors')}, {_many(sums['bare'], 'name', 'names')} bare that could be bound, "
        f"{_many(sums['lookups'], 'lookup', 'lookups')} in vain where each program starts once{without}"
    )


def page(done: Mapping[str, Any]) -> dict[str, Any]:
    """What the page is filled in with."""
    return {
        "page": done,
        "heading": _many(done["summary"]["packages"], "package", "packages"),
        "verdict": verdict(done),
    }


def _many(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
