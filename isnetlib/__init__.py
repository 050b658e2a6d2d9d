"""ISNet: classifiers that ignore the background, by training on their own LRP heatmaps. Reading order:
method/lrp.py, rules.py, graph.py, loss.py, isnet.py.
"""

from importlib import import_module, util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isnetlib.method.isnet import ISNet
    from isnetlib.method.loss import heatmap_loss
    from isnetlib.method.lrp import LRP, NotCovered, check, explain, start_for
    from isnetlib.method.rules import rule
    from isnetlib.own import load
    from isnetlib.report.show import show

__all__ = ["LRP", "ISNet", "NotCovered", "check", "explain", "heatmap_loss", "load", "rule", "show", "start_for"]
__version__ = "0.2.0"
_HOME = {"ISNet": "method.isnet", "heatmap_loss": "method.loss", "rule": "method.rules", "load": "own"}
_HOME |= {"show": "report.show"}  # of all others method.lrp


def __getattr__(name: str):
    """Import a public name or a module when it is first asked for: torch takes seconds, and reports need none."""
    if name in __all__:
        return getattr(import_module(f"isnetlib.{_HOME.get(name, 'method.lrp')}"), name)
    if name.startswith("_") or util.find_spec(f"isnetlib.{name}") is None:
        raise AttributeError(f"module 'isnetlib' has no attribute {name!r}")
    return import_module(f"isnetlib.{name}")
