"""Runs by folds, joined out of fold, and tables with a row a label: against independent computations."""

import json
import shutil
from pathlib import Path

import fabricated
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from isnetlib import figures, names, runs, scoring, stats, tables

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
    folds = {"standard": (0, 1, 2), "isnet_selective": (0, 1, 2)}
    return fabricated.by_folds(tmp_path, folds, cases=60, test_sets=("internal",))


def joined(study, method, test_set="internal", folds=ALL):
    """Predictions of several folds in one frame, with the fold; labels, scores, answers at the folds' thresholds."""
    paths = {k: study / f"runs/faces/{method}/seed{k}/predictions/{test_set}.csv" for k in folds}
    frame = pd.concat([pd.read_csv(path).assign(fold=k) for k, path in paths.items()])
    y, p = (frame[[f"{part}_{label}" for label in LABELS]].to_numpy() for part in "yp")
    return frame, y, p, p >= 0.4 + frame[["fold"]].to_numpy() / 20


def row_of(frame, **where):
    rows = frame[np.logical_and.reduce([frame[column] == value for column, value in where.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


# --- joined out of fold -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["standard", "multitask", "gain"])
def test_a_method_is_scored_on_all_cases_of_its_folds(study, frames, method):
    frame, y, p, said = joined(study, method, folds=FOLDS[method])
    expected = {
        "auc": roc_auc_score(y, p),
        "macro_f1": f1_score(y, said, average="macro"),
        "accuracy": (said == y).mean(),
        "average_precision": average_precision_score(y, p),
        "background_share": frame["background_share"].mean(),
    }
    for metric, value in expected.items():
        row = row_of(frames["seeds"], test_set="internal", method=method, metric=metric)
        assert row["mean"] == pytest.approx(value, abs=1e-6) and row["cases"] == len(frame) == 40 * len(FOLDS[method])
        assert row["cases_low"] < row["mean"] < row["cases_high"]
        assert (row["n"], row["unit"], row["interval"]) == (len(FOLDS[method]), "folds", "none")
        assert row["folds"] == " ".join(map(str, FOLDS[method]))


def test_each_fold_has_a_row_in_metrics(study, frames):
    for method, folds in FOLDS.items():
        rows = frames["metrics"].query("method == @method and metric == 'auc' and test_set == 'swapped'")
        assert rows["fold"].tolist() == rows["seed"].tolist() == list(folds) and set(rows["n"]) == {40}
        for fold, value in zip(rows["fold"], rows["value"], strict=True):
            _, y, p, _ = joined(study, method, "swapped", (fold,))
            assert value == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert list(frames["selection"]) == list(frames["metrics"]) and set(frames["selection"]["fold"]) == set(ALL)
    assert set(frames["metrics"]["metric"]) >= {"auc", "macro_f1", "average_precision", "background_share"}


def test_methods_are_compared_on_the_folds_that_both_have(study, frames):
    rows = frames["comparisons"].query("metric == 'auc' and test == 'paired t over cases' and test_set == 'internal'")
    assert dict(zip(rows["b"], rows["n"], strict=True)) == {"standard": 200, "multitask": 160, "gain": 40}
    assert dict(zip(rows["b"], rows["folds"], strict=True)) == {
        "standard": "0 1 2 3 4",
        "multitask": "0 1 2 4",
        "gain": "0",
    }
    for b, difference in zip(rows["b"], rows["difference"], strict=True):
        values = [roc_auc_score(*joined(study, method, folds=FOLDS[b])[1:3]) for method in ("isnet_selective", b)]
        assert difference == pytest.approx(values[0] - values[1], abs=1e-6)
    planned = rows[rows["family"].notna()]
    assert set(planned["b"]) == {"standard", "multitask"} and set(planned["family"]) == {"faces/internal/auc"}
    assert planned["p_holm"].to_numpy() == pytest.approx(stats.holm(planned["p"]))  # over both, though n differs
    assert (rows["seeds_a"] == rows["seeds_b"]).all() and rows["seeds_b"].tolist() == [5, 4, 1]


def test_delong_is_over_all_cases(study, frames):
    one, other = (stats.auc_estimate(*joined(study, m)[1:3]) for m in ("isnet_selective", "standard"))
    row = row_of(frames["comparisons"], test_set="internal", b="standard", test="DeLong, on seed-averaged scores")
    assert row["p"] == pytest.approx(stats.delong(one, other).p) and row["n"] == 200


def test_each_test_set_is_counted_once(frames):
    assert frames["tests"]["test_set"].tolist() == ["internal", "swapped"]
    assert frames["tests"]["cases"].tolist() == [200, 200]


def test_the_gap_is_over_all_cases(tmp_path):
    folds = {"standard": ALL, "gain": ONE, "isnet_selective": ALL}
    study = fabricated.by_folds(tmp_path, folds, experiment="faces_planted", test_sets=("biased", "deceiving"))
    rows = tables.build(study)["seeds"]
    gaps = rows.query("test_set == 'gap'").set_index("method")
    means = rows.query("metric == 'auc'").set_index(["method", "test_set"])["mean"]
    for method in folds:
        assert gaps.loc[method, "mean"] == pytest.approx(means[method, "biased"] - means[method, "deceiving"])
        assert gaps.loc[method, "cases"] == 40 * len(folds[method])


def test_rebuilt_tables_are_the_same_bytes(study, frames, tmp_path):
    before = {path.name: path.read_bytes() for path in (study / "tables").glob("*.csv")}
    shutil.copytree(study / "runs", tmp_path / study.name / "runs")
    tables.write(tmp_path / study.name)
    again = {path.name: path.read_bytes() for path in (tmp_path / study.name / "tables").glob("*.csv")}
    assert again == before and {"labels.csv", "metrics.csv"} <= set(before)
    assert b"nan" not in b"".join(before.values())


def test_the_figure_of_folds_shows_intervals_over_cases(frames):
    rows, points = (frame.query("experiment == 'faces' and primary") for frame in (frames["seeds"], frames["metrics"]))
    ax = figures.scores(rows, Figure().subplots(), points)
    drawn = sorted(
        tuple(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2
    )
    assert drawn == sorted(zip(rows["cases_low"], rows["cases_high"], strict=True)) and len(drawn) == 8
    assert ax.get_xlabel() == "AUC: all folds joined, 95 % interval over cases\nticks: single folds"


# --- each label ---------------------------------------------------------------------------------------------------


def test_each_label_has_its_row(study, frames):
    _, y, p, said = joined(study, "standard")
    for k, label in enumerate(LABELS):
        expected = {
            "auc": roc_auc_score(y[:, k], p[:, k]),
            "average_precision": average_precision_score(y[:, k], p[:, k]),
            "f1": f1_score(y[:, k], said[:, k]),
        }
        rows = {
            m: row_of(frames["labels"], test_set="internal", method="standard", label=label, metric=m) for m in expected
        }
        for metric, row in rows.items():
            assert row["value"] == pytest.approx(expected[metric], abs=1e-6) and row["low"] < row["value"] < row["high"]
            assert row["interval"] == ("score, DeLong" if metric == "auc" else "bootstrap over cases")
            assert (row["n"], row["positives"], row["folds"]) == (200, y[:, k].sum(), "0 1 2 3 4")
    macro = row_of(frames["seeds"], test_set="internal", method="standard", metric="auc")["mean"]
    own = frames["labels"].query("test_set == 'internal' and method == 'standard' and metric == 'auc'")
    assert own["value"].mean() == pytest.approx(macro, abs=2e-6)
    assert frames["labels"].groupby("method")["n"].first().to_dict() == {m: 40 * len(f) for m, f in FOLDS.items()}


def test_several_seeds_without_folds_are_averaged(study, tmp_path):
    """The same runs without folds in their manifests, all on the cases of fold 0."""
    folder = tmp_path / "plain/runs/faces_sim"
    for seed, fold in enumerate((0, 1)):
        place = shutil.copytree(study / f"runs/faces/standard/seed{fold}", folder / f"standard/seed{seed}")
        (place / "manifest.json").write_text("{}")
        for path in place.glob("predictions*/*.csv"):
            one = pd.read_csv(study / f"runs/faces/standard/seed0/predictions/{path.name}", dtype={"id": str})
            p = one.filter(like="p_") * (1 - seed) + 0.5 * seed  # the second network knows nothing
            one.assign(**p).to_csv(path, index=False)
    built = tables.build(tmp_path / "plain")
    own = built["labels"].query("test_set == 'internal' and metric == 'auc'")
    _, y, p, _ = joined(study, "standard", folds=(0,))
    alone = roc_auc_score(y, p, average=None)
    assert own["value"].to_numpy() == pytest.approx((alone + 0.5) / 2) and set(own["seeds"]) == {2}
    assert "fold" not in built["metrics"] and "folds" not in built["seeds"]


def test_patients_with_several_faces_are_the_unit(small):
    for path in small.glob("runs/*/*/*/predictions*/*.csv"):
        one = pd.read_csv(path, dtype={"id": str})
        one.assign(patient=[f"p{k // 4}" for k in range(len(one))]).to_csv(path, index=False)
    rows = tables.build(small)["labels"]
    assert set(rows["interval"]) == {"bootstrap over patients"} and set(rows["unit"]) == {"patients"}


def test_a_label_that_nobody_has_is_not_scored(small):
    for path in small.glob("runs/*/*/*/predictions*/*.csv"):
        pd.read_csv(path, dtype={"id": str}).assign(y_glasses=0).to_csv(path, index=False)
    rows = tables.write(small)["labels"].query("label == 'glasses'")
    assert rows[["value", "low", "high"]].isna().all(axis=None) and set(rows["positives"]) == {0}


def test_one_label_an_image_has_no_rows(tmp_path):
    right = {"standard": (0.6,), "isnet_selective": (0.9,)}
    study = fabricated.study(tmp_path, right=right, seeds=(0,), cases=30, test_sets=("internal",), classes=["a", "b"])
    frames = tables.write(study)
    assert frames["labels"].empty and list(frames["labels"]) == tables.COLUMNS["labels"]
    assert list(frames["metrics"]) == tables.COLUMNS["metrics"]


# --- equivalence --------------------------------------------------------------------------------------------------


def test_faces_have_a_margin_of_their_own(frames):
    margins = frames["comparisons"].groupby("metric")["margin"].unique().map(list).to_dict()
    assert margins == {"accuracy": [0.02], "macro_f1": [0.02], "auc": [0.03], "background_share": [0.02]}
    assert (names.margin("faces", "auc"), names.margin("faces_planted", "auc")) == (0.03, 0.02)
    row = row_of(frames["comparisons"], test_set="internal", b="standard", metric="auc", test="paired t over cases")
    assert row["p_equivalent"] == pytest.approx(
        stats.equivalence(row["difference"], row["se_cases"], row["df"], 0.03), rel=1e-3
    )


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_fold_without_predictions_is_named(small):
    path = small / "runs/faces/standard/seed1/predictions/internal.csv"
    path.unlink()
    with pytest.raises(
        ValueError, match=r"faces, test set internal: standard has no predictions of fold 1: remove .*seed1 "
    ):
        tables.build(small)
    (path.parent.parent / "metrics.json").unlink()  # an unfinished run is passed over
    assert set(tables.build(small)["seeds"].query("method == 'standard'")["folds"]) == {"0 2"}


def test_methods_without_a_fold_in_common_are_named(small):
    for run, folds in {"standard": (0, 1), "isnet_selective": (2,)}.items():
        for fold in folds:
            shutil.rmtree(small / f"runs/faces/{run}/seed{fold}")
    told = "isnet_selective in 0, 1 and standard in 2 share no fold, so they cannot be compared"
    with pytest.raises(ValueError, match=f"faces, test set internal: {told}"):
        tables.build(small)


def rename(frame):
    return frame.assign(id=[f"{int(name) + 1:04d}" for name in frame["id"]])


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        (
            ("standard",),
            "isnet_selective, seed 1, holds other cases or labels than standard, seed 1, run one of them again",
        ),
        (
            ("standard", "isnet_selective"),
            "the case '0002' is in the folds 1 and 2; run them again on data cut in one way",
        ),
    ],
)
def test_folds_that_do_not_fit_are_named(small, methods, told):
    for method in methods:
        path = small / f"runs/faces/{method}/seed1/predictions/internal.csv"
        rename(pd.read_csv(path, dtype={"id": str})).to_csv(path, index=False)
    with pytest.raises(ValueError, match=f"faces, test set internal: {told}"):
        tables.build(small)


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [({"swapped": [0.5, 0.5]}, "holds 2 thresholds for 3 labels; test the run again"), (None, None)],
)
def test_thresholds_of_the_run(small, thresholds, told):
    path = small / "runs/faces/standard/seed0/metrics.json"
    facts = json.loads(path.read_text()) | {"thresholds": thresholds or {}}
    path.write_text(json.dumps(facts))
    if told:
        with pytest.raises(ValueError, match=f"internal.csv: the run's metrics.json {told}"):
            tables.build(small)
    else:  # a run of before there were any: a half
        run = next(run for run in runs.find_runs(small) if run.method == "standard")
        cases = runs.predicted(run, "swapped", path.parent / "predictions/internal.csv")
        assert np.array_equal(cases.answers, cases.p >= 0.5) and set(cases.thresholds.ravel()) == {0.5}


def test_a_damaged_file_of_a_run_is_named(small):
    path = small / "runs/faces/standard/seed0/manifest.json"
    path.write_text("{")
    with pytest.raises(
        ValueError, match="seed0/manifest.json is not JSON .*: remove the run's folder and run it again"
    ):
        runs.find_runs(small)


def test_a_fold_that_is_no_seed_is_a_choice_of_data(small):
    """All seeds on fold 0, which the study chose: they hold the same cases and are averaged."""
    for place in small.glob("runs/*/*/seed*"):
        for path in place.glob("predictions*/*.csv"):
            first = Path(str(path).replace(place.name, "seed0"))
            shutil.copy(first, path) if first != path else None
        (place / "manifest.json").write_text(json.dumps({"parameters": {"data_options": {"fold": 0}}}))
    (test,) = scoring.tested(runs.find_runs(small), "swapped")
    assert list(test.parts) == [()] and sorted(test.whole.cases)[0] == ("isnet_selective", 0)
    assert len(test.whole.any.ids) == 12


def test_nothing_is_drawn_for_the_selection_that_stands_beside(frames):
    rows = frames["selection"].query("metric == 'average_precision'")
    assert rows["low"].isna().all() and set(rows["interval"]) == {"none"} and rows["value"].notna().all()
    assert frames["metrics"].query("metric == 'average_precision'")["low"].notna().any()
    assert frames["selection"].query("metric == 'auc'")["low"].notna().any()
