"""Macro F1 and the measures of a class: parts of the jackknife, posteriors, and intervals from them."""

import numpy as np
import pytest
from scipy import stats as reference
from sklearn.metrics import f1_score, precision_score, recall_score

from isnetlib import stats


def some_answers(n=60, classes=3, right=0.8, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return y, np.eye(classes)[np.where(rng.random(n) < right, y, (y + 1) % classes)]


def draws_of(y, p, draws=20_000, seed=0, **options):
    rng = np.random.default_rng(seed)
    return stats.posterior(y, p, stats.bayesian_weights(np.arange(len(y)), rng, draws), rng, **options)


# ---- parts ----


@pytest.mark.parametrize("several", [False, True])
def test_parts_of_macro_f1_leave_one_case_out(several):
    y, p = some_answers(25)
    if several:
        rng = np.random.default_rng(1)
        y, p = rng.integers(0, 2, (25, 3)), rng.random((25, 3))
    found = stats.f1_estimate(y, p)
    without = np.array([stats.macro_f1(np.delete(y, i, 0), np.delete(p, i, 0)) for i in range(25)])
    assert found.value == stats.macro_f1(y, p)
    assert found.parts == pytest.approx((24 / 25) ** 0.5 * (without.mean() - without), abs=1e-12)
    assert found.variance == pytest.approx(24 / 25 * ((without - without.mean()) ** 2).sum())


def test_variance_of_macro_f1_is_that_of_other_samples():
    values = [stats.macro_f1(*some_answers(200, seed=k)) for k in range(600)]
    told = np.mean([stats.f1_estimate(*some_answers(200, seed=k)).variance for k in range(100)])
    assert told == pytest.approx(np.var(values), rel=0.15)


def test_parts_of_a_mean():
    values = np.array([1.0, 3.0, np.nan, 5.0])
    found = stats.mean_estimate(values)
    assert found.value == 3 and found.parts[2] == 0
    assert found.variance == pytest.approx(reference.sem([1, 3, 5]) ** 2)


# ---- score intervals ----


def test_score_interval_solves_wilsons_equation():
    found = stats.f1_estimate(*some_answers(100))
    d2, d4 = (found.parts**2).sum(), (found.parts**4).sum()
    df = 2 * d2**2 / (d4 - d2**2 / 100)
    assert stats.degrees(found.parts) == pytest.approx(df) and stats.degrees(np.ones(5)) == np.inf
    low, high, name = stats.score_interval(found, "score, jackknife", df)
    t = reference.t.ppf(0.975, df)
    size = found.value * (1 - found.value) / found.variance
    for end in (low, high):
        assert (found.value - end) ** 2 == pytest.approx(t**2 * end * (1 - end) / size, rel=1e-9)
    assert low < found.value < high and name == "score, jackknife"
    assert stats.score_interval(found, "s").high < high  # without df: the normal quantile


def test_score_interval_without_an_error_counts_the_cases():
    perfect = stats.f1_estimate(np.arange(20) % 2, np.eye(2)[np.arange(20) % 2])
    assert stats.score_interval(perfect, "s")[:2] == pytest.approx((0.8389, 1.0), abs=5e-5)  # Wilson, 20 of 20
    one = stats.f1_estimate(np.array([1]), np.array([[0.2, 0.8]]))
    assert one.value == 1 and stats.score_interval(one, "s")[:2] == pytest.approx((0.2065, 1.0), abs=5e-5)
    assert stats.score_interval(stats.Estimate(np.nan, np.zeros(3)), "s").name == "none"
    assert stats.score_interval(stats.Estimate(0.5, np.zeros(3)), "s").name == "none"


def test_average_keeps_cases_paired():
    a, b = (stats.mean_estimate(np.array(x, float)) for x in ([1, 0, 1, 0], [0, 1, 0, 1]))
    both = stats.average([a, b])
    assert both.value == 0.5 and both.variance == pytest.approx(0)


def test_mean_interval_is_students():
    values = np.random.default_rng(0).random(12)
    low, high, name = stats.mean_interval(stats.mean_estimate(values))
    assert (low, high) == pytest.approx(reference.t.interval(0.95, 11, values.mean(), reference.sem(values)), rel=1e-7)
    assert name == "t over cases"
    assert stats.mean_interval(stats.mean_estimate(values), (0.4, 0.5)).low >= 0.4
    assert stats.mean_interval(stats.mean_estimate(np.ones(5))).name == "none"


# ---- posteriors ----


@pytest.mark.parametrize("uniform", [False, True])
def test_posterior_is_the_written_model(uniform):
    """mu ~ Dirichlet, theta_i ~ Dirichlet apart from it, F1 from TP = mu theta: by NumPy's own Dirichlet draws."""
    y, p = some_answers(40)
    counts = np.zeros((3, 3))
    np.add.at(counts, (y, p.argmax(1)), 1)
    prior = np.ones((3, 3)) if uniform else np.where(np.eye(3), 0.5, 0.5 / 6)
    rng, cells = np.random.default_rng(1), counts + prior
    mu = rng.dirichlet(cells.sum(1), 20_000)
    theta = np.stack([rng.dirichlet(row, 20_000) for row in cells], 1)
    joint = mu[:, :, None] * theta
    hits, called = joint.diagonal(axis1=1, axis2=2), joint.sum(1)
    expected = {"recall": hits / mu, "precision": hits / called, "f1": 2 * hits / (mu + called)}
    expected["specificity"] = 1 - (called - hits) / (1 - mu)
    found = draws_of(y, p, uniform=uniform)
    for name, drawn in expected.items():
        assert found[name].mean(0) == pytest.approx(drawn.mean(0), abs=0.003)
        assert found[name].std(0) == pytest.approx(drawn.std(0), rel=0.03)
    quantiles = [np.quantile(x, [0.025, 0.5, 0.975]) for x in (found["macro_f1"], expected["f1"].mean(1))]
    assert quantiles[0] == pytest.approx(quantiles[1], abs=0.004)


def test_posterior_of_a_share_is_a_beta():
    """Recall of a class of two with 7 of 9 right: Beta(7 + 1/2, 2 + 1/4)."""
    y, p = np.repeat([0, 1], [9, 5]), np.eye(2)[np.repeat([0, 1, 1], [7, 2, 5])]
    drawn = draws_of(y, p)["recall"][:, 0]
    assert reference.kstest(drawn, reference.beta(7.5, 2.25).cdf).pvalue > 0.001


def test_uniform_priors_pull_an_accurate_classifier_down():
    y, p = some_answers(200, classes=10, right=0.97)
    value = stats.macro_f1(y, p)
    ours, theirs = (stats.shortest(draws_of(y, p, 2000, uniform=uniform)["macro_f1"]) for uniform in (False, True))
    assert ours.low < value < ours.high and theirs.high < 0.85 < value


def test_class_measures_agree_with_scikit_learn():
    y, p = some_answers(50)
    found = stats.class_measures(y, p)
    for name, measure in {"f1": f1_score, "precision": precision_score, "recall": recall_score}.items():
        assert found[name] == pytest.approx(measure(y, p.argmax(1), average=None))
    assert found["specificity"] == pytest.approx([recall_score(y != k, p.argmax(1) != k) for k in range(3)])


def test_several_labels_have_a_table_each():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (80, 2)), rng.random((80, 2))
    found = draws_of(y, p, 4000)
    assert found["f1"].mean(0) == pytest.approx([f1_score(y[:, k], p[:, k] >= 0.5) for k in (0, 1)], abs=0.03)
    assert stats.class_measures(y, p)["recall"] == pytest.approx(recall_score(y, p >= 0.5, average=None))


def test_a_class_that_is_absent_is_left_out():
    y, p = np.zeros(6, int), np.eye(3)[[0, 0, 0, 0, 0, 1]]
    assert np.isnan(stats.class_measures(y, p)["f1"][1:]).all()
    drawn = draws_of(y, p, 50)
    assert np.isnan(drawn["f1"][:, 1:]).all() and np.isfinite(drawn["macro_f1"]).all()
    assert np.isfinite(stats.f1_estimate(y, p).parts).all()


def test_patients_share_a_weight():
    weights = stats.bayesian_weights(np.repeat(["a", "b"], 3), np.random.default_rng(0), 5)
    assert (weights[:, :3] == weights[:, :1]).all() and (weights[:, 3:] == weights[:, 3:4]).all()


def test_shortest_holds_95_percent_and_is_shortest():
    drawn = np.random.default_rng(0).exponential(size=20_000)
    low, high, _ = stats.shortest(drawn)
    assert low < 0.01 and high == pytest.approx(-np.log(0.05), rel=0.03)
    assert ((low <= drawn) & (drawn <= high)).mean() == pytest.approx(0.95, abs=1e-3)
    assert stats.shortest(np.array([0.1, np.nan])).name == "none"


def test_probability_better():
    y, p = some_answers(100)
    assert stats.probability_better(np.array([1, 2, 3]), np.array([0, 2, 4])) == 0.5
    weights, rng = stats.bayesian_weights(np.arange(100), np.random.default_rng(0), 1000), np.random.default_rng(1)
    a, b = (stats.posterior(y, q, weights, rng)["macro_f1"] for q in (np.eye(3)[y], p))
    assert stats.probability_better(a, b) > 0.99
    with pytest.raises(ValueError, match="same draws"):
        stats.probability_better(a, b[:3])
