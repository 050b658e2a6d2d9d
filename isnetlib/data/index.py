"""index.csv of a dataset folder: read as text, its problems listed. Labels are compared, nothing is evaluated."""

import csv
import io
import json
import warnings
from collections import namedtuple
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib.data.files import Refused

# level: "error" (refused by load) or "warning"; row: of index.csv as a spreadsheet counts, the header being 1, or ""
Problem = namedtuple("Problem", "level file row problem remedy")


def of_index(problem: str, remedy: str, row: int | str = "") -> Problem:
    return Problem("error", "index.csv", row, problem, remedy)


def refuse(folder, problems: list[Problem]) -> None:
    """ValueError if any is an error; one warning that counts the others."""
    errors = [problem for problem in problems if problem.level == "error"]
    told = errors or problems
    lines = [f"{p.file}{f', row {p.row}' if p.row else ''}: {p.problem}. Remedy: {p.remedy}." for p in told[:10]]
    count = f"{folder}: {len(told)} problem{'s' * (len(told) != 1)}; `isnet verify-data` lists all. The first:"
    if errors:
        raise ValueError("\n".join([count, *lines]))
    if problems:
        warnings.warn("\n".join([count, *lines]), stacklevel=3)


def read_index(folder, label="label", attributes=(), classes=None, patient="patient", split=None, others=()):
    """`read_table` with column patient, by options of `folder.load`, its cells checked; others: further columns."""
    if isinstance(attributes, str) or isinstance(classes, str) or (attributes and classes):
        raise ValueError("attributes and classes are lists of names, and one of them is given at most")
    filled = [name for name in ("image", "source", patient, *(attributes or [label]), split) if name]
    table, problems = read_table(Path(folder), ["mask", *filled, *others])
    if problems:
        return table, problems
    table = table.assign(patient=table[patient] if patient else table["image"])
    known = {name: ["0", "1"] for name in attributes} or {label: list(classes or table[label].unique())}
    filled += ["split"] * ("split" in table and not split)
    return table, list(check_cells(table, filled, known))


def read_table(folder: Path, columns: Iterable[str] = ()) -> tuple[pd.DataFrame, list[Problem]]:
    """index.csv with these columns as stripped text, its index being spreadsheet rows; and its problems."""
    path = folder / "index.csv"
    try:
        if not path.is_file():
            raise Refused("is missing", f"write {path} with columns image, mask, label, source, patient")
        table = parse(path.read_bytes())
    except Refused as error:
        return pd.DataFrame(), [of_index(*error.args)]
    remedy = "add it, or name another by the options label, attributes, split, patient (None: identities are unknown)"
    return table, [of_index(f"column {name!r} is missing", remedy) for name in columns if name not in table]


def parse(data: bytes, strict: bool = True) -> pd.DataFrame:
    """A table of comma, semicolon or tab, as stripped text, its index spreadsheet rows. strict: no quotes left open."""
    try:  # utf-8-sig: spreadsheets start the file with a byte order mark
        text = data.decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
        header, *lines = [[cell.strip() for cell in line] for line in lines] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"cannot be read: {error}", "save it as CSV, comma separated, UTF-8") from error
    rows = {i: line for i, line in enumerate(lines, 2) if line}  # a blank line is an empty list
    if not rows:
        raise Refused("lists no images", "add one row for each image")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise Refused(f"column names occur twice: {twice}", "rename or delete one of each")
    if wrong := [i for i, line in rows.items() if len(line) != len(header)]:
        text = f"{len(rows[wrong[0]])} cells for {len(header)} columns"
        raise Refused(text, f"put cells that contain {separator!r} in double quotes", wrong[0])
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype=object)


def check_cells(table: pd.DataFrame, filled: list[str], known: dict[str, list[str]]) -> Iterator[Problem]:
    """What is wrong with cells. filled: columns without empty ones; known: the cells that a column may have."""
    for column in filled:
        for row in table.index[table[column] == ""]:
            yield of_index(f"{column} is empty", f"fill in column {column!r} or delete the row", row)
    for column, cells in known.items():
        for row, cell in table.loc[~table[column].isin([*cells, ""]), column].items():
            yield of_index(f"{column} is {cell!r}", f"write one of {cells}, or delete the row", row)
        plain = pd.Series(cells, index=cells, dtype=object).str.casefold()
        for _, same in plain[plain.duplicated(keep=False)].groupby(plain):
            yield of_index(f"labels {list(same.index)} differ only by case", "write a label in one way")
    for row, name in table.loc[table["image"].duplicated() & (table["image"] != ""), "image"].items():
        yield of_index(f"image {name!r} is listed twice", "delete one of the rows", row)
    for row, cell in table["boxes"].items() if "boxes" in table else ():
        try:
            read_boxes(cell)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            yield of_index(f"boxes are {cell[:40]!r}", 'write [["kind", left, top, right, bottom], ...]', row)


def read_boxes(cell: str) -> list[tuple[str, np.ndarray]]:
    """Kind and edges (left, top, right, bottom) of each box of a cell, JSON; raises what `check_cells` catches."""
    boxes = [(str(kind), np.array(edges, dtype=float)) for kind, *edges in json.loads(cell or "[]")]
    if not all(edges.shape == (4,) and np.isfinite(edges).all() for _, edges in boxes):
        raise ValueError
    return boxes
