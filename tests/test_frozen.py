"""Frozen configurations: a commit is named before the first run, and a change later is a further row."""

import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from tiny_study import PARAMETERS, write_notebook

from isnetlib import frozen, runner
from isnetlib.study import StudyError, read_studies

EXTRA = "epochs = 1\nrate = 0.1\n"


def content(epochs=2, weight=0.7, methods=("plain", "other"), freeze=("toy",)):
    return {
        "experiments": {"toy": {"data": {"size": 3}, "train": {"epochs": epochs}}},
        "methods": {"plain": {}, "other": {"weight": weight}, "third": {}},
        "studies": {
            "own": {
                "budget_minutes": 1,
                "runs": {"toy": {"methods": list(methods), "seeds": [0]}},
                "freeze": list(freeze),
            }
        },
    }


class Place:
    """A folder with notebooks and results, and, once `clone` was called, a git repository."""

    def __init__(self, root):
        self.root, self.notebooks, self.results = root, root / "notebooks", root / "results"
        for name in ("10_train", "20_external_test"):
            write_notebook(self.notebooks / f"{name}.ipynb", PARAMETERS + EXTRA)
        self.write()

    def write(self, **changes):
        (self.notebooks / "study.yaml").write_text(yaml.safe_dump(content(**changes)))

    def git(self, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", self.root, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self):
        if not (self.root / ".git").exists():
            self.git("init")
        self.git("add", "notebooks")
        self.git("commit", "-m", "configuration")
        return self.git("rev-parse", "HEAD")

    def evaluate(self, seed):
        folder = self.results / f"own/runs/toy/plain/seed{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")

    def freeze(self):
        frozen.freeze("own", ["toy", "toy"], self.notebooks, self.results)
        return frozen.rows(self.results / "own")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@needs_git
def test_a_configuration_is_frozen_once_and_its_commit_named(place):
    commit = place.commit()
    table = place.freeze()
    assert list(table) == frozen.COLUMNS and len(table) == 1
    row = table.iloc[0]
    assert row["commit"] == commit and row["date"] == place.git("show", "-s", "--format=%cI", "HEAD")
    assert row["experiment"] == "toy" and row["reason"] == "before any run was evaluated"
    found = frozen.configuration("own", "toy", place.notebooks, place.results)
    assert row["sha256"] == frozen.digest(found) and set(found) == {"plain", "other"}
    assert found["other"]["method_options"] == {"weight": 0.7} and found["plain"]["rate"] == 0.1
    place.evaluate(0)
    place.write(freeze=["toy"])
    (place.root / "another").write_text("")
    place.git("add", "another")
    place.git("commit", "-m", "another")
    assert len(place.freeze()) == 1  # a later commit of the same configuration freezes nothing anew


@needs_git
def test_a_configuration_in_no_commit_is_refused_and_nothing_is_written(place):
    place.commit()
    place.write(epochs=3)
    with pytest.raises(StudyError, match="configuration of toy is in no commit.*commit notebooks first"):
        place.freeze()
    assert not place.results.exists()
    place.commit()
    assert len(place.freeze()) == 1


@needs_git
def test_a_change_is_a_further_row_that_says_what_changed_after_how_many_runs(place):
    first = place.commit()
    before = place.freeze()
    place.evaluate(0)
    place.evaluate(1)
    place.write(epochs=5, weight=0.9, methods=["other", "plain", "third"])
    second = place.commit()
    table = place.freeze()
    assert table["commit"].tolist() == [first, second] and table.iloc[0].equals(before.iloc[0])
    assert table["reason"][1] == (
        "changed after 2 evaluated runs: third added; epochs 2 -> 5; other: weight 0.7 -> 0.9"
    )
    assert frozen.changed(place.results / "own") == list(table["experiment"].unique())
    place.write()
    place.commit()
    table = place.freeze()  # back again: that, too, is told
    assert len(table) == 3 and table["sha256"][0] == table["sha256"][2] != table["sha256"][1]


def test_outside_a_clone_no_commit_can_be_named(place):
    table = place.freeze()
    assert table[["commit", "date"]].to_numpy().tolist() == [["", ""]] and len(table["sha256"][0]) == 64


def test_seeds_may_be_added_and_what_a_study_does_not_name_is_not_frozen(place):
    place.freeze()
    text = (place.notebooks / "study.yaml").read_text()
    (place.notebooks / "study.yaml").write_text(text.replace("        - 0\n", "        - 0\n        - 1\n"))
    assert [run.seed for run in frozen.resolve("own", place.notebooks, place.results)] == [0, 0, 1, 1]
    assert len(place.freeze()) == 1
    place.write(freeze=[], epochs=9)
    assert len(place.freeze()) == 1


def test_what_is_frozen_must_have_runs(place):
    place.write(freeze=["toys"])
    with pytest.raises(StudyError, match="studies.own.freeze: unknown key 'toys'; allowed: toy"):
        read_studies(place.notebooks)


def test_many_changes_are_cut_short():
    then = {"plain": {"data_options": {str(k): 0 for k in range(9)}, "method_options": {}}}
    now = {"plain": {"data_options": {str(k): 1 for k in range(9)}, "method_options": {}}}
    assert frozen.changes(then, now).endswith("5 0 -> 1; and 3 more")


def test_the_runner_freezes_before_the_first_run_and_not_for_the_search(place, monkeypatch):
    seen = []

    def execute(notebook, output, parameters, threads, stop=None):
        seen.append((notebook.stem, len(frozen.rows(place.results / "own"))))
        output.parent.mkdir(parents=True, exist_ok=True)
        (output.parents[1] / "metrics.json").write_text("{}")

    monkeypatch.setattr("isnetlib.runner.execute", execute)
    given = {"jobs": 1, "runs_only": True, "hashes": lambda experiment, options: {}}
    (place.root / "tiny").mkdir()
    assert runner.run_study("own", place.notebooks, place.results, package=place.root / "tiny", **given) == 0
    assert seen[0] == ("10_train", 1) and len(seen) == 4


def test_methods_that_no_change_named_are_found(tmp_path):
    reasons = ["before any run: plain", "changed after 3 evaluated runs: other: weight 1 -> 2; plainer: rate 1 -> 2"]
    rows = pd.DataFrame({"experiment": "toy", "reason": reasons}).reindex(columns=frozen.COLUMNS, fill_value="x")
    rows.to_csv(tmp_path / "frozen.csv", index=False)
    assert frozen.untouched(tmp_path, ["plain", "other", "plainer"]) == ["plain"]
    assert frozen.untouched(tmp_path / "elsewhere", ["other"]) == ["other"]
    found = [frozen.changed(tmp_path, method) for method in ("", "other", "plain", "plainer")]
    assert found == [["toy"], ["toy"], [], ["toy"]]
