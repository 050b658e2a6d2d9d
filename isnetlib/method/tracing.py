"""The arguments of torch's operations and where they were called, for `isnetlib.method.graph`."""

import sys
from traceback import walk_stack

from torch import Tensor, nn


def tensors_in(values) -> list[Tensor]:
    """The tensors among `values` and in the lists, tuples and dictionaries among them."""
    found = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            found += tensors_in(value)
    return found


def by_position(args, kwargs):
    """torch.add(input=a, other=b) as torch.add(a, b)."""
    first, last = ([kwargs.pop(name)] if name in kwargs else [] for name in ("input", "other"))
    return (*first, *args, *last), kwargs


def is_in_place(name: str) -> bool:
    operators = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__")
    return name in operators or (name.endswith("_") and not name.endswith("__"))


def same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def leads_to(function, targets: set, leaf: Tensor | None) -> bool:
    """Whether the autograd graph of the grad_fn `function` holds one of `targets`, or the leaf tensor."""
    known, waiting = {None}, [function]  # None: an input that needs no gradient
    while waiting:
        one = waiting.pop()
        if one in targets or (leaf is not None and getattr(one, "variable", None) is leaf):
            return True
        known.add(one)
        waiting += [other for other, _ in one.next_functions if other not in known]
    return False


def callers(name: str, kind: type) -> list:
    """The local variables `name` of this kind in the functions that are running, innermost first."""
    owners = (frame.f_locals.get(name) for frame, _ in walk_stack(sys._getframe(1)))
    return [owner for owner in owners if isinstance(owner, kind)]


def place() -> str:
    """Path and class of the module whose forward is running."""
    modules = callers("self", nn.Module)
    if not modules:
        return "outside any module"
    path = next((name for name, module in modules[-1].named_modules() if module is modules[0]), "")
    return f"{path or 'the model itself'} ({type(modules[0]).__name__})"
