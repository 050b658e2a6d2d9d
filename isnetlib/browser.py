"""Does a report look right in a browser? `python -m isnetlib.browser results/full/report.html`

A page is opened in headless Chromium 400 and 1400 pixels wide, laid out as for print on A4, and printed to PDF. Looked
for: content wider than the window, elements beyond its edges (inside boxes that scroll they may be), images that are
not drawn, messages on the console. A window of Chromium cannot be as narrow as a phone, but a frame in it can, so the
page is shown in a frame of that width; what is measured is a copy with a script that sends its measurements to the
page around it. Nothing beside the browser is needed.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from isnetlib.files import write_atomically

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --window-size=1500,1000
--virtual-time-budget=5000""".split()
SECONDS = 120  # a page that takes longer has failed
PAPER = 718  # CSS pixels between the margins of 1 cm of A4, 96 an inch
VIEWS = {"phone": 400, "desktop": 1400, "print": PAPER}
COLUMNS = "page view width content outside images missing messages pages ok browser".split()

MEASURE = """<script>addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement, scrolls = %s;
  const outside = [...document.querySelectorAll("body *")].filter(e => !scrolls || !e.closest(".scroll")).filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1) });
  const missing = [...document.images].filter(i => !i.complete || !i.naturalWidth);
  parent.postMessage({view: "%s", width: innerWidth, content: root.scrollWidth, outside: outside.length,
    images: document.images.length, missing: missing.length}, "*"); }, 100))</script>"""
FRAME = '<iframe src="%s.html" style="width:%dpx;height:900px;border:0"></iframe>'
LISTEN = """<!DOCTYPE html><p id="told"></p><script>const told = [], place = document.getElementById("told");
addEventListener("message", e => { told.push(e.data); place.textContent = JSON.stringify(told) })</script>"""


class BrowserError(RuntimeError):
    """The browser is not there, or did not do what it was asked."""


def find() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def check(page: Path, browser: str | None = None) -> pd.DataFrame:
    """One row a view of an HTML file, in the columns of `COLUMNS`: width of the window and content (pixels), elements
    outside, images, missing ones, console messages, and of the PDF its pages; ok, and the browser's name and version.

    FileNotFoundError: no such page; BrowserError.
    """
    browser = browser or find()
    if not Path(page).is_file():
        raise FileNotFoundError(f"{page} does not exist")
    if not browser:
        raise BrowserError(f"no browser here: install one of {', '.join(BROWSERS)}")
    named = subprocess.run([browser, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    name = " ".join(named.split()[:2])
    rows = [*measure(page, browser), printed(page, browser)]
    frame = pd.DataFrame(rows).assign(page=Path(page).name, browser=name)
    frame["ok"] = [well(row) for row in rows]
    return frame.reindex(columns=COLUMNS).astype(dict.fromkeys(COLUMNS[2:9], "Int64"))


def well(row: dict) -> bool:
    """Whether a view is as it should be: nothing wider than the window, outside, missing or complained of; of the PDF,
    whether it has pages and every image.
    """
    if row["view"] == "pdf":
        return row["pages"] > 0 and row["missing"] == 0 and row["messages"] == 0
    fits = row["content"] <= row["width"] == VIEWS[row["view"]]
    return fits and not row["outside"] and not row["missing"] and not row["messages"]


def measure(page: Path, browser: str) -> list[dict]:
    """Open a page in a frame as wide as each of `VIEWS`, and count what is wrong. In print nothing scrolls, so there
    the boxes that do on a screen are looked into as well; rules for print are made to hold on the screen.
    """
    text = Path(page).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        for view in VIEWS:
            script = MEASURE % ("false" if view == "print" else "true", view)
            copy = _as_print(text) if view == "print" else text
            (Path(folder) / f"{view}.html").write_text(copy.replace("</body>", script + "</body>"), encoding="utf-8")
        outer = Path(folder) / "frames.html"
        outer.write_text(LISTEN + "".join(FRAME % pair for pair in VIEWS.items()), encoding="utf-8")
        done = _run(browser, folder, "--dump-dom", outer.as_uri())
    told = re.search(r'<p id="told">(\[.*?\])</p>', done.stdout)
    found = {one["view"]: one for one in json.loads(told[1])} if told else {}
    if set(found) != set(VIEWS):
        raise BrowserError(f"{page}: the browser tells no measurements; is it an HTML page with a body?")
    messages = {view: [line for line in console(done.stderr) if f"/{view}.html" in line] for view in VIEWS}
    return [found[view] | {"messages": len(messages[view])} for view in VIEWS]


def _as_print(text: str) -> str:
    return text.replace("@media print", "@media all").replace("@media screen", "@media not all")


def printed(page: Path, browser: str) -> dict:
    """Print a page to PDF: its pages, the different images of the page and how many of them the PDF lacks."""
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        pdf = Path(folder) / "page.pdf"
        done = _run(browser, folder, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", Path(page).resolve().as_uri())
        data = pdf.read_bytes() if pdf.exists() else b""
    images = len(set(re.findall(r'<img [^>]*?src="([^"]*)"', Path(page).read_text(encoding="utf-8"))))
    # An image is in the PDF once, however often the page shows it, and with an alpha channel a second time as a mask.
    drawn = len(re.findall(rb"/Subtype\s*/Image", data)) - len(re.findall(rb"/SMask\s", data))
    found = {"images": images, "missing": max(images - drawn, 0), "messages": len(console(done.stderr))}
    return {"view": "pdf", "pages": len(re.findall(rb"/Type\s*/Page\b", data))} | found


def console(errors: str) -> list[str]:
    """What a page wrote to its console, from what the browser wrote to stderr."""
    return [line for line in errors.splitlines() if ":CONSOLE" in line]


def _run(browser: str, profile: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [browser, *OPTIONS, f"--user-data-dir={Path(profile) / 'profile'}", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise BrowserError(f"{browser} took more than {SECONDS} s") from None


def main(arguments: list[str] | None = None) -> int:
    """Print the table of each page and write it beside the page, to tables/browser.csv where there is such a folder.

    Exit code: 0 all is well, 1 something is wrong with a page, 2 no page or no browser.
    """
    parser = argparse.ArgumentParser(prog="python -m isnetlib.browser", description="Look at reports in a browser.")
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE", help="an HTML file, such as a report")
    parser.add_argument("--dry-run", action="store_true", help="print the table and write nothing")
    options = parser.parse_args(arguments)
    fine = True
    for page in options.pages:
        try:
            frame = check(page)
        except (FileNotFoundError, BrowserError) as error:
            print(f"browser: {error}", file=sys.stderr)
            return 2
        print(f"{page}\n{frame.drop(columns=['page', 'browser']).to_string(index=False, na_rep='')}")
        fine = fine and bool(frame["ok"].all())
        tables = page.parent / "tables"
        if not options.dry_run:
            path = (tables if tables.is_dir() else page.parent) / "browser.csv"
            write_atomically(path, frame.to_csv(index=False, lineterminator="\n"))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
