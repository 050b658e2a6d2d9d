"""The lessons as they are committed (`make test`), and executed, with what their text quotes (`make lessons`)."""

import ast
import json
import re
import warnings
from pathlib import Path

import nbformat
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks" / "lessons"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
NUMBERS = pd.read_csv(Path(__file__).with_name("lesson_numbers.csv"))
ANSWER = re.compile(r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def read(path):
    """The notebook, its cells of code without those of exercises, the cells of exercises, its text."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    exercises = [cell for cell in cells if "exercise" in cell.metadata.get("tags", [])]
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return notebook, [cell for cell in cells if cell not in exercises], exercises, text


def test_there_are_five():
    assert [path.stem[0] for path in LESSONS] == list("12345")
    assert set(NUMBERS["lesson"]) == {path.stem for path in LESSONS}


@lessons
def test_a_lesson_reads_without_being_run_and_holds_the_quoted_numbers(path):
    _, code, exercises, text = read(path)
    assert path.stat().st_size < 1_500_000
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "execute it before you commit it"
    assert not [item for cell in code for item in cell.outputs if item.get("name") == "stderr"]
    assert sum("image/png" in item.get("data", {}) for cell in code for item in cell.outputs) >= 2
    assert not [cell for cell in exercises if cell.outputs or not cell.source.startswith("#")]
    assert len(exercises) == len(ANSWER.findall(text)) == 3
    remember = text.split("## Three things to remember\n\n")[1].split("\n\n")[0]
    assert len(remember.splitlines()) == 3
    assert text.startswith(f"# {path.stem[0]} · ") and "**The question.**" in text and "## Further reading" in text
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert not [link for link in links if not (FOLDER / link).exists()]
    plain = " ".join(text.replace("*", "").split())
    for row in NUMBERS[NUMBERS["lesson"] == path.stem].itertuples():
        assert row.fragment in plain
        found = [float(number.replace(",", "")) for number in NUMBER.findall(row.fragment)]
        assert row.quoted in found, f"{row.quoted} is not in: {row.fragment}"


@lessons
def test_its_code_is_short_and_takes_little_of_the_library(path):
    _, code, _, _ = read(path)
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 100 and max(map(len, lines)) <= 84
    tree = ast.parse("\n".join(cell.source for cell in code))
    taken = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "isnetlib":
            taken |= {f"{node.module}.{name.name}" for name in node.names}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "isnetlib":
            taken.add(f"isnetlib.{node.attr}")
    assert 1 <= len(taken) <= 6
    assert not [name for name in taken if any(part.startswith("_") for part in name.split("."))]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]


@pytest.mark.lessons
@lessons
def test_it_runs_without_a_warning_and_the_quoted_numbers_hold(path):
    """With its answers in the cells of the exercises. Warnings are errors from the first cell to the last."""
    from nbclient import NotebookClient

    notebook, _, _, _ = read(path)
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = "\n".join(re.findall(r"```python\n(.*?)```", ANSWER.findall(after.source)[0], re.DOTALL))
    rows = NUMBERS[NUMBERS["lesson"] == path.stem]
    values = ", ".join(f"float({expression})" for expression in rows["expression"])
    first = 'import warnings\nwarnings.simplefilter("error")'
    last = f'import json\nwarnings.simplefilter("ignore")\nprint(json.dumps([{values}]))'  # the kernel's end warns
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client itself
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [item for cell in notebook.cells for item in cell.get("outputs", [])]
    assert not [item["text"] for item in outputs if item.get("name") == "stderr"]
    found = json.loads(notebook.cells[-1].outputs[0]["text"])
    wrong = [
        f"{row.fragment}: {row.expression} is {value:.4g}, quoted {row.quoted} +- {row.tolerance}"
        for row, value in zip(rows.itertuples(), found, strict=True)
        if not abs(value - row.quoted) <= row.tolerance
    ]
    assert not wrong, "\n".join(wrong)
