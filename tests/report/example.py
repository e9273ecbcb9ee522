"""Take the picture that docs/report.md shows: `PYTHONPATH=tests .venv/bin/python -m report.example docs/report.png`."""

import shutil
import sys
import tempfile
from pathlib import Path

from graph.helpers import world
from support import glibc
from support.browser import browser
from support.store import Store

WIDTH, CHOSEN = 980, "libimage.so.6"


def main() -> None:
    template = glibc.make()
    with tempfile.TemporaryDirectory() as top, browser(Path(top, "profile")) as chromium:
        store = Store.create(Path(top, "store"), template)
        path = Path(top, "page.html")
        store.call("report", world(store), "-o", path)
        path.write_text(path.read_text().replace(str(store.path), "/nix/store"))
        page = chromium.open(f"file://{path}", width=WIDTH)
        # a part of it says enough in a picture
        page.evaluate("for (const each of ['bare', 'findings']) document.getElementById(each).hidden = true")
        page.evaluate("document.querySelector('.hint').hidden = true")
        page.evaluate("document.getElementById('viewport').style.height = '16rem'")
        page.click("#viewport .node text", page.texts("#viewport .node text").index(CHOSEN))
        page.evaluate("document.querySelector('[data-zoom=fit]').click()")
        bottom = page.evaluate("document.getElementById('starts').getBoundingClientRect().top + scrollY - 8")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=int(bottom), deviceScaleFactor=1, mobile=False
        )
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(Path(sys.argv[1]))
    shutil.rmtree(template)


if __name__ == "__main__":
    main()
