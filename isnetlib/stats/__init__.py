"""Metrics, intervals and tests: arrays in, numbers out; random draws come from the Generator passed.

Two kinds of uncertainty are kept apart. *Cases*: other images (or patients) might have been in the test set. *Seeds*:
the same training, started anew, gives another network. An interval over cases holds for the trained networks;
`two_level` knows both. Simulation says how often intervals cover and tests err (notebooks/benches/simulation.py).

Degenerate input: AUC and macro F1 leave absent classes out (AUC of one class: NaN); AUC of a constant score is 0.5,
without an interval; all cases right, or all wrong, have one all the same, as Wilson's for a share, over patients none;
identical predictions differ by 0 with p = 1, and an interval for accuracy only (one more case in favour of each).
"""

from isnetlib.stats.intervals import *  # noqa: F403
from isnetlib.stats.metrics import *  # noqa: F403
