"""A bar for what takes longer than a second."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO, TypeAlias

from nix_harden.saying.words import printable

SECONDS = 1.0
# Told how much is done, of how much or 0 where nobody knows, and what is next.
Progress: TypeAlias = Callable[[int, int, str], None]


def quietly(done: int, total: int, what: str) -> None:
    """Tell nobody."""


@contextmanager
def shown_on(stream: TextIO) -> Iterator[Progress]:
    """Within, a bar is drawn on a terminal from the first second on; at the end it is wiped out. Anything else gets none.

    Nix gives its builders a terminal, too, where the program that is made for builds has nothing to draw with.
    """
    if not stream.isatty() or find_spec("rich") is None:
        yield quietly
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    what = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
    )
    bar = Bar(TimeElapsedColumn(), BarColumn(20), what, console=Console(file=stream), transient=True, expand=True)
    task = bar.add_task("", total=None)

    def tell(done: int, total: int, what: str) -> None:
        count = f"{done} of {total} " if total else ""
        bar.update(task, completed=done, total=total or None, description=count + printable(what))

    timer = threading.Timer(SECONDS, bar.start)
    timer.start()
    try:
        yield tell
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()
