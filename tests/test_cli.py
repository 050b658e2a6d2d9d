"""The command isnet: what it prints, its exit codes, and mistakes told in one line."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from isnetlib.__main__ import main
from isnetlib.provenance import RUN_NOTEBOOKS, made_by, portable
from isnetlib.study import resolve

NOTEBOOK_PARAMETERS = "\n".join(
    [
        'study = ""',
        'experiment = ""',
        'method = ""',
        "seed = 0",
        'results = ""',
        "data_options = {}",
        "method_options = {}",
    ]
)
STUDY = """
experiments: {absent: {data: {folder: no/such/folder}, train: {}}}
methods: {standard: {}, isnet_original: {}}
studies:
  one: {budget_minutes: 1, runs: {absent: {methods: [standard, isnet_original], seeds: [0, 1]}}}
  two: {budget_minutes: 1, runs: {absent: {methods: [standard], seeds: [0]}}}
"""


@pytest.fixture
def place(tmp_path):
    """Options --notebooks and --results of a study whose data are absent."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (notebooks / "study.yaml").write_text(STUDY)
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": NOTEBOOK_PARAMETERS}
    for name in RUN_NOTEBOOKS:
        (notebooks / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    return ["--notebooks", str(notebooks), "--results", str(tmp_path / "results")]


def finish(place, study, **changes):
    """Make every run of a study look finished, made by the sources as they are, but for `changes` in the manifest."""
    notebooks, results = Path(place[1]), Path(place[3])
    for run in resolve(study, notebooks, results):
        folder = run.folder(results)
        folder.mkdir(parents=True)
        hashed = made_by(run.experiment, run.method, notebooks)
        content = {"parameters": portable(run.parameters), "made_by": hashed, "data": {"images": "abc"}} | changes
        (folder / "manifest.json").write_text(json.dumps(content))
        (folder / "metrics.json").write_text("{}")


def test_status_counts_and_exits_with_1_unless_all_are_done(place, capsys):
    assert main(["status", *place]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["study", "experiment", "method", "done", "unfinished", "missing", "stale"],
        ["one", "absent", "standard", "0", "0", "2", "0"],
        ["one", "absent", "isnet_original", "0", "0", "2", "0"],
        ["two", "absent", "standard", "0", "0", "1", "0"],
    ]
    finish(place, "two")
    assert main(["status", "--study", "two", *place]) == 0  # the data are absent, and that makes nothing stale
    assert main(["status", *place]) == 1


def test_status_tells_why_a_run_is_stale(place, capsys):
    finish(place, "two", made_by="other sources")
    assert main(["status", "--study", "two", *place]) == 1
    assert "stale: two absent/standard/seed0: the sources changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--study", "three"], r"there is no study 'three'; study.yaml has: one, two"),
        (["status", "--study", "three"], r"there is no study 'three'; study.yaml has: one, two"),
        (["report", "--study", "three"], r"there is no study 'three'; study.yaml has: one, two"),
        (["report", "--study", "two"], r"study two has no finished run in .*; first: isnet run --study two"),
        (["run", "--study", "one", "--only", "pipeline"], r"no run of study one is called pipeline; one is called "),
    ],
)
def test_a_wrong_request_is_told_in_one_line(place, capsys, arguments, message):
    assert main([*arguments, *place]) == 2
    captured = capsys.readouterr()
    assert re.match(f"isnet: {message}", captured.err) and captured.err.count("\n") == 1
    assert captured.out == ""


def test_missing_folders_are_told_in_one_line(tmp_path, capsys):
    assert main(["status", "--notebooks", str(tmp_path / "nowhere")]) == 2
    assert "nowhere/study.yaml does not exist: call isnet inside a clone" in capsys.readouterr().err
    assert main(["verify-data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"isnet: {tmp_path / 'nowhere'} is not a folder\n"


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--study", "one", "--jobs", "0"], ["train"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and capsys.readouterr().err.startswith("usage: isnet")


def test_verify_data_lists_what_is_wrong(tmp_path, capsys):
    table = {"image": ["gone.png"], "mask": [""], "label": ["a"], "source": ["here"], "patient": ["p1"]}
    pd.DataFrame(table).to_csv(tmp_path / "index.csv", index=False)
    assert main(["verify-data", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^error: gone.png, row 2: file is missing; ", out, flags=re.MULTILINE)
    assert f"{tmp_path}: 1 problems" in out
