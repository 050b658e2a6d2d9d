"""Metrics, intervals and tests: arrays in, rows or tidy frames out; random draws come from the Generator passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) of the same kind might have been in the
test set. *Seeds*: the same training, started anew, gives another network. An interval over cases holds for the
trained networks; one over seeds for the training procedure, on these cases; `two_level` and `two_level_bootstrap` for
both.

The spread over cases is written down case by case: an `Estimate` has a value and one `part` a case, whose squares add
up to the variance. Parts of methods and seeds on the same cases are averaged and subtracted like the values, so that
whatever is compared stays paired. Where patients have several cases, whole patients are drawn instead (`case_weights`).
Simulation (`isnetlib.coverage`) says how often each interval covers and how often each test errs.

Conventions for degenerate input:
- one class absent: accuracy as ever; macro F1 averages over the classes that occur; AUC (of the sample or of a draw) is
  the mean over what can be compared, NaN where nothing can; ROC curve and sensitivity are NaN; average precision is NaN
  without a positive case, and 1 where all are; measures of an absent class are NaN, in the posterior too;
- a constant score: AUC is 0.5, by ties, without an interval; the ROC curve has sensitivity 0 below a rate of 1;
- all cases right, or all wrong: an interval for shares (accuracy, macro F1, AUC) as if all cases counted alike; none
  (NaN, named "none") for a mean of equal values, because what a sample does not hold cannot be seen in it;
- n = 1: one case has an interval for shares alone, one seed has no interval over seeds; no case, no seed, no network:
  an error;
- NaN: an error in labels, scores, weights or groups; in another number of a case (no mask known) that case is left out;
  a seed whose metric is not defined leaves no mean, no interval and no p, a p that is NaN stays so in its family;
- identical predictions: difference 0 and p = 1, with an interval for accuracy only (one more case in favour of each).
"""

from isnetlib.stats.accuracy import cochran, mcnemar, paired_share_variance
from isnetlib.stats.auc import auc_estimate, average_precision, average_precisions, delong
from isnetlib.stats.calibration import expected_calibration_error, reliability, sensitivity_at_specificity
from isnetlib.stats.f1 import bayesian_weights, class_measures, f1_estimate, posterior, probability_better, shortest
from isnetlib.stats.families import detectable, equivalence, holm
from isnetlib.stats.intervals import (
    DRAWS,
    LEVEL,
    NO_INTERVAL,
    Difference,
    Estimate,
    Interval,
    average,
    bootstrap_interval,
    case_weights,
    degrees,
    mean_interval,
    score_interval,
    variance_over_cases,
    wilson,
)
from isnetlib.stats.metrics import (
    METRICS,
    accuracy,
    auc,
    check_scores,
    correct,
    macro_f1,
    mean,
    mean_estimate,
    mean_of_defined,
)
from isnetlib.stats.seeds import over_seeds, paired_over_seeds, seed_interval, two_level, two_level_bootstrap

# A metric's value with one part a case: (labels, scores) -> Estimate.
ESTIMATES = {
    "accuracy": lambda y, p: mean_estimate(correct(y, p)),
    "macro_f1": f1_estimate,
    "auc": auc_estimate,
}

__all__ = [
    "ESTIMATES",
    "DRAWS",
    "LEVEL",
    "METRICS",
    "NO_INTERVAL",
    "Difference",
    "Estimate",
    "Interval",
    "accuracy",
    "auc",
    "auc_estimate",
    "average",
    "average_precision",
    "average_precisions",
    "bayesian_weights",
    "bootstrap_interval",
    "case_weights",
    "check_scores",
    "class_measures",
    "cochran",
    "correct",
    "degrees",
    "delong",
    "detectable",
    "equivalence",
    "expected_calibration_error",
    "f1_estimate",
    "holm",
    "macro_f1",
    "mcnemar",
    "mean",
    "mean_estimate",
    "mean_interval",
    "mean_of_defined",
    "over_seeds",
    "paired_over_seeds",
    "paired_share_variance",
    "posterior",
    "probability_better",
    "reliability",
    "score_interval",
    "seed_interval",
    "sensitivity_at_specificity",
    "shortest",
    "two_level",
    "two_level_bootstrap",
    "variance_over_cases",
    "wilson",
]
