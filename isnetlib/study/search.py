"""What stands before the runs: the search for loss weights, and the configurations that are frozen.

A trial is one value of one option: it trains a method with the study's first seed for a quarter of its epochs, or for
as many as `trial_epochs` says, and is judged on validation alone. No test set is loaded.

Before the first run of an experiment that a study names under `freeze`, notebooks and study.yaml must be in a commit,
which results/<study>/frozen.csv then names. If another commit changes them later, a further row names it, and says
after how many evaluated runs: no row is ever taken out.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from isnetlib.report import store
from isnetlib.study.config import StudyError, method_parameters, read_studies
from isnetlib.study.runs import NOTEBOOKS, Run, git, packed, resolve
from isnetlib.training.files import locked, write_atomically


def trials(study: str, notebooks: Path, results: Path) -> list[Run]:
    """The trials of a study: first runs, but for the epochs and the option under search. StudyError: as `resolve`."""
    runs, found, chosen = resolve(study, notebooks, results), [], read_studies(notebooks)["studies"][study]
    for experiment, searched in chosen["search"].items():
        for method, entry in searched.items():
            first = next(run for run in runs if (run.experiment, run.method) == (experiment, method))
            given = first.parameters | {"option": entry["option"]}
            given["epochs"] = chosen["trial_epochs"].get(experiment, max(1, given.get("epochs", 1) // 4))
            given["data_options"] = {k: v for k, v in given["data_options"].items() if k != "test_seed"}
            for value in entry["values"]:
                own = {"value": value, "method_options": given["method_options"] | {entry["option"]: value}}
                found.append(replace(first, kind="search", parameters=given | own))
    return found


def row(log: pd.DataFrame, metric: str, epoch: int) -> dict:
    """What a trial found at the chosen epoch. log: as `fit` gives it; internal: the metric on validation as it is."""
    columns = {"swapped": f"swapped_{metric}", "internal": f"val_{metric}", "swapped_loss": "swapped_loss"}
    scores = {name: float(log[column].iloc[epoch]) for name, column in columns.items()}
    return {"metric": metric, "epoch": int(epoch)} | scores


def not_followed(trials: list[Run]) -> list[str]:
    """Where study.yaml does not hold what packed trials choose, for a method and those that it serves, a line each."""
    home, content, lines = trials[0].home, read_studies(trials[0].notebooks), []
    for found in store.trials(home, {trial.name for trial in trials}).query("chosen").itertuples():
        entry, value = content["studies"][home.name]["search"][found.experiment][found.method], store.tried(found.value)
        for method in (found.method, *entry.get("serves", [])):
            given = method_parameters(method, content, home.name, found.experiment)["method_options"].get(found.option)
            if given is None or store.tried(given) != value:
                told = f"{found.option} of {method} in {found.experiment} is {given}, the search chose {value}"
                lines.append(f"study.yaml: {told}")
    return lines


def freeze(runs: list[Run]) -> None:
    """Before `runs`, all of one study, are made: append a row to frozen.csv for each experiment that the study freezes,
    if another commit than its last row names changed notebooks or study.yaml. Raises StudyError, and writes nothing,
    where they lie in a clone and are in no commit.
    """
    home, notebooks = runs[0].home, runs[0].notebooks
    named = read_studies(notebooks)["studies"][home.name]["freeze"]
    asked = sorted({run.experiment for run in runs}.intersection(named))
    if not asked:
        return
    files = ["study.yaml", *(f"{name}.ipynb" for name in NOTEBOOKS["runs"])]
    if git(notebooks, "status", "--porcelain", *files):
        told = f"the configuration of {', '.join(asked)} is in no commit, and must be before its tests are looked at"
        raise StudyError(f"{told}: commit {notebooks.name} first")
    commit = (git(notebooks, "log", "-1", "--format=%H %cI", "--", *files) or " ").split(" ")
    made = {*packed(home, "runs"), *("/".join(path.parts[-4:-1]) for path in home.glob("runs/*/*/*/metrics.json"))}
    with locked(home / ".frozen.lock"):
        table = store.frozen(home)
        for experiment in asked:
            if table.loc[table["experiment"] == experiment, "commit"].tolist()[-1:] != commit[:1]:
                evaluated = sum(name.startswith(f"{experiment}/") for name in made)
                reason = f"after {evaluated} evaluated runs" if evaluated else "before any run was evaluated"
                table.loc[len(table)] = [experiment, *commit, "", reason]
        write_atomically(home / "frozen.csv", table.to_csv(index=False, lineterminator="\n"))
