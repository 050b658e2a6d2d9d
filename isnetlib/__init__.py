"""ISNet: classifiers that ignore the background, by training on their own LRP heatmaps. Reading order:
method/lrp.py, rules.py, graph.py, loss.py, isnet.py.
"""

import importlib
import importlib.util
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
_HOME = {"ISNet": "method.isnet", "heatmap_loss": "method.loss", "rule": "method.rules"}  # of all others method.lrp
_HOME |= {"load": "own", "show": "report.show"}


def __getattr__(name: str):
    """Import a public name or a module when it is first asked for: most commands, and all tables, figures and reports,
    can do without torch, which takes seconds to import.
    """
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'method.lrp')}"), name)
    module = f"{__name__}.{name}"
    if name.startswith("_") or importlib.util.find_spec(module) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(module)
