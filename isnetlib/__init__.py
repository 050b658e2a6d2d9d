"""ISNet: classifiers that ignore the background, by training on their own LRP heatmaps. Reading order: lrp, rules,
loss, isnet.
"""

from isnetlib.isnet import ISNet
from isnetlib.loss import heatmap_loss
from isnetlib.lrp import LRP, NotCovered, check, explain, start_for
from isnetlib.rules import rule

__all__ = ["LRP", "ISNet", "NotCovered", "check", "explain", "heatmap_loss", "rule", "start_for"]
__version__ = "0.1.0"
