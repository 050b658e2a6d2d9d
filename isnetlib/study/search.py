"""What stands before the runs: the search for loss weights, and the configurations that are frozen.

A trial is one value of one option, judged on validation alone: it trains a method with the study's first seed for a
quarter of its epochs (or as many as the study says under `trial_epochs`). No test set is loaded. While it is made it is
the folder results/<study>/search/<experiment>/<method>/<value>; packed, a row of trials.csv.

A study names under `freeze` whose configurations are frozen: before the first of their runs is made, notebooks and
study.yaml must be in a commit, which results/<study>/frozen.csv then names. If another commit changes them later, a
further row names it, and says after how many evaluated runs: no row is ever taken out.
"""

from pathlib import Path
from typing import ClassVar

import pandas as pd

from isnetlib.report import store
from isnetlib.study.config import StudyError, method_parameters, read_studies
from isnetlib.study.runs import Run, checked, finished, git, resolve
from isnetlib.training.files import write_atomically

SHARE = 4  # a trial has a quarter of the epochs of a run, where its study does not say otherwise


class Trial(Run):
    """One value of one method's option. `parameters`: everything that the notebook is given."""

    NOTEBOOKS: ClassVar = ("05_search",)
    KIND: ClassVar = "search"

    @property
    def name(self) -> str:
        return f"{self.experiment}/{self.method}/{self.parameters['value']:g}"

    @staticmethod
    def packed(study: Path) -> dict[str, dict]:
        return {f"{row['experiment']}/{row['method']}/{row['value']:g}": row for row in store.trial_rows(study)}


def trials(study: str, notebooks: Path, results: Path) -> list[Trial]:
    """The trials of a study's `search`, method by method; none where it has no such block.

    A trial's parameters are those of the method's first run, but for the epochs and the option under search. Raises
    StudyError as `resolve` does.
    """
    runs, found, chosen = resolve(study, notebooks, results), [], read_studies(notebooks)["studies"][study]
    for experiment, searched in chosen["search"].items():
        for method, entry in searched.items():
            own = [run for run in runs if (run.experiment, run.method) == (experiment, method)]
            first = min(own, key=lambda run: run.seed)
            usual = max(1, first.parameters.get("epochs", SHARE) // SHARE)
            epochs = {"epochs": chosen["trial_epochs"].get(experiment, usual)}
            for value in entry["values"]:
                options = first.parameters["method_options"] | {entry["option"]: value}
                given = {"option": entry["option"], "value": value, "method_options": options}
                found.append(Trial(study, experiment, method, first.seed, first.parameters | given | epochs))
    return checked(found, notebooks)


def row(log: pd.DataFrame, metric: str, epoch: int) -> dict:
    """What a trial found: metric, swapped and internal (that metric on either validation), swapped_loss, at `epoch`,
    which the rule of selection chose. log: one row an epoch, as `fit` gives it.
    """
    at = log.iloc[epoch]
    scores = {"swapped": at[f"swapped_{metric}"], "internal": at[f"val_{metric}"], "swapped_loss": at["swapped_loss"]}
    return {"metric": metric, "epoch": int(epoch)} | {name: float(score) for name, score in scores.items()}


def not_followed(study: str, notebooks: Path, chosen: pd.DataFrame) -> list[str]:
    """Where study.yaml does not hold what the search chose, for the method itself and those that it serves, in one line
    each. chosen: `store.trials`.
    """
    content, lines = read_studies(notebooks), []
    for found in chosen[chosen["chosen"]].itertuples():
        entry = content["studies"][study]["search"].get(found.experiment, {}).get(found.method)
        for method in [found.method, *entry.get("serves", [])] if entry else []:
            given = method_parameters(method, content, study, found.experiment)["method_options"]
            if given.get(found.option) != found.value:
                told = f"study.yaml: {found.option} of {method} in {found.experiment} is {given.get(found.option)}"
                lines.append(f"{told}, the search chose {found.value:g}")
    return lines


# --- frozen configurations


def freeze(runs: list[Run], notebooks: Path, results: Path) -> None:
    """Before `runs`, all of one study, are made: append a row to results/<study>/frozen.csv for each of their
    experiments that the study freezes, if another commit than its last row names changed notebooks or study.yaml.

    Raises StudyError, and writes nothing, where they lie in a clone and are in no commit.
    """
    asked = {
        run.experiment for run in runs if run.experiment in read_studies(notebooks)["studies"][run.study]["freeze"]
    }
    if not asked:
        return
    home, files = Path(results) / runs[0].study, ["study.yaml", *(f"{name}.ipynb" for name in Run.NOTEBOOKS)]
    if git(notebooks, "status", "--porcelain", *files):
        raise StudyError(
            f"the configuration of {', '.join(sorted(asked))} is in no commit, and its tests must not be looked at "
            f"before it is: commit {Path(notebooks).name} first"
        )
    commit = (git(notebooks, "log", "-1", "--format=%H %cI", "--", *files) or " ").split(" ")
    table = store.frozen(home)
    made = {*Run.packed(home), *("/".join(folder.parts[-3:]) for folder in finished(home / Run.KIND))}
    for experiment in sorted(asked):
        if table.loc[table["experiment"] == experiment, "commit"].tolist()[-1:] != commit[:1]:
            evaluated = sum(name.startswith(f"{experiment}/") for name in made)
            reason = f"after {evaluated} evaluated runs" if evaluated else "before any run was evaluated"
            table.loc[len(table)] = [experiment, *commit, "", reason]
    write_atomically(home / "frozen.csv", table.to_csv(index=False, lineterminator="\n"))
