"""The study of the papers' size on a stub of the data: its notebooks, its network, its options, a few pixels."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from stub_films import run_cells, write_predicted, write_sources

from isnetlib.study.config import declared
from isnetlib.study.runs import resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks/pipeline"


def test_a_run_at_the_papers_size_is_trained_tested_and_keeps_no_film(tmp_path, monkeypatch):
    monkeypatch.setenv("ISNET_DATA", str(write_sources(tmp_path, times=2)))
    monkeypatch.setenv("ISNET_MASKS", str(write_predicted(tmp_path, tmp_path / "masks")))
    runs, real = (resolve(name, NOTEBOOKS, tmp_path / "results") for name in ("paper", "real"))
    here = {run.experiment for run in runs}
    assert {run.name for run in runs} == {run.name for run in real if run.experiment in here}  # the same is compared
    run = next(run for run in runs if (run.experiment, run.method, run.seed) == ("covid", "standard", 0))
    options = run.parameters["data_options"] | {"size": 32, "most": 16}
    small = {"epochs": 1, "device": "cpu", "results": str(tmp_path / "results"), "data_options": options}
    for name in ("10_train", "20_external_test"):
        known = declared(NOTEBOOKS / f"{name}.ipynb")
        given = {key: value for key, value in (run.parameters | small).items() if key in known}
        run_cells(NOTEBOOKS / f"{name}.ipynb", given)
    folder = tmp_path / "results/paper/runs/covid/standard/seed0"
    sets = {"internal", "external", "ieee8023_pneumonia"}
    assert {path.stem for path in (folder / "predictions").iterdir()} == sets
    facts = json.loads((folder / "metrics.json").read_text())
    assert 6.9e6 < facts["parameters"] < 7e6  # DenseNet-121
    assert len(pd.read_csv(folder / "log.csv")) == 1
    assert not any("x_" in name for name in np.load(folder / "heatmaps.npz"))  # no film is kept
