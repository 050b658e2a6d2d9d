"""The search for loss weights: which trials there are, what is chosen, and the notebooks at work on tiny data."""

import json
import threading
from pathlib import Path

import pandas as pd
import pytest
import yaml

from isnetlib import runner, search
from isnetlib.notebooks import execute
from isnetlib.study import StudyError, resolve

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"


@pytest.fixture
def tiny(tmp_path):
    """The project's notebooks beside a study of two methods, one of which is searched, on a few digits."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        (notebooks / path.name).write_bytes(path.read_bytes())
    data = {"train_size": 30, "validation_size": 20, "test_size": 20}
    entry = {"option": "penalty_weight", "values": [0.5, 5.0], "serves": ["gain"]}
    content = {
        "experiments": {"digits": {"data": data, "train": {"epochs": 4, "batch_size": 15}}},
        "methods": {"rrr": {"penalty_weight": 0.5}, "gain": {}, "standard": {}},
        "studies": {
            "small": {
                "budget_minutes": 1,
                "runs": {"digits": {"methods": ["rrr", "standard"], "seeds": [3, 2]}},
                "search": {"digits": {"rrr": entry}},
            }
        },
    }
    (notebooks / "study.yaml").write_text(yaml.safe_dump(content))
    return notebooks, tmp_path / "results"


def change(notebooks, old, new):
    path = notebooks / "study.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def leave(trial, results, **found):
    search.write_row(trial.file(results), found, {"parameters": trial.parameters, "made_by": "abc", "data": {}})


def test_trials_are_the_first_runs_with_a_quarter_of_the_epochs(tiny):
    found = search.trials("small", *tiny)
    run = next(run for run in resolve("small", *tiny) if run.method == "rrr" and run.seed == 2)
    assert [trial.name for trial in found] == ["search/digits/rrr/0.5", "search/digits/rrr/5"]
    for trial, value in zip(found, (0.5, 5.0), strict=True):
        own = {"epochs": 1, "option": "penalty_weight", "value": value, "method_options": {"penalty_weight": value}}
        assert trial.parameters == run.parameters | own
    assert found[0].file(tiny[1]) == tiny[1] / "small/search/digits/rrr/0.5.json"


def test_a_study_may_say_how_many_epochs_a_trial_has(tiny):
    change(tiny[0], "    search:\n", "    trial_epochs: {digits: 3}\n    search:\n")
    assert {trial.parameters["epochs"] for trial in search.trials("small", *tiny)} == {3}
    for wrong, message in (
        ("0", "small.trial_epochs.digits: a whole number of epochs is needed, not 0"),
        ("1.5", "a whole number of epochs is needed, not 1.5"),
        ("3, faces: 3", "small.trial_epochs: unknown key 'faces'; allowed: digits"),
    ):
        change(tiny[0], "trial_epochs: {digits: 3}", f"trial_epochs: {{digits: {wrong}}}")
        with pytest.raises(StudyError, match=message):
            search.trials("small", *tiny)
        change(tiny[0], f"trial_epochs: {{digits: {wrong}}}", "trial_epochs: {digits: 3}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("option: penalty_weight", "optoin: penalty_weight", "search.digits.rrr: unknown key 'optoin'"),
        ("- 5.0", "- 5.0\n          - 6.0\n          - 7.0\n          - 8.0", "rrr.values: from 1 to 4 values"),
        ("- 5.0", "- 0.5", "rrr.values: a list of distinct float values"),
        ("- gain", "- gian", "search.digits.rrr: unknown key 'gian'"),
        ("      - rrr\n", "      - gain\n", "search.digits: the study has no runs of rrr"),
    ],
)
def test_a_mistake_is_named(tiny, old, new, message):
    change(tiny[0], old, new)
    with pytest.raises(StudyError, match=message):
        search.trials("small", *tiny)


def test_the_best_on_swapped_validation_is_chosen_whatever_the_internal_says(tiny):
    trials = search.trials("small", *tiny)
    leave(trials[0], tiny[1], metric="accuracy", swapped=0.6, internal=1.0, epoch=0, swapped_loss=0.1)
    leave(trials[1], tiny[1], metric="accuracy", swapped=0.7, internal=0.8, epoch=0, swapped_loss=0.2)
    table = search.table(tiny[1] / "small")
    assert table["chosen"].tolist() == [False, True] and list(table) == search.COLUMNS
    leave(trials[0], tiny[1], metric="accuracy", swapped=0.7, internal=1.0, epoch=0, swapped_loss=0.1)
    assert search.table(tiny[1] / "small")["chosen"].tolist() == [True, False]  # of equals the lower loss
    leave(trials[1], tiny[1], metric="accuracy", swapped=0.99, internal=0.1, epoch=0, swapped_loss=0.1)
    assert search.table(tiny[1] / "small")["chosen"].tolist() == [True, False]  # it reads the background in reverse
    leave(trials[1], tiny[1], metric="accuracy", swapped=0.7, internal=0.8, epoch=0, swapped_loss=0.2)
    leave(trials[0], tiny[1], metric="accuracy", note="epoch 0: the term 'penalty' is inf")
    assert search.table(tiny[1] / "small")["chosen"].tolist() == [False, True]  # exploded: no scores


def test_a_study_that_does_not_hold_what_was_chosen_is_told(tiny):
    trials = search.trials("small", *tiny)
    for trial, swapped in zip(trials, (0.6, 0.7), strict=True):
        leave(trial, tiny[1], metric="accuracy", swapped=swapped, internal=1.0, epoch=0, swapped_loss=0.1)
    table = search.table(tiny[1] / "small")
    assert search.not_followed("small", tiny[0], table) == [
        "study.yaml: methods.rrr.penalty_weight is 0.5, the search chose 5",
        "study.yaml: methods.gain.penalty_weight is None, the search chose 5",
    ]
    change(tiny[0], "penalty_weight: 0.5", "penalty_weight: 5.0")
    change(tiny[0], "gain: {}", "gain: {penalty_weight: 5.0}")
    assert search.not_followed("small", tiny[0], table) == []


def test_what_was_chosen_may_stand_in_the_experiment(tiny):
    for trial, swapped in zip(search.trials("small", *tiny), (0.6, 0.7), strict=True):
        leave(trial, tiny[1], metric="accuracy", swapped=swapped, internal=1.0, epoch=0, swapped_loss=0.1)
    table = search.table(tiny[1] / "small")
    change(tiny[0], "  digits:\n    data:", "  digits:\n    methods: {rrr: {penalty_weight: 0.1}}\n    data:")
    assert search.not_followed("small", tiny[0], table)[0] == (
        "study.yaml: experiments.digits.methods.rrr.penalty_weight is 0.1, the search chose 5"
    )
    change(tiny[0], "{penalty_weight: 0.1}", "{penalty_weight: 5.0}, gain: {penalty_weight: 5.0}")
    assert search.not_followed("small", tiny[0], table) == []  # whatever holds elsewhere


def test_a_part_of_the_search(tiny, monkeypatch):
    entry = "          values:\n          - 0.5\n          - 5.0\n"
    change(tiny[0], entry, entry + "        standard:\n          option: width\n          values:\n          - 1.0\n")
    found = search.trials("small", *tiny)
    parts = {names: [t.name for t in search.among(found, names)] for names in ((), ("search",), ("search/rrr",))}
    assert len(parts[()]) == len(parts[("search",)]) == 3 and len(parts[("search/rrr",)]) == 2
    assert (
        len(search.among(found, ["search/digits"])) == 3 and len(search.among(found, ["search/digits/standard"])) == 1
    )
    with pytest.raises(
        StudyError, match="no part of the search is called search/faces; one is called search/digits/rrr"
    ):
        search.among(found, ["search/faces"])
    made = []

    def try_one(trial, state, threads, stop, notebooks, results):
        made.append((trial.name, threads))
        leave(trial, results, metric="accuracy", swapped=trial.parameters["value"], internal=1.0, swapped_loss=0.1)
        return 1.0, None

    monkeypatch.setattr(runner, "_try_one", try_one)
    monkeypatch.setattr(runner, "execute_own", lambda *given: [])
    assert (
        runner.run_study("small", *tiny, only=["search/digits/standard"], threads=3) == 1
    )  # study.yaml does not hold 1.0
    assert made == [("search/digits/standard/1", 3)] and not (tiny[1] / "small/runs").exists()


def test_the_search_runs_skips_what_is_done_and_stops_runs_with_other_options(tiny, capsys):
    notebooks, results = tiny
    assert set(search.status("small", notebooks, results)["state"]) == {"missing"}
    last = search.trials("small", notebooks, results)[1]
    seconds, error = runner._try_one(last, "missing", 1, threading.Event(), notebooks, results)
    assert error is None and seconds > 0
    found = json.loads(last.file(results).read_text())
    assert 0 <= found["swapped"] <= 1 and found["epoch"] == 0 and found["manifest"]["parameters"]["value"] == 5.0
    first = search.trials("small", notebooks, results)[0]  # as if it had been worse
    manifest = found["manifest"] | {"parameters": found["manifest"]["parameters"] | {"value": 0.5}}
    manifest["parameters"]["method_options"] = {"penalty_weight": 0.5}
    search.write_row(first.file(results), {**found, "swapped": -1.0}, manifest)
    frame = search.status("small", notebooks, results)
    assert set(frame["state"]) == {"done"} and set(frame["method"]) == {"rrr (search)"}

    assert (
        runner.run_study("small", notebooks, results) == 2
    )  # penalty_weight 5 was chosen; study.yaml has 0.5, and gain none

    printed = capsys.readouterr().out
    assert "search of 2 trials, 2 done, 0 to make" in printed and "the search chose 5" in printed
    table = pd.read_csv(results / "small/tables/search.csv")
    assert table["chosen"].tolist() == [False, True] and (results / "small/figures/search_digits.png").exists()
    assert not (results / "small/runs").exists()
    change(notebooks, "batch_size: 15", "batch_size: 10")
    frame = search.status("small", notebooks, results)
    assert set(frame["state"]) == {"stale"} and frame["reason"][0] == "parameter batch_size was 15, is 10"


def test_a_trial_that_fails_says_so_and_leaves_no_row(tiny):
    notebooks, results = tiny
    change(notebooks, "option: penalty_weight", "option: penalty")
    trial = search.trials("small", notebooks, results)[0]
    error = execute(notebooks / "05_search.ipynb", results / "copy.ipynb", trial.parameters, 1)
    assert "method rrr has no option 'penalty'" in error and not trial.file(results).exists()


@pytest.mark.skipif(
    not (ROOT / "results/full/tables/search.csv").exists(), reason="the full study's search has not run"
)
def test_the_real_studies_hold_what_the_search_chose():
    table = pd.read_csv(ROOT / "results/full/tables/search.csv")
    assert search.not_followed("full", NOTEBOOKS, table) == []


def test_the_real_search_is_as_small_for_every_method():
    trials = search.trials("full", NOTEBOOKS, ROOT / "results")
    counts = pd.Series([(trial.experiment, trial.method) for trial in trials]).value_counts()
    assert len(counts) == 4 * 7 + 4 and set(counts) == {4}
    digits = [trial.parameters for trial in trials if trial.experiment == "digits"]
    assert {(parameters["epochs"], parameters["seed"]) for parameters in digits} == {(6, 0)}
