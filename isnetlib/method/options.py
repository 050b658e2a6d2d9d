"""Options of the methods, refused by name and value where they cannot be: before a training costs anything."""

import math
from numbers import Integral, Real

import torch


def number(name: str, value: float, low: float = 0.0, high: float = math.inf, kind: type = Real) -> float:
    """`value` of the option `name`; ValueError where it is no finite number (kind Integral: whole number) from low to
    high.
    """
    if isinstance(value, bool) or not isinstance(value, kind) or not (low <= value <= high and math.isfinite(value)):
        what = f"{'whole ' * (kind is Integral)}number" + f" from {low:g}{f' to {high:g}' * (high < math.inf)}"
        raise ValueError(f"{name} must be a {what}{' on' * (high == math.inf)}, got {value!r}")
    return value


def pair(name: str, values: tuple[float, float], high: float = math.inf, rising: bool = False) -> tuple[float, float]:
    """The option's two numbers from 0 to high; ValueError for anything else. rising: 0 < first < second, or, of shares
    (high 1), first < second.
    """
    try:
        first, second = (number(name, value, high=high) for value in values)
        fits = not rising or (first < second and (first > 0 or high == 1))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        limit, order = f" to {high:g}" if high < math.inf else " on", ", the second larger" * rising
        raise ValueError(f"{name} must be two numbers from 0{limit}{order}; got {values!r}")
    return first, second


def flag(name: str, value: bool) -> bool:
    """The option's truth; ValueError for what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def bounds(name: str, value: tuple | None) -> None:
    """ValueError where the option is neither None nor (low, high), numbers or one a channel, with low < high."""
    try:
        low, high = (0.0, 1.0) if value is None else value
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in (low, high))
        fits = bool((low < high).all() and (high - low).isfinite().all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(f"{name} must be None or (low, high), numbers or one a channel with low < high; got {value!r}")


def mapping(name: str, value: dict | None) -> dict:
    """A copy of the option, {} for None; ValueError for anything but a dictionary."""
    if not (value is None or isinstance(value, dict)):
        raise ValueError(f"{name} must be a dictionary, got {value!r}")
    return dict(value or {})
