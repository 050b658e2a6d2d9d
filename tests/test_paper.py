"""The study of the papers' size on a stub of the data: its notebooks, its network, its options, a few pixels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from stub_films import run_cells, write_predicted, write_sources

from isnetlib.study import own_parameters, read_studies, resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MADE = {
    "tuberculosis": ["standard", "isnet_selective"],
    "tuberculosis_planted": ["isnet_selective"],
    "covid": ["standard"],
}
SETS = {
    "tuberculosis": {"internal", "shenzhen"},
    "tuberculosis_planted": {"biased", "unbiased", "deceiving"},
    "covid": {"internal", "external", "ieee8023_pneumonia"},
}


def stub_study(notebooks):
    """study.yaml whose `paper` asks for fewer and smaller films, fewer epochs, this machine's processor, and the large
    network once.
    """
    content = yaml.safe_load((NOTEBOOKS / "study.yaml").read_text(encoding="utf-8"))
    study = content["studies"]["paper"]
    for name, grid in study["runs"].items():
        study["data"][name] |= {"size": 32 if name == "covid" else 40} | (
            {"most": 16} if "most" in study["data"][name] else {}
        )
        study["train"][name] |= {"epochs": 2, "batch_size": 64, "device": "cpu"}
        study["train"][name] |= {} if name == "covid" else {"backbone": "small_resnet"}
        grid["methods"], grid["seeds"] = MADE[name], [0]
    del study["search"]
    (notebooks / "study.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("paper")
    notebooks, films = root / "notebooks", root / "films"
    for folder in (notebooks, films):
        folder.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        (notebooks / path.name).write_bytes(path.read_bytes())
    stub_study(notebooks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISNET_DATA", str(write_sources(films, times=2)))
        patch.setenv("ISNET_MASKS", str(write_predicted(films, root / "masks")))
        for run in resolve("paper", notebooks, root / "results"):
            for name in ("10_train", "20_external_test"):
                run_cells(notebooks / f"{name}.ipynb", own_parameters(notebooks / f"{name}.ipynb", run.parameters))
        for name in read_studies(notebooks)["studies"]["paper"]["notebooks"]:
            run_cells(notebooks / f"{name}.ipynb", {"study": "paper", "results": "../results"})
    return root / "results/paper"


def test_every_run_has_its_tests_and_keeps_no_film(results):
    for experiment, sets in SETS.items():
        for method in MADE[experiment]:
            run = results / "runs" / experiment / method / "seed0"
            assert {path.stem for path in (run / "predictions").iterdir()} == sets
            assert json.loads((run / "manifest.json").read_text())["data"]
            assert not any("x_" in name for name in np.load(run / "heatmaps.npz"))  # no film is kept
    facts = json.loads((results / "runs/covid/standard/seed0/metrics.json").read_text())
    assert 6.9e6 < facts["parameters"] < 7e6  # DenseNet-121


def test_tables_and_report_are_made(results):
    metrics = pd.read_csv(results / "tables/metrics.csv")
    assert {name: set(rows["test_set"]) for name, rows in metrics.groupby("experiment")} == SETS
    assert set(metrics["metric"]) >= {"auc", "macro_f1", "background_share", "box_hit"}
    assert all((results / f"figures/heatmaps_{name}.png").exists() for name in SETS)
    report = (results / "report.html").read_text()
    assert all(name in report for name in SETS) and "ISNet selective" in report


def test_the_grid_is_that_of_real():
    """What differs between the studies is size, network and training, not what is compared."""
    grids = {name: resolve(name, NOTEBOOKS, Path("results")) for name in ("real", "paper")}
    assert {run.name for run in grids["paper"]} == {run.name for run in grids["real"] if run.experiment in SETS}
    assert {run.parameters["backbone"] for run in grids["paper"]} == {"densenet121"}
    assert {run.parameters["data_options"]["size"] for run in grids["paper"]} == {224}
