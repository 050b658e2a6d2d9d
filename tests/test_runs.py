"""What a run records, what makes it stale, and what it is without a file of its own (damaged: test_fuzz_study.py)."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tiny_study import edit, git, make_run, states

from isnetlib.study import runs
from isnetlib.study.config import StudyError
from isnetlib.study.runs import begin, record

PARAMETERS = {"experiment": "digits", "method": "standard", "base": None, "seed": 3, "sizes": (3, 4)}


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (("10_train.ipynb", "boom", "bang"), set()),  # what is no parameter is for the golden test to notice
        (("10_train.ipynb", "rate = 0.1", "rate = 0.3  # never the default anyway"), set()),
        (("10_train.ipynb", "extra = None", "extra = 1"), {"standard0", "rrr0"}),
        (("study.yaml", "{weight: 0.7}", "{weight: 0.8}"), {"rrr0"}),
        (("study.yaml", "{epochs: 9}", "{epochs: 10}"), set()),  # of another study
        (("relevance",), {"standard0", "rrr0"}),
        (("training",), {"standard0", "rrr0"}),
        (("methods", "rrr"), {"rrr0"}),
        (("data", "digits"), {"standard0", "rrr0"}),
        (("data", "covid"), set()),
    ],
)
def test_only_what_makes_a_run_makes_it_stale(place, monkeypatch, change, stale):
    for method in ("standard", "rrr"):
        make_run(place, "mixed", method, 0)
    if change[0] in runs.RECIPE:
        part = runs.RECIPE[change[0]] if len(change) == 2 else runs.RECIPE
        monkeypatch.setitem(part, change[-1], 2)
    else:
        edit(place[0] / change[0], *change[1:])
    found, reasons = states(place)
    assert {run for run in ("standard0", "rrr0") if found[run] == "stale"} == stale
    assert all(reasons[run] for run in stale)
    assert {found[run] for run in {"standard0", "rrr0"} - stale} <= {"done"}


def test_a_variant_has_the_version_of_its_base_and_a_method_without_one_is_told(place, monkeypatch):
    edit(place[0] / "study.yaml", "  gain: {}\n", "  gain: {base: rrr}\n")
    make_run(place, "mixed", "gain", 0)
    monkeypatch.setitem(runs.RECIPE["methods"], "rrr", 2)
    reason = "the recipe's method version was 1, is 2"
    assert states(place)[0]["gain0"] == "stale" and states(place)[1]["gain0"] == reason
    monkeypatch.delitem(runs.RECIPE["methods"], "standard")
    with pytest.raises(StudyError, match="'standard' has no version in isnetlib/study/recipe.yaml"):
        states(place)


def test_changed_data_are_stale_and_absent_data_are_not(place, monkeypatch):
    make_run(place, "mixed", "standard", 0)
    seen = []

    def absent(run):
        seen.append((run.experiment, run.parameters["data_options"], run.notebooks))
        return {}

    monkeypatch.setattr(runs, "data_hashes", absent)
    assert states(place)[0]["standard0"] == "done"
    assert seen == [("digits", {"size": 3}, place[0])]
    monkeypatch.setattr(runs, "data_hashes", lambda *asked: {"digits": "abd"})
    found, reasons = states(place)
    assert found["standard0"] == "stale" and reasons["standard0"] == "data digits was 'abc', is 'abd'"
    edit(place[0] / "study.yaml", "digits: {data", "digits: {folds: 3, data")
    for folder in ("standard", "rrr"):
        shutil.rmtree(place[1] / "mixed/runs/digits" / folder, ignore_errors=True)
    make_run(place, "mixed", "standard", 0), make_run(place, "mixed", "standard", 1)
    seen.clear()
    monkeypatch.setattr(runs, "data_hashes", absent)
    states(place)
    assert [options for _, options, _ in seen] == [{"size": 3, "fold": 0, "folds": 3}]  # the files are read once


@pytest.mark.parametrize(
    ("gone", "state"),
    [(["manifest.json"], "stale"), (["metrics.json"], "unfinished"), (["manifest.json", "metrics.json"], "unfinished")],
)
def test_a_run_that_lacks_a_file_is_told_and_no_other(place, gone, state):
    make_run(place, "mixed", "rrr", 0)
    folder = make_run(place, "mixed", "standard", 0)
    for name in gone:
        (folder / name).unlink()
    found, reasons = states(place)
    assert found["standard0"] == state and found["rrr0"] == "done"
    assert (str(folder / "manifest.json") in reasons["standard0"]) == (state == "stale")


def test_a_manifest_tells_all_and_names_no_place():
    parameters = PARAMETERS | {"results": "/home/me/results", "study": "mine"}
    found = record(parameters | {"data_options": {"folder": "/home/me/lungs", "own": "~/x"}}, {"digits": "abc"})
    settings = PARAMETERS | {"sizes": [3, 4], "data_options": {"folder": "lungs", "own": "x"}}
    assert found["settings"] == settings and found["data"] == {"digits": "abc"}
    assert [found[f"{part}_version"] for part in ("relevance", "training", "method", "data")] == [1, 1, 1, 1]
    assert set(found["versions"]) == {"python", "torchvision", "numpy"}
    assert set(found) >= {"torch", "device", "threads", "cpus", "platform", "time"}
    text = json.dumps(found)
    assert "/home" not in text and str(Path.home()) not in text and os.uname().nodename not in text


def test_a_run_goes_on_only_as_what_it_began_as(tmp_path, monkeypatch):
    begin(tmp_path / "run", PARAMETERS | {"results": "there"}, {"digits": "abc"})
    first = (tmp_path / "run/manifest.json").read_text()
    begin(tmp_path / "run", PARAMETERS | {"results": "elsewhere"}, {"digits": "abc"})
    assert (tmp_path / "run/manifest.json").read_text() == first
    for other, data in (({"sizes": (3, 5)}, "abc"), ({}, "abd"), ({"method": "rrr"}, "abc")):
        with pytest.raises(ValueError, match="run holds another run .* was .*: remove it to train afresh"):
            begin(tmp_path / "run", PARAMETERS | other, {"digits": data})
    monkeypatch.setitem(runs.RECIPE, "training", 2)
    with pytest.raises(ValueError, match="the recipe's training version was 1, is 2"):
        begin(tmp_path / "run", PARAMETERS, {"digits": "abc"})


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_commit_is_of_the_sources_alone(tmp_path, monkeypatch):
    package = tmp_path / "tiny"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(runs, "PACKAGE", package)

    assert "commit" not in record(PARAMETERS, {})  # no clone
    git(tmp_path, "init")
    assert "commit" not in record(PARAMETERS, {})  # the package is not among its files
    git(tmp_path, "add", "tiny")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "results").write_text("a result")
    found = record(PARAMETERS, {})
    assert (found["commit"], found["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (package / "__init__.py").write_text("changed = True")
    assert record(PARAMETERS, {})["dirty"] is True
