"""Frozen configurations: how an experiment is configured stands in a commit before its tests are first evaluated.

A study names under `freeze` whose configurations are frozen. Before the first of their runs is made, the experiment's
parameters must be those of the last commit; results/<study>/frozen.csv then names that commit. If they are others
later, a further row is appended and says what changed after how many evaluated runs: no row is ever taken out.
"""

import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from isnetlib.files import write_atomically
from isnetlib.notebooks import declared
from isnetlib.provenance import RUN_NOTEBOOKS, portable
from isnetlib.study import StudyError, read_studies, resolve

COLUMNS = ["experiment", "commit", "date", "sha256", "reason"]
TOLD = 6  # changed parameters that a reason names


def rows(study: Path) -> pd.DataFrame:
    """What results/<study>/frozen.csv holds, in the order in which it was written; no rows where nothing was frozen.

    Columns: experiment; commit and its date, empty outside a clone; sha256 of the configuration; reason of the row.
    """
    path = Path(study) / "frozen.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else pd.DataFrame(columns=COLUMNS)


def changed(study: Path, method: str = "") -> list[str]:
    """The experiments whose configuration was changed after runs had been evaluated; of `method` alone, if given."""
    found = rows(study)
    told = found["reason"].str.startswith("changed after") & found["reason"].str.contains(rf"\b{re.escape(method)}\b")
    return list(dict.fromkeys(found.loc[told, "experiment"]))


def untouched(study: Path, methods: Iterable[str]) -> list[str]:
    """Those of the methods that no later change named: the reasons of all rows "changed after ..." are searched."""
    found = rows(study)
    told = " ".join(found.loc[found["reason"].str.startswith("changed after"), "reason"])
    return [method for method in methods if not re.search(rf"\b{re.escape(method)}\b", told)]


def configuration(study: str, experiment: str, notebooks: Path, results: Path) -> dict[str, dict]:
    """Method -> parameters of its runs on the experiment, defaults of the notebook included; seeds and folds, of which
    more may be added, are no part of it. StudyError as `study.resolve`.
    """
    usual, found = declared(Path(notebooks) / f"{RUN_NOTEBOOKS[0]}.ipynb"), {}
    for run in resolve(study, Path(notebooks), results):
        if run.experiment == experiment:
            options = {name: value for name, value in run.parameters["data_options"].items() if name != "fold"}
            given = portable(usual | run.parameters | {"data_options": options})
            found.setdefault(run.method, {name: value for name, value in given.items() if name != "seed"})
    return json.loads(json.dumps(found))


def digest(found: dict) -> str:
    """sha256 of a configuration."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def freeze(study: str, experiments: Iterable[str], notebooks: Path, results: Path) -> None:
    """Append a row to results/<study>/frozen.csv for each of the experiments that the study freezes and whose
    configuration is not the one that was frozen last.

    Raises StudyError, and writes nothing, where notebooks lie in a clone and the configuration is in no commit.
    """
    named = read_studies(notebooks)["studies"][study]["freeze"]
    table = rows(Path(results) / study)
    new = [_row(study, name, table, notebooks, results) for name in dict.fromkeys(experiments) if name in named]
    if any(new):
        table = pd.concat([table, pd.DataFrame([row for row in new if row], columns=COLUMNS)])
        write_atomically(Path(results) / study / "frozen.csv", table.to_csv(index=False, lineterminator="\n"))


def _row(study, experiment, table, notebooks, results) -> dict | None:
    now = configuration(study, experiment, notebooks, results)
    before = table[table["experiment"] == experiment].tail(1).to_dict("records")
    if before and before[0]["sha256"] == digest(now):
        return None
    commit, date = _last_commit(notebooks)
    if commit and at_commit(commit, study, experiment, notebooks, results) != now:
        raise StudyError(
            f"the configuration of {experiment} is in no commit, and its tests must not be looked at before it is: "
            f"commit {Path(notebooks).name} first"
        )
    evaluated = len(list((Path(results) / study / "runs" / experiment).glob("*/seed*/metrics.json")))
    reason = f"after {evaluated} evaluated runs" if evaluated else "before any run was evaluated"
    if before:
        then = at_commit(before[0]["commit"], study, experiment, notebooks, results)
        reason = f"changed {reason}{': ' + changes(then, now) if then else ''}"
    return dict(zip(COLUMNS, (experiment, commit, date, digest(now), reason), strict=True))


def changes(then: dict, now: dict) -> str:
    """What differs between two configurations, in words: methods that came or went, then parameters."""
    told = [f"{name} added" for name in now if name not in then] + [
        f"{name} left out" for name in then if name not in now
    ]
    flat = {}
    for name in (name for name in now if name in then):
        old, new = (_flat(one[name]) for one in (then, now))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                flat.setdefault(f"{key} {old.get(key)} -> {new.get(key)}", []).append(name)
    common = [name for name in now if name in then]
    told += [change if names == common else f"{', '.join(names)}: {change}" for change, names in flat.items()]
    return "; ".join(told[:TOLD] + [f"and {len(told) - TOLD} more"] * (len(told) > TOLD))


def _flat(parameters: dict) -> dict:
    """Parameters with the options of data and method beside them."""
    options = {key: value for part in ("data_options", "method_options") for key, value in parameters[part].items()}
    return {key: value for key, value in parameters.items() if not key.endswith("_options")} | options


# --- commits


def at_commit(commit: str, study: str, experiment: str, notebooks: Path, results: Path) -> dict | None:
    """The configuration as the notebooks and study.yaml of a commit had it; None where it cannot be had any more."""
    archive = _git(notebooks, "archive", "--format=tar", commit, ".") if commit else None
    if archive is None:
        return None
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile() and "/" not in member.name:
                (Path(folder) / member.name).write_bytes(tar.extractfile(member).read())
        try:
            return configuration(study, experiment, Path(folder), results)
        except StudyError:
            return None


def _last_commit(notebooks: Path) -> tuple[str, str]:
    """Hash and date of the last commit, "" and "" where study.yaml is not in a clone."""
    if _git(notebooks, "ls-files", "--error-unmatch", "study.yaml") is None:
        return "", ""
    found = _git(notebooks, "show", "--no-patch", "--format=%H %cI", "HEAD")
    return tuple(found.decode().split()) if found else ("", "")


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git says inside `folder`; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
