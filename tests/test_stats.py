"""Metrics, intervals and tests against published numbers, other libraries, and simulation."""

import numpy as np
import pytest
from mlxtend.evaluate import cochrans_q
from scipy import stats as reference
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from isnetlib import stats


def some_scores(n=80, classes=4, seed=0, decimals=2):
    """Labels and rounded scores, so that ties occur."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    p = rng.dirichlet(np.ones(classes), n) + np.eye(classes)[y] * 0.3
    return y, np.round(p / p.sum(1, keepdims=True), decimals)


# ---- metrics ----


def test_metrics_agree_with_scikit_learn():
    y, p = some_scores()
    assert stats.accuracy(y, p) == accuracy_score(y, p.argmax(1))
    assert stats.macro_f1(y, p) == pytest.approx(f1_score(y, p.argmax(1), average="macro"), abs=1e-12)
    exact = p / p.sum(1, keepdims=True)
    assert stats.auc(y, exact) == pytest.approx(roc_auc_score(y, exact, multi_class="ovo"), abs=1e-12)


def test_binary_auc_is_the_usual_one():
    y, p = some_scores(classes=2)
    p = np.stack([1 - p[:, 1], p[:, 1]], 1).round(2)
    assert stats.auc(y, p) == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-12)


def test_several_labels_are_averaged():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (60, 3)), rng.random((60, 3)).round(1)
    assert stats.auc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert stats.macro_f1(y, p) == pytest.approx(f1_score(y, p >= 0.5, average="macro"), abs=1e-12)
    assert stats.accuracy(y, p) == pytest.approx(((p >= 0.5) == y).mean(), abs=1e-9)


@pytest.mark.parametrize("metric", [stats.accuracy, stats.macro_f1, stats.auc])
@pytest.mark.parametrize("classes", [2, 4])
def test_weights_are_repeated_cases(metric, classes):
    y, p = some_scores(n=40, classes=classes)
    weights = stats.case_weights(np.arange(40), np.random.default_rng(1), draws=6)
    repeated = [metric(np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int), 0)) for w in weights]
    assert metric(y, p, weights) == pytest.approx(repeated, abs=1e-12)


# ---- intervals ----


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),  # Newcombe (1998), Statistics in Medicine 17, 857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_newcombe(right, n, low, high):
    assert stats.wilson(right / n, n)[:2] == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("p", "n"), [(0.7, 50), (0.7, 200), (0.97, 200), (0.97, 1000)])
def test_wilson_covers(p, n):
    """Exact coverage, averaged over neighbouring p as it jumps with each."""
    k = np.arange(n + 1)
    ends = np.array([stats.wilson(i / n, n)[:2] for i in k])
    near = np.linspace(p - 0.01, p + 0.01, 41)
    cover = [reference.binom.pmf(k, n, q)[(ends[:, 0] <= q) & (q <= ends[:, 1])].sum() for q in near]
    assert 0.93 < np.mean(cover) < 0.97


def test_interval_over_seeds_is_students():
    values = [0.91, 0.95, 0.96]
    mean, sd, found = stats.seed_interval(values)
    low, high = reference.t.interval(0.95, 2, np.mean(values), reference.sem(values))
    assert (mean, sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert found[:2] == pytest.approx((low, high), abs=1e-12)
    assert stats.seed_interval(values, (0, 1))[2].high == 1.0


def test_patients_are_drawn_whole():
    groups = np.repeat(["a", "b", "c", "d"], 3)
    weights = stats.case_weights(groups, np.random.default_rng(0), draws=50).reshape(50, 4, 3)
    assert (weights == weights[:, :, :1]).all() and (weights.sum((1, 2)) == 12).all()
    again = stats.case_weights(groups, np.random.default_rng(0), draws=50)
    assert (again.reshape(50, 4, 3) == weights).all()


def test_clustered_cases_widen_the_interval():
    """Ten copies of a case tell no more than one."""
    rng = np.random.default_rng(0)
    values, patients = np.repeat(rng.random(40), 10), np.repeat(np.arange(40), 10)
    clustered, naive = (
        np.std(stats.mean(values, stats.case_weights(groups, rng))) for groups in (patients, np.arange(400))
    )
    assert clustered / naive == pytest.approx(10**0.5, rel=0.1)


# ---- comparisons ----


def test_mcnemar_matches_fagerland():
    """Fagerland, Lydersen & Laake (2013), BMC Med. Res. Methodol. 13, 91: airway reactivity, table 1, 1 | 7, 12."""
    a, b = np.repeat([1, 1, 0, 0], [1, 1, 7, 12]), np.repeat([1, 0, 1, 0], [1, 1, 7, 12])
    found = stats.mcnemar(a, b)
    assert found.p == pytest.approx(0.0703, abs=5e-5)
    assert found.difference == pytest.approx(-6 / 21)
    # Bonett & Price (2012): one more case on either side, (2 - 8) / 23 +- 1.96 sqrt((10 / 23 - (6 / 23)^2) / 23)
    assert (found.low, found.high) == pytest.approx((-0.5084, -0.0134), abs=1e-4)


def test_mcnemar_is_the_binomial_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.7
    only = int((a & ~b).sum()), int((b & ~a).sum())
    assert stats.mcnemar(a, b).p == pytest.approx(reference.binomtest(only[0], sum(only)).pvalue, rel=1e-10)


def test_holm_matches_the_textbook():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.01, np.nan]) == pytest.approx([0.02, np.nan], nan_ok=True)
    assert len(stats.holm([])) == 0
    drawn = np.random.default_rng(0).random(40) ** 3
    assert stats.holm(drawn) == pytest.approx(multipletests(drawn, method="holm")[1])


def test_one_seed_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50) - 0.1
    found = stats.two_level([a.mean()], [b.mean()], (a - b).var(ddof=1) / 50, 50)
    theirs = reference.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-10) and found.unit == "cases"
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)


def test_without_spread_of_cases_it_is_welchs_test():
    a, b = [0.91, 0.95, 0.96], [0.80, 0.86, 0.81, 0.79]
    found, theirs = stats.two_level(a, b, 0.0, 100), reference.ttest_ind(a, b, equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-10) and found.unit == "cases x seeds"
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)


def test_two_level_holds_its_level_and_covers():
    """Networks and cases both random, no difference: p < 0.05 and a missed zero in about 5 % of studies or fewer."""
    rng, studies, seeds, n = np.random.default_rng(0), 1500, 3, 200
    false = 0
    for _ in range(studies):
        case = rng.normal(0, 1, (2, 1, n)) * 0.6 + rng.normal(0, 1, n)  # of a case, and of a case for a method
        right = case + rng.normal(0, 0.15, (2, seeds, 1)) + rng.normal(0, 0.5, (2, seeds, n)) > -0.8
        (a, b), d = right.mean(2), right[0].mean(0) - right[1].mean(0)
        variance = stats.paired_share_variance(d.mean(), d.var() / n, n)
        found = stats.two_level(a, b, variance, n, limit=1)
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        false += found.p < 0.05
    assert 0.01 < false / studies < 0.065


def test_variance_over_cases_is_the_analytic_one():
    rng = np.random.default_rng(0)
    d = rng.random(10)  # few, so that the factor 10 / 9 counts
    draws = stats.mean(d, stats.case_weights(np.arange(10), rng, draws=20_000))
    assert stats.variance_over_cases(draws, 10) == pytest.approx(d.var(ddof=1) / 10, rel=0.04)


# ---- degenerate input ----


def test_a_class_that_is_absent():
    y, p = some_scores(classes=3)
    keep = y != 2
    two = [roc_auc_score(y[keep] == k, p[keep, k]) for k in (0, 1)]  # the one pair that is left, seen from either class
    assert stats.auc(y[keep], p[keep]) == pytest.approx(np.mean(two))
    assert np.isnan(stats.auc(np.zeros(5, int), p[:5]))
    assert stats.macro_f1(np.zeros(5, int), np.eye(3)[[0, 0, 0, 0, 1]]) == pytest.approx(8 / 9)


def test_draws_without_a_class_are_left_out():
    y, p = np.array([0, 0, 0, 0, 1]), np.linspace(0, 1, 10).reshape(5, 2)
    values = stats.auc(y, p, stats.case_weights(np.arange(5), np.random.default_rng(0)))
    assert np.isnan(values).any() and np.isfinite(values).any()
    assert stats.bootstrap_interval(np.full(9, np.nan)) == pytest.approx(stats.NO_INTERVAL[:2] + ("none",), nan_ok=True)


def test_a_constant_score_is_chance():
    y = np.arange(30) % 3
    values = stats.auc(y, np.full((30, 3), 1 / 3), stats.case_weights(np.arange(30), np.random.default_rng(0)))
    assert (values == 0.5).all() and stats.bootstrap_interval(values).name == "none"


def test_a_single_case_and_a_single_seed():
    assert stats.wilson(1.0, 1)[:2] == pytest.approx((0.2065, 1.0), abs=5e-5)
    assert stats.bootstrap_interval(np.ones(100)).name == "none"
    mean, sd, found = stats.seed_interval([0.5])
    assert mean == 0.5 and np.isnan(sd) and found.name == "none"
    mean, sd, found = stats.seed_interval([0.1, 0.1, 0.1])
    assert mean == pytest.approx(0.1) and sd == 0 and np.isnan(found.low) and found.name == "none"
    found = stats.two_level([1.0], [0.0], stats.variance_over_cases(np.ones(9), 1), 1)
    assert found.difference == 1 and np.isnan([found.low, found.high, found.p]).all()


def test_identical_and_opposite_methods():
    found = stats.two_level([0.9, 0.9], [0.9, 0.9], 0.0, 100)
    assert found.difference == 0 and found.p == 1 and np.isnan(found.low)
    assert stats.mcnemar(np.ones(10), np.ones(10)).p == 1
    opposite = stats.two_level([1.0], [0.0], stats.paired_share_variance(1.0, 0.0, 100), 100, limit=1)
    assert opposite.p < 1e-20 and 0.9 < opposite.low < 1 and opposite.high == 1


@pytest.mark.parametrize(
    ("y", "p", "told"),
    [
        ([0, 1], [[0.5, np.nan], [0.5, 0.5]], "finite"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], "from 0 to 1"),
        ([0, 0.5], [[0.5, 0.5], [0.5, 0.5]], "whole numbers"),
        ([0], [[0.5, 0.5], [0.5, 0.5]], "do not fit"),
        ([], np.zeros((0, 2)), "at least one case"),
    ],
)
def test_wrong_input_is_named(y, p, told):
    with pytest.raises(ValueError, match=told):
        stats.accuracy(np.array(y), np.array(p))


def test_values_that_are_missing_are_left_out():
    values = np.array([1.0, np.nan, 3.0])
    assert stats.mean(values) == 2 and np.isnan(stats.mean(values * np.nan))
    assert stats.mean(values, np.array([[1.0, 5.0, 3.0], [0, 1, 0]])) == pytest.approx([2.5, np.nan], nan_ok=True)


def test_mcnemar_needs_the_same_cases():
    with pytest.raises(ValueError, match="same cases"):
        stats.mcnemar(np.ones(3), np.ones(4))


def test_mcnemar_takes_right_and_wrong_alone():
    with pytest.raises(ValueError, match="1 \\(right\\) or 0 \\(wrong\\).*NaN"):
        stats.mcnemar(np.array([1, np.nan]), np.ones(2))


def test_mcnemar_of_many_cases_is_chi_squared():
    a, b = np.repeat([1, 0], [10_300, 9_900]), np.repeat([0, 1], [10_300, 9_900])
    found = stats.mcnemar(a, b)
    assert found.test == "McNemar, chi-squared"
    assert found.p == pytest.approx(reference.chi2.sf(400**2 / 20_200, 1), rel=1e-9)


def test_cochran_by_hand():
    """Right answers 5, 5, 1 of three methods on 6 cases: Q = 2 (3 * 51 - 11^2) / (3 * 11 - 23) = 6.4, p = exp(-3.2)."""
    right = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0], [1, 1, 0]])
    assert stats.cochran(right) == pytest.approx((6.4, 2, 0.0407622), abs=1e-7)


def test_cochran_agrees_with_mlxtend():
    rng = np.random.default_rng(0)
    right = rng.random((80, 4)) < (0.6, 0.7, 0.8, 0.7)
    theirs = cochrans_q(np.ones(80), *right.T.astype(float))
    assert stats.cochran(right)[::2] == pytest.approx(theirs, rel=1e-10)


def test_cochran_of_degenerate_input():
    assert stats.cochran(np.ones((5, 3))) == (0.0, 2, 1.0)
    with pytest.raises(ValueError, match="two methods"):
        stats.cochran(np.ones((5, 1)))
    with pytest.raises(ValueError, match="NaN"):
        stats.cochran(np.array([[1, np.nan], [0, 1]]))


# ---- equivalence, what could be detected, seeds ----


def test_equivalence_agrees_with_statsmodels():
    rng = np.random.default_rng(0)
    a = rng.normal(0.9, 0.05, 12)
    b = a + rng.normal(0.005, 0.03, 12)
    found = stats.equivalence(float((a - b).mean()), float(reference.sem(a - b)), 11, 0.02)
    assert found == pytest.approx(ttost_paired(a, b, -0.02, 0.02)[0], rel=1e-9)
    assert stats.equivalence(0.0, 0.01, np.inf, 0.02) == pytest.approx(0.0227501, abs=1e-7)  # z = 2
    assert np.isnan(stats.equivalence(0.0, 0.0, 5, 0.02))
    with pytest.raises(ValueError, match="above 0"):
        stats.equivalence(0.0, 0.1, 5, 0.0)


@pytest.mark.parametrize("n", [5, 20, 200])
def test_detectable_agrees_with_statsmodels(n):
    effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
    assert stats.detectable(n**-0.5, n - 1) == pytest.approx(effect, rel=1e-4)


def test_detectable_of_a_normal_test():
    assert stats.detectable(1.0, np.inf) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    assert np.isnan(stats.detectable(np.nan, 5)) and np.isnan(stats.detectable(1.0, np.nan))


def test_seeds_in_pairs_are_the_paired_t_test():
    a, b = [0.91, 0.95, 0.96], [0.88, 0.95, 0.90]
    found, theirs = stats.paired_over_seeds(a, b), reference.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9) and found.unit == "seeds"
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)
    assert stats.paired_over_seeds(a, a).p == 1 and np.isnan(stats.paired_over_seeds([1], [0]).p)
    with pytest.raises(ValueError, match="as many values"):
        stats.paired_over_seeds(a, b[:2])


def test_two_level_bootstrap_separates_seeds_from_cases():
    """Right answers of 6 networks on 400 cases; the parts of the error are those that were put in."""
    rng, seeds, n = np.random.default_rng(0), 6, 400
    case, seed, both = rng.normal(0, 1, n), rng.normal(0, 0.1, (seeds, 1)), rng.normal(0, 0.5, (seeds, n))
    x = case + seed + both
    draws = np.stack([stats.mean(one, stats.case_weights(np.arange(n), np.random.default_rng(1), 4000)) for one in x])
    cases, over_seeds, total = stats.two_level_bootstrap(x.mean(1), draws, n, rng)
    assert cases == pytest.approx(x.mean(0).std(ddof=1) / n**0.5, rel=0.05)
    assert over_seeds == pytest.approx(x.mean(1).std(ddof=1) / seeds**0.5, rel=1e-9)
    # noise between seed and case is in both terms, and in the whole a second time through the seeds' draws
    assert total**2 == pytest.approx(cases**2 + over_seeds**2, rel=0.15)
    one = stats.two_level_bootstrap(x[:1].mean(1), draws[:1], n, rng)
    assert np.isnan(one[1]) and one[0] == one[2]
    assert np.isnan(stats.two_level_bootstrap([0.5], np.full((1, 4), np.nan), 5, rng)).all()


def test_over_seeds_allows_for_both():
    values, bounds = [0.90, 0.94, 0.92], (0, 1)
    apart = stats.seed_interval(values, bounds)[2]
    assert stats.over_seeds(values, 0.0, 100, bounds)[:2] == pytest.approx(apart[:2])
    low, high, name = stats.over_seeds(values, 0.02**2, 100, bounds)
    assert low < apart.low + 0.01 and name == "two-level t" and high <= 1
    assert stats.over_seeds([0.9], 0.1, 100, bounds).name == "none"
    assert stats.over_seeds([0.9, 0.9], 0.0, 100, bounds).name == "none"
