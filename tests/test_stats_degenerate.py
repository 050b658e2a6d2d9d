"""Degenerate input of every function of `stats`: one class absent, a constant score, one case, identical predictions,
NaN. Either a stated convention holds or the error says what is wrong.
"""

import numpy as np
import pytest

from isnetlib import stats

NAN = float("nan")
ALTERNATE, ONES = np.arange(6) % 2, np.ones(6, int)
CONSTANT = np.full((6, 2), 0.5)


def rising(n):
    """Probabilities of two classes, that of the second from 0.1 to 0.9."""
    second = np.linspace(0.1, 0.9, n)
    return np.stack([1 - second, second], 1)


def drawn(n, draws=200):
    return stats.case_weights(np.arange(n), np.random.default_rng(0), draws)


@pytest.mark.parametrize(
    ("metric", "class_alone", "constant", "one_case"),
    [
        (stats.accuracy, 0.5, 0.5, 0.0),  # of one case: it is called the first class
        (stats.macro_f1, 2 / 3, 1 / 3, 0.0),  # of the class that occurs
        (stats.auc, NAN, 0.5, NAN),
    ],
)
def test_conventions_of_metrics(metric, class_alone, constant, one_case):
    cases = (ONES, rising(6)), (1 - ONES, rising(6)), (ALTERNATE, CONSTANT), (np.array([1]), rising(1))
    found = [metric(*case) for case in cases]
    assert found == pytest.approx([class_alone, class_alone, constant, one_case], nan_ok=True)
    assert np.isnan(metric(ONES, rising(6), drawn(6))).all() == np.isnan(class_alone)


def test_a_class_that_is_absent_is_left_out():
    y, p = np.array([0, 1, 0, 1, 1]), np.random.default_rng(0).random((5, 3))
    two = np.stack([-p[:, 1], p[:, 1]], 1), np.stack([p[:, 0], -p[:, 0]], 1)  # the one pair left, by either score
    assert stats.auc(y, p) == pytest.approx(np.mean([stats.auc(y, q) for q in two]))
    assert stats.macro_f1(np.zeros(5, int), np.eye(3)[[0, 0, 0, 0, 1]]) == pytest.approx(8 / 9)
    assert np.isfinite(stats.f1_estimate(np.zeros(5, int), np.eye(3)[[0, 0, 0, 0, 1]]).parts).all()
    values = stats.auc(np.array([0, 0, 0, 0, 1]), rising(5), drawn(5))  # draws without a class
    assert np.isnan(values).any() and np.isfinite(values).any()
    assert stats.bootstrap_interval(np.array([NAN, 0.4, 0.5]))[0] == pytest.approx(0.4025)


def test_a_constant_score_has_no_interval_and_is_compared_by_the_other_alone():
    constant, other = (stats.auc_estimate(ALTERNATE, p) for p in (CONSTANT, rising(6)))
    assert np.isnan(stats.score_interval(constant)).all()
    assert np.isnan(stats.bootstrap_interval(stats.auc(ALTERNATE, CONSTANT, drawn(6)))).all()
    found = other - constant
    assert found.value == pytest.approx(other.value - 0.5) and found.variance == pytest.approx(other.variance)


def test_one_case_shows_no_spread():
    for estimate in stats.ESTIMATES.values():
        assert estimate(np.array([1]), rising(1)).variance == 0
    assert stats.wilson(1.0, 1) == pytest.approx((0.2065, 1.0), abs=5e-5)
    single = stats.auc_estimate(np.array([0, 0, 0, 1]), np.stack([-np.arange(4), np.array([0, 2, 1, 1])], 1))
    assert single.parts[3] > 0  # one positive case takes the spread of the others
    assert np.isnan(stats.two_level(0.0, 1, [1.0], [0.0])[1:]).all()
    assert np.isnan(stats.Estimate(1.0, np.ones(9), patients=1).variance)  # of one patient


def test_without_degrees_of_freedom_nothing_is_equivalent_or_detectable():
    nothing = stats.two_level(0.0, 1, [1.0], [1.0])
    assert np.isnan([stats.equivalence(nothing, 0.02), stats.detectable(nothing)]).all()
    assert stats.detectable(nothing._replace(se=0.1, df=1)) > 1  # two seeds: next to nothing


def test_identical_and_opposite_methods():
    estimate = stats.auc_estimate(ALTERNATE, rising(6))
    same = stats.two_level((estimate - estimate).variance, 6, [0.9], [0.9])
    assert np.isnan(same[1:]).all() and same.p == 1
    assert np.isnan(same._replace(value=0.1).p)
    one_more = stats.two_level(stats.paired_share_variance(0.0, 0.0, 100), 100, [0.9], [0.9])
    assert one_more.low < 0 < one_more.high  # one more case for each: an interval
    opposite = stats.two_level(stats.paired_share_variance(1.0, 0.0, 100), 100, [1.0], [0.0])
    assert opposite.p < 1e-20 and 0.9 < opposite.low < 1 == opposite.high


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: stats.auc_estimate(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: stats.accuracy(np.array([0, 2]), CONSTANT[:2]), "from 0 to 1"),
        (lambda: stats.accuracy(np.array([0, 0.5]), CONSTANT[:2]), "whole numbers"),
        (lambda: stats.accuracy(np.array([0]), CONSTANT[:2]), "do not fit"),
        (lambda: stats.accuracy(np.zeros(0, int), np.zeros((0, 2))), "at least one case"),
    ],
)
def test_wrong_input_is_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_nan_and_what_does_not_vary_have_no_interval():
    nothing = stats.Estimate(NAN, np.zeros(3)), stats.Estimate(0.5, np.full(3, NAN))
    found = [stats.score_interval(one) for one in nothing] + [stats.bootstrap_interval(np.full(5, NAN))]
    seeds = ([0.9], 0.0, 9), ([0.9, 0.9], 0.0, 9), ([0.5, NAN, 0.6], 0.1, 9), ([0.5, 0.6], NAN, 9), ([0.5, 0.6], 0.1, 1)
    found += [stats.two_level(variance, groups, values)[1:3] for values, variance, groups in seeds]
    found += [stats.two_level(0.01, 50, [0.5, NAN], [0.4, 0.3])[1:3]]
    assert np.isnan(found).all()
    assert np.isnan(stats.Estimate(NAN, np.full(5, NAN), patients=4).variance)
    assert stats.holm([NAN, 0.02]) == pytest.approx([NAN, 0.04], nan_ok=True) and np.isnan(stats.holm([NAN, NAN])).all()
