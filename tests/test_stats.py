"""Metrics, intervals and tests against published numbers, other libraries, slow twins and simulation."""

import numpy as np
import pytest
from scipy import stats as reference
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from isnetlib import stats


def some_scores(n=80, classes=4, seed=0, decimals=2):
    """Labels and rounded scores, so that ties occur."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    p = rng.dirichlet(np.ones(classes), n) + np.eye(classes)[y] * 0.3
    return y, np.round(p / p.sum(1, keepdims=True), decimals)


def some_labels(n=60, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (n, labels)), rng.random((n, labels)).round(1)


def drawn(n, draws=60):
    return stats.case_weights(np.arange(n), np.random.default_rng(0), draws)


def test_metrics_agree_with_scikit_learn():
    y, p = some_scores()
    p = p / p.sum(1, keepdims=True)
    assert stats.accuracy(y, p) == pytest.approx(accuracy_score(y, p.argmax(1)), abs=1e-9)
    assert stats.macro_f1(y, p) == pytest.approx(f1_score(y, p.argmax(1), average="macro"), abs=1e-12)
    assert stats.auc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovo"), abs=1e-12)
    y, p = some_scores(classes=2)
    assert stats.auc(y, p) == pytest.approx(roc_auc_score(y, p[:, 1] - p[:, 0]), abs=1e-12)
    y, p = some_labels()
    assert stats.accuracy(y, p) == pytest.approx(((p >= 0.5) == y).mean(), abs=1e-9)
    assert stats.macro_f1(y, p) == pytest.approx(f1_score(y, p >= 0.5, average="macro"), abs=1e-12)
    assert stats.auc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    each = [stats.auc_estimate(y[:, [k]], p[:, [k]]) for k in range(3)]
    assert stats.auc_estimate(y, p).parts == pytest.approx(np.mean([e.parts for e in each], 0))


@pytest.mark.parametrize("metric", [stats.accuracy, stats.macro_f1, stats.auc])
@pytest.mark.parametrize("classes", [2, 4, "labels"])
def test_weights_are_repeated_cases(metric, classes):
    y, p = some_labels(40) if classes == "labels" else some_scores(40, classes)
    weights = drawn(40)
    repeated = [metric(np.repeat(y, w.astype(int), 0), np.repeat(p, w.astype(int), 0)) for w in weights]
    assert metric(y, p, weights) == pytest.approx(repeated, abs=1e-9)
    if metric is not stats.auc:  # a rare class is lost in some draws, and still answered
        y, weights = np.array([0, 0, 0, 1, 1, 2]), np.array([[2.0, 1, 1, 1, 1, 0], [1, 1, 0, 2, 1, 1]])
        p = np.eye(3)[[0, 2, 0, 1, 2, 2]]
        repeated = [metric(np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int), 0)) for w in weights]
        assert metric(y, p, weights) == pytest.approx(repeated)


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
    for own in (y == k for k in classes):
        parts[own] = (placed[own] - placed[own].mean()) / (own.sum() * (own.sum() - 1)) ** 0.5
    return np.mean(areas), parts


@pytest.mark.parametrize("classes", [2, 4])
def test_parts_of_auc_agree_with_the_slow_way(classes):
    y, p = some_scores(60, classes, decimals=1)
    (value, parts), found = slow_parts(y, p), stats.auc_estimate(y, p)
    assert found.value == pytest.approx(value, abs=1e-12) == stats.auc(y, p)
    assert found.parts == pytest.approx(parts, abs=1e-12)


@pytest.mark.parametrize("several", [False, True])
def test_parts_of_macro_f1_leave_one_case_out(several):
    y, p = some_labels(25) if several else some_scores(25, 3)
    found = stats.f1_estimate(y, p)
    without = np.array([stats.macro_f1(np.delete(y, i, 0), np.delete(p, i, 0)) for i in range(25)])
    assert found.value == stats.macro_f1(y, p)
    assert found.parts == pytest.approx((24 / 25) ** 0.5 * (without.mean() - without), abs=1e-12)


def test_variances_are_those_of_other_samples():
    """Monte Carlo, of macro F1, AUC and the difference of two AUCs of the same cases."""
    found = []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        y = rng.integers(2, size=60)
        one = rng.normal(size=60) + 1.2 * y
        two = one + rng.normal(size=60)
        p, q = (np.stack([1 - s, s], 1) for s in (one, two))
        f1, a, b = stats.f1_estimate(y, p), stats.auc_estimate(y, p), stats.auc_estimate(y, q)
        found.append([f1.value, a.value, a.value - b.value, f1.variance, a.variance, (a - b).variance])
    values, told = np.hsplit(np.array(found), 2)
    assert told.mean(0) == pytest.approx(values.var(0), rel=0.15)


def test_parts_of_accuracy_and_of_an_average():
    y, p = some_scores()
    found, right = stats.accuracy_estimate(y, p), p.argmax(1) == y
    assert found.value == stats.accuracy(y, p) and found.variance == pytest.approx(reference.sem(right) ** 2)
    ones = np.eye(2)[[1, 1, 1, 1]]
    both = stats.average([stats.accuracy_estimate(np.array(y), ones) for y in ([1, 0, 1, 0], [0, 1, 0, 1])])
    assert both.value == 0.5 and both.variance == pytest.approx(0)  # cases stay paired


def test_wilson_matches_newcombe():
    """Statistics in Medicine 17, 857 (1998), table I, method 3: of how many right of n, both ends."""
    table = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    for right, n, low, high in table:
        assert stats.wilson(right / n, n) == pytest.approx((low, high), abs=5e-5)


def test_score_interval_solves_wilsons_equation():
    found = stats.f1_estimate(*some_scores(100, 3))
    d2, d4 = (found.parts**2).sum(), (found.parts**4).sum()
    df = 2 * d2**2 / (d4 - d2**2 / 100)
    assert stats.degrees(found.parts) == pytest.approx(df) and stats.degrees(np.ones(5)) == np.inf
    low, high = stats.score_interval(found, df)
    size = found.value * (1 - found.value) / found.variance
    for end in (low, high):
        assert (found.value - end) ** 2 == pytest.approx(reference.t.ppf(0.975, df) ** 2 * end * (1 - end) / size)
    assert low < found.value < high and stats.score_interval(found)[1] < high  # without df: the normal quantile
    perfect = stats.f1_estimate(np.arange(20) % 2, np.eye(2)[np.arange(20) % 2])
    assert stats.score_interval(perfect) == pytest.approx((0.8389, 1.0), abs=5e-5)  # Wilson, 20 of 20


def test_the_interval_over_cases_and_seeds_is_students():
    values = [0.90, 0.94, 0.92]
    found = stats.two_level(0.02**2, 100, values, bounds=(0, 1))
    df = (0.02**2 + 0.0004 / 3) ** 2 / (0.02**4 / 99 + (0.0004 / 3) ** 2 / 2)  # Satterthwaite
    assert (found.df, found.se) == pytest.approx((df, (0.02**2 + 0.0004 / 3) ** 0.5))
    assert (found.high - found.low) / 2 == pytest.approx(reference.t.ppf(0.975, df) * found.se)
    assert stats.two_level(0.2, 100, values, bounds=(0, 1)).high == 1


def test_patients_are_drawn_whole():
    weights, again = (stats.case_weights(np.repeat([*"abcd"], 3), np.random.default_rng(0), 50) for _ in range(2))
    assert (weights == again).all() and (weights.sum(1) == 12).all()
    assert (weights == np.repeat(weights[:, ::3], 3, 1)).all()
    few = np.random.default_rng(0).random(10)  # so that the factor 10 / 9 counts
    found = stats.Estimate(few.mean(), drawn(10, 20_000) @ few / 10, patients=10)
    assert found.variance == pytest.approx(few.var(ddof=1) / 10, rel=0.04)


def test_two_level_is_the_paired_t_test_of_one_seed_and_welchs_without_spread_of_cases():
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50) - 0.1
    seeds = [0.91, 0.95, 0.96], [0.80, 0.86, 0.81, 0.79]
    one_seed = stats.two_level((a - b).var(ddof=1) / 50, 50, [a.mean()], [b.mean()])
    several = stats.two_level(0.0, 100, *seeds)
    welch, paired = reference.ttest_ind(*seeds, equal_var=False), reference.ttest_rel(a, b)
    for found, theirs, means in ((one_seed, paired, (a, b)), (several, welch, seeds)):
        assert found.value == np.mean(means[0]) - np.mean(means[1])
        assert found.p == pytest.approx(theirs.pvalue, rel=1e-10)
        assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)


def test_two_level_holds_its_level_and_covers():
    """Networks and cases both random, no difference: p < 0.05 and a missed zero in about 5 % of studies or fewer."""
    rng, studies, seeds, n, false = np.random.default_rng(0), 1500, 3, 200, 0
    for _ in range(studies):
        case = rng.normal(0, 1, (2, 1, n)) * 0.6 + rng.normal(0, 1, n)  # of a case, and of a case for a method
        right = case + rng.normal(0, 0.15, (2, seeds, 1)) + rng.normal(0, 0.5, (2, seeds, n)) > -0.8
        (a, b), d = right.mean(2), right[0].mean(0) - right[1].mean(0)
        variance = stats.paired_share_variance(d.mean(), d.var() / n, n)
        found = stats.two_level(variance, n, a, b)
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        false += found.p < 0.05
    assert 0.01 < false / studies < 0.065


def test_holm_matches_the_textbook():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(stats.holm([])) == 0
    p = np.random.default_rng(0).random(40) ** 3
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_equivalence_and_what_is_detectable_agree_with_statsmodels():
    rng = np.random.default_rng(0)
    a = rng.normal(0.9, 0.05, 12)
    b = a + rng.normal(0.005, 0.03, 12)
    found = stats.two_level(float((a - b).var(ddof=1)) / 12, 12, [a.mean()], [b.mean()])
    assert stats.equivalence(found, 0.02) == pytest.approx(ttost_paired(a, b, -0.02, 0.02)[0], rel=1e-9)
    normal = stats.Spread(0.0, np.nan, np.nan, 0.01, np.inf)
    assert stats.equivalence(normal, 0.02) == pytest.approx(0.0227501, abs=1e-7)  # z = 2
    for n in (5, 20, 200):
        effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        assert stats.detectable(normal._replace(se=n**-0.5, df=n - 1)) == pytest.approx(effect, rel=1e-4)
    assert stats.detectable(normal._replace(se=1.0)) == pytest.approx(1.959964 + 0.841621, abs=1e-4)


# of degenerate input, where either a stated convention holds or the error says what is wrong
NAN, ALTERNATE, ONES, CONSTANT = float("nan"), np.arange(6) % 2, np.ones(6, int), np.full((6, 2), 0.5)


def rising(n):
    """Probabilities of two classes, that of the second from 0.1 to 0.9."""
    second = np.linspace(0.1, 0.9, n)
    return np.stack([1 - second, second], 1)


def test_conventions_of_metrics():
    cases = (ONES, rising(6)), (1 - ONES, rising(6)), (ALTERNATE, CONSTANT), (np.array([1]), rising(1))
    for metric, class_alone, constant, one_case in (
        (stats.accuracy, 0.5, 0.5, 0.0),  # of one case: it is called the first class
        (stats.macro_f1, 2 / 3, 1 / 3, 0.0),  # of the class that occurs
        (stats.auc, NAN, 0.5, NAN),
    ):
        found = [metric(*case) for case in cases]
        assert found == pytest.approx([class_alone, class_alone, constant, one_case], nan_ok=True), metric
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


def test_one_case_shows_no_spread_and_without_degrees_of_freedom_nothing_is_equivalent_or_detectable():
    for estimate in stats.ESTIMATES.values():
        assert estimate(np.array([1]), rising(1)).variance == 0
    assert stats.wilson(1.0, 1) == pytest.approx((0.2065, 1.0), abs=5e-5)
    single = stats.auc_estimate(np.array([0, 0, 0, 1]), np.stack([-np.arange(4), np.array([0, 2, 1, 1])], 1))
    assert single.parts[3] > 0  # one positive case takes the spread of the others
    assert np.isnan(stats.two_level(0.0, 1, [1.0], [0.0])[1:]).all()
    assert np.isnan(stats.Estimate(1.0, np.ones(9), patients=1).variance)  # of one patient
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


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="finite numbers"):
        stats.auc_estimate(ALTERNATE, rising(6) * NAN)
    for y, p, told in (
        (np.array([0, 2]), CONSTANT[:2], "from 0 to 1"),
        (np.array([0, 0.5]), CONSTANT[:2], "whole numbers"),
        (np.array([0]), CONSTANT[:2], "do not fit"),
        (np.zeros(0, int), np.zeros((0, 2)), "at least one case"),
    ):
        with pytest.raises(ValueError, match=told):
            stats.accuracy(y, p)


def test_nan_and_what_does_not_vary_have_no_interval():
    nothing = stats.Estimate(NAN, np.zeros(3)), stats.Estimate(0.5, np.full(3, NAN))
    found = [stats.score_interval(one) for one in nothing] + [stats.bootstrap_interval(np.full(5, NAN))]
    seeds = ([0.9], 0.0, 9), ([0.9, 0.9], 0.0, 9), ([0.5, NAN, 0.6], 0.1, 9), ([0.5, 0.6], NAN, 9), ([0.5, 0.6], 0.1, 1)
    found += [stats.two_level(variance, groups, values)[1:3] for values, variance, groups in seeds]
    found += [stats.two_level(0.01, 50, [0.5, NAN], [0.4, 0.3])[1:3]]
    assert np.isnan(found).all()
    assert np.isnan(stats.Estimate(NAN, np.full(5, NAN), patients=4).variance)
    assert stats.holm([NAN, 0.02]) == pytest.approx([NAN, 0.04], nan_ok=True) and np.isnan(stats.holm([NAN, NAN])).all()
