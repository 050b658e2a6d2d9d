"""Every number with two or three decimals that a report or README quotes stands in quoted.csv, and in a table.

A row: the text's file; words around the number, as they stand there; the table (`{a,b}`: several files joined; empty: a
setting, such as a threshold, and no result); a pandas query for its rows; a column or an expression of columns of the
one row that is left, or `expression.mean`, `.min`, `.max` over rows, or `rows`, their number; the number as printed.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
QUOTED = pd.read_csv(ROOT / "tests" / "quoted.csv", dtype=str, keep_default_na=False)
TEXTS = [*sorted((ROOT / "notebooks/pipeline/reports").glob("*.md")), ROOT / "README.md"]
NUMBER = re.compile(r"(?<![\w.:/-])\d\.\d{2,3}(?![\d.%])")


def text_of(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def rows_of(table: str, selector: str) -> pd.DataFrame:
    names = re.search(r"{(.+)}", table)
    paths = [table.replace(names[0], name) for name in names[1].split(",")] if names else [table]
    return pd.concat([pd.read_csv(ROOT / path, keep_default_na=True) for path in paths]).query(selector)


def computed(rows: pd.DataFrame, column: str) -> float:
    if column == "rows":
        return len(rows)
    found = re.fullmatch(r"(.+?)(?:\.(mean|min|max))?", column)
    values = rows.eval(found[1], engine="python")
    assert found[2] or len(values) == 1, f"{len(values)} rows, not one"
    return getattr(values, found[2] or "mean")()


@pytest.mark.parametrize("row", list(QUOTED.itertuples()), ids=lambda row: f"{row.fragment[:40]}: {row.value}")
def test_a_quoted_number_stands_in_its_table(row):
    assert row.fragment in text_of(ROOT / row.text)
    assert re.search(rf"(?<![\d.]){re.escape(row.value)}(?!\d|\.\d)", row.fragment)
    if row.table:
        value, decimals = computed(rows_of(row.table, row.selector), row.column), len(row.value.partition(".")[2])
        assert f"{value:.{decimals}f}" == row.value


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_number_is_quoted_without_its_row(path):
    text = re.sub(r"```.*?```|\]\([^)]*\)", "", text_of(path))
    for row in QUOTED[QUOTED["text"] == path.relative_to(ROOT).as_posix()].itertuples():
        text = text.replace(row.fragment, "")
    assert NUMBER.findall(text) == []
