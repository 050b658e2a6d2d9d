import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from isnetlib.report import figures, page

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "notebooks/pipeline/reports"
TEXT = """# Study {study}

Read [it](../../../README.md).

## {experiment}

<!-- table: results {experiment} -->

![Scores < 1.](../../../results/{study}/figures/scores_{experiment}.png)

## Limits

None.
"""


@pytest.fixture
def reports(tmp_path):
    (tmp_path / "general.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "own.md").write_text("# Own\n", encoding="utf-8")
    return tmp_path


def test_a_study_has_its_own_text_or_the_general_one_whose_blocks_keep_their_order(reports):
    assert page.prose(reports, "own", "results/own", ["a"]) == "# Own\n"
    text = page.prose(reports, "mine", "results/mine", ["a", "b"])
    assert text.startswith("# Study mine\n") and re.findall("^## (.+)", text, re.MULTILINE) == ["a", "b", "Limits"]
    assert "[it](../../README.md)" in text and "![Scores < 1.](figures/scores_b.png)" in text
    assert "[it](../README.md)" in page.prose(reports, "mine", "results", [])
    found = list(page.blocks(page.prose(reports, "mine", "results/mine", ["a"])))
    assert [kind for kind, _, _ in found] == ["text", "table", "text", "figure", "text"]
    assert found[1][1] == "results a" and found[3][1:] == ("scores_a", "Scores < 1.")
    assert found[4][2].strip() == "## Limits\n\nNone."


def test_marks_tell_verdicts_and_brackets_what_was_not_planned():
    key = {"study": "full", "experiment": "digits", "test_set": "deceiving", "metric": "accuracy"}
    methods = ["standard", "pipeline", "rrr", "vit", "isnet_selective"]
    seeds = pd.DataFrame({"method": methods, "mean": [0.1, 0.97, 0.96, 0.2, 0.965]}).assign(**key)
    verdicts = {"verdict": ["ahead", "behind", "no difference shown", "ahead"], "family": ["f", "f", None, None]}
    told = page.marked(seeds, pd.DataFrame({"b": methods[:4]} | verdicts).assign(**key))["told"]
    assert list(told) == ["▽ 0.100", "▲ 0.970", "0.960", "(▽) 0.200", "0.965"]


@pytest.fixture
def executed(tmp_path):
    png = figures.save(figures.Figure(figsize=(3.2, 1)), tmp_path / "scores.png")
    style = pd.DataFrame({"a & b": [0.5]}, ["<x>"]).style
    html = [page.figure(png, "Less < more & *plain*"), page.table(style, "results a")]
    data = [{"text/markdown": "# A & B\n\n**Yes.**\n\n- one"}, *({"text/html": one, "text/plain": "x"} for one in html)]
    outputs = [nbformat.v4.new_output("display_data", one) for one in data]
    outputs.insert(0, nbformat.v4.new_output("stream", name="stderr", text="a warning"))
    cells = [nbformat.v4.new_markdown_cell("# For who opens the notebook", id="m")]
    cells += [nbformat.v4.new_code_cell("secret = 1", outputs=outputs, id="c"), nbformat.v4.new_code_cell("2", id="p")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "50.ipynb")
    return tmp_path / "50.ipynb"


def test_a_page_holds_what_the_notebook_shows_and_nothing_else_and_is_the_same_twice(executed):
    text = page.write(executed, executed.parent / "out" / "report.html").read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text and "<strong>Yes.</strong>" in text
    for absent in ("secret", "a warning", "For who opens", "<script", "cell-id=p", 'src="http', "@import", "In&nbsp;["):
        assert absent not in text
    assert "Less &lt; more &amp; *plain*</figcaption>" in text and "data:image/png;base64," in text
    assert "max-width: 320px; min-width: 256px" in text  # 512 pixels wide: letters have their size, a phone scrolls
    assert page.write(executed, executed.parent / "again.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.md")), ids=lambda path: path.name)
def test_every_text_is_short_names_known_parts_and_links_to_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.split()) <= 2200 and text.startswith("# ")
    blocks = [block for block in page.blocks(text) if block[0] != "text"]
    notebook = "51_joint_report" if path.stem == "joint" else "50_report"
    known = (ROOT / f"notebooks/pipeline/{notebook}.ipynb").read_text(encoding="utf-8")
    assert sum(kind == "figure" for kind, _, _ in blocks) <= 10
    for _, name, _ in blocks:
        assert re.split("[ _]", name)[0] in known
    if path.stem not in ("general", "quick"):  # whose results are everyone's own
        for link in page.LINK.findall(text):
            assert link.endswith((".png", "report.html")) or (REPORTS / link).exists(), link
