"""Gather what a report says: walk, check, measure, count, watch, and have the picture drawn.

    from nix_harden.reporting.survey import survey
    found = survey(["/nix/store/…-hello"], store="/nix/store", jobs=2, progress=lambda done, total, path: None)

`page` makes a page's values of it.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from nix_harden.errors import NotDrawn, ToolError
from nix_harden.graphing.draw import FILLS, LINES, Style, legend
from nix_harden.graphing.graph import choose, follow, measure, render, why_nothing
from nix_harden.graphing.picture import picture
from nix_harden.graphing.values import Picture
from nix_harden.loading.audit import audit
from nix_harden.loading.disk import DiskReader, distrust
from nix_harden.loading.graph import Family, Graph
from nix_harden.process import ask
from nix_harden.reporting.embed import element
from nix_harden.reporting.values import Drawing, Key, Observed, Survey
from nix_harden.saying.progress import Progress
from nix_harden.tracing.strace import OPTIONS, parse

# Every loader asks for it, whatever a program needs (nixpkgs' by its second name).
PRELOAD = ("/etc/ld.so.preload", "/etc/ld-nix.so.preload")
SECONDS = 60.0
MOST_DRAWN = 1_000  # files; Graphviz takes minutes for more, and nobody finds anything in it


def survey(
    paths: Sequence[str],
    *,
    store: str,
    jobs: int,
    progress: Progress,
    loader: str | None = None,
    compare: bool = True,
    watching: bool = True,
) -> Survey:
    """Everything that a report holds of the ELF files at and below `paths`; a wrapper of nixpkgs' means what it starts.

    `progress` is as `audit` has it. Raises NotDrawn where there is no dynamic ELF file, and ReadError.
    """
    reader = DiskReader()
    graphs: list[Graph] = []
    roots = [follow(path) for path in paths]
    done = audit(
        roots,
        store=store,
        loader=loader,
        compare_real=compare,
        jobs=jobs,
        progress=progress,
        reader=reader,
        each=graphs.append,
    )
    if not graphs and not done.roots:
        raise NotDrawn(paths[0], why_nothing(roots[0]), "say a dynamic program or library, or a directory with some")
    lookups = {root.path: root.lookups for root in done.roots if root.lookups is not None}
    observed = _watched(graphs, jobs, progress) if watching else {}
    progress(0, 0, "sizes and the graph")
    files = measure(graphs)
    return Survey(
        tuple(os.path.abspath(path) for path in paths),
        store,
        done,
        tuple(graphs),
        {path: file.size for path, file in files.items()},
        lookups,
        observed,
        picture(graphs, files, store),
    )


def _watched(graphs: Sequence[Graph], jobs: int, progress: Progress) -> dict[str, Observed]:
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = {graph.root: pool.submit(watch, graph) for graph in graphs}
        found = {}
        for number, (root, future) in enumerate(waiting.items()):
            progress(number, len(waiting), f"start of {root}")
            found[root] = future.result()
    return found


def watch(graph: Graph) -> Observed:
    """Have the loader list what it maps under strace: it looks for everything then as at any start, and runs nothing of it."""
    loader, tool = graph.loader, shutil.which("strace")
    if not graph.is_program:
        return Observed(None, "no program")
    why_not = distrust(graph.root, graph.nodes[0].object.abi) or distrust(loader.real, loader.abi)
    if why_not is not None:
        return Observed(None, why_not if loader.real else "no loader")
    if tool is None:
        return Observed(None, "strace is not on PATH")
    wish = ["--list"] if loader.family is Family.MUSL else []
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as place:
        log = os.path.join(place, "log")
        listing = ["-E", "LD_TRACE_LOADED_OBJECTS=1"] if loader.family is Family.GLIBC else []
        try:
            answer = ask([tool, *OPTIONS, "-o", log, *listing, loader.path, *wish, graph.root], {}, SECONDS)
            with open(log, encoding="utf-8", errors="surrogateescape") as lines:
                calls = parse(lines).calls
        except (OSError, ToolError) as error:
            return Observed(None, str(error))
    if not calls:
        return Observed(None, answer.err.strip().splitlines()[-1] if answer.err.strip() else "strace saw nothing")
    return Observed(sum(call.is_failed_lookup and call.path not in PRELOAD for call in calls))


def drawn(whole: Picture) -> Drawing:
    """The picture for a page. Raises NotDrawn where it would show too much, ToolError where Graphviz fails."""
    if len(whole.vertices) > MOST_DRAWN:
        raise NotDrawn(
            f"{len(whole.vertices)} files",
            "they are more than a picture shows",
            "`nix-harden graph` with --depth or --why draws a part of them",
        )
    shown = choose(whole)
    svg = element(render(shown, Style(legend=False), "svg").decode())
    return Drawing(svg, len(shown.arrows) - shown.implied, shown.implied, tuple(_key(shown)))


def _key(shown: Picture) -> Iterator[Key]:
    for means, number in legend(shown):
        colour, line, words = LINES[means]
        yield Key(words, number, colour, line)
    held = Counter(vertex.store_path for vertex in shown.vertices)
    for place in shown.store_paths:
        if place.colour is not None:
            yield Key(place.name, held[place.path], FILLS[place.colour % len(FILLS)])
