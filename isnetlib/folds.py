"""Runs by folds: every fold is tested by its own network, and the predictions are joined to one set of all cases.

Scores of several networks then stand side by side. Where one calls everything more likely than another, the joined AUC
is lower than the mean over folds; what it gains is that intervals and tests are over all cases, each counted once.
"""

from collections.abc import Sequence

import numpy as np

from isnetlib.runs import Cases, Run, aligned

Folds = tuple[int, ...]
Joined = dict[tuple[str, None], Cases]  # by method; there is no seed


def are_seeds(found: Sequence[Run]) -> bool:
    """Whether an experiment was run by folds: every run of it was tested on the fold of its seed's number."""
    return all(run.fold == run.seed for run in found)


def check_complete(found: Sequence[Run], cases: dict[tuple[str, int], Cases], where: str) -> None:
    """ValueError where a method was tested here in some folds, and in another one it finished without doing so."""
    methods = {method for method, _ in cases}
    for run in found:
        if run.method in methods and (run.method, run.seed) not in cases:
            raise ValueError(
                f"{where}: {run.method} has no predictions of fold {run.seed}: remove {run.folder} and run it again"
            )


def join(cases: dict[tuple[str, int], Cases], primary: str, where: str) -> tuple[dict[Folds, Joined], dict[str, Folds]]:
    """The joined predictions by the folds that went in, and the folds of each method.

    cases: by method and fold. There is a set for the folds of each method, with every method that has them, and one for
    those that a method shares with the `primary` one, so that any pair can be compared on the same cases.

    Raises
    ------
    ValueError : a case is in two folds; a fold holds other cases for one method than for another
    """
    by_fold = {}
    for fold in sorted({fold for _, fold in cases}):
        by_fold[fold] = aligned({key: one for key, one in cases.items() if key[1] == fold}, where)
    _check_apart(by_fold, where)
    of = {method: tuple(k for k in by_fold if (method, k) in cases) for method, _ in cases}
    shared = {tuple(k for k in own if k in of.get(primary, own)) for own in of.values()} - {()}
    parts = {}
    for folds in sorted({*of.values(), *shared}, key=lambda folds: (-len(folds), folds)):
        able = [method for method, own in of.items() if set(folds) <= set(own)]
        parts[folds] = {(m, None): _concatenated([by_fold[k][m, k] for k in folds]) for m in able}
    return parts, of


def _check_apart(by_fold: dict[int, dict], where: str) -> None:
    seen: dict[str, int] = {}
    for fold, cases in by_fold.items():
        for name in next(iter(cases.values())).ids:
            if name in seen:
                told = f"the case '{name}' is in the folds {seen[name]} and {fold}"
                raise ValueError(f"{where}: {told}; run them again on data cut in one way")
            seen[name] = fold


def _concatenated(parts: list[Cases]) -> Cases:
    """The cases of several folds, one after the other, with the numbers of a case that every fold has."""
    ids, groups, y, p = (np.concatenate(part) for part in zip(*(one[:4] for one in parts), strict=True))
    known = [name for name in parts[0].values if all(name in one.values for one in parts)]
    values = {name: np.concatenate([one.values[name] for one in parts]) for name in known}
    thresholds = None if parts[0].thresholds is None else np.concatenate([one.thresholds for one in parts])
    return Cases(ids, groups, y, p, values, parts[0].classes, thresholds)
