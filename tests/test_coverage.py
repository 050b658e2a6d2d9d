"""Simulated coverage in small: the truth is the truth, good intervals hold, bad ones are found out."""

import numpy as np
import pandas as pd
import pytest

from isnetlib import coverage, stats


@pytest.mark.parametrize(("accuracy", "classes"), [(0.7, 3), (0.97, 10)])
def test_true_values_are_those_of_a_large_sample(accuracy, classes):
    y, z = coverage.networks(20_000, classes, accuracy, 1, np.random.default_rng(0))
    truth = coverage.true_values(accuracy, classes)
    assert stats.accuracy(y, z[0]) == pytest.approx(accuracy, abs=0.01)
    assert stats.macro_f1(y, z[0]) == pytest.approx(truth["macro_f1"], abs=0.01)
    assert stats.auc_estimate(y, z[0]).value == pytest.approx(truth["auc"], abs=0.004)


def test_networks_share_their_cases_and_differ_by_jitter():
    _, z = coverage.networks(4000, 3, 0.7, 2, np.random.default_rng(0), jitter=0.0)
    assert np.corrcoef(z[0, :, 0], z[1, :, 0])[0, 1] > 0.5
    right = [
        [stats.accuracy(y, one) for one in z]
        for y, z in (coverage.networks(4000, 3, 0.7, 6, np.random.default_rng(1), jitter) for jitter in (0.0, 0.3))
    ]
    assert np.std(right[1]) > 3 * np.std(right[0])


def shares(frame):
    return frame.set_index("name")["share"]


def test_score_interval_of_macro_f1_covers_where_others_fail():
    found = shares(coverage.coverage("macro_f1", 50, 10, 0.97, 150, 200, np.random.default_rng(0)))
    assert found["score, jackknife"] > 0.91
    assert found["posterior, uniform prior"] < 0.1 and found["t over cases"] < 0.9


def test_score_interval_of_auc_covers_where_delongs_fails():
    found = shares(coverage.coverage("auc", 50, 3, 0.97, 300, 50, np.random.default_rng(0)))
    assert 0.92 < found["score, DeLong"] <= 0.995 and found["DeLong"] < 0.93


@pytest.mark.parametrize("seeds", [1, 3])
def test_tests_hold_their_level(seeds):
    found = coverage.false_positives(50, 3, 0.7, seeds, 200, np.random.default_rng(0))
    assert (found["share"] < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5).all() and found["share"].max() > 0
    assert set(found["measure"]) == {"accuracy", "macro_f1", "auc"} and found["holds"].all()


def test_patients_are_drawn_whole_in_the_simulation():
    found = coverage.clustered_false_positives(30, 4, 200, 200, np.random.default_rng(0))
    assert found["share"].iloc[0] < 0.1 and found["n"].iloc[0] == 30


def test_table_has_all_parts_and_is_the_same_again():
    one, two = (coverage.table([20, 30], [3], [0.7], 3, 2, 20, np.random.default_rng(4)) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert list(one) == coverage.COLUMNS
    assert {(3, "macro_f1"), (2, "auc"), (3, "auc")} <= set(zip(one["classes"], one["measure"], strict=True))
    assert set(one["seeds"]) == {1, 3} and set(one["what"]) == {"coverage", "false positives"}
