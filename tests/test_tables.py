"""Tables from the runs of a fabricated study, against independent computations."""

import json
import shutil

import fabricated
import numpy as np
import pandas as pd
import pytest
from fabricated import spoil
from sklearn.metrics import f1_score, roc_auc_score

from isnetlib import stats
from isnetlib.report import names, scoring, tables

CLASSES = ["plane", "car", "bird", "cat"]
TWO = {"standard": (0.6,), "isnet_selective": (0.9,)}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return fabricated.study(tmp_path_factory.mktemp("results"), cases=60, classes=CLASSES)


@pytest.fixture(scope="module")
def frames(study):
    return tables.write(study)


@pytest.fixture
def small(tmp_path):
    """A study small enough to spoil: two methods, two seeds, one test set."""
    return fabricated.study(tmp_path, right=TWO, seeds=(0, 1), cases=30, test_sets=("internal",), classes=["a", "b"])


def predictions(study, method, seed, test_set):
    return next(study.glob(f"runs/*/{method}/seed{seed}/predictions/{test_set}.csv"))


def test_tables_hold_each_value_once_and_folds_only_where_there_are_some(frames):
    assert set(frames) == set(tables.COLUMNS) and frames["labels"].empty
    assert json.loads(frames["tests"]["classes"].iloc[0]) == dict.fromkeys(CLASSES, 15)
    assert not frames["metrics"].duplicated(["experiment", "test_set", "method", "seed", "metric"]).any()
    assert "fold" not in frames["metrics"] and "folds" not in frames["seeds"]


def test_values_are_those_of_the_predictions(study, frames):
    rows = frames["metrics"].query("test_set == 'deceiving' and seed == 1")
    for _, row in rows.iterrows():
        one = pd.read_csv(predictions(study, row["method"], 1, "deceiving"))
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
    assert set(rows["metric"]) == set(expected) and set(frames["metrics"]["selection"]) == {"swapped"}
    ways = {"accuracy": "wilson", "macro_f1": "score, jackknife", "auc": "score, DeLong"}
    ways |= dict.fromkeys(("background_share", "chance_share"), "t over cases")
    assert rows.groupby("metric")["interval"].unique().map(list).to_dict() == {k: [way] for k, way in ways.items()}
    assert (frames["metrics"]["low"].isna() == (frames["metrics"]["interval"] == "none")).all()
    assert set(frames["metrics"].query("primary")["metric"]) == {"accuracy"}


def test_seeds_are_means_of_metrics(frames):
    values = frames["metrics"].groupby(["test_set", "method", "metric"])["value"]
    rows = frames["seeds"].query("test_set != 'gap'").set_index(["test_set", "method", "metric"])
    assert rows["mean"].to_numpy() == pytest.approx(values.mean()[rows.index].to_numpy(), abs=2e-6)
    assert rows["sd"].to_numpy() == pytest.approx(values.std()[rows.index].to_numpy(), abs=2e-6)
    assert (rows["n"] == 3).all() and (rows["cases"] == 60).all()
    both = rows.dropna(subset="both_low").query("both_low > 0 and both_high < 1")  # not cut at the bounds
    assert len(both) and ((both["both_high"] - both["both_low"]) / 2 >= 1.9 * both["sd"] / 3**0.5).all()


def test_gap_is_biased_minus_deceiving(frames):
    accuracy = frames["metrics"].query("metric == 'accuracy'").set_index(["test_set", "method", "seed"])["value"]
    gap = (accuracy["biased"] - accuracy["deceiving"]).groupby("method").mean()
    found = frames["seeds"].query("test_set == 'gap'").set_index("method")
    assert found["mean"].to_numpy() == pytest.approx(gap[found.index].to_numpy(), abs=2e-6)
    assert (found["cases_low"] < found["mean"]).all() and (found["mean"] < found["cases_high"]).all()


def test_test_sets_of_the_same_cases_share_their_draws(study):
    biased, deceiving = (test.networks["standard", 0] for test in scoring.tested(study))
    weights = scoring._weights(biased.experiment, tuple(biased.cases.groups))
    for one in (biased, deceiving):
        assert np.array_equal(one.draws("accuracy"), stats.accuracy(one.cases.y, one.cases.p, weights))


def test_comparisons_name_primary_family_tests_and_verdict(frames):
    rows = frames["comparisons"]
    assert set(rows["a"]) == {"isnet_selective"} and set(rows["b"]) == set(fabricated.RIGHT) - {"isnet_selective"}
    planned = rows[rows["family"].notna()]
    assert set(planned["b"]) == {"standard", "multitask"} and set(planned["test"]) == {"two-level t"}
    assert (planned["family"] == planned[["experiment", "test_set", "metric"]].agg("/".join, axis=1)).all()
    assert rows[rows["b"] == "isnet_original"][["family", "p_holm"]].isna().all(axis=None)
    for _, family in planned.groupby("family"):
        assert family["p_holm"].to_numpy() == pytest.approx(stats.holm(family["p"]), rel=1e-12)
    second = {"accuracy": {"McNemar, exact, on seed-averaged scores"}, "auc": {"DeLong, on seed-averaged scores"}}
    assert set(rows["metric"]) == {*second, "macro_f1", "background_share"}
    assert all(set(own["test"]) == {"two-level t"} | second.get(key, set()) for key, own in rows.groupby("metric"))
    assert (rows["verdict"].isna() == (rows["test"] != "two-level t")).all() and "ahead" in set(rows["verdict"])


def test_differences_are_of_the_means(frames):
    means = frames["seeds"].set_index(["test_set", "method", "metric"])["mean"]
    for _, row in frames["comparisons"].query("test == 'two-level t'").iterrows():
        a, b = (means[row["test_set"], row[side], row["metric"]] for side in "ab")
        assert row["difference"] == pytest.approx(a - b, abs=3e-6)
        se = np.hypot(row["se_cases"], row["se_seeds"])
        assert row["detectable"] == pytest.approx(stats.detectable(se, row["df"]), rel=1e-3, abs=1e-6)
        equivalent = stats.equivalence(row["difference"], se, row["df"], row["margin"])
        assert row["p_equivalent"] == pytest.approx(equivalent, rel=0.01)


def test_second_looks_are_of_one_vote_a_method(study, frames):
    def vote(method):
        each = [pd.read_csv(predictions(study, method, seed, "deceiving")) for seed in (0, 1, 2)]
        return np.mean([one.filter(like="p_").to_numpy() for one in each], 0)

    a, b, y = vote("isnet_selective"), vote("standard"), np.arange(60) % len(CLASSES)
    rows = frames["comparisons"].query("test_set == 'deceiving' and b == 'standard'").set_index("test")
    found = rows.loc["McNemar, exact, on seed-averaged scores"]
    expected = stats.mcnemar(*(v.argmax(1) == y for v in (a, b)))
    assert found["p"] == pytest.approx(expected.p) and found["low"] == pytest.approx(expected.low, abs=1e-6)
    expected = stats.delong(stats.auc_estimate(y, a), stats.auc_estimate(y, b))
    assert rows.loc["DeLong, on seed-averaged scores"]["p"] == pytest.approx(expected.p)


def test_verdict():
    def said(metric, difference, p):
        return tables.verdict(metric, stats.Difference(difference, 0, 0, "t", p, "cases"), p)

    assert [said("accuracy", d, 0.01) for d in (0.1, -0.1, 0.0)] == ["ahead", "behind", "no difference shown"]
    assert said("background_share", -0.1, 0.01) == "ahead" and said("auc", 0.1, 0.05) == "no difference shown"
    assert said("auc", 0.1, np.nan) == "no difference shown"


def test_rebuilt_tables_are_the_same_bytes(study, frames, tmp_path):
    before = {path.name: path.read_bytes() for path in (study / "tables").glob("*.csv")}
    copy = tmp_path / study.name
    shutil.copytree(study / "runs", copy / "runs")
    fabricated.packed(copy)
    (copy / "tables").mkdir()
    (copy / "tables" / "selection.csv").write_text("study\nfrozen\n")
    again = tables.write(copy)
    assert again.pop("selection")["study"].tolist() == ["frozen"] and set(again) == set(frames)
    assert {path.name: path.read_bytes() for path in (copy / "tables").glob("*[!n].csv")} == before
    assert b"-0.000000" not in b"".join(before.values()) and b"nan" not in b"".join(before.values())
    unrounded = tables.build(copy)["comparisons"]["p"]
    assert (unrounded.to_numpy() == frames["comparisons"]["p"].to_numpy()).all()


def test_without_the_primary_method_nothing_is_compared_and_without_a_finished_run_there_is_nothing(small):
    with pytest.raises(FileNotFoundError, match="no tables; make them by: isnet report --study fabricated"):
        tables.read(small)
    shutil.rmtree(next(small.glob("runs/*/isnet_selective")))
    compared = tables.write(fabricated.packed(small))["comparisons"]
    assert compared.empty and list(compared) == tables.COLUMNS["comparisons"][:-1]
    shutil.rmtree(small / "digits")
    with pytest.raises(FileNotFoundError, match="no finished run; start them by: isnet run --study fabricated"):
        tables.write(small)


def test_patients_are_the_unit_where_they_repeat(tmp_path):
    study = fabricated.study(tmp_path, TWO, "covid", cases=60, test_sets=("external",))
    spoil(study, lambda frame: frame.assign(patient=[f"p{k // 3}" for k in range(60)]))
    built = tables.build(study)
    assert set(built["metrics"]["unit"]) == {"patients"} and built["tests"]["patients"].tolist() == [20]
    assert set(built["metrics"].query("metric == 'accuracy'")["interval"]) == {"bootstrap over patients"}
    assert set(built["comparisons"]["test"]) == {"two-level t"}  # others need independent cases
    assert set(built["comparisons"]["unit"]) == {"patients x seeds"}
    assert set(built["metrics"][built["metrics"]["primary"]]["metric"]) == {"macro_f1"}


def test_one_seed_says_that_only_cases_vary(tmp_path):
    built = tables.build(fabricated.study(tmp_path, right=TWO, seeds=(4,), cases=30, test_sets=("internal",)))
    assert set(built["comparisons"]["unit"]) == {"cases"} and set(built["seeds"]["interval"]) == {"none"}
    assert set(built["comparisons"]["test"].head(1)) == {"paired t over cases"}


def test_unknown_masks_leave_the_share_out_and_a_class_alone_auc_and_swapped_backgrounds(small):
    spoil(small, lambda frame: frame.assign(background_share=frame["background_share"].where(frame.index >= 10)))
    spoil(small, lambda frame: frame.assign(logit_change=0.0))
    rows = tables.build(small)["metrics"]
    assert set(rows.query("metric == 'background_share'")["n"]) == {20} and "logit_change" in set(rows["metric"])
    spoil(small, lambda frame: frame.assign(background_share=np.nan, y=0))
    rows = tables.write(small)["metrics"]
    assert set(rows["metric"]) == {"accuracy", "macro_f1", "auc", "chance_share"}
    assert (rows["value"].isna() == (rows["metric"] == "auc")).all()


def test_saturated_probabilities_are_still_told_apart(small):
    """Written with six digits, nearly all p_b are 1; p_a still orders them."""
    p = np.exp(-np.linspace(1, 60, 30))
    spoil(small, lambda frame: frame.assign(y=(frame.index >= 15).astype(int), p_a=p, p_b=(1 - p).round(6)))
    assert (tables.build(small)["metrics"].query("metric == 'auc'")["value"] == 1).all()


@pytest.mark.parametrize("classes, by, expected", [("ab", "", "auc"), ("abc", "", "macro_f1"), ("abc", "auc", "auc")])
def test_own_images_are_judged_by_what_chose_their_epochs(tmp_path, classes, by, expected):
    settings = {"data_options": {"metric": by} if by else {}}
    study = fabricated.study(tmp_path, TWO, "folder", (0, 1), classes, 30, ("internal",), settings)
    for name, rows in tables.write(study).items():
        if "primary" in rows:
            assert set(rows.loc[rows["primary"].astype(bool), "metric"]) == {expected}, name


def test_names_of_methods_and_order():
    assert names.method_name("isnet_selective_eps_0") == "ISNet selective, eps 0"
    assert names.method_name("standard_se") == "Standard classifier, squeeze-excitation"
    assert names.method_name("mine") == "mine" and names.metric_name("my_metric") == "my metric"
    mixed = names.in_order(["mine", "isnet_selective", "a", "standard"], names.METHOD_NAMES)
    assert mixed == ["standard", "isnet_selective", "a", "mine"]
    assert names.bounds("auc") == (0, 1) and names.bounds("logit_change") == names.bounds("mine") == (-np.inf, np.inf)
    assert names.is_home("internal") and not names.is_home("deceiving")
