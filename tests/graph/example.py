"""Draw the picture that README and docs/graph.md show: `PYTHONPATH=tests .venv/bin/python -m graph.example > docs/graph.svg`."""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from graph.helpers import picture, world
from support import glibc
from support.store import Store

from nix_harden.graphing.draw import Style
from nix_harden.graphing.graph import draw

COMMENT = re.compile(rb"<!--.*?-->\n?", re.DOTALL)


def main() -> None:
    template = glibc.make()
    with tempfile.TemporaryDirectory() as top:
        store = Store.create(Path(top, "store"), template)
        svg = draw(picture(store, world(store)), Style(), "svg")
    shutil.rmtree(template)
    sys.stdout.buffer.write(COMMENT.sub(b"", svg.replace(bytes(store.path), b"/nix/store")))


if __name__ == "__main__":
    main()
