"""Metrics, intervals and tests: arrays in, numbers out; random draws come from the Generator passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) might have been in the test set. *Seeds*:
the same training, started anew, gives another network. An interval over cases holds for the trained networks;
`two_level` knows both. Simulation says how often intervals cover and tests err (notebooks/benches/simulation.py).

Conventions for degenerate input:
- one class absent: macro F1 averages over the classes that occur, AUC over what can be compared, else NaN;
- a constant score: AUC is 0.5, by ties, without an interval;
- all cases right, or all wrong: an interval all the same, as Wilson's for a share; over patients none;
- no case, or NaN among labels, scores or groups: an error; a p that is NaN stays so in its family;
- identical predictions: difference 0 and p = 1, with an interval for accuracy only (one more case in favour of each).
"""

from isnetlib.stats.intervals import *  # noqa: F403
from isnetlib.stats.metrics import *  # noqa: F403
from isnetlib.stats.tests import *  # noqa: F403
