"""The look at a page in a browser: what it finds wrong, and that the reports are well. Skipped where no browser is."""

import fabricated
import pandas as pd
import pytest

from isnetlib import browser, figures, joint, report, tables
from isnetlib.comparison_figures import p_matrix_figure, summary_figure

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><style>body {{ margin: 0 }} .scroll {{ overflow-x: auto }}
@media print {{ .scroll {{ overflow: visible }} .long {{ width: 100% }} }}
@media screen {{ .long {{ width: 3000px }} }}</style></head><body>
<img src="data:image/png;base64,{dot}" alt="">{body}</body></html>"""
needs_browser = pytest.mark.skipif(browser.find() is None, reason="no Chromium here")


def looked_at(tmp_path, body):
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(dot=DOT, body=body), encoding="utf-8")
    return browser.check(page).set_index("view")


@needs_browser
def test_a_page_that_is_well(tmp_path):
    found = looked_at(tmp_path, '<div class="scroll"><div class="long">x</div></div>')
    assert found["ok"].all() and found.loc[["phone", "desktop"], "width"].tolist() == [400, 1400]
    assert (found["images"] == 1).all() and found.loc["pdf", "pages"] == 1


@needs_browser
@pytest.mark.parametrize(
    ("body", "column", "wrong"),
    [
        ('<div style="width:900px">x</div>', "outside", {"phone", "print"}),
        ('<div class="scroll"><div style="width:2000px">x</div></div>', "outside", {"print"}),  # paper does not scroll
        (
            '<div style="position:fixed;left:-20px;width:9px;height:9px"></div>',
            "outside",
            {"phone", "desktop", "print"},
        ),
        ('<img src="nowhere.png" alt="">', "missing", {"phone", "desktop", "print", "pdf"}),
        ('<script>console.error("told")</script>', "messages", {"phone", "desktop", "print", "pdf"}),
        ("<script>noSuchFunction()</script>", "messages", {"phone", "desktop", "print", "pdf"}),
    ],
)
def test_what_is_wrong_is_found(tmp_path, body, column, wrong):
    found = looked_at(tmp_path, body)
    assert set(found.index[found[column].fillna(0) > 0]) == wrong == set(found.index[~found["ok"]])


@needs_browser
def test_reports_are_well_on_a_phone_on_a_desk_and_on_paper(tmp_path, capsys):
    study = fabricated.study(tmp_path, name="full", cases=30)
    frames = tables.write(study)
    figures.save(summary_figure(frames["comparisons"]), study / "figures" / "summary")
    figures.save(p_matrix_figure(frames["comparisons"], "digits"), study / "figures" / "p_values_digits")
    runs = frames["runs"][["study", "experiment", "method", "seed"]].assign(state="done", reason="")
    pages = [report.write(study), joint.write(tmp_path, runs)]
    assert browser.main([str(page) for page in pages]) == 0
    assert "desktop" in capsys.readouterr().out
    for path in (study / "tables" / "browser.csv", tmp_path / "browser.csv"):
        kept = pd.read_csv(path)
        assert list(kept) == browser.COLUMNS and kept["ok"].all() and set(kept["view"]) == {*browser.VIEWS, "pdf"}


@needs_browser
def test_a_page_that_is_not_well_is_told_by_the_exit_code_and_a_dry_run_writes_nothing(tmp_path, capsys):
    page = tmp_path / "wide.html"
    page.write_text(PAGE.format(dot=DOT, body='<div style="width:9000px">x</div>'), encoding="utf-8")
    assert browser.main([str(page), "--dry-run"]) == 1
    assert "9000" in capsys.readouterr().out and [path.name for path in tmp_path.iterdir()] == ["wide.html"]


def test_mistakes_are_told_in_one_line(tmp_path, capsys, monkeypatch):
    assert browser.main([str(tmp_path / "gone.html")]) == 2
    assert capsys.readouterr().err == f"browser: {tmp_path / 'gone.html'} does not exist\n"
    (tmp_path / "page.html").write_text("<p>x</p>", encoding="utf-8")
    monkeypatch.setattr(browser, "BROWSERS", ("no-such-browser",))
    assert browser.main([str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == "browser: no browser here: install one of no-such-browser\n"


def test_a_view_is_well_only_where_nothing_is_wrong():
    fine = {"view": "phone", "width": 400, "content": 400, "outside": 0, "missing": 0, "messages": 0}
    assert browser.well(fine)
    for wrong in ({"content": 401}, {"width": 399}, {"outside": 1}, {"missing": 1}, {"messages": 1}):
        assert not browser.well(fine | wrong)
    assert not browser.well({"view": "pdf", "pages": 0, "missing": 0, "messages": 0})
    told = '[1:2:0101/0.1:INFO:CONSOLE(3)] "oh", source: x (3)\n[1:2:0101/0.1:ERROR:dbus/bus.cc(4)] none'
    assert len(browser.console(told)) == 1


@needs_browser
def test_a_page_without_a_body_is_refused(tmp_path):
    (tmp_path / "page.html").write_text("<p>x", encoding="utf-8")
    with pytest.raises(browser.BrowserError, match="tells no measurements"):
        browser.check(tmp_path / "page.html")
