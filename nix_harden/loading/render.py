"""An audit as text, JSON and SARIF 2.1.0; decides nothing."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TextIO
from urllib.parse import quote

from nix_harden import __version__
from nix_harden.loading.audit import Audit
from nix_harden.loading.checks import CHECKS
from nix_harden.loading.findings import Finding, Severity
from nix_harden.saying.words import count, printable

COLOURS = {Severity.ERROR: "31;1", Severity.WARNING: "33;1", Severity.NOTE: "36"}
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}  # SARIF 2.1.0, 3.27.10
UNRESOLVED = ("missing-target", "foreign-target", "loader-stops", "interpreter", "malformed", "version-name")
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def text(audit: Audit, *, colours: bool, verbose: bool) -> Iterator[str]:
    """The answer, the findings below what to do about them, the worst first, and a summary.

    Notes are counted by check and reason, unless `verbose` asks for all.
    """

    def paint(word: str, code: str) -> str:
        return f"\x1b[{code}m{word}\x1b[0m" if colours else word

    yield paint(answer(audit), "1")
    said = {(each.severity, each.check) for each in audit.findings if verbose or each.severity > Severity.NOTE}
    for severity in sorted(Severity, reverse=True):
        level = paint(LEVELS[severity], COLOURS[severity])
        for check in CHECKS:
            if (severity, check.name) not in said:
                continue
            yield f"{level}: {check.name}: {check.sentence[0].lower()}{check.sentence[1:]}: {check.advice}"
            for finding in audit.findings:
                if (finding.severity, finding.check) == (severity, check.name):
                    line = f"  {paint(printable(finding.path), '1')}: {printable(finding.message)}"
                    yield line if finding.program == finding.path else f"{line} (in {printable(finding.program)})"
    notes = [each for each in audit.findings if each.severity is Severity.NOTE]
    folded = Counter((each.check, each.reason) for each in ([] if verbose else notes))
    for (name, reason), number in sorted(folded.items()):
        yield f"{paint('note', COLOURS[Severity.NOTE])}: {number} × {name}{f' ({reason})' if reason else ''}; --verbose lists them"
    yield summary(audit)


def answer(audit: Audit) -> str:
    """Whether everything resolves, and how many lookups are in vain."""
    lost = [finding for finding in audit.findings if finding.check in UNRESOLVED and finding.severity is Severity.ERROR]
    resolves = f"{count(len(lost), 'name does', 'names do')} not resolve" if lost else "everything resolves"
    programs = [root.lookups.now for root in audit.roots if root.lookups is not None]
    vain = f"{count(sum(programs), 'lookup', 'lookups')} in vain" if any(programs) else "no lookup in vain"
    if len(audit.roots) == 1:
        (root,) = audit.roots
        libraries = f", {count(root.objects - 1, 'library', 'libraries')}" if root.objects > 1 else ""
        return f"{printable(root.path)}: {resolves}{libraries}{f', {vain} at each start' if programs else ''}"
    starts = f", {vain} where each of {count(len(programs), 'program', 'programs')} starts once" if programs else ""
    return f"{count(len(audit.roots), 'file', 'files')}: {resolves}{starts}"


def summary(audit: Audit) -> str:
    """How many files, findings of each severity and comparisons there were, and why the rest was not compared."""
    counts = Counter(finding.severity for finding in audit.findings)
    line = (
        f"{count(len(audit.roots), 'file', 'files')}: {count(counts[Severity.ERROR], 'error', 'errors')}, "
        f"{count(counts[Severity.WARNING], 'warning', 'warnings')}, {count(counts[Severity.NOTE], 'note', 'notes')}; "
        f"{audit.compared} compared with their real loaders"
    )
    reasons = Counter(root.why_not for root in audit.roots if not root.compared)
    if reasons:
        line += ", not compared: " + ", ".join(f"{number} {why}" for why, number in sorted(reasons.items()))
    return line


def as_json(audit: Audit) -> dict[str, Any]:
    """The same as plain values, as schemas/audit.json says."""
    counts = Counter(finding.severity for finding in audit.findings)
    return {
        "version": 1,
        "roots": [
            {
                "path": root.path,
                "loader": root.loader,
                "objects": root.objects,
                "compared": root.compared,
                "why_not": root.why_not or None,
                "lookups": asdict(root.lookups) if root.lookups is not None else None,
                "symbols": root.symbols,
            }
            for root in audit.roots
        ],
        "findings": [
            {
                "check": finding.check,
                "severity": LEVELS[finding.severity],
                "path": finding.path,
                "subject": finding.subject,
                "reason": finding.reason or None,
                "message": finding.message,
                "program": finding.program,
            }
            for finding in audit.findings
        ],
        "summary": {
            "files": len(audit.roots),
            "compared": audit.compared,
            **{LEVELS[severity]: counts[severity] for severity in Severity},
        },
    }


def as_sarif(audit: Audit) -> dict[str, Any]:
    """One run of SARIF 2.1.0, the table of checks as its rules."""
    places = {check.name: place for place, check in enumerate(CHECKS)}
    rules = [
        {
            "id": check.name,
            "shortDescription": {"text": check.sentence},
            "defaultConfiguration": {"level": LEVELS[check.severity]},
        }
        for check in CHECKS
    ]
    driver = {"name": "nix-harden", "version": __version__, "rules": rules}
    results = [_result(finding, places[finding.check]) for finding in audit.findings]
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {"tool": {"driver": driver}, "invocations": [{"executionSuccessful": True}], "results": results},
        ],
    }


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.check,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": printable(finding.message)},
        "locations": [_location(finding.path)],
        "partialFingerprints": {"nixHarden/v1": printable(f"{finding.check}:{finding.path}:{finding.subject}")},
    }
    if finding.program != finding.path:
        result["relatedLocations"] = [{**_location(finding.program), "message": {"text": "reached from here"}}]
    return result


def _location(path: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": "file://" + quote(os.fsencode(path))}}}


def has_colours(stream: TextIO) -> bool:
    """Whether to colour: on a terminal that can, unless NO_COLOR says anything (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
