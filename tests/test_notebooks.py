"""The notebooks as they are committed, and all of them at work: the smoke study from the first run to the report."""

import ast
import importlib
import inspect
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import isnetlib
from isnetlib import notebooks
from isnetlib.notebooks import declared, execute
from isnetlib.runner import run_study
from isnetlib.study import status

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def test_all_notebooks_are_there():
    wanted = [
        "00_isnet_in_ten_minutes",
        "05_search",
        "06_search_table",
        "08_segment",
        "10_train",
        "20_external_test",
        "30_heatmaps",
        "40_compare",
        "50_report",
        "60_cost",
        "70_coverage",
        "80_constants",
    ]
    assert set(wanted) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_thin_has_parameters_and_no_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum(len(cell.source.splitlines()) for cell in code) <= 150
    assert notebook.metadata.kernelspec.name == "python3" and declared(NOTEBOOKS / f"{name}.ipynb")
    lines = next(cell.source for cell in code if "parameters" in cell.metadata.get("tags", [])).splitlines()
    assert all("  # " in line for line in lines), "every parameter has a comment that says what it is"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_notebook_takes_from_the_package_is_there(name):
    """In seconds, and before a run comes to it: every `module.name` of a module that the notebook imports."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    known = {"isnetlib": isnetlib}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "isnetlib":
            for one in node.names:
                try:
                    found = importlib.import_module(f"{node.module}.{one.name}")
                except ModuleNotFoundError:
                    found = getattr(importlib.import_module(node.module), one.name)
                known[one.asname or one.name] = found
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            if node.value.id not in stored and inspect.ismodule(known[node.value.id]):
                assert hasattr(known[node.value.id], node.attr), f"{node.value.id}.{node.attr}"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    assert run_study("smoke", NOTEBOOKS, results) == 0
    return results


def test_the_smoke_study_runs_from_training_to_the_report(smoke):
    states = status("smoke", NOTEBOOKS, smoke)
    assert set(states["state"]) == {"done"}
    metrics = pd.read_csv(smoke / "smoke" / "tables" / "metrics.csv")
    assert set(metrics["test_set"]) >= {"biased", "unbiased", "random", "deceiving"} and set(metrics["method"]) == set(
        states["method"]
    )
    for table in ("seeds", "comparisons", "selection", "intervals", "cost", "coverage"):
        assert len(pd.read_csv(smoke / "smoke" / "tables" / f"{table}.csv")), table
    report = (smoke / "smoke" / "report.html").read_text()
    assert all(method in report for method in ("Standard classifier", "ISNet selective")) and "base64" in report
    assert "http://" not in report and 'src="http' not in report  # self-contained


def test_constants_are_measured_on_the_runs_of_a_study(smoke):
    table = pd.read_csv(smoke / "smoke" / "tables" / "constants.csv")
    assert set(table["method"]) <= {"standard", "isnet_selective"} and len(table)
    terms = ["pixels_inside", "pixels_outside", "constants_inside", "constants_outside", "elsewhere"]
    assert (table[terms].sum(axis=1) - table["change"]).abs().max() < 1e-3
    assert "80_constants" in (smoke / "smoke" / "report.html").read_text()


def test_a_run_folder_holds_what_the_schema_says_and_no_machine_path(smoke):
    run = smoke / "smoke" / "runs" / "digits" / "isnet_selective" / "seed0"
    for name in (
        "manifest.json",
        "log.csv",
        "metrics.json",
        "heatmaps.npz",
        "predictions/deceiving.csv",
        "predictions_internal_selection/biased.csv",
    ):
        assert (run / name).stat().st_size, name
    text = "".join((run / name).read_text() for name in ("manifest.json", "metrics.json", "log.csv"))
    assert str(smoke) not in text and str(NOTEBOOKS.parent) not in text
    assert json.loads((run / "manifest.json").read_text())["parameters"]["method"] == "isnet_selective"


def test_a_finished_study_is_not_trained_again(smoke, capsys):
    before = {path: path.stat().st_mtime_ns for path in smoke.rglob("metrics.json")}
    assert run_study("smoke", NOTEBOOKS, smoke, runs_only=True) == 0
    assert {path: path.stat().st_mtime_ns for path in smoke.rglob("metrics.json")} == before
    assert "0 to make" in capsys.readouterr().out


def test_the_teaching_notebook_runs(tmp_path):
    assert execute(NOTEBOOKS / "00_isnet_in_ten_minutes.ipynb", tmp_path / "00.ipynb", {}, threads=1) is None


def test_one_thread_parses_at_a_time(monkeypatch):
    inside, most, parse = [], [], ast.parse

    def slow(source):
        inside.append(source)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return parse(source)

    monkeypatch.setattr(notebooks.ast, "parse", slow)
    with ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(notebooks.parsed, [f"a = {k}" for k in range(8)]))
    assert max(most) == 1 and [tree.body[0].value.value for tree in trees] == list(range(8))
