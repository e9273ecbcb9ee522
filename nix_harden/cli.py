"""The command line: one short function a subcommand, and the one place that exits.

It is long, as there are many subcommands.
"""

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NoReturn

from nix_harden.arguments import FIRST, parse
from nix_harden.errors import HardenError, UsageError
from nix_harden.model import Output
from nix_harden.saying.progress import shown_on
from nix_harden.saying.words import count, printable
from nix_harden.settings import from_environ, require_outputs

if TYPE_CHECKING:
    from argparse import Namespace

    from nix_harden.graphing.values import Picture
    from nix_harden.reporting.values import Drawing

DONE, FINDINGS, USAGE, TOOL, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command `nix-harden` and exit with its status."""
    words = sys.argv[1:] if argv is None else argv
    if not words and sys.stdout.isatty():
        print(FIRST)
        sys.exit(DONE)
    arguments = parse(words)
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
    """Harden, say."""
    from nix_harden.fixup import report, run

    settings = from_environ(os.environ, vars(arguments))
    require_outputs(settings)
    plan, written = run.fixup(settings, _say)
    told = (
        report.written(written),
        report.idle([plan], settings),
        report.summary(plan, settings),
    )
    for line in itertools.chain(*told):
        _say(line)
    if settings.json:
        print(json.dumps(report.as_json(plan), indent=2))
    return DONE


def fixup_store(arguments: "Namespace") -> int:
    """Harden package by package, say; a failure is said where it happens, and the worst one counts."""
    from nix_harden.fixup import report, run

    settings = from_environ(os.environ, {**vars(arguments), "store": os.path.abspath(arguments.store)})
    done = []
    with shown_on(sys.stderr) as progress:
        for each in run.fixup_store(settings, _say, progress):
            done.append(each)
            names = ", ".join(package.name for package in each.packages)
            for line in str(each.error).splitlines() if each.error is not None else ():
                _say(f"nix-harden: error: {names}: {line}")
            if each.plan is not None and each.plan.decisions:
                for line in report.summary(each.plan, replace(settings, outputs=each.packages)):
                    _say(line)
    for line in (
        *report.idle([each.plan for each in done if each.plan is not None], settings),
        report.total(done, settings),
    ):
        _say(line)
    if settings.json:
        print(json.dumps(report.as_json_of_store(done, settings.store), indent=2))
    return max((each.error.status for each in done if each.error is not None), default=DONE)


def unharden(arguments: "Namespace") -> int:
    """Read, plan the way back, write, say."""
    from nix_harden.fixup import report, run
    from nix_harden.fixup.carry import carry
    from nix_harden.fixup.catalog import Catalog
    from nix_harden.fixup.plan import leave
    from nix_harden.fixup.proof import confirm, settle
    from nix_harden.fixup.unbind import make_plan

    settings = from_environ(os.environ, {**vars(arguments), "outputs": _outputs(arguments.paths)})
    read = run.read(settings)
    for error in read.unread:
        _say(f"{report.NAME}: warning: {error}; left as it is")
    copies: dict[str, str] = {}
    if arguments.carry and not settings.dry_run:
        place = os.path.abspath(arguments.carry)
        copies = carry(read.files, place)
        if not any(place.startswith(output.path + "/") for output in settings.outputs):
            settings = replace(settings, outputs=(*settings.outputs, Output("carried", place)))
        read = run.read(settings)
    catalog = Catalog(settings, read)
    originals = {os.path.realpath(copy): os.path.realpath(name) for name, copy in copies.items()}
    plan = settle(
        lambda held: make_plan(read.files, copies, catalog, settings, held),
        catalog,
        settings,
        searches=True,
        originals=originals,
    )
    absolute = list(report.still_absolute(plan))
    for line in (*(report.reasons(plan) if settings.verbose else ()), *absolute):
        _say(line)
    written = run.write(plan, settings)
    if written is not None and written.refused:
        plan = leave(plan, written.refused)
        confirm(plan, catalog, settings, searches=True, originals=originals)
    for line in report.written(written):
        _say(line)
    _say(f"{report.NAME}: {count(len(plan.edits), 'file', 'files')} unbound")
    if settings.json:
        print(json.dumps(report.as_json(plan), indent=2))
    return FINDINGS if absolute or (written and written.refused) else DONE


def _outputs(paths: Sequence[str]) -> list[str]:
    """Paths that are given by themselves, as the setting has outputs. Raises UsageError."""
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(path, "is not there; say a store path, a directory or a file")
    return [f"{os.path.basename(path)}={os.path.abspath(path)}" for path in paths]


def audit(arguments: "Namespace") -> int:
    """Walk, check, compare, say."""
    from nix_harden.loading import render
    from nix_harden.loading.audit import audit as run
    from nix_harden.loading.checks import fails, parse_fail_on
    from nix_harden.saying.files import put

    fail_on = parse_fail_on(arguments.fail_on)
    with shown_on(sys.stderr) as progress:
        done = run(
            arguments.paths,
            store=os.path.normpath(os.environ.get("NIX_STORE") or "/nix/store"),
            loader=arguments.loader,
            compare_real=arguments.compare,
            jobs=arguments.jobs or len(os.sched_getaffinity(0)),
            progress=progress,
            symbols=arguments.symbols,
        )
    if arguments.into:
        for name, told in (("audit.json", render.as_json(done)), ("audit.sarif", render.as_sarif(done))):
            put(os.path.join(arguments.into, name), f"{json.dumps(told, indent=2)}\n".encode(), "--into")
    if arguments.json or arguments.sarif:
        print(json.dumps(render.as_sarif(done) if arguments.sarif else render.as_json(done), indent=2))
    else:
        for line in render.text(done, colours=render.has_colours(sys.stdout), verbose=arguments.verbose):
            print(line)
    return FINDINGS if fails(done.findings, fail_on) else DONE


def audit_set(arguments: "Namespace") -> int:
    """Read, join, write, say."""
    from nix_harden.reporting import joined
    from nix_harden.saying.files import put

    if not (arguments.output or arguments.csv or arguments.json):
        raise UsageError("--output", "is missing: say where the page goes, or --csv or --json")
    with shown_on(sys.stderr) as progress:
        done = joined.join(arguments.list, arguments.before, progress)
    if arguments.csv:
        put(arguments.csv, joined.as_csv(done).encode(), "--csv")
    if arguments.output:
        from nix_harden.reporting.html import page_of

        put(arguments.output, page_of("audit-set", joined.page(done)).encode())
    if arguments.json:
        print(json.dumps(done, indent=1))
    else:
        _say(f"nix-harden: {joined.verdict(done)}")
    return DONE


def freeze(arguments: "Namespace") -> int:
    """Freeze or explain, say."""
    from nix_harden.freezing import explained, frozen
    from nix_harden.freezing.asked import Asked, look, perform
    from nix_harden.freezing.frozen import Order

    asked = Asked(
        arguments.program,
        tuple(arguments.rest),
        arguments.output,
        arguments.in_place,
        arguments.closure,
        arguments.relative,
        Order(arguments.order),
        tuple(arguments.also),
        arguments.observe,
        arguments.explain_order,
    )
    observed = look(asked, lambda words: _say(f"nix-harden: warning: {words}"))
    with shown_on(sys.stderr) as progress:
        progress(0, 0, asked.program)
        done, ordering = perform(asked, observed)
    told = {} if done is None else frozen.as_json(done)
    for line in frozen.text(done) if done is not None else ():
        _say(f"nix-harden: {line}")
    if asked.explain_order and ordering is not None:
        told["ordering"] = explained.as_json(ordering)
        for line in explained.text(ordering) if not arguments.json else ():
            print(printable(line))
    if arguments.json:
        print(json.dumps({"version": 1, **told}, indent=2))
    return DONE


def prelink(arguments: "Namespace") -> int:
    """Work out, prove, write, say; or check, or explain."""
    from nix_harden.prelinking import checked, prelinked
    from nix_harden.prelinking.prelink import explain
    from nix_harden.prelinking.prelink import prelink as run

    told: Iterator[str] = iter(())
    if arguments.check:
        seen = checked.check(arguments.program)
        answer, told, status = checked.as_json(seen), checked.text(seen), DONE if seen.fits else FINDINGS
    elif arguments.explain:
        gain = explain(arguments.program)
        answer, told, status = prelinked.as_json(gain), prelinked.explained(gain), DONE
    else:
        if arguments.output is None and not arguments.in_place:
            raise UsageError("--output", "is not there; say the file to write, or --in-place, --check or --explain")
        with shown_on(sys.stderr) as progress:
            progress(0, 0, arguments.program)
            done = run(arguments.program, arguments.output, arguments.table)
        for line in prelinked.text(done):
            _say(f"nix-harden: {line}")
        answer, status = prelinked.as_json(done), DONE
    if arguments.json:
        print(json.dumps({"version": 1, **answer}, indent=2))
    else:
        for line in told:
            print(printable(line))
    return status


def prelink_outputs(arguments: "Namespace") -> int:
    """Prelink what has enough to gain, say."""
    from nix_harden.fixup import run
    from nix_harden.prelinking import outputs

    settings = from_environ(os.environ, {**vars(arguments), "outputs": _outputs(arguments.paths)})
    done = run.prelink(settings, _say)
    if settings.json:
        print(json.dumps(outputs.as_json(done), indent=2))
    return FINDINGS if outputs.failures(done) else DONE


def graph(arguments: "Namespace") -> int:
    """Look, leave out, draw, say."""
    from nix_harden.graphing import graph as run
    from nix_harden.graphing.draw import Size, Style, said

    form = run.form_of(arguments.output, arguments.format)
    style = Style(arguments.cluster, Size(arguments.size) if arguments.size else None)
    if arguments.depth is not None and arguments.depth < 0:
        raise UsageError("--depth", "is a number of edges, 0 or more")
    store = os.path.normpath(os.environ.get("NIX_STORE") or "/nix/store")
    look = run.look_at_store_paths if arguments.store_paths else run.look
    with shown_on(sys.stderr) as progress:
        whole = look(arguments.paths, store=store, loader=arguments.loader, progress=progress)
        progress(0, 0, f"{len(whole.vertices)} files, and which to draw")
        shown = run.choose(whole, arguments.why, arguments.depth, all_arrows=arguments.all_edges)
        progress(0, 0, f"{len(shown.vertices)} files, drawn as {form}")
        drawn = run.draw(shown, style, form)
    run.write(drawn, arguments.output)
    for line in said(whole, shown, form):
        _say(f"nix-harden: {line}")
    return DONE


def why(arguments: "Namespace") -> int:
    """Look, explain."""
    from nix_harden.graphing import chains
    from nix_harden.graphing.graph import explain

    store = os.path.normpath(os.environ.get("NIX_STORE") or "/nix/store")
    if arguments.limit < 1:
        raise UsageError("--limit", "is a number of chains, 1 or more")
    whole, found = explain(arguments.program, arguments.library, store=store, limit=arguments.limit)
    if arguments.json:
        print(json.dumps(chains.as_json(found, whole), indent=2))
    else:
        for line in chains.text(found, whole):
            print(line)
    return DONE


def split(arguments: "Namespace") -> int:
    """Take apart, say."""
    from nix_harden.parts.split import split as run

    with shown_on(sys.stderr) as progress:
        done = run(arguments.file, arguments.output, progress=progress)
    if arguments.json:
        print(json.dumps({"version": 1, **asdict(done)}, indent=2))
    else:
        text = sum(each.form != "bytes" for each in done.parts)
        starts = f"; {done.program} starts from them" if done.program else ""
        _say(
            f"nix-harden: {done.file}: {count(len(done.parts), 'part', 'parts')} in {done.directory}, {text} of them text{starts}"
        )
        if done.why_not is not None:
            _say(f"nix-harden: warning: {done.file}: it cannot start from its parts: {done.why_not}")
    return DONE


def join(arguments: "Namespace") -> int:
    """Put together, say."""
    from nix_harden.parts.join import join as run

    with shown_on(sys.stderr) as progress:
        done = run(arguments.directory, arguments.output, progress=progress)
    changed = [name for name, value in asdict(done.names).items() if value]
    if arguments.json:
        print(json.dumps({"version": 1, **asdict(done)}, indent=2))
    else:
        what = f"with another {', '.join(changed).replace('_', ' ')}" if changed else "with the names that it had"
        _say(f"nix-harden: {done.file}: {done.size} bytes, {what}")
    return DONE


def diff(arguments: "Namespace") -> int:
    """Take both apart, compare, say."""
    from importlib.util import find_spec

    from nix_harden.parts import compare
    from nix_harden.parts.instructions import LIBRARY

    with shown_on(sys.stderr) as progress:
        rows = compare.compare(arguments.first, arguments.second, progress=progress)
    if find_spec(LIBRARY) is None:
        _say(
            "nix-harden: instructions of x86 are compared as bytes: install iced-x86 to have their addresses taken out"
        )
    if arguments.json:
        print(json.dumps({"version": 1, **compare.as_json(rows)}, indent=2))
    else:
        for line in compare.text(rows):
            print(line)
    return FINDINGS if any(row.verdict != compare.SAME for row in rows) else DONE


def report(arguments: "Namespace") -> int:
    """Gather, draw, write, say."""
    from nix_harden.reporting import html
    from nix_harden.reporting.page import page, verdict
    from nix_harden.reporting.survey import survey
    from nix_harden.saying.files import put

    if not arguments.output and not arguments.json:
        raise UsageError("--output", "is missing: say where the page goes, or --json")
    settings = from_environ(os.environ, {})
    with shown_on(sys.stderr) as progress:
        found = survey(
            arguments.paths,
            store=settings.store,
            loader=arguments.loader,
            compare=arguments.compare,
            watching=arguments.watch,
            jobs=arguments.jobs or len(os.sched_getaffinity(0)),
            progress=progress,
        )
        values = page(found, settings)
        progress(0, 0, f"{len(found.picture.vertices)} files, laid out by Graphviz")
        drawing, why_not = _drawing(found.picture) if arguments.output else (None, "")
    if arguments.output:
        if drawing is None:
            _say(f"nix-harden: warning: the page has no picture: {why_not}")
        put(arguments.output, html.render(values, drawing, why_not).encode())
    if arguments.json:
        print(json.dumps(values, indent=2))
    _say(f"nix-harden: {verdict(values)}")
    return DONE


def _drawing(picture: "Picture") -> "tuple[Drawing | None, str]":
    """The picture for a page, or why there is none."""
    from nix_harden.errors import NotDrawn, ToolError
    from nix_harden.reporting.survey import drawn

    try:
        return drawn(picture), ""
    except (NotDrawn, ToolError) as error:
        return None, str(error)


def trace(arguments: "Namespace") -> int:
    """Trace, follow, say; what is followed to its end decides the status."""
    from nix_harden.loading import render
    from nix_harden.tracing import traced
    from nix_harden.tracing.trace import follow, observe_all, parse_time, subject

    delay = parse_time("--delay", arguments.delay) if arguments.delay else None
    limit = parse_time("--limit", arguments.limit) if arguments.limit else None
    if limit is not None and not arguments.whole:
        raise UsageError("--limit", "is for --whole, which runs the program")
    subjects = [subject(arguments.program, arguments.args, arguments.image)]
    if arguments.against:
        subjects.insert(0, subject(arguments.against, arguments.args))
    with shown_on(sys.stderr) as progress:
        progress(0, 0, arguments.program)
        found = observe_all(subjects, delay=delay, count_instructions=arguments.instructions)
    if arguments.whole:
        found = tuple(replace(each, whole=follow(each.subject, limit)) for each in found)
    if arguments.svg:
        from nix_harden.saying.files import put
        from nix_harden.tracing.chart import draw

        try:
            put(arguments.svg, draw(found).encode())
        except UsageError as error:
            raise UsageError("--svg", error.problem) from error
    if arguments.json:
        print(json.dumps(traced.as_json(found), indent=2))
    else:
        traced.show(found, sys.stdout, colours=render.has_colours(sys.stdout))
    return found[-1].whole.status if found[-1].whole is not None else DONE


def hook(arguments: "Namespace") -> int:
    """Print the stdenv setup hook that calls a program."""
    from nix_harden.fixup.hook import render

    if not os.path.isabs(arguments.program):
        raise UsageError("--program", f"{arguments.program!r} is not an absolute path; a build has another PATH")
    print(render(arguments.program), end="")
    return DONE


def _say(line: str) -> None:
    """Words for people go to standard error, whatever bytes a path holds: none of them reaches a terminal as a command."""
    print(printable(line), file=sys.stderr)


COMMANDS = {
    "fixup": fixup,
    "fixup-store": fixup_store,
    "unharden": unharden,
    "audit": audit,
    "audit-set": audit_set,
    "freeze": freeze,
    "prelink": prelink,
    "prelink-outputs": prelink_outputs,
    "graph": graph,
    "why": why,
    "report": report,
    "trace": trace,
    "split": split,
    "join": join,
    "diff": diff,
    "hook": hook,
}
