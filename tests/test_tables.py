"""Tables from the runs of a fabricated study, against independent computations."""

import shutil

import fabricated
import numpy as np
import pandas as pd
import pytest
from fabricated import spoil
from sklearn.metrics import f1_score, roc_auc_score

from isnetlib import stats
from isnetlib.report import names, tables

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


def test_tables_hold_each_value_of_the_predictions_once(study, frames):
    assert set(frames) == set(tables.COLUMNS) and frames["labels"].empty
    assert all(list(frames[name]) == columns for name, columns in tables.COLUMNS.items())
    assert not frames["metrics"].duplicated(["experiment", "test_set", "method", "seed", "metric"]).any()
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
    assert set(rows["metric"]) == set(expected)
    assert set(frames["metrics"].query("primary")["metric"]) == {"accuracy"}


def test_seeds_are_means_of_metrics_and_the_gap_is_biased_minus_deceiving(frames):
    values = frames["metrics"].groupby(["test_set", "method", "metric"])["value"]
    rows = frames["seeds"].query("test_set != 'gap'").set_index(["test_set", "method", "metric"])
    assert rows["mean"].to_numpy() == pytest.approx(values.mean()[rows.index].to_numpy(), abs=2e-6)
    assert (rows["n"] == 3).all() and (rows["cases"] == 60).all()
    scores = rows[rows["cases_low"].notna()]
    assert set(scores.index.get_level_values("metric")) == set(stats.ESTIMATES)
    assert (scores["cases_low"] < scores["mean"]).all() and (scores["mean"] <= scores["cases_high"]).all()
    both = scores.query("both_low > 0 and both_high < 1")  # not cut at the bounds
    spread = values.std()[both.index]
    assert len(both) and ((both["both_high"] - both["both_low"]) / 2 >= 1.9 * spread / 3**0.5).all()
    accuracy = frames["metrics"].query("metric == 'accuracy'").set_index(["test_set", "method", "seed"])["value"]
    gap = (accuracy["biased"] - accuracy["deceiving"]).groupby("method").mean()
    found = frames["seeds"].query("test_set == 'gap'").set_index("method")
    assert found["mean"].to_numpy() == pytest.approx(gap[found.index].to_numpy(), abs=2e-6)


def test_intervals_over_cases_are_wilsons_the_jackknifes_and_delongs(tmp_path):
    copy = fabricated.study(tmp_path, {"standard": (0.6,)}, seeds=(1,), test_sets=("biased",))
    rows = tables.build(copy)["seeds"].set_index("metric")
    one = pd.read_csv(predictions(copy, "standard", 1, "biased"))
    y, p = one["y"].to_numpy(), one.filter(like="p_").to_numpy()
    area = stats.auc_estimate(y, tables.log_odds(p))
    expected = {
        "accuracy": stats.wilson((p.argmax(1) == y).mean(), len(y)),
        "macro_f1": stats.score_interval(stats.f1_estimate(y, p)),
        "auc": stats.score_interval(area, stats.degrees(area.parts)),
    }
    for metric, ends in expected.items():
        assert tuple(rows.loc[metric, ["cases_low", "cases_high"]]) == pytest.approx(ends)
        assert rows.loc[metric, ["both_low", "both_high"]].isna().all()


def test_comparisons_name_primary_family_and_verdict(frames):
    rows = frames["comparisons"]
    assert set(rows["a"]) == {"isnet_selective"} and set(rows["b"]) == set(fabricated.RIGHT) - {"isnet_selective"}
    planned = rows[rows["family"].notna()]
    assert set(planned["b"]) == {"standard", "multitask"} and set(rows["unit"]) == {"cases x seeds"}
    assert (planned["family"] == planned[["experiment", "test_set", "metric"]].agg("/".join, axis=1)).all()
    assert rows[rows["b"] == "isnet_original"][["family", "p_holm"]].isna().all(axis=None)
    for _, family in planned.groupby("family"):
        assert family["p_holm"].to_numpy() == pytest.approx(stats.holm(family["p"]), rel=1e-12)
    assert set(rows["metric"]) == set(stats.ESTIMATES) and "ahead" in set(rows["verdict"])


def test_differences_are_of_the_means_with_the_spread_of_cases_and_seeds(study, frames):
    means = frames["seeds"].set_index(["test_set", "method", "metric"])["mean"]
    for _, row in frames["comparisons"].iterrows():
        a, b = (means[row["test_set"], row[side], row["metric"]] for side in "ab")
        assert row["difference"] == pytest.approx(a - b, abs=3e-6)
    y, found = np.arange(60) % len(CLASSES), []
    for method in ("isnet_selective", "standard"):
        each = [pd.read_csv(predictions(study, method, seed, "deceiving")) for seed in range(3)]
        found.append([stats.f1_estimate(y, one.filter(like="p_").to_numpy()) for one in each])
    paired = stats.average(found[0]) - stats.average(found[1])
    spread = stats.two_level(paired.variance, 60, *([e.value for e in own] for own in found))
    where = "test_set == 'deceiving' and b == 'standard' and metric == 'macro_f1'"
    row = frames["comparisons"].query(where).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(spread[1:3], abs=1e-6)
    assert row["p"] == pytest.approx(spread.p)
    assert row["p_equivalent"] == pytest.approx(stats.equivalence(spread, 0.02))
    assert row["detectable"] == pytest.approx(stats.detectable(spread), abs=1e-6)


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
    assert compared.empty and list(compared) == tables.COLUMNS["comparisons"]
    shutil.rmtree(small / "digits")
    with pytest.raises(FileNotFoundError, match="no finished run; start them by: isnet run --study fabricated"):
        tables.write(small)


def test_patients_are_the_unit_where_they_repeat_and_of_one_seed_cases_alone(tmp_path):
    study = fabricated.study(tmp_path, TWO, "covid", cases=60, test_sets=("external",))
    spoil(study, lambda frame: frame.assign(patient=[f"p{k // 3}" for k in range(60)]))
    built = tables.build(study)
    assert set(built["comparisons"]["unit"]) == {"patients x seeds"}
    one = next(tables.tested(study)).networks["standard", 0]
    weights = tables._weights("covid", tuple(one.groups))
    assert (weights[:, 0] == weights[:, 2]).all() and one.estimates["accuracy"].patients == 20
    assert np.array_equal(one.estimates["accuracy"].parts, stats.accuracy(one.y, one.p, weights))
    assert set(built["metrics"][built["metrics"]["primary"]]["metric"]) == {"macro_f1"}
    built = tables.build(fabricated.study(tmp_path / "one", TWO, seeds=(4,), cases=30, test_sets=("internal",)))
    assert set(built["comparisons"]["unit"]) == {"cases"} and built["seeds"]["both_low"].isna().all()


def test_unknown_masks_leave_the_share_out_and_a_class_alone_the_auc(small):
    spoil(small, lambda frame: frame.assign(background_share=frame["background_share"].where(frame.index >= 10)))
    assert set(tables.build(small)["seeds"].query("metric == 'background_share'")["cases"]) == {20}
    spoil(small, lambda frame: frame.assign(background_share=np.nan, y=0))
    rows = tables.write(small)["metrics"]
    assert set(rows["metric"]) == {"accuracy", "macro_f1", "auc", "chance_share"}
    assert (rows["value"].isna() == (rows["metric"] == "auc")).all()


def test_saturated_probabilities_are_still_told_apart(small):
    """Written with six digits, nearly all p_b are 1; p_a still orders them."""
    p = np.exp(-np.linspace(1, 60, 30))
    spoil(small, lambda frame: frame.assign(y=(frame.index >= 15).astype(int), p_a=p, p_b=(1 - p).round(6)))
    assert (tables.build(small)["metrics"].query("metric == 'auc'")["value"] == 1).all()


@pytest.mark.parametrize("classes, expected", [("ab", "auc"), ("abc", "macro_f1")])
def test_own_images_are_judged_by_what_chose_their_epochs(tmp_path, classes, expected):
    study = fabricated.study(tmp_path, TWO, "folder", (0, 1), classes, 30, ("internal",))
    for name, rows in tables.write(study).items():
        if "primary" in rows:
            assert set(rows.loc[rows["primary"].astype(bool), "metric"]) == {expected}, name


def test_words_of_verdicts_names_of_methods_and_their_order():
    said = tables.verdict
    assert [said(d, 0.01) for d in (0.1, -0.1, 0.0)] == ["ahead", "behind", "no difference shown"]
    assert said(0.1, 0.05) == said(0.1, np.nan) == "no difference shown"
    assert names.shown("isnet_selective_eps_0") == "ISNet selective, eps 0"
    assert names.shown("standard_se") == "Standard classifier, squeeze-excitation"
    assert names.shown("mine") == "mine" and names.shown("macro_f1") == "macro F1"
    mixed = names.in_order(["mine", "isnet_selective", "a", "standard"], names.METHOD_NAMES)
    assert mixed == ["standard", "isnet_selective", "a", "mine"]
