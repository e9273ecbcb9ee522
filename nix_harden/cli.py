"""The command line: one short function a subcommand, and the one place that exits."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from nix_harden.arguments import parser
from nix_harden.errors import HardenError, SeveralErrors, UsageError
from nix_harden.model import Edit, Output
from nix_harden.settings import Settings, from_environ, require_outputs

if TYPE_CHECKING:
    from argparse import Namespace

    from nix_harden.catalog import Read

DONE, FINDINGS, USAGE, TOOL, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command `nix-harden` and exit with its status."""
    arguments = parser().parse_args(argv)
    try:
        status = COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except HardenError as error:
        for line in str(error).splitlines():
            _say(f"nix-harden: error: {line}")
        status = error.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = TOOL
    except OSError as error:
        _say(f"nix-harden: error: {error.filename or 'the system'}: {error.strerror or error}")
        status = TOOL
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:  # a fault of this program: one sentence in a build log, the rest where it is asked for
        if os.environ.get("NIX_HARDEN_VERBOSE", "") not in ("", "0"):
            raise
        _say(
            f"nix-harden: error: a fault of nix-harden itself: {type(error).__name__}: {error}; please report it, with what NIX_HARDEN_VERBOSE=1 adds"
        )
        status = TOOL
    sys.exit(status)


def fixup(arguments: "Namespace") -> int:
    """Read, resolve, decide, write, check, say."""
    from nix_harden import references, report
    from nix_harden.catalog import Catalog
    from nix_harden.plan import make_plan

    settings = from_environ(os.environ, vars(arguments))
    require_outputs(settings)
    read = _read(settings)
    for error in read.unread:
        _say(f"{report.NAME}: {'error' if settings.strict else 'warning'}: {error}; left as it is")
    plan = make_plan(read.files, Catalog(settings, read), settings)
    if refused := tuple(references.refused(plan, references.from_environ(os.environ, settings), settings)):
        raise SeveralErrors(refused)
    warnings = list(report.findings(plan))
    reasons = report.reasons(plan) if settings.verbose else ()
    for line in (*reasons, *report.remarks(plan, settings), *warnings):
        _say(line)
    if settings.strict and (read.unread or warnings):
        number = report.count(len(read.unread) + len(warnings), "finding", "findings")
        _say(f"{report.NAME}: error: {number}, and hardenNeededStrict is set; nothing was written")
        return FINDINGS
    if not settings.dry_run:
        _write(plan.edits, settings)
        if plan.edits:
            from nix_harden.check import check

            check(plan, settings)
    for line in report.summary(plan, settings):
        _say(line)
    if settings.json:
        print(json.dumps(report.as_json(plan), indent=2))
    return DONE


def unharden(arguments: "Namespace") -> int:
    """Read, plan the way back, write, say."""
    from nix_harden import report
    from nix_harden.carry import carry
    from nix_harden.catalog import Catalog
    from nix_harden.unbind import make_plan

    outputs = [f"{os.path.basename(path)}={os.path.abspath(path)}" for path in arguments.paths]
    settings = from_environ(os.environ, {**vars(arguments), "outputs": outputs})
    for path in arguments.paths:
        if not os.path.lexists(path):
            raise UsageError(path, "is not there; say a store path, a directory or a file")
    read = _read(settings)
    for error in read.unread:
        _say(f"{report.NAME}: warning: {error}; left as it is")
    copies: dict[str, str] = {}
    if arguments.carry and not settings.dry_run:
        place = os.path.abspath(arguments.carry)
        copies = carry(read.files, place)
        if not any(place.startswith(output.path + "/") for output in settings.outputs):
            settings = replace(settings, outputs=(*settings.outputs, Output("carried", place)))
        read = _read(settings)
    plan = make_plan(read.files, copies, Catalog(settings, read), settings)
    for line in (*(report.reasons(plan) if settings.verbose else ()), *report.still_absolute(plan)):
        _say(line)
    if not settings.dry_run:
        _write(plan.edits, settings)
    _say(f"{report.NAME}: {report.count(len(plan.edits), 'file', 'files')} unbound")
    return DONE


def audit(arguments: "Namespace") -> int:
    """Walk, check, compare, say."""
    from nix_harden import render
    from nix_harden.audit import audit as run
    from nix_harden.checks import fails, parse_fail_on

    fail_on = parse_fail_on(arguments.fail_on)
    done = run(
        arguments.paths,
        store=os.path.normpath(os.environ.get("NIX_STORE") or "/nix/store"),
        loader=arguments.loader,
        compare_real=arguments.compare,
        jobs=arguments.jobs or len(os.sched_getaffinity(0)),
        progress=render.progress_on(sys.stderr),
    )
    if arguments.json or arguments.sarif:
        print(json.dumps(render.as_sarif(done) if arguments.sarif else render.as_json(done), indent=2))
    else:
        for line in render.text(done, colours=render.has_colours(sys.stdout), verbose=arguments.verbose):
            print(line)
    return FINDINGS if fails(done.findings, fail_on) else DONE


def freeze(arguments: argparse.Namespace) -> int:
    """Freeze, say."""
    from nix_harden import frozen
    from nix_harden.freeze import freeze as run

    done = run(arguments.program, arguments.output, leave=arguments.leave)
    for line in frozen.text(done):
        _say(f"nix-harden: {line}")
    if arguments.json:
        print(json.dumps(frozen.as_json(done), indent=2))
    return DONE


def hook(arguments: argparse.Namespace) -> int:
    """Print the stdenv setup hook that calls a program."""
    from nix_harden.hook import render

    if not os.path.isabs(arguments.program):
        raise UsageError("--program", f"{arguments.program!r} is not an absolute path; a build has another PATH")
    print(render(arguments.program), end="")
    return DONE


def _read(settings: Settings) -> "Read":
    from nix_harden.catalog import read_outputs

    read = read_outputs(settings.outputs)
    if read.leftovers and not settings.dry_run:
        from nix_harden.write import remove_leftovers

        remove_leftovers(read.leftovers)
    return read


def _write(edits: Sequence[Edit], settings: Settings) -> None:
    if not edits:
        return
    from nix_harden.report import written
    from nix_harden.write import write_all

    _say(written(len(edits), write_all(edits, settings)))


def _say(line: str) -> None:
    """Words for people go to standard error, whatever bytes a path holds: none of them reaches a terminal as a command."""
    from nix_harden.report import printable

    print(printable(line), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nix-harden",
        description="Bind the shared libraries of a Nix derivation by absolute store path.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"nix-harden {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    sub = commands.add_parser(
        "fixup",
        help="bind the outputs of one derivation",
        description="Make every NEEDED, and every library's SONAME, in the ELF files of the outputs an absolute store path.",
        epilog=EPILOG,
    )
    for setting in TABLE:
        if setting.flag:
            _add_option(sub, setting.flag, setting.name, setting.form, f"{setting.sentence} [{setting.variable}]")
    sub.set_defaults(run=fixup)

    sub = commands.add_parser(
        "unharden",
        help="make absolute names bare again",
        description="Make absolute NEEDED and SONAME bare again, with their directories in the search path, in every ELF file "
        "of store paths, directories or files; also where nuke-refs or remove-references-to has overwritten the hashes.",
        epilog=EPILOG,
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="what to unharden, in place")
    sub.add_argument(
        "--carry", metavar="DIR", help="copy the hardened libraries that are needed into DIR, and unharden them too"
    )
    for setting in TABLE:
        if setting.flag and setting.name in ("exclude", "jobs", "dry_run", "verbose"):
            _add_option(sub, setting.flag, setting.name, setting.form, f"{setting.sentence} [{setting.variable}]")
    sub.set_defaults(run=unharden)

    _add_audit(commands)
    _add_freeze(commands)

    sub = commands.add_parser(
        "hook", help="print the stdenv setup hook", description="Print the stdenv setup hook that calls a program."
    )
    sub.add_argument(
        "--program", required=True, metavar="PATH", help="the absolute path of the nix-harden that the hook calls"
    )
    sub.set_defaults(run=hook)
    return parser


def _add_audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = commands.add_parser(
        "audit",
        help="check what a loader will do with files and store paths",
        description="Walk every ELF file at and below the paths with all that its loader maps, by the loader's own rules, and check it; "
        "what this machine runs is given to its real loader as well, and the two answers are compared. "
        "The store is /nix/store, or what NIX_STORE says.",
        epilog="exit status: 0 no finding worse than a note, 1 warnings or errors (or what --fail-on says), 2 usage, 3 a tool or the system failed",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="a store path, directory or ELF file")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print roots, findings and summary as JSON")
    form.add_argument("--sarif", action="store_true", help="print the findings as SARIF 2.1.0, for code-scanning tools")
    sub.add_argument(
        "--fail-on",
        action="extend",
        type=lambda words: words.split(","),
        metavar="CHECK,…",
        help="exit with status 1 for warnings and errors of these checks alone; CHECK:note counts notes too",
    )
    sub.add_argument(
        "--loader", metavar="PATH", help="the loader of libraries, instead of that beside the libc which they find"
    )
    sub.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="run no real loader to compare with; it maps, and runs none of the code",
    )
    sub.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="how many real loaders to run at once; 0 means one a processor"
    )
    sub.add_argument("--verbose", action="store_true", help="list every note")
    sub.set_defaults(run=audit)


def _add_freeze(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sub = commands.add_parser(
        "freeze",
        help="bind a finished program's whole closure in a copy of it",
        description="Write a copy of a program that names every library which its loader maps by absolute path, in the loader's order, "
        "so that none is searched for. No library is changed, and nothing of the program is run: on the machine that it is for, its "
        "loader is asked to list and to bind, before and after, and must answer the same.",
        epilog="exit status: 0 done, 1 the program cannot be frozen, 2 usage, 3 a tool or the system failed",
    )
    sub.add_argument("program", metavar="PROGRAM", help="an ELF program, or a wrapper that nixpkgs made for one")
    sub.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write; one that is there is replaced"
    )
    sub.add_argument(
        "--leave",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that may go on being searched for, where the SONAME of its library is another",
    )
    sub.add_argument("--json", action="store_true", help="print what was frozen as JSON")
    sub.set_defaults(run=freeze)


def _add_option(parser: argparse.ArgumentParser, flag: str, name: str, form: Form, sentence: str) -> None:
    help_text = sentence.replace("%", "%%")
    if form is Form.SWITCH:
        parser.add_argument(flag, dest=name, action="store_const", const="1", help=help_text)
    elif form.is_list:
        parser.add_argument(flag, dest=name, action="extend", nargs="+", metavar=form.value.rstrip("…"), help=help_text)
    else:
        parser.add_argument(flag, dest=name, metavar=form.value, help=help_text)
