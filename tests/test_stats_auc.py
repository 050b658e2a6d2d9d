"""AUC: DeLong's parts and test, Hand & Till, average precision, sensitivity, calibration."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_curve

from isnetlib import stats


def two_classes(n=60, shift=1.2, seed=0, decimals=1):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    score = np.round(rng.normal(size=n) + shift * y, decimals)
    return y, np.stack([-score, score], 1)


def many_classes(n=80, classes=4, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    p = np.round(rng.normal(size=(n, classes)), 1)
    p[np.arange(n), y] += shift
    return y, p


# ---- DeLong ----


def test_delong_by_hand():
    """Positives 3 and 1, negatives 2 and 0: AUC 3/4, placements (1, 1/2) and (1/2, 1), variance 1/16 + 1/16."""
    y, score = np.array([1, 1, 0, 0]), np.array([3.0, 1, 2, 0])
    a = stats.auc_estimate(y, np.stack([-score, score], 1))
    assert a.value == 0.75 and a.variance == pytest.approx(0.125)
    b = stats.auc_estimate(y, np.stack([-y, y], 1))  # right throughout
    found = stats.delong(a, b)
    assert found.difference == -0.25 and found.p == pytest.approx(0.479500, abs=1e-6)  # z = -1 / sqrt(2)
    assert found.low == pytest.approx(-0.942952, abs=1e-6) and found.test == "DeLong"


def slow_parts(y, p):
    """Hand & Till's AUC and its parts, comparing every case with every other."""
    classes, n = np.unique(y), len(y)
    pairs = [(i, j) for i in classes for j in classes if i < j]
    placed, areas = np.zeros(n), []
    for i, j in pairs:
        wins = np.zeros((n, n))
        for a in np.flatnonzero(y == i):
            for b in np.flatnonzero(y == j):
                wins[a, b] = 0.5 * (np.sign(p[a, i] - p[b, i]) + 1) / 2 + 0.5 * (np.sign(p[b, j] - p[a, j]) + 1) / 2
        m, k = (y == i).sum(), (y == j).sum()
        areas.append(wins.sum() / m / k)
        placed += (wins.sum(1) / k + wins.sum(0) / m) / len(pairs)
    parts = np.zeros(n)
    for k in classes:
        own = y == k
        parts[own] = (placed[own] - placed[own].mean()) / (own.sum() * (own.sum() - 1)) ** 0.5
    return np.mean(areas), parts


@pytest.mark.parametrize("data", [two_classes(), many_classes()])
def test_parts_agree_with_the_slow_way(data):
    value, parts = slow_parts(*data)
    found = stats.auc_estimate(*data)
    assert found.value == pytest.approx(value, abs=1e-12) == stats.auc(*data)
    assert found.parts == pytest.approx(parts, abs=1e-12)


def test_variance_is_that_of_other_samples():
    """Monte Carlo: the mean of DeLong's variance is the variance of the AUC; the difference of two, correlated, too."""
    areas, told, differences, told_difference = [], [], [], []
    for seed in range(800):
        y, p = two_classes(50, seed=seed, decimals=6)
        a, b = (stats.auc_estimate(y, p + np.random.default_rng([seed, k]).normal(size=p.shape)) for k in (0, 1))
        areas.append(a.value)
        told.append(a.variance)
        differences.append(a.value - b.value)
        told_difference.append(stats.delong(a, b).se_cases ** 2)
    assert np.mean(told) == pytest.approx(np.var(areas), rel=0.15)
    assert np.mean(told_difference) == pytest.approx(np.var(differences), rel=0.15)
    assert np.mean(told_difference) < 1.7 * np.mean(told)  # 2 if they were not paired


def test_delong_agrees_with_the_paired_bootstrap_of_hand_and_till():
    y, p = many_classes(300)
    q = p + np.random.default_rng(5).normal(size=p.shape)
    weights = stats.case_weights(np.arange(300), np.random.default_rng(0), 1000)
    drawn = stats.auc(y, p, weights) - stats.auc(y, q, weights)
    assert stats.delong(stats.auc_estimate(y, p), stats.auc_estimate(y, q)).se_cases == pytest.approx(
        drawn.std(), rel=0.1
    )


def test_several_labels_are_averaged():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (40, 2)), rng.normal(size=(40, 2))
    each = [stats.auc_estimate(y[:, k], np.stack([-p[:, k], p[:, k]], 1)) for k in (0, 1)]
    found = stats.auc_estimate(y, p)
    assert found.value == pytest.approx(np.mean([e.value for e in each]))
    assert found.parts == pytest.approx(np.mean([e.parts for e in each], 0))


def test_auc_of_degenerate_input():
    y, p = two_classes()
    same = stats.delong(stats.auc_estimate(y, p), stats.auc_estimate(y, p))
    assert same.difference == 0 and same.p == 1 and np.isnan(same.low)
    constant = stats.auc_estimate(y, np.full((60, 2), 0.5))
    assert constant.value == 0.5 and stats.score_interval(constant, "s").name == "none"
    absent = stats.auc_estimate(np.zeros(5, int), p[:5])
    assert np.isnan(absent.value) and stats.score_interval(absent, "s").name == "none"
    assert np.isnan(stats.delong(absent, absent).p)
    single = stats.auc_estimate(np.array([0, 0, 0, 1]), p[[0, 2, 4, 1]])  # one positive case has no spread of its own
    assert single.parts[3] > 0 or single.variance == 0
    perfect = stats.auc_estimate(y, np.stack([1 - y, y], 1))
    low, high, _ = stats.score_interval(perfect, "score, DeLong")
    assert 0.9 < low < 1 and high == pytest.approx(1)
    with pytest.raises(ValueError, match="same cases"):
        stats.delong(absent, perfect)
    with pytest.raises(ValueError, match="finite"):
        stats.auc_estimate(y, p * np.nan)


# ---- average precision, sensitivity, calibration ----


def test_average_precision_agrees_with_scikit_learn():
    y, p = two_classes()
    assert stats.average_precision(y, p) == pytest.approx(average_precision_score(y, p[:, 1]))
    weights = stats.case_weights(np.arange(60), np.random.default_rng(0), 5)
    expected = [average_precision_score(y, p[:, 1], sample_weight=w) for w in weights]
    assert stats.average_precision(y, p, weights) == pytest.approx(expected)
    y, p = many_classes()
    assert stats.average_precision(y, p) == pytest.approx(average_precision_score(np.eye(4)[y], p))
    assert stats.average_precision(np.eye(4, dtype=int)[y], p) == pytest.approx(
        average_precision_score(np.eye(4)[y], p)
    )
    two = np.random.default_rng(1).random((40, 2)) < [0.2, 0.6]  # two labels are no two classes
    assert stats.average_precision(two.astype(int), p[:40, :2]) == pytest.approx(
        average_precision_score(two, p[:40, :2])
    )
    assert np.isnan(stats.average_precision(np.zeros(3, int), np.eye(2)[[0, 1, 1]]))


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.95, 1.0])
def test_sensitivity_is_read_off_the_roc_curve(specificity):
    y, p = two_classes()
    false, true, _ = roc_curve(y, p[:, 1], drop_intermediate=False)
    expected = true[1 - false >= specificity - 1e-9].max()
    assert stats.sensitivity_at_specificity(y, p, specificity=specificity) == pytest.approx(expected)


def test_sensitivity_takes_weights_and_names_wrong_input():
    y, p = two_classes()
    weights = stats.case_weights(np.arange(60), np.random.default_rng(0), 4)
    repeated = [
        stats.sensitivity_at_specificity(np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int), 0)) for w in weights
    ]
    assert stats.sensitivity_at_specificity(y, p, weights) == pytest.approx(repeated)
    assert np.isnan(stats.sensitivity_at_specificity(np.zeros(60, int), p))
    with pytest.raises(ValueError, match="two classes or labels, found 4"):
        stats.sensitivity_at_specificity(*many_classes())
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.sensitivity_at_specificity(y, p, specificity=95)


def test_calibration_error_by_hand():
    """Bin 0.9 to 1: confidence 0.95, 1 of 2 right; bin 0.6 to 0.7: confidence 0.65, 2 of 2: 0.45 / 2 + 0.35 / 2."""
    y, p = np.array([0, 1, 0, 1]), np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    assert stats.expected_calibration_error(y, p) == pytest.approx(0.4)
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])
    assert stats.expected_calibration_error(y, p, weights) == pytest.approx([0.4, 0.5 * 0.05 + 0.5 * 0.35])
    table = stats.reliability(y, [p, p], np.ones((3, 4)))
    assert table["bin"].tolist() == [6, 9] and table["accuracy"].tolist() == [1, 0.5] and table["n"].tolist() == [4, 4]
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.95])
    with pytest.raises(ValueError, match="probabilities from 0 to 1"):
        stats.expected_calibration_error(y, 2 * p)


def test_a_calibrated_score_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    one = rng.random(20_000)
    y, p = (rng.random(20_000) < one).astype(int), np.stack([1 - one, one], 1)
    assert stats.expected_calibration_error(y, p) < 0.015
    table = stats.reliability(y, [p], stats.case_weights(np.arange(20_000), rng, 100))
    assert table["accuracy"].to_numpy() == pytest.approx(table["confidence"].to_numpy(), abs=0.03)
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] < table["high"])).all()
