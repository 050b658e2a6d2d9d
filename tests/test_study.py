"""study.yaml: what it may hold, its mistakes, and what the real one asks for."""

import inspect
import json
from collections import Counter
from pathlib import Path

import pytest
from tiny_study import STUDY, edit, here, make_run, states, write_notebook

from isnetlib import names
from isnetlib.baselines import METHODS
from isnetlib.notebooks import check_parameters, declared
from isnetlib.provenance import made_by, manifest, portable
from isnetlib.runner import run_study
from isnetlib.study import StudyError, method_parameters, read_studies, resolve

ROOT = Path(__file__).parent.parent

# --- parameters


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 2", "epoch: 2", r"10_train.ipynb has no parameter 'epoch'. Did you mean 'epochs'\? It declares: "),
        (
            "epochs: 2",
            "epochs: two",
            r"10_train.ipynb: parameter 'epochs' is 'two' \(str\), but its default is 1 \(int\)",
        ),
        ("title: hello", "titel: hello", "40_compare.ipynb has no parameter 'titel'. Did you mean 'title'"),
        ("rate: 0.5", "rate: 5e-1", "experiments.toy.train.rate: '5e-1' is text to YAML; write 0.5"),
        ("rate: 0.5", "seed: 5", "training parameters of toy: unknown key 'seed'; allowed: epochs"),
        ("train: {toy: {epochs: 9}}", "train: {toys: {}}", "studies.fine.train: unknown key 'toys'; allowed: toy"),
        ("budget_minutes: 1", "budget: 1", "studies.mixed: unknown key 'budget'; allowed: budget_minutes, runs"),
        ("budget_minutes: 1", "budget_minutes: soon", "studies.mixed.budget_minutes: a number is needed"),
        ("toy: {data", "toy: {folds: 2, data", "experiments.toy.folds: a whole number, 3 or more .*, not 2"),
        (
            "toy: {data: {size: 3}",
            "toy: {daten: {size: 3}",
            "experiments.toy: unknown key 'daten'; allowed: data, train",
        ),
        ("methods:\n", "method:\n", "study.yaml: unknown key 'method'; allowed: experiments, methods, studies"),
        ("[plain], seeds: [0]", "[plane], seeds: [0]", "methods: unknown key 'plane'; allowed: plain, other, bad"),
        ("[plain], seeds: [0]", "[plain], seeds: [0, 0]", "seeds: a list of distinct int values is needed"),
        ("bad: [0]}", "worse: [0]}", "seeds: unknown key 'worse'; allowed: plain, other, bad"),
        (", bad: [0]}", "}", "seeds: missing: bad"),
        ("plain: {}", "plain:", "methods.plain: a mapping is needed, not None"),
        ("plain: {}", "plain: {", "is not valid YAML"),
        ("30_heatmaps: {}", "70_extra: {}", "70_extra.ipynb does not exist"),
    ],
)
def test_a_mistake_in_study_yaml_is_named_before_anything_is_run(place, old, new, message):
    notebooks, results, package = place
    assert old in STUDY
    (notebooks / "study.yaml").write_text(STUDY.replace(old, new))
    study = "fine" if old in ("title: hello", "30_heatmaps: {}") else "mixed"
    with pytest.raises(StudyError, match=message):
        run_study(study, notebooks, results, package=package, hashes=here)
    assert not results.exists()


def test_runs_get_their_parameters_and_the_studys_overrides(place):
    run = resolve("fine", *place[:2])[0]
    assert run.parameters == {
        "study": "fine", "experiment": "toy", "method": "plain", "seed": 0, "results": "../results",
        "epochs": 9, "rate": 0.5, "data_options": {"size": 4}, "method_options": {},
    }  # fmt: skip
    assert [run.name for run in resolve("mixed", *place[:2])] == [
        "toy/plain/seed0", "toy/other/seed0", "toy/bad/seed0", "toy/plain/seed1",
    ]  # fmt: skip


FOLDED = STUDY.replace("toy: {data", "toy: {folds: 3, data")


def test_seeds_are_folds_where_an_experiment_has_them(place):
    (place[0] / "study.yaml").write_text(FOLDED)
    options = {run.name: run.parameters["data_options"] for run in resolve("mixed", *place[:2])}
    assert options["toy/plain/seed0"] == options["toy/other/seed0"] == {"size": 3, "fold": 0, "folds": 3}
    assert options["toy/plain/seed1"] == {"size": 3, "fold": 1, "folds": 3}
    for seed in (0, 1):
        make_run(place, "mixed", "plain", seed)
    seen = []

    def hashes(experiment, options):
        seen.append(options)
        return {"toy": "abc"}

    found, _ = states(place, hashes=hashes)
    assert found["plain0"] == found["plain1"] == "done" and found["other0"] == "missing"
    assert seen == [{"size": 3, "fold": 0, "folds": 3}]  # the files are read once


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[plain], seeds: [0]", "[plain], seeds: [3]", "toy.seeds: 3 is no fold of toy: they are 0 to 2"),
        ("{size: 4}", "{fold: 1}", "data of toy: leave out fold and folds, which its folds give: seed k is fold k"),
    ],
)
def test_mistakes_about_folds(place, old, new, message):
    assert old in FOLDED
    (place[0] / "study.yaml").write_text(FOLDED.replace(old, new))
    with pytest.raises(StudyError, match=message):
        resolve("fine", *place[:2])


def test_parameter_cells_hold_literals_alone(tmp_path):
    path = tmp_path / "some.ipynb"
    write_notebook(
        path, "rate: float = 0.5  # annotated, which papermill itself would lose\nnames = ['a']\nsize = None"
    )
    assert declared(path) == {"rate": 0.5, "names": ["a"], "size": None}
    check_parameters(path, {"rate": 1, "size": 3})  # an int will do for a float, and anything for None
    write_notebook(path, "rate = 1 / 2")
    with pytest.raises(ValueError, match="only lines `name = literal`, not `rate = 1 / 2`"):
        declared(path)
    path.write_text('{"cells": []}')
    with pytest.raises(ValueError, match="no code cell is tagged 'parameters'"):
        declared(path)


# --- the real studies


SIMULATED = ("tuberculosis_sim", "covid_sim", "faces_sim")


def test_the_real_studies_are_in_order():
    notebooks, results = ROOT / "notebooks", ROOT / "results"
    assert list(read_studies(notebooks)["studies"])[:3] == ["smoke", "quick", "full"]
    methods = {
        study: {run.method for run in resolve(study, notebooks, results)} for study in ("smoke", "quick", "full")
    }
    assert methods["quick"] >= {"standard", "pipeline", "rrr", "background_random", "isnet_selective"}
    assert methods["full"] == set(METHODS) and methods["quick"] < methods["full"]
    seeds = Counter((run.experiment, run.method) for run in resolve("full", notebooks, results))
    expected = {(experiment, method): 3 for experiment in SIMULATED for method in METHODS}
    expected |= {("digits", method): 5 for method in METHODS} | {("digits", "isnet_original"): 3}
    augmented = {*names.RIVALS, names.PRIMARY_METHOD, "background_random", "oracle"}
    expected |= {("tuberculosis_augmented_sim", method): 3 for method in augmented}
    assert seeds == expected
    assert set(Counter(run.method for run in resolve("ablations", notebooks, results)).values()) == {3}


FILMS = ("tuberculosis", "tuberculosis_planted", "covid")
PLANNED = {"standard", "multitask", "attention_gate", "gain_ext", "pipeline", "isnet_selective"}


@pytest.mark.parametrize("experiment", FILMS)
def test_every_method_meets_real_films_prepared_alike_and_frozen_before(experiment):
    runs = [run for run in resolve("real", ROOT / "notebooks", ROOT / "results") if run.experiment == experiment]
    seeds = Counter(run.method for run in runs)
    assert {method for method, number in seeds.items() if number == 3} == PLANNED
    assert set(METHODS) - set(seeds) == (set() if experiment == "tuberculosis_planted" else {"oracle"})
    alike = ("data_options", "backbone", "batch_size", "learning_rate", "epochs")
    assert len({json.dumps([run.parameters[name] for name in alike]) for run in runs}) == 1
    assert runs[0].parameters["data_options"]["augment"] and runs[0].parameters["data_options"]["equalise"]
    study = read_studies(ROOT / "notebooks")["studies"]["real"]
    assert experiment in study["freeze"] and {
        len(entry["values"]) for entry in study["search"][experiment].values()
    } == {4}


@pytest.mark.parametrize("name", list(read_studies(ROOT / "notebooks")["methods"]))
def test_every_method_of_the_real_studies_has_the_options_it_is_given(name):
    given = method_parameters(name, read_studies(ROOT / "notebooks")["methods"])
    known = inspect.signature(METHODS[given.get("base", name)]).parameters
    assert set(given["method_options"]) <= set(known)


# --- options of methods by experiment


HERE = STUDY.replace("{epochs: 2, rate: 0.5}}", "{epochs: 2, rate: 0.5}, methods: {other: {weight: 0.2, deep: 3}}}")


def test_an_experiment_may_have_its_own_options_of_a_method(place):
    (place[0] / "study.yaml").write_text(HERE)
    found = {run.method: run.parameters["method_options"] for run in resolve("mixed", *place[:2])}
    assert found == {"plain": {}, "other": {"weight": 0.2, "deep": 3}, "bad": {}}


def test_a_study_has_the_last_word_on_an_experiments_options(place):
    over = HERE.replace("    data: {toy: {size: 4}}", "    methods: {toy: {plain: {deep: 1}, other: {deep: 4}}}")
    over = over.replace("{methods: [plain], seeds: [0]}", "{methods: [plain, other], seeds: [0]}")
    (place[0] / "study.yaml").write_text(over)
    found = {run.method: run.parameters["method_options"] for run in resolve("fine", *place[:2])}
    assert found == {"plain": {"deep": 1}, "other": {"weight": 0.2, "deep": 4}}
    assert resolve("mixed", *place[:2])[1].parameters["method_options"] == {"weight": 0.2, "deep": 3}
    (place[0] / "study.yaml").write_text(over.replace("toy: {plain: {deep", "toy: {plane: {deep"))
    with pytest.raises(StudyError, match="studies.fine.methods.toy: unknown key 'plane'; allowed: plain, other"):
        read_studies(place[0])


def test_own_options_lie_over_the_base_and_under_the_variant():
    methods = {"a": {"p": 1, "q": 1, "r": 1}, "b": {"base": "a", "q": 2}}
    assert method_parameters("b", methods, {"a": {"p": 3, "q": 3}})["method_options"] == {"p": 3, "q": 2, "r": 1}
    assert method_parameters("b", methods, {"b": {"q": 4}}) == {
        "method": "b", "base": "a", "method_options": {"p": 1, "q": 4, "r": 1},
    }  # fmt: skip
    assert methods == {"a": {"p": 1, "q": 1, "r": 1}, "b": {"base": "a", "q": 2}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{other: {weight",
            "{another: {weight",
            "experiments.toy.methods: unknown key 'another'; allowed: plain, other",
        ),
        ("{weight: 0.2, deep: 3}", "0.2", "experiments.toy.methods.other: a mapping is needed, not 0.2"),
        ("deep: 3", "base: plain", "experiments.toy.methods.other: base holds in every experiment"),
        ("weight: 0.2", "weight: 2e-1", "experiments.toy.methods.other.weight: '2e-1' is text to YAML; write 0.2"),
    ],
)
def test_a_mistake_in_an_experiments_own_options_is_named(place, old, new, message):
    assert old in HERE
    (place[0] / "study.yaml").write_text(HERE.replace(old, new))
    with pytest.raises(StudyError, match=message):
        resolve("mixed", *place[:2])


@pytest.mark.parametrize("name", list(read_studies(ROOT / "notebooks")["experiments"]))
def test_the_real_experiments_give_methods_options_that_they_have(name):
    content = read_studies(ROOT / "notebooks")
    for method, options in content["experiments"][name]["methods"].items():
        base = content["methods"][method].get("base", method)
        assert set(options) <= set(inspect.signature(METHODS[base]).parameters), method


# --- a method under another name


NAMED = STUDY.replace("  bad: {}\n", "  bad: {}\n  other_heavy: {base: other, weight: 2.0, extra: null}\n", 1)


def test_a_named_variant_is_its_base_with_options_over_it(place):
    notebooks, results, package = place
    own = NAMED.replace("methods: [plain, other, bad]", "methods: [other_heavy]").replace(
        "seeds: {plain: [0, 1], other: [0], bad: [0]}", "seeds: [0]"
    )
    (notebooks / "study.yaml").write_text(own)
    train = notebooks / "10_train.ipynb"
    train.write_text(train.read_text().replace('method = \\"plain\\"', 'method = \\"plain\\"\\nbase = None'))
    run = resolve("mixed", notebooks, results)[0]
    assert run.name == "toy/other_heavy/seed0" and run.parameters["base"] == "other"
    assert run.parameters["method_options"] == {"weight": 2.0, "extra": None}
    made = manifest(portable(declared(train) | run.parameters), {}, notebooks, package)
    assert made["made_by"] == made_by("toy", "other", notebooks, package)  # the sources of its base
    folder = run.folder(results)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(made))
    (folder / "metrics.json").write_text("{}")
    assert states(place)[0] == {"other_heavy0": "done"}
    edit(notebooks.parent / "tiny/baselines/other.py", "width = net", "width = 2 * net")
    assert states(place)[0] == {"other_heavy0": "stale"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: other,", "base: another,", "methods.other_heavy.base: there is no method 'another' in methods"),
        ("  bad: {}", "  bad: {base: other_heavy}", "methods.bad.base: other_heavy has a base itself"),
    ],
)
def test_a_wrong_base_is_named(place, old, new, message):
    (place[0] / "study.yaml").write_text(NAMED.replace(old, new))
    with pytest.raises(StudyError, match=message):
        read_studies(place[0])
