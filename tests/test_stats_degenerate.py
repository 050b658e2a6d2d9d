"""Degenerate input of every function of `stats`: one class absent, a constant score, one case, identical predictions,
NaN. Either a stated convention holds or the error says what is wrong.
"""

import numpy as np
import pytest

from isnetlib import stats
from isnetlib.stats.roc import RATES, roc_curve

NAN = float("nan")
ALTERNATE, ONES = np.arange(6) % 2, np.ones(6, int)
CONSTANT = np.full((6, 2), 0.5)
METRICS = {
    "accuracy": stats.accuracy,
    "macro_f1": stats.macro_f1,
    "auc": stats.auc,
    "average_precision": stats.average_precision,
    "calibration": stats.expected_calibration_error,
    "sensitivity": stats.sensitivity_at_specificity,
}
CURVES = {"roc": roc_curve, "reliability": stats.reliability}


def rising(n):
    """Probabilities of two classes, that of the second from 0.1 to 0.9."""
    second = np.linspace(0.1, 0.9, n)
    return np.stack([1 - second, second], 1)


def drawn(n, draws=200):
    return stats.case_weights(np.arange(n), np.random.default_rng(0), draws)


def posterior(y, p, draws=500):
    rng = np.random.default_rng(0)
    return stats.posterior(y, p, stats.bayesian_weights(np.arange(len(y)), rng, draws), rng)


# ---- one class absent ----


@pytest.mark.parametrize(
    ("name", "second_alone", "first_alone"),
    [
        ("accuracy", 0.5, 0.5),
        ("macro_f1", 2 / 3, 2 / 3),  # of the class that occurs
        ("auc", NAN, NAN),
        ("average_precision", 1.0, NAN),  # all cases positive; none
        ("sensitivity", NAN, NAN),
    ],
)
def test_metrics_where_one_class_is_absent(name, second_alone, first_alone):
    found = [METRICS[name](y, rising(6)) for y in (ONES, 1 - ONES)]
    assert found == pytest.approx([second_alone, first_alone], nan_ok=True)
    in_draws = METRICS[name](ONES, rising(6), drawn(6))
    assert np.isnan(in_draws).all() == np.isnan(second_alone)


def test_the_roc_curve_without_negatives_is_not_defined():
    for y in (ONES, 1 - ONES):
        curve = roc_curve(y, [rising(6)], drawn(6))
        assert len(curve) == len(RATES) and curve[["sensitivity", "low", "high"]].isna().all(axis=None)


def test_the_roc_band_leaves_out_the_draws_that_lack_a_class():
    y = np.array([0, 0, 0, 0, 0, 1])
    weights = drawn(6)
    assert (weights[:, 5] == 0).any()
    curve, without = (roc_curve(y, [rising(6)], w) for w in (weights, weights[weights[:, 5] > 0]))
    assert curve.equals(without) and curve["low"].notna().all()


def test_measures_of_an_absent_class_are_not_defined_in_the_posterior_either():
    measures, draws = stats.class_measures(ONES, rising(6)), posterior(ONES, rising(6))
    for name, values in measures.items():
        assert np.isnan(values[0]) and np.isnan(draws[name][:, 0]).all()
        assert np.isnan(draws[name][:, 1]).all() == np.isnan(values[1])
    assert np.isnan(measures["specificity"][1])  # nobody is there who could be cleared
    assert np.isfinite(draws["macro_f1"]).all()


def test_the_precision_of_a_class_that_is_never_called_has_no_interval():
    draws = posterior(ALTERNATE, np.tile([0.9, 0.1], (6, 1)))
    assert stats.shortest(draws["precision"][:, 1]) == pytest.approx(stats.NO_INTERVAL[:2] + ("none",), nan_ok=True)
    assert stats.shortest(draws["recall"][:, 1]).low < 0.1


def test_the_reliability_curve_does_not_ask_for_classes():
    curve = stats.reliability(ONES, [rising(6)], drawn(6))
    assert curve["n"].sum() == 6 and curve["accuracy"].mean() == pytest.approx(0.5)


# ---- a constant score ----


@pytest.mark.parametrize(
    ("name", "value"),
    [("accuracy", 0.5), ("macro_f1", 1 / 3), ("auc", 0.5), ("average_precision", 0.5), ("calibration", 0.0),
     ("sensitivity", 0.0)],
)  # fmt: skip
def test_metrics_of_a_constant_score(name, value):
    assert METRICS[name](ALTERNATE, CONSTANT) == pytest.approx(value)


def test_the_roc_curve_of_a_constant_score_has_two_points():
    curve = roc_curve(ALTERNATE, [CONSTANT], drawn(6))
    assert (curve["sensitivity"][:-1] == 0).all() and curve["sensitivity"].iloc[-1] == 1
    assert (curve["low"] == curve["sensitivity"]).all() and (curve["high"] == curve["sensitivity"]).all()


def test_the_reliability_curve_of_a_constant_score_has_one_point():
    curve = stats.reliability(ALTERNATE, [CONSTANT, CONSTANT], drawn(6))
    assert curve[["bin", "confidence", "accuracy", "n"]].to_numpy().tolist() == [[5, 0.5, 0.5, 12]]
    assert curve["low"].iloc[0] < 0.5 < curve["high"].iloc[0]


def test_a_constant_score_against_another_is_compared_by_the_other_alone():
    constant, other = (stats.auc_estimate(ALTERNATE, p) for p in (CONSTANT, rising(6)))
    found = stats.delong(other, constant)
    assert found.difference == pytest.approx(other.value - 0.5) and found.se_cases == pytest.approx(other.variance**0.5)


# ---- one case, one seed, none ----


@pytest.mark.parametrize(
    ("name", "value"),
    [("accuracy", 0.0), ("macro_f1", 0.0), ("auc", NAN), ("average_precision", 1.0), ("calibration", 0.9),
     ("sensitivity", NAN)],
)  # fmt: skip
def test_metrics_of_one_case(name, value):
    assert METRICS[name](np.array([1]), rising(1)) == pytest.approx(value, nan_ok=True)  # it is called the first class


def test_curves_of_one_case_have_no_band():
    roc, reliability = (curve(np.array([1]), [rising(1)], drawn(1)) for curve in CURVES.values())
    assert roc["sensitivity"].isna().all()
    assert reliability[["accuracy", "n"]].to_numpy().tolist() == [[0, 1]]
    assert reliability[["low", "high"]].isna().all(axis=None)


def test_estimates_of_one_case_have_no_spread():
    one = np.array([1])
    for estimate in (stats.auc_estimate(one, rising(1)), stats.f1_estimate(one, rising(1)), stats.mean_estimate([0.3])):
        assert estimate.variance == pytest.approx(0, abs=1e-18)  # a mean is taken to 1e-9
    assert stats.mean_interval(stats.mean_estimate([0.3])).name == "none"
    assert np.isnan(stats.mean_estimate([]).value) and stats.degrees(np.zeros(1)) == np.inf
    assert np.isnan(stats.variance_over_cases(np.ones(5), 1))


def test_tests_of_one_case_show_nothing():
    found = stats.mcnemar([1], [0])
    assert found.difference == 1 and found.p == 1 and found.low < 0  # one case proves nothing
    assert stats.cochran([[1, 0]])[2] == pytest.approx(0.3173, abs=1e-4)
    assert np.isnan(stats.two_level([0.5, 0.6], [0.4, 0.3], 0.01, 1).p)
    assert stats.over_seeds([0.5, 0.6], 0.01, 1, (0, 1)).name == "none"
    assert np.isnan(stats.two_level_bootstrap([0.5, 0.6], np.ones((2, 9)), 1, np.random.default_rng(0))).all()


def test_without_degrees_of_freedom_nothing_is_equivalent_or_detectable():
    for df in (0, NAN):
        assert np.isnan(stats.equivalence(0.0, 0.1, df, 0.02)) and np.isnan(stats.detectable(0.1, df))
    assert stats.detectable(0.1, 1) > 1  # two seeds: next to nothing


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: stats.seed_interval([]), "at least one seed"),
        (lambda: stats.two_level([], [0.4], 0.01, 50), "at least one seed"),
        (lambda: stats.two_level_bootstrap([], np.zeros((0, 5)), 5, np.random.default_rng(0)), "at least one seed"),
        (lambda: stats.paired_over_seeds([], []), "as many values"),
        (lambda: stats.average([]), "same cases"),
        (lambda: stats.average([stats.mean_estimate([1, 2]), stats.mean_estimate([1])]), r"found \[2, 1\] cases"),
        (lambda: roc_curve(ALTERNATE, [], drawn(6)), "at least one network"),
        (lambda: stats.reliability(ALTERNATE, [], drawn(6)), "at least one network"),
        (lambda: stats.case_weights([], np.random.default_rng(0)), "there must be a case"),
        (lambda: stats.bayesian_weights([], np.random.default_rng(0)), "there must be a case"),
        (lambda: stats.mcnemar([], []), "same cases"),
        (lambda: stats.cochran(np.zeros((0, 2))), "same cases"),
        (lambda: stats.probability_better(np.ones(0), np.ones(0)), "same draws"),
        (lambda: stats.paired_share_variance(0.0, 0.0, 0), "at least one case"),
    ],
)
def test_nothing_at_all_is_an_error(call, told):
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.parametrize("name", METRICS)
def test_metrics_without_cases_are_an_error(name):
    with pytest.raises(ValueError, match="at least one case"):
        METRICS[name](np.zeros(0, int), np.zeros((0, 2)))


# ---- identical predictions ----


@pytest.mark.parametrize("curve", CURVES)
def test_the_same_network_twice_has_the_curve_of_one(curve):
    one, two = (CURVES[curve](ALTERNATE, [rising(6)] * k, drawn(6)) for k in (1, 2))
    assert one.drop(columns="n", errors="ignore").equals(two.drop(columns="n", errors="ignore"))


def test_identical_predictions_do_not_differ():
    estimate, draws = stats.auc_estimate(ALTERNATE, rising(6)), posterior(ALTERNATE, rising(6))["macro_f1"]
    found = [
        stats.delong(estimate, estimate),
        stats.mcnemar(ALTERNATE, ALTERNATE),
        stats.two_level([0.9], [0.9], 0.0, 50),
        stats.paired_over_seeds([0.9, 0.8], [0.9, 0.8]),
    ]
    assert [(one.difference, one.p) for one in found] == [(0, 1)] * 4
    assert [np.isnan(one.low) for one in found] == [True, False, True, True]  # one more case for each: an interval
    assert stats.cochran(np.stack([ALTERNATE] * 3, 1)) == (0.0, 2, 1.0)
    assert stats.probability_better(draws, draws) == 0.5


# ---- NaN ----


@pytest.mark.parametrize("name", METRICS)
def test_nan_in_scores_or_weights_of_a_metric_is_an_error(name):
    with pytest.raises(ValueError, match="finite numbers"):
        METRICS[name](ALTERNATE, rising(6) * NAN)
    with pytest.raises(ValueError, match="not NaN"):
        METRICS[name](ALTERNATE, rising(6), drawn(6) * NAN)
    with pytest.raises(ValueError, match=r"must be \(draws, 6\) for 6 cases, not of shape \(200, 5\)"):
        METRICS[name](ALTERNATE, rising(6), drawn(5))


@pytest.mark.parametrize("curve", CURVES)
def test_nan_in_scores_or_weights_of_a_curve_is_an_error(curve):
    with pytest.raises(ValueError, match="finite numbers"):
        CURVES[curve](ALTERNATE, [rising(6), rising(6) * NAN], drawn(6))
    with pytest.raises(ValueError, match="not NaN"):
        CURVES[curve](ALTERNATE, [rising(6)], -drawn(6))
    with pytest.raises(ValueError, match="6 cases, not of shape"):
        CURVES[curve](ALTERNATE, [rising(6)], drawn(7))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: stats.auc_estimate(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: stats.f1_estimate(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: stats.class_measures(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: posterior(ALTERNATE, rising(6) * NAN), "finite numbers"),
        (lambda: stats.case_weights(np.array([1.0, NAN]), np.random.default_rng(0)), "needs a group"),
        (lambda: stats.bayesian_weights(np.array(["a", None], object), np.random.default_rng(0)), "needs a group"),
        (lambda: stats.mcnemar([1, NAN], [1, 0]), "NaN is neither"),
        (lambda: stats.cochran([[1, NAN], [0, 1]]), "NaN is neither"),
        (lambda: stats.equivalence(0.0, 0.1, 3, NAN), "above 0"),
        (lambda: stats.detectable(0.1, 3, NAN), "power must lie between"),
        (lambda: stats.detectable(0.1, 3, 1.0), "power must lie between"),
        (lambda: stats.holm([1.2, 0.1]), "between 0 and 1"),
        (lambda: stats.wilson(1.2, 5), "between 0 and 1"),
        (lambda: stats.score_interval(stats.Estimate(1.5, np.ones(3)), "s"), "between 0 and 1"),
    ],
)
def test_nan_and_what_is_no_share_are_errors(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_intervals_of_nan_are_none():
    nothing = stats.Estimate(NAN, np.zeros(3)), stats.Estimate(0.5, np.full(3, NAN))
    found = [stats.score_interval(one, "s") for one in nothing] + [stats.mean_interval(one) for one in nothing]
    found += [stats.wilson(NAN, 5), stats.wilson(0.5, 0), stats.bootstrap_interval(np.full(5, NAN))]
    found += [stats.shortest(np.array([1.0, NAN])), stats.shortest(np.array([]))]
    found += [stats.seed_interval([0.5, NAN, 0.6])[2], stats.over_seeds([0.5, NAN], 0.01, 9, (0, 1))]
    found += [stats.over_seeds([0.5, 0.6], NAN, 9, (0, 1))]
    assert all(one.name == "none" and np.isnan([one.low, one.high]).all() for one in found)
    assert np.isnan(stats.degrees(np.full(3, NAN)))


def test_differences_of_nan_have_no_interval_and_no_p():
    undefined = stats.auc_estimate(ONES, rising(6))
    found = [
        stats.two_level([0.5, NAN], [0.4, 0.3], 0.01, 50),
        stats.two_level([0.5, 0.6], [0.4, 0.3], NAN, 50),
        stats.paired_over_seeds([0.5, NAN], [0.4, 0.3]),
        stats.delong(undefined, stats.auc_estimate(ALTERNATE, rising(6))),
    ]
    assert np.isnan([[one.low, one.high, one.p] for one in found]).all()
    assert np.isnan(stats.probability_better(np.array([NAN, 1.0]), np.array([0.0, 1.0])))
    assert np.isnan(stats.variance_over_cases(np.full(5, NAN), 4))
    assert np.isnan(stats.two_level_bootstrap([0.5, NAN], np.ones((2, 9)), 5, np.random.default_rng(0))).all()
    assert stats.holm([NAN, 0.02]) == pytest.approx([NAN, 0.04], nan_ok=True) and np.isnan(stats.holm([NAN, NAN])).all()


def test_a_mean_leaves_out_the_cases_without_a_value():
    some = stats.mean_estimate([0.5, NAN, 0.7])
    assert some.value == pytest.approx(0.6) and some.parts[1] == 0
    assert np.isnan(stats.mean_estimate([NAN, NAN]).value)
    assert stats.mean_interval(stats.mean_estimate([0.5, NAN])).name == "none"
