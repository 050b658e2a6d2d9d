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
    assert stats.bootstrap_interval(np.array([NAN, 0.4, 0.5])).low == pytest.approx(0.4025)


def test_a_constant_score_has_no_interval_and_is_compared_by_the_other_alone():
    constant, other = (stats.auc_estimate(ALTERNATE, p) for p in (CONSTANT, rising(6)))
    assert stats.score_interval(constant, "s").name == "none"
    assert stats.bootstrap_interval(stats.auc(ALTERNATE, CONSTANT, drawn(6))).name == "none"
    found = stats.delong(other, constant)
    assert found.difference == pytest.approx(other.value - 0.5) and found.se_cases == pytest.approx(other.variance**0.5)


def test_one_case_shows_no_spread():
    one = np.array([1])
    for estimate in (stats.auc_estimate(one, rising(1)), stats.f1_estimate(one, rising(1)), stats.mean_estimate([0.3])):
        assert estimate.variance == pytest.approx(0, abs=1e-18)  # a mean is taken to 1e-9
    assert stats.wilson(1.0, 1)[:2] == pytest.approx((0.2065, 1.0), abs=5e-5)
    assert stats.degrees(np.zeros(1)) == np.inf
    single = stats.auc_estimate(np.array([0, 0, 0, 1]), np.stack([-np.arange(4), np.array([0, 2, 1, 1])], 1))
    assert single.parts[3] > 0  # one positive case takes the spread of the others
    found = stats.mcnemar([1], [0])  # one case proves nothing
    assert found.difference == 1 and found.p == 1 and found.low < 0
    assert np.isnan(stats.two_level([0.5, 0.6], [0.4, 0.3], 0.01, 1).p)
    assert np.isnan(stats.two_level([1.0], [0.0], stats.variance_over_cases(np.ones(9), 1), 1).p)


def test_without_degrees_of_freedom_nothing_is_equivalent_or_detectable():
    for df in (0, NAN):
        assert np.isnan(stats.equivalence(0.0, 0.1, df, 0.02)) and np.isnan(stats.detectable(0.1, df))
    assert np.isnan(stats.equivalence(0.0, 0.0, 5, 0.02)) and np.isnan(stats.detectable(NAN, 5))
    assert stats.detectable(0.1, 1) > 1  # two seeds: next to nothing


def test_identical_and_opposite_methods():
    estimate = stats.auc_estimate(ALTERNATE, rising(6))
    found = stats.delong(estimate, estimate), stats.mcnemar(ALTERNATE, ALTERNATE), stats.two_level([0.9], [0.9], 0, 50)
    assert [(one.difference, one.p) for one in found] == [(0, 1)] * 3
    assert [np.isnan(one.low) for one in found] == [True, False, True]  # one more case for each: an interval
    opposite = stats.two_level([1.0], [0.0], stats.paired_share_variance(1.0, 0.0, 100), 100, limit=1)
    assert opposite.p < 1e-20 and 0.9 < opposite.low < 1 and opposite.high == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: stats.case_weights([], np.random.default_rng(0)), "there must be a case"),
        (lambda: stats.case_weights(np.array([1.0, NAN]), np.random.default_rng(0)), "needs a group"),
        (lambda: stats.mcnemar(np.ones(3), np.ones(4)), "same cases"),
        (lambda: stats.mcnemar([1, NAN], [1, 0]), "1 \\(right\\) or 0 \\(wrong\\).*NaN is neither"),
        (lambda: stats.auc_estimate(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: stats.accuracy(np.array([0, 2]), CONSTANT[:2]), "from 0 to 1"),
        (lambda: stats.accuracy(np.array([0, 0.5]), CONSTANT[:2]), "whole numbers"),
        (lambda: stats.accuracy(np.array([0]), CONSTANT[:2]), "do not fit"),
        (lambda: stats.accuracy(np.zeros(0, int), np.zeros((0, 2))), "at least one case"),
        (lambda: stats.auc(ALTERNATE, rising(6), drawn(5)), r"be \(draws, 6\) for 6 cases, not of shape \(200, 5\)"),
        (lambda: stats.wilson(1.2, 5), "between 0 and 1"),
        (lambda: stats.score_interval(stats.Estimate(1.5, np.ones(3)), "s"), "between 0 and 1"),
    ],
)
def test_wrong_input_is_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_nan_and_what_does_not_vary_have_no_interval():
    nothing = stats.Estimate(NAN, np.zeros(3)), stats.Estimate(0.5, np.full(3, NAN))
    found = [stats.score_interval(one, "s") for one in nothing] + [stats.mean_interval(one) for one in nothing]
    found += [stats.wilson(NAN, 5), stats.wilson(0.5, 0), stats.bootstrap_interval(np.full(5, NAN))]
    found += [stats.mean_interval(stats.mean_estimate(values)) for values in ([0.3], [0.5, NAN])]
    found += [stats.over_seeds(values, (0, 1)) for values in ([0.5], [0.1, 0.1, 0.1], [0.5, NAN, 0.6])]
    cases = ([0.9], 0.1, 100), ([0.9, 0.9], 0.0, 100), ([0.5, 0.6], NAN, 9), ([0.5, 0.6], 0.01, 1)
    found += [stats.over_seeds(values, (0, 1), *of_cases) for values, *of_cases in cases]
    assert all(one.name == "none" and np.isnan([one.low, one.high]).all() for one in found)


def test_differences_of_nan_have_no_interval_and_no_p():
    undefined = stats.auc_estimate(ONES, rising(6))
    found = [stats.two_level(a, [0.4, 0.3], v, 50) for a, v in (([0.5, NAN], 0.01), ([0.5, 0.6], NAN))]
    found += [stats.delong(undefined, stats.auc_estimate(ALTERNATE, rising(6)))]
    assert np.isnan([[one.low, one.high, one.p] for one in found]).all()
    assert np.isnan(stats.variance_over_cases(np.full(5, NAN), 4))
    assert np.isnan([stats.mean(np.full(3, NAN)), stats.mean_estimate([]).value]).all()
    assert stats.holm([NAN, 0.02]) == pytest.approx([NAN, 0.04], nan_ok=True) and np.isnan(stats.holm([NAN, NAN])).all()
