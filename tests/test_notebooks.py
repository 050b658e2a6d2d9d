"""The notebooks as they are committed, and at work on tiny data, from the first run to the report."""

import ast
import inspect
import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from stub_films import run_cells, write_predicted, write_sources

from isnetlib.__main__ import main
from isnetlib.study.config import declared
from isnetlib.study.runner import execute, run_study
from isnetlib.study.runs import resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
ALL = sorted(path for path in NOTEBOOKS.glob("**/*.ipynb") if path.parent.name != "lessons")  # those: test_lessons.py
PIPELINE, BENCHES = NOTEBOOKS / "pipeline", NOTEBOOKS / "benches"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_is_thin_and_says_what_its_parameters_are_and_what_it_takes_is_there(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum(len(cell.source.splitlines()) for cell in code) <= 170
    assert notebook.metadata.kernelspec.name == "python3" and declared(path)
    lines = next(cell.source for cell in code if "parameters" in cell.metadata.get("tags", [])).splitlines()
    assert all("  # " in line for line in lines), "every parameter has a comment that says what it is"
    tree = ast.parse("\n".join(cell.source for cell in code))
    taken = {}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), path.name, "exec"), taken)
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    modules = [(taken[node.value.id], node.attr) for node in read if inspect.ismodule(taken.get(node.value.id))]
    assert not [f"{module.__name__}.{name}" for module, name in modules if not hasattr(module, name)]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    assert run_study("smoke", PIPELINE, results) == 0
    return results


def test_the_smoke_study_runs_from_training_to_the_report_and_no_notebook_warns(smoke):
    place = ["--results", str(smoke), "--notebooks", str(PIPELINE)]
    assert main(["status", "--study", "smoke", *place]) == 0
    metrics = pd.read_csv(smoke / "smoke" / "tables" / "metrics.csv")
    assert set(metrics["test_set"]) >= {"biased", "unbiased", "random", "deceiving"}
    assert {"standard", "isnet_original", "pipeline", "oracle"} <= set(metrics["method"])
    page = (smoke / "smoke" / "report.html").read_text(encoding="utf-8")
    assert "Standard classifier" in page and "ISNet selective" in page and "base64" in page
    assert 'src="http' not in page and str(smoke) not in page and str(NOTEBOOKS.parent) not in page
    made = sorted(smoke.glob("**/notebooks/*.ipynb"))
    assert {path.stem for path in made} == {"10_train", "20_external_test", "50_report"}
    assert not [path for path in made if _warnings(path)]


def _warnings(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [item for cell in cells for item in cell.get("outputs", []) if item.get("name") == "stderr"]
    return [text for text in ("".join(item["text"]) for item in outputs) if "Warning" in text]


COST = {"networks": [], "rounds": 1, "memory": False, "architectures": {"squeezenet1_1": 32}, "architecture_rounds": 1}
COST |= {"own": {"network": "small_resnet", "size": 40, "batch": 2, "classes": 3}, "architecture_batch": 2}
COST |= {"counting": {"network": "small_resnet", "size": 40, "batch": 2, "rounds": 1}}
COST |= {"counts": {"isnet_selective": [2, 3]}, "explaining": {"networks": ["small_resnet"], "size": 40, "rounds": 1}}
COVERAGE = {"sizes": [20, 30], "classes": [3], "accuracies": [0.7], "studies": 4, "null_studies": 4, "draws": 20}
SEARCH = {"epochs": 1, "data_options": {"train_size": 100, "validation_size": 50, "test_size": 50}}
FEW = SEARCH | {"shares": [1.0, 0.5], "seeds": [0], "segmenter_epochs": 1}


@pytest.mark.parametrize(
    ("path", "given", "table"),
    [
        (PIPELINE / "05_search.ipynb", SEARCH, None),
        (NOTEBOOKS / "few_masks.ipynb", FEW, None),
        (BENCHES / "60_cost.ipynb", COST, "cost"),
        (BENCHES / "70_coverage.ipynb", COVERAGE, "coverage"),
        (BENCHES / "80_constants.ipynb", {}, "constants"),
    ],
    ids=lambda value: getattr(value, "stem", ""),
)
def test_the_others_run_and_do_not_warn(smoke, tmp_path, path, given, table):
    place = {"study": "smoke", "results": str(smoke)}
    given = given | {name: value for name, value in place.items() if name in declared(path)}
    assert execute(path, tmp_path / "out.ipynb", given, threads=1) is None
    assert not _warnings(tmp_path / "out.ipynb")
    assert table is None or len(pd.read_csv(smoke / "smoke" / "tables" / f"{table}.csv"))


def test_with_other_settings_few_masks_takes_no_old_row_for_a_new_one(tmp_path):
    for change, rows in (({}, 1), ({}, 1), ({"learning_rate": 0.001}, 2)):
        given = FEW | {"shares": [1.0], "ways": ["given"], "results": str(tmp_path)} | change
        run_cells(NOTEBOOKS / "few_masks.ipynb", given)
        assert len(pd.read_csv(tmp_path / "few_masks_digits.csv")) == rows


def test_a_run_at_the_papers_size_is_trained_tested_and_keeps_no_film(tmp_path, monkeypatch):
    monkeypatch.setenv("ISNET_DATA", str(write_sources(tmp_path, times=2)))
    monkeypatch.setenv("ISNET_MASKS", str(write_predicted(tmp_path, tmp_path / "masks")))
    runs, real = (resolve(name, PIPELINE, tmp_path / "results") for name in ("paper", "real"))
    here = {run.experiment for run in runs}
    assert {run.name for run in runs} == {run.name for run in real if run.experiment in here}  # the same is compared
    run = next(run for run in runs if (run.experiment, run.method, run.seed) == ("covid", "standard", 0))
    options = run.parameters["data_options"] | {"size": 32, "most": 16}
    small = {"epochs": 1, "device": "cpu", "results": str(tmp_path / "results"), "data_options": options}
    for name in ("10_train", "20_external_test"):
        known = declared(PIPELINE / f"{name}.ipynb")
        given = {key: value for key, value in (run.parameters | small).items() if key in known}
        run_cells(PIPELINE / f"{name}.ipynb", given)
    folder = tmp_path / "results/paper/runs/covid/standard/seed0"
    sets = {"internal", "external", "ieee8023_pneumonia"}
    assert {path.stem for path in (folder / "predictions").iterdir()} == sets
    facts = json.loads((folder / "metrics.json").read_text())
    assert 6.9e6 < facts["parameters"] < 7e6  # DenseNet-121
    assert len(pd.read_csv(folder / "log.csv")) == 1
    assert not any("x_" in name for name in np.load(folder / "heatmaps.npz"))  # no film is kept
