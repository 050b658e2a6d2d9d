"""The tables of a study, from the predictions of its finished runs: results/<study>/tables/*.csv.

results/README.md explains every column. Rebuilt from the same predictions the tables are the same to the byte: random
draws are seeded by what they are for, rows have one order, numbers one format.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from isnetlib import runs
from isnetlib.files import write_atomically
from isnetlib.names import BACKBONES
from isnetlib.scoring import TestedSet, posteriors, tested
from isnetlib.tables.comparisons import comparison_rows, omnibus_rows
from isnetlib.tables.labels import label_rows
from isnetlib.tables.measures import calibration_rows, interval_rows, roc_rows
from isnetlib.tables.scores import gap_rows, key, metric_rows, seed_rows

KEY = "study experiment test_set".split()
COLUMNS = {
    "metrics": [*KEY, *"method seed metric value low high n selection interval unit primary".split()],
    "seeds": [*KEY, *"method metric mean sd low high n selection interval unit primary".split()]
    + "cases_low cases_high cases cases_interval cases_unit both_low both_high both_interval".split()
    + "se_cases se_seeds se_both".split(),
    "comparisons": [*KEY, *"metric a b difference low high test p p_holm family n unit primary".split()]
    + "seeds_a seeds_b se_cases se_seeds df margin p_equivalent detectable probability".split(),
    "intervals": [*KEY, *"method measure class value low high n seeds interval unit".split()],
    "labels": [*KEY, *"method label metric value low high n positives seeds folds interval unit".split()],
    "omnibus": [*KEY, *"metric test statistic df p n methods".split()],
    "calibration": [*KEY, *"method bin confidence accuracy low high n seeds unit".split()],
    "roc": [*KEY, *"method false_positive_rate sensitivity low high seeds unit".split()],
    "tests": [*KEY, *"cases patients classes".split()],
    "runs": "study experiment method seed folder epoch_swapped epoch_internal epoch_first".split()
    + "seconds peak_mib parameters backbone epochs batch_size learning_rate".split(),
}
COLUMNS["selection"] = COLUMNS["metrics"]
OF_FOLDS = {
    "metrics": "fold",
    "selection": "fold",
    "seeds": "folds",
    "comparisons": "folds",
}  # only where there are any
UNROUNDED = {"p", "p_holm", "p_equivalent"}
# Whole numbers that may be missing.
COUNTS = {"patients", "epoch_swapped", "epoch_internal", "epoch_first", "parameters", "epochs", "batch_size", "fold"}
TEXT = "option method metric a b test family unit selection interval folder classes variant network reason".split()
TEXT += "methods measure class label folds backbone".split()


def tested_row(study: str, test: TestedSet) -> dict:
    """What a test set holds: cases, patients (where they repeat) and how many cases each class has."""
    cases = test.whole.any
    y, classes = cases.y, cases.classes
    count = np.bincount(y, minlength=len(classes)) if y.ndim == 1 else y.sum(0)
    counts = json.dumps({name: int(k) for name, k in zip(classes, count, strict=True)}, ensure_ascii=False)
    patients = float(len(np.unique(cases.groups))) if cases.clustered else np.nan
    return key(study, test, "") | {"cases": len(cases.ids), "patients": patients, "classes": counts}


def run_row(study: Path, run: runs.Run) -> dict:
    """Where a run lies, which epochs were chosen, which is the first that may be, what it cost, and its recipe."""
    row = {"study": study.name, "experiment": run.experiment, "method": run.method, "seed": run.seed}
    row |= {"folder": run.folder.relative_to(study).as_posix()}
    row |= {f"epoch_{rule}": run.facts.get("epoch", {}).get(rule, np.nan) for rule in runs.PREDICTIONS}
    row |= {fact: run.facts.get(fact, np.nan) for fact in ("seconds", "peak_mib", "parameters")}
    given, own = run.parameters, BACKBONES.get(run.parameters.get("base") or run.method)
    if "epochs" in given and "warm_up" in given:
        row["epoch_first"] = float(given["warm_up"] * given["epochs"] // 1)  # epochs before it are the warm-up's
    recipe = {name: float(given.get(name, np.nan)) for name in ("epochs", "batch_size", "learning_rate")}
    return row | recipe | {"backbone": own or given.get("backbone", np.nan)}


def build(study: Path) -> dict[str, pd.DataFrame]:
    """All tables of results/<study> by name: those of `COLUMNS`.

    FileNotFoundError where no run is finished; ValueError, naming the file, where predictions are not as they must be.
    """
    study, _ = Path(study), runs.experiments(study)
    found = runs.find_runs(study)
    rows: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    rows["runs"] = [run_row(study, run) for run in found]
    biased: dict[str, TestedSet] = {}
    for test in tested(found, "swapped"):
        for name, own in _rows(study.name, test).items():
            rows[name] += own
        if test.name == "biased":
            biased[test.experiment] = test
        if test.name == "deceiving" and test.experiment in biased:
            rows["seeds"] += gap_rows(study.name, biased[test.experiment], test)
    for test in tested(found, "internal"):
        rows["selection"] += metric_rows(study.name, test, "internal")
    by_folds = any(row["folds"] for row in rows["seeds"])
    columns = {name: own + ([OF_FOLDS[name]] if by_folds and name in OF_FOLDS else []) for name, own in COLUMNS.items()}
    return {name: pd.DataFrame(rows[name], columns=columns[name]) for name in COLUMNS}


def _rows(study: str, test: TestedSet) -> dict[str, list[dict]]:
    """The rows of one test set, by table."""
    drawn = {folds: posteriors(part) for folds, part in test.parts.items()}
    return {
        "metrics": [*metric_rows(study, test, "swapped")],
        "seeds": [*seed_rows(study, test)],
        "comparisons": [*comparison_rows(study, test, drawn)],
        "intervals": [*interval_rows(study, test, drawn)],
        "labels": [*label_rows(study, test)],
        "omnibus": [*omnibus_rows(study, test)],
        "calibration": [*calibration_rows(study, test)],
        "roc": [*roc_rows(study, test)],
        "tests": [tested_row(study, test)],
    }


def write(study: Path) -> dict[str, pd.DataFrame]:
    """Write `build` to results/<study>/tables/*.csv and return the tables as `read` gives them."""
    for name, frame in build(study).items():
        text = pd.DataFrame({column: [_text(column, value) for value in frame[column]] for column in frame})
        write_atomically(Path(study) / "tables" / f"{name}.csv", text.to_csv(index=False, lineterminator="\n"))
    return read(study)


def _text(column: str, value) -> str:
    """One format a column: p unrounded, counts whole, other numbers with six decimals; missing is empty."""
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column in UNROUNDED:
        return repr(float(value))
    return f"{value:.0f}" if column in COUNTS else f"{round(value, 6) + 0.0:.6f}"  # + 0.0: no negative zero


def read(study: Path) -> dict[str, pd.DataFrame]:
    """The tables in results/<study>/tables by file name, those of cost too; names are text. FileNotFoundError: none."""
    folder, frames = Path(study) / "tables", {}
    for path in sorted(folder.glob("*.csv")):
        frames[path.stem] = pd.read_csv(
            path, dtype=dict.fromkeys([*KEY, *TEXT], str), keep_default_na=False, na_values=[""]
        )
    if not frames:
        raise FileNotFoundError(f"{folder}: no tables; make them by: isnet report --study {Path(study).name}")
    return frames
