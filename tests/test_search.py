"""What stands before the runs: the search, and frozen configurations, whose commit is named before the first run."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny_study import edit, git, make_run

from isnetlib.report import store
from isnetlib.study import runner, search
from isnetlib.study.config import StudyError, declared
from isnetlib.study.pack import pack_trials
from isnetlib.study.runs import begin, resolve

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tiny(tmp_path):
    """The project's notebooks beside a study of two methods, one of which is searched, on a few digits."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for path in (ROOT / "notebooks/pipeline").glob("*.ipynb"):
        (notebooks / path.name).write_bytes(path.read_bytes())
    data = {"train_size": 30, "validation_size": 20, "test_size": 20}
    entry = {"option": "penalty_weight", "values": [0.5, 5.0], "serves": ["gain"]}
    runs = {"digits": {"methods": ["rrr", "standard"], "seeds": [3, 2]}}
    content = {
        "experiments": {"digits": {"data": data, "train": {"epochs": 4, "batch_size": 15}}},
        "methods": {"rrr": {"penalty_weight": 0.5}, "gain": {}, "standard": {}},
        "studies": {"small": {"budget_minutes": 1, "runs": runs, "search": {"digits": {"rrr": entry}}}},
    }
    (notebooks / "study.yaml").write_text(yaml.safe_dump(content))
    return notebooks, tmp_path / "results"


def leave(trial, **found):
    """A finished trial."""
    begin(trial.folder, declared(ROOT / "notebooks/pipeline/05_search.ipynb") | trial.parameters, {})
    (trial.folder / "metrics.json").write_text(json.dumps({"metric": "accuracy", "epoch": 0} | found))


def test_trials_are_the_first_runs_with_a_quarter_of_the_epochs(tiny):
    found = search.trials("small", *tiny)
    run = next(run for run in resolve("small", *tiny) if run.method == "rrr" and run.seed == 2)
    assert [trial.name for trial in found] == ["digits/rrr/0.5", "digits/rrr/5"]
    for trial, value in zip(found, (0.5, 5.0), strict=True):
        own = {"epochs": 1, "option": "penalty_weight", "value": value, "method_options": {"penalty_weight": value}}
        assert trial.parameters == run.parameters | own
    assert found[0].folder == tiny[1] / "small/search/digits/rrr/0.5"
    edit(tiny[0] / "study.yaml", "    search:", "    trial_epochs: {digits: 3}\n    search:")
    assert search.trials("small", *tiny)[0].parameters["epochs"] == 3


def test_the_search_is_made_skips_what_is_done_and_stops_runs_with_other_options(tiny, capsys):
    assert set(runner.status("small", *tiny)["state"]) == {"missing"}
    first, last = search.trials("small", *tiny)
    leave(first, swapped=-1.0, internal=1.0, swapped_loss=0.1)
    # penalty_weight 5 is chosen; study.yaml has 0.5, and gain none
    assert runner.run_study("small", *tiny) == 2
    printed = capsys.readouterr().out
    assert "small: search: 2 runs, 1 done, 1 to make" in printed and printed.count("the search chose 5") == 2
    assert not (tiny[1] / "small/runs").exists()
    assert printed.count("study.yaml: penalty_weight of rrr in digits is 0.5, the search chose 5") == 1
    found = store.trials(tiny[1] / "small")
    methods = "methods: {rrr: {penalty_weight: 5.0}, gain: {penalty_weight: 5.0}}"  # it may stand in the experiment
    edit(tiny[0] / "study.yaml", "  digits:\n    data:", f"  digits:\n    {methods}\n    data:")
    assert search.not_followed(search.trials("small", *tiny)) == []
    assert found["chosen"].tolist() == [False, True] and 0 <= found["swapped"][1] <= 1 and found["epoch"][1] == 0
    states = runner.status("small", *tiny).set_index("method")["state"]
    assert set(states["rrr (search)"]) == {"done"} and set(states["rrr"]) == {"missing"}
    edit(tiny[0] / "study.yaml", "batch_size: 15", "batch_size: 10")
    frame = runner.status("small", *tiny)
    assert frame["reason"][0] == "parameter batch_size was 15, is 10" and frame["state"][1] == "stale"


def test_a_weight_that_falls_is_a_value_like_another(tiny):
    edit(tiny[0] / "study.yaml", "- 5.0", "- [5.0, 0.5]")
    first, falling = search.trials("small", *tiny)
    assert falling.name == "digits/rrr/5-0.5" and falling.parameters["method_options"] == {"penalty_weight": [5.0, 0.5]}
    for trial, swapped in ((first, 0.25), (falling, 0.5)):
        leave(trial, swapped=swapped, internal=1.0, swapped_loss=0.1)
    assert pack_trials(tiny[1] / "small") == []
    found = store.trials(tiny[1] / "small")
    assert list(map(store.tried, found["value"])) == ["0.5", "5-0.5"] and found["chosen"].tolist() == [False, True]
    (line,) = {line.partition(" is ")[2] for line in search.not_followed([first, falling])[:1]}
    assert line == "0.5, the search chose 5-0.5"
    assert set(runner.status("small", *tiny)["state"][:2]) == {"done"}
    shutil.rmtree(tiny[1] / "small/search")
    assert set(runner.status("small", *tiny)["state"][:2]) == {"done"}  # packed
    edit(tiny[0] / "study.yaml", "- 0.5\n", "- 10.0\n")
    leave(search.trials("small", *tiny)[0], swapped=0.75, internal=0.75, swapped_loss=1.0)
    edit(tiny[0] / "study.yaml", "penalty_weight: 0.5", "penalty_weight: 10.0")
    for _ in range(2):  # beside text numbers are read as text, and mean the same
        assert pack_trials(tiny[1] / "small") == []
        found = store.trials(tiny[1] / "small")
        assert list(map(store.tried, found["value"])) == ["0.5", "10", "5-0.5"]
        assert not [line for line in search.not_followed(search.trials("small", *tiny)) if " of rrr " in line]


def test_a_row_of_a_log_is_what_a_trial_found():
    log = pd.DataFrame({"swapped_auc": [0.25, 0.5], "val_auc": [1.0, 0.75], "swapped_loss": [3.0, 2.0]})
    found = {"metric": "auc", "epoch": 1, "swapped": 0.5, "internal": 0.75, "swapped_loss": 2.0}
    assert search.row(log, "auc", 1) == found


needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@pytest.fixture
def frozen(place):
    """The tiny studies, of which `mixed` freezes its experiment; not yet in a clone."""
    edit(place[0] / "study.yaml", "  mixed:\n", "  mixed:\n    freeze: [digits]\n")
    return place


def commit(place):
    git(place[0].parent, "init")
    git(place[0].parent, "add", "notebooks")
    git(place[0].parent, "commit", "--allow-empty", "-m", "configuration")
    return git(place[0].parent, "rev-parse", "HEAD")


def freeze(place, study="mixed"):
    search.freeze(resolve(study, *place))
    return store.frozen(place[1] / study)


@needs_git
def test_the_commit_of_a_configuration_is_named_before_its_runs_and_a_later_one_in_a_further_row(frozen):
    first = commit(frozen)
    row = freeze(frozen).iloc[0]
    assert row["commit"] == first and row["date"] == git(frozen[0], "show", "-s", "--format=%cI", "HEAD")
    assert row["experiment"] == "digits" and row["reason"] == "before any run was evaluated"
    commit(frozen)
    assert len(freeze(frozen)) == 1  # a later commit of something else freezes nothing anew
    make_run(frozen, "mixed", "standard", 0), make_run(frozen, "mixed", "standard", 1)
    edit(frozen[0] / "study.yaml", "epochs: 2", "epochs: 5")
    second = commit(frozen)
    table = freeze(frozen)
    assert table["commit"].tolist() == [first, second] and table.iloc[0].equals(row)
    assert table["reason"][1] == "after 2 evaluated runs"


@needs_git
def test_a_configuration_in_no_commit_is_refused_and_nothing_is_written(frozen):
    commit(frozen)
    edit(frozen[0] / "study.yaml", "epochs: 2", "epochs: 5")
    with pytest.raises(StudyError, match="configuration of digits is in no commit.*commit notebooks first"):
        freeze(frozen)
    assert not frozen[1].exists()


def test_outside_a_clone_no_commit_can_be_named_and_what_is_not_named_is_not_frozen(frozen):
    table = freeze(frozen)
    assert table[["commit", "date"]].to_numpy().tolist() == [["", ""]] and len(freeze(frozen)) == 1
    assert len(freeze(frozen, "fine")) == 0
    with (frozen[1] / "mixed" / "frozen.csv").open("a") as file:
        file.write("digits,,,,a reason, with a comma\n")
    with pytest.raises(store.Damaged, match=r"frozen\.csv is damaged .*fields in line 3"):
        freeze(frozen)


def test_the_runner_freezes_before_the_first_run(frozen, monkeypatch):
    seen = []

    def execute(notebook, output, parameters, threads):
        seen.append(len(store.frozen(frozen[1] / "mixed")))
        return "stopped"

    monkeypatch.setattr(runner, "execute", execute)
    assert runner.run_study("mixed", *frozen, jobs=1) == 4 and seen == [1] * 4
