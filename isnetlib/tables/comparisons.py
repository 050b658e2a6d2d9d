"""Rows of comparisons.csv and omnibus.csv: the primary method against every other one."""

from collections.abc import Iterator

import numpy as np

from isnetlib import names, stats
from isnetlib.scoring import Tested, TestedSet, cochran, compare, further
from isnetlib.tables.scores import folds_of, key

COMPARED = [*stats.METRICS, "background_share"]


def comparison_rows(study: str, test: TestedSet, drawn: dict) -> Iterator[dict]:
    """The primary method against every other one but upper bounds, on the cases that both were tested on; Holm within
    the rivals, one family a metric. drawn: `scoring.posteriors` of each part.
    """
    a = names.PRIMARY_METHOD
    others = [b for b in test.methods() if b not in (a, *names.UPPER_BOUNDS)] if a in test.folds else []
    part = {b: test.of(a, b) for b in others}
    for metric in COMPARED:
        able = [b for b in others if part[b].seeds(a, metric) and part[b].seeds(b, metric)]
        found = {b: compare(part[b], metric, a, b) for b in able}
        family = [b for b in able if b in names.RIVALS]
        holm = dict(zip(family, stats.holm([found[b].p for b in family]), strict=True))
        for b in able:
            label = "/".join((test.experiment, test.name, metric)) if b in family else ""
            row = _comparison(study, part[b], metric, b, found[b]) | {"p_holm": holm.get(b, np.nan), "family": label}
            if metric == "macro_f1":
                of = drawn[part[b].folds]
                row["probability"] = stats.probability_better(*(of[method][metric] for method in (a, b)))
            yield row
        for b in able:
            for look in further(part[b], metric, a, b):
                yield _comparison(study, part[b], metric, b, look) | {"p_holm": np.nan, "family": ""}


def _comparison(study: str, test: Tested, metric: str, b: str, found: stats.Difference) -> dict:
    a, unit = names.PRIMARY_METHOD, found.unit.replace("cases", test.unit)
    row = {"a": a, "b": b, "n": test.seeds(b, metric)[0].n} | found._asdict() | {"unit": unit}
    row |= {"seeds_a": test.networks(a), "seeds_b": test.networks(b)} | folds_of(test)
    se, margin = np.nansum([found.se_cases**2, found.se_seeds**2]) ** 0.5, names.margin(test.experiment, metric)
    row |= {"margin": margin, "p_equivalent": stats.equivalence(found.difference, se, found.df, margin)}
    return key(study, test, metric) | row | {"detectable": stats.detectable(se, found.df)}


def omnibus_rows(study: str, test: TestedSet) -> Iterator[dict]:
    """Cochran's Q of all methods together, where cases are independent and have one label."""
    part = test.whole
    methods = [m for m in part.methods() if m not in names.UPPER_BOUNDS]
    if part.plain and len(methods) > 1:
        statistic, df, p = cochran(part, methods)
        row = {"test": "Cochran's Q, on seed-averaged scores", "statistic": statistic, "df": df, "p": p}
        yield key(study, part, "accuracy") | row | {"n": len(part.any.ids), "methods": " ".join(methods)}
