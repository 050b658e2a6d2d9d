"""study.yaml: what it may hold, its mistakes, and what the real one asks for."""

import inspect
import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from tiny_study import STUDY, WHOLE, edit, write_notebook

from isnetlib.baselines import METHODS
from isnetlib.report import names
from isnetlib.study import search
from isnetlib.study.config import StudyError, check_parameters, declared, method_parameters, read_studies
from isnetlib.study.runner import run_study
from isnetlib.study.runs import resolve

ROOT = Path(__file__).parents[1]
REAL = ROOT / "notebooks/pipeline", ROOT / "results"
MISTAKES = [  # of the structure, by JSON schema, then of what the parts say of each other, then of parameters
    ("budget_minutes: 1", "budget: 1", "studies.fine: 'budget' is not one of .'budget_minutes', 'runs'"),
    ("    budget_minutes: 1\n", "", "studies.fine: 'budget_minutes' is a required property"),
    ("folds: 3", "folds: 2", "experiments.digits.folds: 2 is less than the minimum of 3"),
    ("data: {size: 3}", "daten: {size: 3}", "experiments.digits: 'daten' is not one of .'data', 'train'"),
    ("methods: {rrr", "methods: {another", "experiments.digits.methods: 'another' is not one of"),
    ("{weight: 0.2}", "{base: gain}", "experiments.digits.methods.rrr: 'base' should not be valid"),
    ("base: rrr,", "base: another,", "methods.named.base: 'another' is not one of"),
    ("gain: {}", "gain: {base: named}", "methods.gain.base: 'named' is not one of"),
    ("  mixed:", "  ../../x:", "studies: '../../x' does not match"),
    ("[standard], seeds: [0]", "[plane], seeds: [0]", "methods.0: 'plane' is not one of .'standard', 'rrr'"),
    ("[standard], seeds: [0]", "[standard], seeds: [0, 0]", "seeds: .0, 0. has non-unique elements"),
    ("[standard], seeds: [0]", f"[standard], seeds: [{2**63}]", "seeds.0: 9223372036854775808 is greater than"),
    ("[standard], seeds: [0]", "[standard], seeds: [3]", "runs.digits.seeds.standard: 3 is not one of .0, 1, 2."),
    ("gain: [0]}", "worse: [0]}", "runs.digits.seeds: 'worse' is not one of"),
    (", gain: [0]}", "}", "runs.digits.seeds, a method without: 'gain' is not one of"),
    ("{digits: {methods: [standard], seeds: [0]}}", "{}", "studies.fine.runs: {} should be non-empty"),
    ("epochs: 9", "epochs: 0", "studies.fine.train.digits.epochs: 0 is less than the minimum of 1"),
    ("epochs: 9", "batch_size: 0", "train.digits.batch_size: 0 is less than the minimum of 1"),
    ("epochs: 9", "learning_rate: -1.0", "learning_rate: -1.0 is less than or equal to the minimum of 0"),
    ("epochs: 9", "learning_rate: .nan", "study.yaml is not valid: Out of range float"),
    ("epochs: 9", "seed: 5", "studies.fine.train.digits: 'seed' should not be valid"),
    ("[0.5, 5.0]", "[1, 2, 3, 4, 5, 6]", "values: .1, 2, 3, 4, 5, 6. is too long"),
    ("{standard: {option", "{gain: {option", "studies.fine.search.digits: 'gain' is not one of .'standard'"),
    ("trial_epochs: {digits: 3}", "freeze: [toy]", "freeze.0: 'toy' is not one of .'digits'"),
    ("standard: {}", "standard: {", "study.yaml is not valid: while parsing"),
    ("standard: {}", "standard: {}\n  standard: {}", "line 5: the key 'standard' is given twice"),
    ("{size: 3}", "&a {size: *a}", "study.yaml is not valid: Circular reference"),
    ("budget_minutes: 1", f"budget_minutes: {10**400}", "budget_minutes: 10+ is greater than the maximum"),
    ("epochs: 2", "epoch: 2", "10_train.ipynb has no parameter 'epoch'; it declares: base, data_options, epochs,"),
    (
        "epochs: 2, rate: 0.5",
        "rate: two",
        "10_train.ipynb: parameter 'rate' is 'two', of another type than its default 0.1",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_in_study_yaml_is_named_before_anything_is_run(place, old, new, message):
    assert old in WHOLE
    (place[0] / "study.yaml").write_text(WHOLE.replace(old, new))
    study = "mixed" if "epochs: 2" in old else "fine"
    with pytest.raises(StudyError, match=message) as caught:
        run_study(study, *place)
    assert "\n" not in str(caught.value) and not place[1].exists()


def test_files_that_are_absent_or_no_text_are_named(place):
    (place[0] / "study.yaml").write_bytes(b"a: \xff")
    with pytest.raises(StudyError, match="study.yaml is not valid: 'utf-8'"):
        read_studies(place[0])
    (place[0] / "study.yaml").unlink()
    with pytest.raises(StudyError, match="study.yaml is not valid: .*No such file"):
        read_studies(place[0])
    (place[0] / "study.yaml").write_text(STUDY)
    for damage in (lambda path: path.write_text("{"), lambda path: path.unlink()):
        damage(place[0] / "20_external_test.ipynb")
        with pytest.raises(StudyError, match="the notebook .*20_external_test.ipynb is absent or damaged, or "):
            run_study("fine", *place)


def test_runs_get_their_parameters_and_the_studys_overrides(place):
    edit(place[0] / "study.yaml", "rate: 0.5", "rate: 5e-1")  # which YAML by itself would read as text
    run = resolve("fine", *place)[0]
    assert run.parameters == {
        "study": "fine", "experiment": "digits", "method": "standard", "seed": 0, "results": "../results",
        "epochs": 9, "rate": 0.5, "data_options": {"size": 4}, "method_options": {},
    }  # fmt: skip
    names = ["digits/standard/seed0", "digits/rrr/seed0", "digits/gain/seed0", "digits/standard/seed1"]
    assert [run.name for run in resolve("mixed", *place)] == names


def test_seeds_are_folds_where_an_experiment_has_them(place):
    (place[0] / "study.yaml").write_text(STUDY.replace("digits: {data", "digits: {folds: 3, data"))
    options = {run.name: run.parameters["data_options"] for run in resolve("mixed", *place)}
    assert options["digits/standard/seed0"] == options["digits/rrr/seed0"] == {"size": 3, "fold": 0, "folds": 3}
    assert options["digits/standard/seed1"] == {"size": 3, "fold": 1, "folds": 3}


def test_own_options_lie_over_the_base_and_under_the_variant():
    content = {"methods": {"a": {"p": 1, "q": 1, "r": 1}, "b": {"base": "a", "q": 2}}}
    content["experiments"] = {"e": {"methods": {"a": {"p": 3, "q": 3}}}, "f": {"methods": {"b": {"q": 4}}}}
    content["studies"] = {"s": {"methods": {}}, "t": {"methods": {"e": {"a": {"r": 5}, "b": {"p": 6}}}}}
    before = json.dumps(content)

    def found(name, study, experiment):
        return method_parameters(name, content, study, experiment)

    assert found("b", "s", "e") == {"method": "b", "base": "a", "method_options": {"p": 3, "q": 2, "r": 1}}
    assert found("b", "s", "f")["method_options"] == {"p": 1, "q": 4, "r": 1}
    assert found("b", "t", "e")["method_options"] == {"p": 6, "q": 2, "r": 5}  # a study has the last word
    assert found("a", "t", "e") == {"method": "a", "method_options": {"p": 3, "q": 3, "r": 5}}
    assert json.dumps(content) == before


def test_parameter_cells_hold_literals_alone(tmp_path):
    path = tmp_path / "some.ipynb"
    write_notebook(path, "rate = 0.5  # told\nnames = ['a']\nsize = None")
    assert declared(path) == {"rate": 0.5, "names": ["a"], "size": None}
    check_parameters(path, declared(path), {"rate": 1, "size": 3})  # an int will do for a float, anything for None
    write_notebook(path, "seed = 0\nrate = 1 / 2")
    with pytest.raises(StudyError, match="holds lines `name = literal` alone: .* on line 2"):
        declared(path)
    path.write_text('{"cells": []}')
    with pytest.raises(StudyError, match="some.ipynb is .* has no cell tagged 'parameters'"):
        declared(path)


# --- the real studies

BEFORE = set(METHODS) - {"isnet_background"}  # which came after these results
PLANNED = {*names.rivals("full", "digits"), names.PRIMARY_METHOD}


def test_the_real_studies_are_in_order():
    known = "smoke quick full simulated steering ablations backbones transformers real paper"
    assert list(read_studies(REAL[0])["studies"]) == known.split()
    four = {"standard", "pipeline", "background_random", "isnet_selective"}
    assert {(run.experiment, run.method, run.seed) for run in resolve("quick", *REAL)} == {
        (experiment, method, 0) for experiment in ("digits", "tuberculosis_sim") for method in four
    }
    seeds = Counter((run.experiment, run.method) for run in resolve("full", *REAL))
    assert seeds == {("digits", method): 5 for method in BEFORE} | {("digits", "isnet_original"): 3}
    assert set(Counter(run.method for run in resolve("ablations", *REAL)).values()) == {3}


@pytest.mark.parametrize("experiment", ["tuberculosis", "tuberculosis_planted", "covid"])
def test_every_method_meets_real_films_prepared_alike_and_frozen_before(experiment):
    runs, later = [run for run in resolve("real", *REAL) if run.experiment == experiment], experiment in names.AGAIN
    seeds = Counter(run.method for run in runs)
    again = {"background_random", "isnet_background", "isnet_selective_constant", "oracle"} if later else set()
    assert {method for method, number in seeds.items() if number == 3} == PLANNED | again
    assert set(seeds) == (PLANNED | again | {"rrr", "grad_input"} if later else BEFORE - {"oracle"})
    alike = ("data_options", "backbone", "batch_size", "learning_rate", "epochs")
    assert len({json.dumps([run.parameters[name] for name in alike]) for run in runs}) == 1
    study = read_studies(REAL[0])["studies"]["real"]
    assert experiment in study["freeze"]
    assert {len(entry["values"]) for entry in study["search"][experiment].values()} == ({4, 5} if later else {4})


def test_every_method_of_the_real_studies_has_the_options_it_is_given():
    content = read_studies(REAL[0])
    for study, experiment in product(content["studies"], content["experiments"]):
        for name in content["methods"]:
            given = method_parameters(name, content, study, experiment)
            assert set(given["method_options"]) <= set(inspect.signature(METHODS[given.get("base", name)]).parameters)


@pytest.mark.parametrize("study", ["full", "real"])
def test_the_real_studies_hold_what_their_search_chose(study):
    trials = search.trials(study, *REAL)
    assert search.not_followed(trials) == []
    counts = Counter((trial.experiment, trial.method) for trial in trials if trial.experiment not in names.AGAIN)
    assert counts.pop(("faces_planted", "isnet_background"), 5) == 5 and set(counts.values()) == {4}
    assert {trial.seed for trial in trials} == {0}
