"""Options of the methods, refused by name and value where they cannot be: before a training costs anything."""

import math
from numbers import Integral, Real

import torch


def number(name: str, value: float, low: float = 0.0, high: float = math.inf, kind: type = Real) -> float:
    """The option; ValueError where it is no finite number (kind Integral: whole number) from low to high."""
    if isinstance(value, bool) or not isinstance(value, kind) or not (low <= value <= high and math.isfinite(value)):
        whole, limit = "whole " * (kind is Integral), "on" if high == math.inf else f"to {high:g}"
        raise ValueError(f"{name} must be a {whole}number from {low:g} {limit}, got {value!r}")
    return value


def pair(name: str, values: tuple[float, float], high: float = math.inf, rising: bool = False) -> tuple[float, float]:
    """The option's two numbers from 0 to high, or ValueError. rising: 0 < first < second; of shares (high 1) from 0."""
    try:
        first, second = (number(name, value, high=high) for value in values)
        if rising and not (first < second and (first > 0 or high == 1)):
            raise ValueError
    except (TypeError, ValueError):
        limit, order = "on" if high == math.inf else f"to {high:g}", ", the second larger" * rising
        raise ValueError(f"{name} must be two numbers from 0 {limit}{order}; got {values!r}") from None
    return first, second


def flag(name: str, value: bool) -> bool:
    """The option's truth; ValueError for what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def bounds(name: str, value: tuple | None) -> tuple | None:
    """The option: None or (low, high), numbers or one a channel, low < high; ValueError for anything else."""
    try:
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in ((0, 1) if value is None else value))
        fits = bool((low < high).all() and (high - low).isfinite().all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        raise ValueError(f"{name} must be None or (low, high), numbers or one a channel with low < high; got {value!r}")
    return value
