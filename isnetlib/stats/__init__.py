"""Metrics, intervals and tests: arrays in, numbers out; random draws come from the Generator passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) might have been in the test set. *Seeds*:
the same training, started anew, gives another network. An interval over cases holds for the trained networks, one over
seeds for the training, on these cases; `over_seeds` and `two_level` know both. Where patients have several cases, whole
patients are drawn. Simulation says how often intervals cover and tests err (notebooks/benches/simulation.py).

Conventions for degenerate input:
- one class absent: macro F1 averages over the classes that occur, AUC over what can be compared, else NaN;
- a constant score: AUC is 0.5, by ties, without an interval;
- all cases right, or all wrong: an interval for shares (accuracy, macro F1, AUC); none (NaN, named "none") for a mean
  of equal values, because what a sample does not hold cannot be seen in it;
- n = 1: one case has an interval for shares alone, one seed none over seeds; no case: an error;
- NaN: an error in labels, scores or groups; another number of a case (no mask known): the case is left out; a seed
  whose metric is not defined leaves no mean, no interval and no p; a p that is NaN stays so in its family;
- identical predictions: difference 0 and p = 1, with an interval for accuracy only (one more case in favour of each).
"""

from isnetlib.stats.intervals import *  # noqa: F403
from isnetlib.stats.metrics import *  # noqa: F403
from isnetlib.stats.tests import *  # noqa: F403
