"""Runs by folds, joined out of fold, and tables with a row a label: against independent computations."""

import json
import shutil

import fabricated
import numpy as np
import pandas as pd
import pytest
from fabricated import spoil
from sklearn.metrics import f1_score, roc_auc_score

from isnetlib import stats
from isnetlib.report import tables

ALL, ONE = (0, 1, 2, 3, 4), (0,)
FOLDS = {"standard": ALL, "multitask": (0, 1, 2, 4), "gain": ONE, "isnet_selective": ALL}
LABELS = list(fabricated.LABELS)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return fabricated.by_folds(tmp_path_factory.mktemp("results"), FOLDS)


@pytest.fixture(scope="module")
def frames(study):
    return tables.write(study)


@pytest.fixture
def small(tmp_path):
    """Two methods, three folds, one test set: to be spoilt."""
    folds = dict.fromkeys(("standard", "isnet_selective"), (0, 1, 2))
    return fabricated.by_folds(tmp_path, folds, cases=60, test_sets=("internal",))


def joined(study, method, test_set="internal", folds=ALL):
    """Predictions of several folds in one frame; labels, scores, answers at the folds' thresholds."""
    paths = {k: study / f"runs/faces/{method}/seed{k}/predictions/{test_set}.csv" for k in folds}
    frame = pd.concat([pd.read_csv(path).assign(fold=k) for k, path in paths.items()])
    y, p = (frame[[f"{part}_{label}" for label in LABELS]].to_numpy() for part in "yp")
    return frame, y, p, p >= 0.4 + frame[["fold"]].to_numpy() / 20


def row_of(frame, **where):
    rows = frame[np.logical_and.reduce([frame[column] == value for column, value in where.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("method", ["standard", "multitask", "gain"])
def test_a_method_is_scored_on_all_cases_of_its_folds(study, frames, method):
    frame, y, p, said = joined(study, method, folds=FOLDS[method])
    expected = {"auc": roc_auc_score(y, p), "macro_f1": f1_score(y, said, average="macro")}
    expected |= {"accuracy": (said == y).mean(), "background_share": frame["background_share"].mean()}
    for metric, value in expected.items():
        row = row_of(frames["seeds"], test_set="internal", method=method, metric=metric)
        assert row["mean"] == pytest.approx(value, abs=1e-6) and row["cases"] == len(frame) == 40 * len(FOLDS[method])
        assert metric == "background_share" or row["cases_low"] < row["mean"] < row["cases_high"]
        assert row["n"] == len(FOLDS[method]) and np.isnan(row["both_low"])


def test_each_fold_and_each_label_has_a_row(study, frames):
    _, y, p, _ = joined(study, "standard")
    for k, label in enumerate(LABELS):
        row = row_of(frames["labels"], test_set="internal", method="standard", label=label)
        assert row["value"] == pytest.approx(roc_auc_score(y[:, k], p[:, k]), abs=1e-6)
    for method, folds in FOLDS.items():
        rows = frames["metrics"].query("method == @method and metric == 'auc' and test_set == 'swapped'")
        assert rows["seed"].tolist() == list(folds)
        for fold, value in zip(folds, rows["value"], strict=True):
            _, y, p, _ = joined(study, method, "swapped", (fold,))
            assert value == pytest.approx(roc_auc_score(y, p), abs=1e-6)


def test_methods_are_compared_on_the_folds_that_both_have(study, frames):
    rows = frames["comparisons"].query("metric == 'auc' and test_set == 'internal'")
    assert rows["b"].tolist() == ["standard", "multitask", "gain"] and set(rows["unit"]) == {"cases"}
    for b, difference in zip(rows["b"], rows["difference"], strict=True):
        values = [roc_auc_score(*joined(study, method, folds=FOLDS[b])[1:3]) for method in ("isnet_selective", b)]
        assert difference == pytest.approx(values[0] - values[1], abs=1e-6)
    planned = rows[rows["family"].notna()]
    assert set(planned["b"]) == {"standard", "multitask"} and set(planned["family"]) == {"faces/internal/auc"}
    assert planned["p_holm"].to_numpy() == pytest.approx(stats.holm(planned["p"]))  # over both, though cases differ
    assert set(rows["margin"]) == {0.03}  # the faces' own


def test_the_gap_is_over_all_cases(tmp_path):
    folds = {"standard": ALL, "gain": ONE, "isnet_selective": ALL}
    study = fabricated.by_folds(tmp_path, folds, experiment="faces_planted", test_sets=("biased", "deceiving"))
    rows = tables.build(study)["seeds"].query("metric == 'auc'").set_index(["test_set", "method"])
    biased, deceiving, gap = (rows.loc[name].loc[list(folds)] for name in ("biased", "deceiving", "gap"))
    assert gap["mean"].to_numpy() == pytest.approx(biased["mean"] - deceiving["mean"])
    assert gap["cases"].tolist() == [200, 40, 200]


def test_seeds_on_one_fold_are_averaged(study, tmp_path):
    """A fold that is no seed is a choice of data: all seeds hold the same cases."""
    for seed in (0, 1):
        place = tmp_path / f"plain/runs/faces_sim/standard/seed{seed}"
        shutil.copytree(study / "runs/faces/standard/seed0", place)
        (place / "manifest.json").write_text(json.dumps({"settings": {"data_options": {"fold": 0}}}))
    second = "standard/seed1"  # a network that knows nothing
    spoil(tmp_path / "plain", lambda one: one.assign(**one.filter(like="p_") * 0 + 0.5), second)
    built = tables.build(tmp_path / "plain")
    own = built["labels"].query("test_set == 'internal'")
    _, y, p, _ = joined(study, "standard", folds=(0,))
    alone = roc_auc_score(y, p, average=None)
    assert own["value"].to_numpy() == pytest.approx((alone + 0.5) / 2)
    assert set(built["seeds"]["n"]) == {2} and set(built["seeds"]["cases"]) == {40}


def test_a_label_that_nobody_has_is_not_scored(small):
    spoil(small, lambda one: one.assign(patient=[f"p{k // 4}" for k in range(len(one))], y_glasses=0))
    built = tables.write(small)
    assert (built["labels"]["value"].isna() == (built["labels"]["label"] == "glasses")).all()
    assert set(built["comparisons"]["unit"]) == {"patients"}


def test_methods_without_a_fold_in_common_are_not_compared(small):
    for fold in (0, 1):
        shutil.rmtree(small / f"runs/faces/standard/seed{fold}")
    shutil.rmtree(small / "runs/faces/isnet_selective/seed2")
    built = tables.write(fabricated.packed(small))
    assert built["comparisons"].empty and set(built["seeds"]["n"]) == {1, 2}


def test_folds_that_do_not_fit_are_named(small):
    spoil(small, lambda frame: frame.assign(id=[f"{int(name) + 1:04d}" for name in frame["id"]]), "*/seed1")
    told = "the case '0002' is in two folds; run them again on data cut in one way"
    with pytest.raises(ValueError, match=f"faces: {told}"):
        tables.build(small)
