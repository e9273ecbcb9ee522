"""The README says what the tables of the program say, and every command in it is one that a test or CI runs."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from nix_harden.arguments import parser
from nix_harden.fixup.policy import FILE_RULES, NEEDED_RULES, NO_ROOM, SONAME_RULES, UNMOVABLE_RULES, Rule
from nix_harden.loading.checks import CHECKS
from nix_harden.loading.reasons import REASONS
from nix_harden.loading.render import LEVELS
from nix_harden.prelinking import rules as prelinking
from nix_harden.settings import TABLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HOOK = (ROOT / "docs/hook.md").read_text()
HOUSE = (ROOT / "CONTRIBUTING.md").read_text()

# Where each command of the README runs; `…` stands for a name that the reader fills in.
RUN_BY = {
    "make demo": "tests/real/test_demo.py",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make bench": "tests/bench/test_startup.py",
    "make parts": "tests/bench/test_parts.py",
    "make distro": "tests/real/test_distro.py",
    "make torture": "tests/faults/test_fuzz.py",
    ".venv/bin/pytest -q tests/audit/test_checks.py -k writable": "tests/audit/test_checks.py",
    "nix build .#checks": "tests/nix/test_checks.py",
    "nix build .#checks --override-input nixpkgs path:./nix/hostpkgs --no-write-lock-file": "tests/nix/test_checks.py",
    "export NIX_STORE=/path/to/store": "tests/elf",
    "nix-harden fixup --output out=$NIX_STORE/…-hello --input $NIX_STORE/…-zlib": "tests/elf",
    "nix-harden fixup --output out=$NIX_STORE/…-hello --dry-run --verbose --json": "tests/elf",
    "nix-harden fixup-store /path/to/store": "tests/elf/test_store.py",
    "nix-harden audit /path/to/program": "tests/audit/test_command.py",
    "nix-harden unharden /path/to/store/path": "tests/elf/test_unharden.py",
    "nix-harden freeze /path/to/program -o OUT": "tests/freeze/test_lift.py",
    "nix-harden prelink /path/to/program -o OUT": "tests/prelink/test_symbols.py",
    "nix-harden hook --program /path/to/nix-harden > nix-harden-needed.sh": "tests/unit/test_hook.py",
}


def attribute_rows() -> Iterator[str]:
    for setting in TABLE:
        if setting.attribute:
            value, default = setting.form.value.replace("|", " or "), setting.default and f"`{setting.default}`"
            yield f"| `{setting.attribute}` | {value} | {default} | {setting.sentence} |"


def rule_rows() -> Iterator[str]:
    tables: tuple[tuple[str, tuple[Rule[object], ...]], ...] = (
        ("a file", FILE_RULES),  # type: ignore[assignment]
        ("a file without room", UNMOVABLE_RULES),
        ("a SONAME without room", (NO_ROOM,)),
        ("a SONAME", SONAME_RULES),
        ("a NEEDED", NEEDED_RULES),
    )
    for what, rules in tables:
        for rule in rules:
            yield f"| {what} | {rule.name} | {rule.sentence} |"


def test_attributes_are_those_of_the_table() -> None:
    """The hook's page has the attributes that are the rows of settings.TABLE, word for word."""
    assert "\n".join(attribute_rows()) in HOOK


def test_rules_are_those_of_the_policy() -> None:
    """The hook's page says what is never touched: its list is the policy's own, word for word."""
    assert "\n".join(rule_rows()) in HOOK


def test_every_command_is_run_somewhere() -> None:
    """Each command line of a console block is in the list above, of the README, the hook's page and CONTRIBUTING, and what runs it is there."""
    blocks = re.findall(r"```console\n(.*?)```", README + HOOK + HOUSE, re.DOTALL)
    commands = {line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")}
    assert commands == set(RUN_BY)
    assert all((ROOT / place).exists() for place in RUN_BY.values())


def test_the_audits_page_has_its_checks_and_reasons() -> None:
    """docs/audit.md lists each check and each reason for a bare name, word for word, in the order of the tables."""
    page = (ROOT / "docs/audit.md").read_text()
    checks = (f"| `{check.name}` | {LEVELS[check.severity]} | {check.sentence} | {check.advice} |" for check in CHECKS)
    reasons = (f"| {reason.name} | {LEVELS[reason.severity]} | {reason.sentence} |" for reason in REASONS)
    assert "\n".join(checks) in page
    assert "\n".join(reasons) in page


def test_the_page_on_prelinking_has_its_rules() -> None:
    """docs/prelink.md lists each rule that keeps a program as it is, word for word, in the order in which they are asked."""
    tables: tuple[tuple[Rule[object], ...], ...] = (prelinking.FILE_RULES, prelinking.RULES)  # type: ignore[assignment]
    rows = (f"| {rule.name} | {rule.sentence} |" for rules in tables for rule in rules)
    assert "\n".join(rows) in (ROOT / "docs/prelink.md").read_text()


def test_the_page_on_json_names_every_schema_and_command() -> None:
    """docs/json.md has a row for each command that takes --json, which are all but `hook`, and links each file of nix_harden/schemas."""
    rows = re.findall(
        r"^\| `nix-harden ([\w-]+) --json` \| \[(\w+\.json)\]", (ROOT / "docs/json.md").read_text(), re.MULTILINE
    )
    assert {name for _, name in rows} == {path.name for path in (ROOT / "nix_harden/schemas").iterdir()}
    (commands,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    taking = {name for name, command in commands.items() if "--json" in command.format_help()}
    assert taking == {command for command, _ in rows} == commands.keys() - {"hook"}


def test_pictures_show_nothing_of_the_machine_that_drew_them() -> None:
    """Every picture is small, and every path in it is one of the store."""
    pictures = sorted((ROOT / "docs").glob("*.svg"))
    assert pictures
    for path in pictures:
        text = path.read_text()
        assert len(text) < 60_000
        assert set(re.findall(r"(?<![\w/.:])/[a-z]+/", text)) <= {"/nix/"}


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) <= 120


def test_every_page_is_in_the_list_of_questions() -> None:
    """docs/README.md leads to each page, and each page that something leads to is there."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs/README.md").read_text())) == pages
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        assert [link for link in links if not (path.parent / link).exists()] == [], path


def test_every_room_is_in_the_tour() -> None:
    """CONTRIBUTING.md has each package of the program."""
    rooms = {path.parent.name for path in (ROOT / "nix_harden").glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in HOUSE} == set()
    names = re.findall(r"`((?:\w+/)?\w+\.py)`", HOUSE)
    assert [
        name
        for name in names
        if not (ROOT / "nix_harden" / name).exists()
        and not list(ROOT.glob(f"nix_harden/*/{name}"))
        and not (ROOT / name).exists()
    ] == []


def test_each_page_begins_with_a_question() -> None:
    """That which somebody has who looks for the page."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        if path.name != "README.md":
            title, question, *_ = path.read_text().split("\n\n")
            assert title.startswith("# "), path
            assert "?" in question, path


def test_a_long_file_says_why() -> None:
    """No file of the program has more than 400 lines without a reason in its first ones."""
    for path in (ROOT / "nix_harden").rglob("*.[pc]*"):
        if path.suffix in (".py", ".c") and "hooks" not in path.parts:
            lines = path.read_text().splitlines()
            assert len(lines) <= 400 or any("It is long" in line for line in lines[:25]), path
