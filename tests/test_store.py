"""Packed results: the numbers that the run folders had; what is damaged is named, and the rest is packed."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from isnetlib.report import store, tables
from isnetlib.study.pack import pack

ALIKE = {"check_dtype": False, "check_index_type": False, "check_column_type": False}
DIGITS = ["biased", "deceiving"]
FACTS = {"epoch": 1, "thresholds": [], "foreground_range": [1.0, 25.0]}


def leave(study, experiment, method, seed, frames, time="2026-01-01", **facts):
    """A finished run folder. frames: predictions by test set."""
    folder = study / "runs" / experiment / method / f"seed{seed}"
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / "predictions" / f"{name}.csv", index=False, float_format="%.6g")
    manifest = {"time": time, "torch": "2.14.1", "settings": facts.pop("settings", {"epochs": 2}), "data": {"a": "b"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps(FACTS | facts))
    pd.DataFrame({"epoch": [0, 1], "loss": [0.123456, np.nan]}).to_csv(folder / "log.csv", index=False)
    np.savez(folder / "heatmaps.npz", **{f"relevance_{name}": np.full((1, 2, 2), seed, np.float16) for name in frames})
    return folder


def single(rng, n=40, further=()):
    """One label, three classes; scores as small as a softmax gives, patients of some cases."""
    p = rng.dirichlet([0.05] * 3, n).astype(np.float32)
    frame = pd.DataFrame({"id": [f"{k:03d}" for k in range(n)], "patient": ["", "p1", "p1", "p2"] * (n // 4)})
    frame = frame.assign(y=np.arange(n) % 3, **{f"p_{name}": p[:, k] for k, name in enumerate("abc")})
    return frame.assign(background_share=np.where(np.arange(n) % 5, rng.random(n), np.nan), **dict(further))


def several(rng, rows):
    frame = pd.DataFrame({"id": [f"{k}" for k in rows], "patient": "NA"})
    frame = frame.assign(y_hat=[k % 2 for k in rows], y_ear=[k % 3 // 2 for k in rows])
    return frame.assign(p_hat=rng.random(len(rows)), p_ear=rng.random(len(rows)))


@pytest.fixture
def study(tmp_path):
    """results/own: digits with two methods, of which one has a further number, and faces by folds, 2 unfinished."""
    study, rng = tmp_path / "own", np.random.default_rng(0)
    for method, further in (("standard", ()), ("pipeline", [("dice", 0.5)])):
        for seed in (0, 1):
            leave(study, "digits", method, seed, {name: single(rng, further=further) for name in DIGITS}, seconds=9.5)
    for fold in (1, 0):
        settings, frames = {"data_options": {"fold": fold, "folds": 2}}, {"internal": several(rng, range(fold, 20, 2))}
        leave(study, "faces", "isnet", fold, frames, thresholds=[0.25 + fold, 1 / 3], settings=settings)
    (leave(study, "faces", "isnet", 2, {}) / "metrics.json").unlink()
    trial = study / "search/digits/rrr/5"
    trial.mkdir(parents=True)
    settings = {"experiment": "digits", "method": "rrr", "option": "weight", "value": 5.0, "epochs": 3}
    (trial / "manifest.json").write_text(json.dumps({"settings": settings, "time": "2026"}))
    (trial / "metrics.json").write_text(json.dumps({"metric": "auc", "swapped": 1 / 3, "internal": 0.5, "epoch": 0}))
    return study


def contents(study):
    return {p.relative_to(study).as_posix(): p.read_bytes() for part in ("*.*", "*/*.*") for p in study.glob(part)}


def test_what_is_packed_is_read_to_the_bit(study):
    assert pack(study) == []
    files = contents(study)
    names = ("predictions.npz", "runs.csv", "logs.csv", "heatmaps.npz")
    assert set(files) == {f"{at}/{name}" for at in ("digits", "faces") for name in names} | {"trials.csv"}
    found = store.find_runs(study)
    kinds = [("digits", "standard"), ("digits", "pipeline"), ("faces", "isnet")]
    assert [run[:3] for run in found] == [(*kind, seed) for kind in kinds for seed in (0, 1)]
    for run in found:
        folder = study / "runs" / run.experiment / run.method / f"seed{run.seed}"
        told = json.loads((folder / "metrics.json").read_text()) | {"time": "2026-01-01", "torch": "2.14.1"}
        assert run.facts == told | {"data": {"a": "b"}}
        assert run.parameters == json.loads((folder / "manifest.json").read_text())["settings"]
        assert store.test_sets(run) == (DIGITS if run.experiment == "digits" else ["internal"])
        for name in store.test_sets(run):
            frame = pd.read_csv(folder / f"predictions/{name}.csv", dtype={"id": str}, keep_default_na=False)
            numbers = {c: float for c in frame if c[:2] == "p_" or "share" in c}
            frame = frame.replace("", np.nan).astype(numbers).fillna({"patient": ""})
            pd.testing.assert_frame_equal(store.read_frame(run, name)[list(frame)], frame, check_exact=True, **ALIKE)
    tests = {test.experiment: test for test in tables.tested(study) if test.name in ("biased", "internal")}
    single, several = tests["digits"].networks["pipeline", 0], tests["faces"].networks["isnet", 1]
    assert several.groups[0] == "patient NA" and several.frame.filter(like="cut_").iloc[3].tolist() == [1.25, 1 / 3]
    assert several.classes == ["hat", "ear"] and several.y.shape == (10, 2) and found[-1].fold == 1
    assert set(single.values) == {*single.estimates, "background_share"} and single.classes == list("abc")
    assert single.groups[:2].tolist() == ["case 000", "patient p1"]
    log = store.logs(study)
    assert len(log) == 12 and log["loss"][:1].tolist() == [0.123456]
    maps = store.heatmaps(study, "digits")
    assert list(maps) == ["standard", "pipeline"] and maps["pipeline"]["relevance_biased"].tolist() == [[[0, 0]] * 2]
    assert store.trials(study)["swapped"].tolist() == [1 / 3] and store.class_names(study, "digits") == list("abc")
    pack(study)  # the same bytes
    assert contents(study) == files
    row = pd.read_csv(study / "digits/runs.csv").iloc[0]
    assert (row["seed"], row["seconds"], row["torch"]) == (0, 9.5, "2.14.1")
    assert single.unit == "patients" and np.isfinite(single.judged["auc"]).all()
    assert pd.read_csv(study / "faces/runs.csv")["thresholds"][0] == "0.25 0.3333333333333333"
    kept = study / "runs/digits/standard/seed1"
    kept.rename(study / "one"), (study / "runs").rename(study / "gone"), kept.parent.mkdir(parents=True)
    (study / "one").rename(kept)  # one folder, and all others as they were packed
    pack(study)
    assert contents(study) == files


def test_of_a_run_that_was_packed_and_made_again_the_later_counts(study):
    pack(study)
    rng = np.random.default_rng(5)
    leave(study, "digits", "standard", 0, {name: single(rng) for name in DIGITS}, time="2026-01-02", seconds=1.0)
    leave(study, "digits", "standard", 1, {name: single(rng) for name in DIGITS}, time="2025-01-02", seconds=2.0)
    assert pack(study) == []
    assert pd.read_csv(study / "digits/runs.csv")["seconds"].tolist() == [1.0, 9.5, 9.5, 9.5]


def test_decimals_of_six_digits_come_back_from_float32():
    rng = np.random.default_rng(0)
    x = np.concatenate([10 ** rng.uniform(-44, 30, 3000), [0, 1, 0.1, 1000, 1e-7, np.nan, np.inf]])
    x = np.array([float(f"{value:.6g}") for value in np.concatenate([x, -x]).astype(np.float32)])
    np.testing.assert_array_equal(store.decimals(x.astype(np.float32)), x)


def test_runs_on_different_cases_are_not_packed(study):
    frame = single(np.random.default_rng(1))
    leave(study, "digits", "standard", 0, {"biased": frame.assign(id=frame["id"] + "x")})
    told = "packing: digits: biased of standard/seed1 holds other cases than that of standard/seed0"
    assert pack(study) == [told] and {run.experiment for run in store.find_runs(study)} == {"faces"}


def test_damaged_predictions_are_named_and_the_rest_is_packed(study):
    folder, frame = leave(study, "digits", "standard", 0, {}), single(np.random.default_rng(0))
    for damaged, message in (
        (frame.drop(columns="y"), r"needs the columns id, y .*; found \['id', 'patient'"),
        (frame.assign(id="a"), "every case needs an id of its own, 'a' is"),
        (frame.assign(y=7), "labels must be whole numbers from 0 to 2"),
        (frame.assign(p_a=np.nan), "labels and scores must be finite"),
        (frame.assign(p_a="x"), ".*could not convert"),
        (frame.assign(p_a=1.5), "probabilities must be from 0 to 1, found .* to 1.5"),
    ):
        damaged.to_csv(folder / "predictions/biased.csv", index=False)
        (failure,) = pack(study)
        assert re.match(f"packing: .*standard/seed0/predictions/biased.csv: {message}", failure)
        assert len(store.find_runs(study)) == 5


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b'id,y\n"'])
@pytest.mark.parametrize("name", ["predictions/biased.csv", "log.csv", "heatmaps.npz", "metrics.json", "manifest.json"])
def test_damaged_files_are_named_and_the_rest_is_packed(study, name, text):
    (study / "runs/digits/standard/seed0" / name).write_bytes(text)
    (failure,) = pack(study)
    assert re.match(rf"packing: .*standard/seed0/{name} is damaged \(", failure) and "\n" not in failure
    assert len(store.find_runs(study)) == 5
    at = study / "digits" / {"log.csv": "logs.csv", "heatmaps.npz": "heatmaps.npz"}.get(name, "predictions.npz")
    at.write_bytes(text)
    with pytest.raises(store.Damaged, match=f"{at.name} is damaged"):
        store.logs(study), store.heatmaps(study, "digits"), store.class_names(study, "digits")


def test_mistakes_in_a_folder_are_named(study):
    (study / "runs/digits/standard/seed1").rename(study / "runs/digits/standard/seed_one")
    (study / "search/digits/rrr/5/manifest.json").write_text("{}")
    copied = shutil.copytree(study / "runs/digits/standard/seed0", study / "runs/digits/standard/seed7")
    (copied / "manifest.json").write_text('{"settings": {"seed": 0}}')
    moved, name, trial = pack(study)
    assert "seed7 holds a run of seed 0: it was copied or renamed" in moved
    assert "seed_one is damaged (ValueError: " in name and "5 is damaged (KeyError: 'settings')" in trial
    assert len(store.find_runs(study)) == 5


def test_the_best_on_the_lower_of_both_validations_is_chosen(tmp_path):
    known = {"experiment": "digits", "method": "rrr", "option": "weight", "epochs": 3, "swapped_loss": 0.2}
    for first, second, chosen in (
        ({"swapped": 0.6, "internal": 1.0, "swapped_loss": 0.1}, {"swapped": 0.7, "internal": 0.8}, 5.0),
        ({"swapped": 0.7, "internal": 1.0, "swapped_loss": 0.1}, {"swapped": 0.7, "internal": 0.8}, 1.0),  # the loss
        ({"swapped": 0.7, "internal": 1.0}, {"swapped": 0.99, "internal": 0.1}, 1.0),  # read in reverse
        ({"note": "epoch 0: the term 'penalty' is inf"}, {"swapped": 0.9, "internal": 0.1}, 5.0),
    ):
        rows = [known | {"value": 1.0} | first, known | {"value": 5.0} | second]
        pd.DataFrame(rows).to_csv(tmp_path / "trials.csv", index=False)
        assert store.trials(tmp_path).query("chosen")["value"].tolist() == [chosen], first


def test_nothing_yet_is_nothing(tmp_path):
    assert pack(tmp_path) == store.find_runs(tmp_path) == []
    assert store.logs(tmp_path).empty and store.heatmaps(tmp_path, "digits") == {}
    assert len(store.trials(tmp_path)) == 0 and list(store.frozen(tmp_path)) == store.FROZEN
