"""A report: prose written by hand in markdown, tables and figures where it names them, all in one HTML page.

In the markdown, which notebooks 50 and 51 show block by block, a line of its own
`![caption](../../results/full/figures/scores_digits.png)` stands for a figure, `<!-- table: results digits -->` for a
table. A section whose heading holds {experiment} is repeated for every experiment; {study} is the study.
"""

import html
import posixpath
import re
import string
from base64 import b64encode
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from isnetlib.training.files import write_atomically

BLOCK = re.compile(r"^(?:!\[(.+)\]\((\S+)\.png\)|<!-- table: (.+) -->)$", re.MULTILINE)
LINK = re.compile(r"\]\((\.\.[^)]*)\)")


def prose(reports: Path, study: str, here: str, experiments: list[str]) -> str:
    """The markdown of a study in `reports`, else general.md, its links seen from the page's folder `here`."""
    own, sections = reports / f"{study}.md", ""
    text = (own if own.exists() else reports / "general.md").read_text(encoding="utf-8").replace("{study}", study)
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        for name in experiments if "{experiment}" in section.split("\n")[0] else [""]:
            sections += section.replace("{experiment}", name)
    return LINK.sub(lambda link: f"]({posixpath.relpath('notebooks/pipeline/reports/' + link[1], here)})", sections)


def blocks(text: str):
    """The markdown cut into ("text", "", markdown), ("table", what it shows, "") and ("figure", its stem, caption)."""
    first, *rest = BLOCK.split(text)
    yield "text", "", first
    for caption, target, what, after in zip(*[iter(rest)] * 4, strict=True):
        yield ("table", what, "") if what else ("figure", posixpath.basename(target), caption)
        yield "text", "", after


def marked(seeds: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Rows of seeds.csv with `told`: the mean after ▽ (the primary method is ahead) or ▲, bracketed if unplanned."""
    mark = comparisons["verdict"].map({"ahead": "▽", "behind": "▲"})
    mark = mark.where(comparisons["family"].notna(), "(" + mark + ")") + " "
    marks = comparisons.rename(columns={"b": "method"}).assign(told=mark)
    seeds = seeds.merge(marks[["study", "experiment", "test_set", "metric", "method", "told"]], how="left")
    return seeds.assign(told=seeds["told"].fillna("") + seeds["mean"].map("{:.3f}".format))


def figure(png: Path, caption: str) -> str:
    """HTML of a figure, its PNG inside the page."""
    data, name, told = png.read_bytes(), html.escape(png.stem), html.escape(caption, quote=False)
    width = int.from_bytes(data[16:20], "big")  # in the header of a PNG; a pixel of a page is 1.6 of the picture's
    style = f"max-width: {width / 1.6:.0f}px; min-width: {width / 2:.0f}px"  # a phone scrolls, and can read it
    image = f'<img alt="{name}" style="{style}" src="data:image/png;base64,{b64encode(data).decode()}">'
    return f'<figure><div class="scroll image">{image}</div><figcaption>{told}</figcaption></figure>'


def table(style: Styler, name: str) -> str:
    """HTML of a table, in a box that scrolls where it is wider than the page; its name makes the cells' ids."""
    return f'<div class="scroll">{style.set_uuid(re.sub(r"[^a-z0-9]+", "-", name)).to_html()}</div>'


def write(notebook: Path, path: Path) -> Path:
    """Write the outputs of an executed notebook, without its code and its own markdown, as one HTML page."""
    import nbformat  # here: they take a second
    from nbconvert import HTMLExporter

    executed = nbformat.read(notebook, as_version=4)
    for cell in executed.cells:
        cell["outputs"] = [output for output in cell.get("outputs", []) if output["output_type"] != "stream"]
    executed.cells = [cell for cell in executed.cells if cell["outputs"]]  # papermill's own has another id each time
    left_out = {f"exclude_{part}": True for part in ("input", "markdown", "output_prompt", "anchor_links")}
    body, _ = HTMLExporter(template_name="basic", **left_out).from_notebook_node(executed)
    title = re.sub("<.+?>", "", re.search("<h1.*?>(.*?)</h1>", body, re.DOTALL)[1])
    page = string.Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    write_atomically(path, page.substitute(title=title, body=re.sub(r"\n\s*\n+", "\n", body)))
    return path
