"""Tables rebuilt from run folders, against independent computations and for every kind of bad input."""

import json
import shutil

import fabricated
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from isnetlib import names, readme, runs, scoring, stats, tables

METHODS = ("standard", "multitask", "isnet_original", "isnet_selective")
SETS = ("biased", "deceiving")
CHANCES = {method: fabricated.RIGHT[method][::3] for method in METHODS}
CLASSES = ["plane", "car", "bird", "cat"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return fabricated.study(results, right=CHANCES, cases=60, test_sets=SETS, classes=CLASSES)


@pytest.fixture(scope="module")
def frames(study):
    return tables.write(study)


@pytest.fixture
def small(tmp_path):
    """A study small enough to spoil: two methods, two seeds, one test set."""
    right = {"standard": (0.6,), "isnet_selective": (0.9,)}
    return fabricated.study(tmp_path, right=right, seeds=(0, 1), cases=30, test_sets=("internal",), classes=["a", "b"])


def predictions_of(study, method="standard", seed=0, test_set="internal"):
    return next(study.glob(f"runs/*/{method}/seed{seed}/predictions/{test_set}.csv"))


def spoil(path, change):
    frame = pd.read_csv(path, dtype={"id": str, "patient": str})
    change(frame).to_csv(path, index=False)


def test_columns_are_the_contracts(frames):
    contract = {
        "metrics": "study experiment test_set method seed metric value low high n selection interval unit",
        "comparisons": "study experiment test_set metric a b difference low high test p p_holm family n unit",
    }
    for name, columns in contract.items():
        assert list(frames[name])[: len(columns.split())] == columns.split()
    assert list(frames["selection"]) == list(frames["metrics"])
    assert not frames["metrics"].duplicated(["experiment", "test_set", "method", "seed", "metric"]).any()


def test_values_are_those_of_the_predictions(study, frames):
    for _, row in frames["metrics"].query("test_set == 'deceiving' and seed == 1").iterrows():
        one = pd.read_csv(study / f"runs/digits/{row['method']}/seed1/predictions/deceiving.csv")
        y, p = one["y"].to_numpy(), one.filter(like="p_").to_numpy()
        expected = {
            "accuracy": np.mean(p.argmax(1) == y),
            "macro_f1": f1_score(y, p.argmax(1), average="macro"),
            "auc": roc_auc_score(y, p / p.sum(1, keepdims=True), multi_class="ovo"),
            "background_share": one["background_share"].mean(),
            "chance_share": fabricated.CHANCE,
        }
        assert row["value"] == pytest.approx(expected[row["metric"]], abs=1e-6)
        assert np.isnan(row["low"]) or row["low"] - 1e-6 <= row["value"] <= row["high"] + 1e-6
    assert set(frames["metrics"]["metric"]) == set(expected)


def test_rules_and_units_are_named(frames):
    accuracy = frames["metrics"].query("metric == 'accuracy'")
    assert set(accuracy["interval"]) == {"wilson"} and set(accuracy["unit"]) == {"cases"}
    assert set(frames["metrics"]["selection"]) == {"swapped"} and set(frames["selection"]["selection"]) == {"internal"}
    assert (frames["metrics"].loc[frames["metrics"]["low"].isna(), "interval"] == "none").all()
    assert set(frames["metrics"].query("primary")["metric"]) == {"accuracy"}


def test_seeds_are_means_of_metrics(frames):
    values = frames["metrics"].groupby(["test_set", "method", "metric"])["value"]
    seeds = frames["seeds"].query("test_set != 'gap'").set_index(["test_set", "method", "metric"])
    assert seeds["mean"].to_numpy() == pytest.approx(values.mean()[seeds.index].to_numpy(), abs=2e-6)
    assert seeds["sd"].to_numpy() == pytest.approx(values.std()[seeds.index].to_numpy(), abs=2e-6)
    assert (seeds["n"] == 3).all() and (seeds["cases"] == 60).all()


def test_gap_is_biased_minus_deceiving(frames):
    accuracy = frames["metrics"].query("metric == 'accuracy'").set_index(["test_set", "method", "seed"])["value"]
    gap = (accuracy["biased"] - accuracy["deceiving"]).groupby("method").mean()
    found = frames["seeds"].query("test_set == 'gap'").set_index("method")
    assert found["mean"].to_numpy() == pytest.approx(gap[found.index].to_numpy(), abs=2e-6)
    assert (found["cases_low"] < found["mean"]).all() and (found["mean"] < found["cases_high"]).all()


def test_test_sets_of_the_same_cases_share_their_draws(study):
    found = {test.name: test.whole for test in scoring.tested(runs.find_runs(study), "swapped")}
    weights = [test.weights for test in found.values()]
    assert len(weights) == 2 and np.array_equal(*weights)
    values = [test.cases["standard", 0].values["background_share"] for test in found.values()]
    parts = [test.scores["standard", 0]["background_share"].estimate.parts for test in found.values()]
    assert np.corrcoef(parts)[0, 1] == pytest.approx(np.corrcoef(values)[0, 1], abs=1e-6)


def test_comparisons_name_primary_family_and_tests(frames):
    rows = frames["comparisons"]
    assert set(rows["a"]) == {"isnet_selective"} and set(rows["b"]) == set(METHODS) - {"isnet_selective"}
    planned = rows[rows["family"].notna()]
    assert set(planned["b"]) <= set(names.RIVALS) and not planned["test"].str.startswith("McNemar").any()
    assert (planned["family"] == planned[["experiment", "test_set", "metric"]].agg("/".join, axis=1)).all()
    assert rows[rows["b"] == "isnet_original"][["family", "p_holm"]].isna().all(axis=None)
    assert rows["difference"].between(-1, 1).all() and set(rows["unit"]) == {"cases", "cases x seeds", "seeds"}


def test_holm_within_each_family(frames):
    for _, family in frames["comparisons"].dropna(subset="family").groupby("family"):
        p = family.sort_values("p")
        stepped = np.maximum.accumulate(p["p"].to_numpy() * np.arange(len(p), 0, -1)).clip(max=1)
        assert p["p_holm"].to_numpy() == pytest.approx(stepped, rel=1e-12)


def test_differences_are_of_the_means(frames):
    means = frames["seeds"].set_index(["test_set", "method", "metric"])["mean"]
    for _, row in frames["comparisons"].query("test == 'two-level t'").iterrows():
        a, b = (means[row["test_set"], row[side], row["metric"]] for side in "ab")
        assert row["difference"] == pytest.approx(a - b, abs=3e-6)


def test_second_looks_are_named_and_exploratory(frames):
    rows = frames["comparisons"]
    looks = {
        "accuracy": {"two-level t", "McNemar, exact, on seed-averaged scores", "paired t over seeds"},
        "auc": {"two-level t", "DeLong, on seed-averaged scores", "paired t over seeds"},
        "macro_f1": {"two-level t", "paired t over seeds"},
        "background_share": {"two-level t", "paired t over seeds"},
    }
    assert {metric: set(own["test"]) for metric, own in rows.groupby("metric")} == looks
    assert rows.loc[rows["test"] != "two-level t", ["family", "p_holm"]].isna().all(axis=None)
    assert (rows.loc[rows["p_equivalent"] < 0.05, "difference"].abs() < rows["margin"].iloc[0]).all()
    assert (rows["detectable"].dropna() > 0).all() and len(rows["detectable"].dropna())


def test_delong_and_cochran_are_of_one_vote_a_method(study, frames):
    test = next(t.whole for t in scoring.tested(runs.find_runs(study), "swapped") if t.name == "deceiving")
    vote = {method: np.mean([test.cases[method, seed].p for seed in (0, 1, 2)], 0) for method in METHODS}
    a, b = (stats.auc_estimate(test.any.y, vote[method]) for method in ("isnet_selective", "standard"))
    rows = frames["comparisons"].query("test_set == 'deceiving' and b == 'standard'")
    row = rows[rows["test"].str.startswith("DeLong")].iloc[0]
    assert row["p"] == pytest.approx(stats.delong(a, b).p) and row["difference"] == pytest.approx(
        a.value - b.value, abs=1e-6
    )
    right = np.stack([stats.correct(test.any.y, vote[method]) for method in METHODS], 1)
    row = frames["omnibus"].query("test_set == 'deceiving'").iloc[0]
    assert row["p"] == pytest.approx(stats.cochran(right)[2]) and row["methods"].split() == list(METHODS)


def test_probability_agrees_with_the_difference(frames):
    rows = frames["comparisons"].query("metric == 'macro_f1' and test == 'two-level t'")
    assert rows["probability"].between(0, 1).all() and rows["probability"].notna().all()
    clear = rows[rows["difference"].abs() > 0.2]
    assert len(clear) and (clear["probability"].round() == (clear["difference"] > 0)).all()


def test_intervals_hold_every_class_and_measure(study, frames):
    rows = frames["intervals"].query("test_set == 'deceiving' and method == 'multitask'")
    assert set(rows["measure"]) == {"macro_f1", "f1", "precision", "recall", "specificity", "calibration_error"}
    recall = rows.query("measure == 'recall'").set_index("class")
    predicted = [pd.read_csv(predictions_of(study, "multitask", seed, "deceiving")) for seed in (0, 1, 2)]
    for k, name in enumerate(CLASSES):
        own = [one[one["y"] == k] for one in predicted]
        expected = np.mean([(one.filter(like="p_").to_numpy().argmax(1) == k).mean() for one in own])
        assert recall.loc[name, "value"] == pytest.approx(expected, abs=1e-6)
        assert recall.loc[name, "low"] < expected < recall.loc[name, "high"]
    means = frames["seeds"].query("metric == 'macro_f1'").set_index(["test_set", "method"])["mean"]
    macro = frames["intervals"].query("measure == 'macro_f1'").set_index(["test_set", "method"])["value"]
    assert macro.to_numpy() == pytest.approx(means[macro.index].to_numpy(), abs=2e-6)


def test_clinical_measures_of_two_classes(small):
    built = tables.build(small)
    assert {"average_precision", "sensitivity_at_95_specificity"} <= set(built["intervals"]["measure"])
    curve = built["calibration"].groupby("method")["n"].sum()
    assert (curve == 60).all()  # 30 cases, two seeds


def test_errors_of_seeds_and_cases_are_apart(frames):
    rows = frames["seeds"].query("primary and test_set != 'gap'")
    assert rows["se_seeds"].to_numpy() == pytest.approx((rows["sd"] / 3**0.5).to_numpy(), abs=1e-5)
    assert (rows["se_both"] >= rows["se_cases"]).all() and (rows["se_both"] > rows["se_cases"]).any()
    inside = rows[(rows["both_low"] > 0) & (rows["both_high"] < 1)]  # not cut at the bounds
    errors = (inside["se_cases"] ** 2 + inside["se_seeds"] ** 2) ** 0.5
    assert len(inside) and ((inside["both_high"] - inside["both_low"]) / 2 > 1.9 * errors).all()


def test_rebuilt_tables_are_the_same_bytes(study, frames, tmp_path):
    before = {path.name: path.read_bytes() for path in (study / "tables").glob("*.csv")}
    copy = tmp_path / study.name
    shutil.copytree(study / "runs", copy / "runs")
    spoil(predictions_of(copy, "multitask", 1, "biased"), lambda frame: frame[::-1])  # the order of rows is no matter
    p = tables.build(copy)["comparisons"]["p"]
    assert (p.to_numpy() == frames["comparisons"]["p"].to_numpy()).all()  # read back, unrounded
    tables.write(copy)
    assert {path.name: path.read_bytes() for path in (copy / "tables").glob("*.csv")} == before
    assert b"-0.000000" not in b"".join(before.values()) and b"nan" not in b"".join(before.values())


def test_runs_tell_how_they_were_trained(small):
    given = {"backbone": "small_resnet", "epochs": 24, "batch_size": 32, "learning_rate": 0.003, "warm_up": 0.2}
    for manifest in small.glob("runs/*/standard/*/manifest.json"):
        manifest.write_text(json.dumps({"parameters": given}))
    for manifest in small.glob("runs/*/isnet_selective/*/manifest.json"):
        manifest.write_text(json.dumps({"parameters": given | {"base": "vit"}}))
    columns = ["epoch_first", "backbone", "epochs", "batch_size", "learning_rate"]
    found = tables.write(small)["runs"].set_index("method")[columns].drop_duplicates()
    assert found.loc["standard"].tolist() == [4, "small_resnet", 24, 32, 0.003]
    assert found.loc["isnet_selective"].tolist() == [4, "small_vit", 24, 32, 0.003]
    line = (small / "tables" / "runs.csv").read_text().splitlines()[1]
    assert line.endswith(",small_resnet,24,32,0.003000")


def test_runs_without_parameters_leave_them_empty(small):
    assert tables.write(small)["runs"][["epoch_first", "backbone", "epochs", "learning_rate"]].isna().all(axis=None)


def test_unfinished_runs_are_passed_over(small):
    next(small.glob("runs/*/standard/seed1/metrics.json")).unlink()
    assert set(tables.build(small)["metrics"].query("method == 'standard'")["seed"]) == {0}
    for marker in small.glob("runs/*/*/*/metrics.json"):
        marker.unlink()
    with pytest.raises(FileNotFoundError, match="no finished run; start them by: isnet run --study fabricated"):
        tables.build(small)


def test_patients_are_the_unit_where_they_repeat(tmp_path):
    right = {"standard": (0.6,), "isnet_selective": (0.9,)}
    study = fabricated.study(tmp_path, experiment="covid", right=right, cases=60, test_sets=("external",), repeats=3)
    built = tables.build(study)
    assert set(built["metrics"]["unit"]) == {"patients"}
    assert set(built["metrics"].query("metric == 'accuracy'")["interval"]) == {"bootstrap over patients"}
    tests = {"two-level t": "patients x seeds", "paired t over seeds": "seeds"}  # others need independent cases
    assert dict(zip(built["comparisons"]["test"], built["comparisons"]["unit"], strict=True)) == tests
    assert set(built["intervals"]["interval"]) == {
        "Bayesian bootstrap over patients, shortest",
        "bootstrap over patients",
    }
    assert built["omnibus"].empty
    assert set(built["metrics"][built["metrics"]["primary"]]["metric"]) == {"macro_f1"}
    assert built["tests"]["patients"].tolist() == [20]


def test_one_seed_says_that_only_cases_vary(tmp_path):
    right = {"standard": (0.6,), "isnet_selective": (0.9,)}
    study = fabricated.study(tmp_path, right=right, seeds=(4,), cases=30, test_sets=("internal",))
    built = tables.build(study)
    assert set(built["comparisons"]["unit"]) == {"cases"} and set(built["seeds"]["interval"]) == {"none"}


def test_identical_predictions_have_no_difference(small):
    for seed in (0, 1):
        shutil.copy(predictions_of(small, "standard", seed), predictions_of(small, "isnet_selective", seed))
    rows = tables.build(small)["comparisons"]
    assert (rows["difference"] == 0).all() and (rows["p"] == 1).all()
    accuracy = rows.query("metric == 'accuracy' and test == 'two-level t'").iloc[0]
    assert accuracy["low"] < 0 < accuracy["high"]


def test_without_the_primary_method_nothing_is_compared(small):
    shutil.rmtree(next(small.glob("runs/*/isnet_selective")))
    frames = tables.write(small)
    assert frames["comparisons"].empty and list(frames["comparisons"]) == tables.COLUMNS["comparisons"]


def test_unknown_masks_leave_the_share_out(small):
    def some(frame):
        return frame.assign(background_share=frame["background_share"].where(frame.index >= 10))

    for path in small.glob("runs/*/*/*/predictions*/*.csv"):
        spoil(path, some)
    assert set(tables.build(small)["metrics"].query("metric == 'background_share'")["n"]) == {20}
    for path in small.glob("runs/*/*/*/predictions*/*.csv"):
        spoil(path, lambda frame: frame.assign(background_share=np.nan))
    assert "background_share" not in set(tables.build(small)["metrics"]["metric"])


def test_a_class_that_is_absent_leaves_auc_undefined(small):
    for path in small.glob("runs/*/*/*/predictions*/*.csv"):
        spoil(path, lambda frame: frame.assign(y=0))
    rows = tables.write(small)["metrics"]
    assert rows.query("metric == 'auc'")["value"].isna().all()
    assert rows.query("metric == 'accuracy'")["value"].notna().all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda frame: frame.assign(p_a=frame["p_a"].where(frame.index > 0)), "internal.csv: .*finite"),
        (lambda frame: frame.assign(y=5), "internal.csv: .*from 0 to 1"),
        (lambda frame: frame.assign(id="same"), "internal.csv: every case needs an id of its own, 'same'"),
        (lambda frame: frame.drop(columns="y"), "internal.csv: needs the columns id, y"),
        (lambda frame: frame.assign(y=frame["y"].astype(object).where(frame.index > 0, "cat")), "internal.csv: .*cat"),
        (lambda frame: frame.iloc[1:], "test set internal: .* holds other cases or labels"),
        (lambda frame: frame.assign(y=1 - frame["y"]), "test set internal: .* holds other cases or labels"),
    ],
)
def test_bad_predictions_are_named(small, change, told):
    spoil(predictions_of(small), change)
    with pytest.raises(ValueError, match=told):
        tables.build(small)


def test_a_folder_that_is_no_seed_is_named(small):
    folder = next(small.glob("runs/*/standard/seed1"))
    folder.rename(folder.with_name("seed1 copy"))
    with pytest.raises(ValueError, match="seed1 copy: a run folder is called seed<number>"):
        runs.find_runs(small)


def test_several_labels_and_single_outputs(tmp_path):
    rng = np.random.default_rng(0)
    several = pd.DataFrame({"id": range(20), "patient": "", "y_smile": [0, 1] * 10, "y_hat": [0, 0, 1, 1] * 5})
    several.assign(p_smile=rng.random(20), p_hat=rng.random(20)).to_csv(tmp_path / "several.csv", index=False)
    cases = runs.read_cases(tmp_path / "several.csv")
    assert cases.y.shape == cases.p.shape == (20, 2) and cases.classes == ["smile", "hat"]
    weights = stats.case_weights(cases.groups, np.random.default_rng(0), draws=10)
    scored = scoring.score(cases, weights, "auc")
    assert list(scored) == [*stats.METRICS, "average_precision"] and scored["auc"].draws.shape == (10,)
    assert scored["auc"].value == pytest.approx(roc_auc_score(cases.y, cases.p))
    single = several[["id", "patient"]].assign(y=several["y_hat"], p_hat=rng.random(20))
    single.to_csv(tmp_path / "single.csv", index=False)
    cases = runs.read_cases(tmp_path / "single.csv")
    assert cases.p.sum(1) == pytest.approx(1) and cases.classes == ["not hat", "hat"]


def test_saturated_probabilities_are_still_told_apart(tmp_path):
    """Written with six digits, three of four cases have p = 1; the other column still orders them."""
    text = "id,patient,y,p_a,p_b\n1,,0,1e-5,0.99999\n2,,0,1e-9,1\n3,,1,1e-12,1\n4,,1,0,1\n"
    (tmp_path / "saturated.csv").write_text(text)
    cases = runs.read_cases(tmp_path / "saturated.csv")
    assert (np.diff(cases.ranks[:, 1]) > 0).all() and np.isfinite(cases.ranks).all()
    assert stats.auc(cases.y, cases.p) < 1
    assert scoring.score(cases, np.ones((1, 4)))["auc"].value == 1


def test_several_classes_are_ranked_as_by_their_probabilities(study):
    cases = runs.read_cases(predictions_of(study, test_set="biased"))
    assert (cases.ranks.argsort(0) == cases.p.argsort(0)).all()


def test_classes_are_counted(frames):
    counts = json.loads(frames["tests"]["classes"].iloc[0])
    assert counts == dict.fromkeys(CLASSES, 15)


# ---- README ----


def test_fill_replaces_what_is_marked():
    text = "before\n<!-- generated: table -->\nold\n<!-- end: table -->\nafter\n"
    filled = readme.fill(text, "table", "new \\1\n")
    assert filled == "before\n<!-- generated: table -->\nnew \\1\n<!-- end: table -->\nafter\n"
    assert readme.fill(filled, "table", "new \\1") == filled
    for bad in ("nothing", text + text, "<!-- end: table -->\n<!-- generated: table -->\n"):
        with pytest.raises(ValueError, match="generated: table"):
            readme.fill(bad, "table", "new")


def test_where_every_case_is_of_one_class_nothing_is_said_of_swapped_backgrounds(tmp_path):
    rows = pd.DataFrame({"id": range(4), "patient": "", "y": [1, 1, 1, 0], "p_a": 0.4, "p_b": 0.6, "logit_change": 0.0})
    rows.to_csv(tmp_path / "two.csv", index=False)
    rows.assign(y=1).to_csv(tmp_path / "one.csv", index=False)
    two, one = (
        scoring.score(runs.read_cases(tmp_path / f"{name}.csv"), np.ones((1, 4)), "accuracy") for name in ("two", "one")
    )
    assert two["logit_change"].value == 0 and "logit_change" not in one and one["accuracy"].value == 1


@pytest.mark.parametrize(
    ("classes", "metric", "expected"), [(2, None, "auc"), (3, None, "macro_f1"), (3, "auc", "auc")]
)
def test_own_images_are_judged_by_what_chose_their_epochs(tmp_path, classes, metric, expected):
    common = {"seeds": (0, 1), "cases": 30, "test_sets": ("internal",), "classes": list("abc")[:classes]}
    right = {"standard": (0.7,), "isnet_selective": (0.8,)}
    study = fabricated.study(tmp_path, experiment="folder", right=right, **common)
    for manifest in study.glob("runs/folder/*/*/manifest.json"):
        manifest.write_text(json.dumps({"parameters": {"data_options": {"metric": metric} if metric else {}}}))
    frames = tables.write(study)
    for name in ("metrics", "seeds", "comparisons"):
        rows = frames[name]
        assert set(rows.loc[rows["primary"].astype(bool), "metric"]) == {expected}, name
