"""Run an audit and look at what it found."""

from pathlib import Path

from support.store import Store

from nix_harden.loading.audit import Audit, audit
from nix_harden.loading.findings import Finding, Severity


def run(*paths: Path, store: Path = Path("/nix/store"), compare: bool = True, loader: Path | None = None) -> Audit:
    return audit(
        [str(path) for path in paths],
        store=str(store),
        loader=str(loader) if loader else None,
        compare_real=compare,
        jobs=2,
        progress=lambda done, total, path: None,
    )


def found(check: str, store: Store, *paths: Path) -> list[Finding]:
    """The findings of one check over the paths; whatever else is wrong, the real loader must agree."""
    done = run(*paths, store=store.path)
    assert [each.message for each in done.findings if each.check == "loader-disagrees"] == []
    return [each for each in done.findings if each.check == check]


def worst(findings: list[Finding]) -> Severity | None:
    return max((each.severity for each in findings), default=None)
