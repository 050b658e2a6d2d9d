"""The search for loss weights: study.yaml -> trials; a trial is one value of one option, judged on validation alone.

A trial trains a method with the study's first seed for a quarter of its epochs (or as many as the study says under
`trial_epochs`) and keeps the epoch, and its score, that the named selection rule chooses: validation with swapped
backgrounds. No test set is loaded. A finished trial is one file,
results/<study>/search/<experiment>/<method>/<value>.json; all of them together are tables/search.csv.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isnetlib.files import write_atomically
from isnetlib.notebooks import check_parameters, declared
from isnetlib.provenance import PACKAGE, built, difference, made_by, portable
from isnetlib.study import StudyError, method_parameters, methods_here, read_studies, resolve

TRIAL, TABLE = "05_search", "06_search_table"  # notebooks: of one trial, and of the table of all
SHARE = 4  # a trial has a quarter of the epochs of a run, where its study does not say otherwise
COLUMNS = "experiment method option value epochs metric swapped internal epoch swapped_loss chosen note".split()


class Trial(NamedTuple):
    """One value of one method's option. `parameters`: everything that the notebook is given."""

    experiment: str
    method: str
    parameters: dict

    @property
    def name(self) -> str:
        return f"search/{self.experiment}/{self.method}/{self.parameters['value']:g}"

    def file(self, results: Path) -> Path:
        return Path(results) / self.parameters["study"] / f"{self.name}.json"


def trials(study: str, notebooks: Path, results: Path) -> list[Trial]:
    """The trials of a study's `search`, method by method; none where it has no such block.

    A trial's parameters are those of the method's first run, but for the epochs and the option under search. Raises
    StudyError as `study.resolve` does.
    """
    runs, found, content = resolve(study, notebooks, results), [], read_studies(notebooks)["studies"][study]
    for experiment, searched in content["search"].items():
        for method, entry in searched.items():
            own = [run for run in runs if (run.experiment, run.method) == (experiment, method)]
            if not own:
                raise StudyError(f"studies.{study}.search.{experiment}: the study has no runs of {method}")
            first = min(own, key=lambda run: run.seed).parameters
            for value in entry["values"]:
                options = first["method_options"] | {entry["option"]: value}
                given = {"option": entry["option"], "value": value, "method_options": options}
                usual = max(1, first.get("epochs", SHARE) // SHARE)
                epochs = content["trial_epochs"].get(experiment, usual)
                found.append(Trial(experiment, method, first | given | {"epochs": epochs}))
    for trial in found:
        try:
            check_parameters(Path(notebooks) / f"{TRIAL}.ipynb", trial.parameters)
        except (FileNotFoundError, ValueError) as error:
            raise StudyError(str(error)) from None
    return found


def among(found: list[Trial], names: Iterable[str]) -> list[Trial]:
    """The trials that one of the names calls: "search", or "search/" and an experiment, a method or both; without
    names all. StudyError where there are names and they call none.
    """
    names = list(names)
    called = [t for t in found if any(set(name.split("/")) <= {"search", t.experiment, t.method} for name in names)]
    if names and not called and any(name != "search" for name in names):
        there = f"; one is called {found[0].name.rpartition('/')[0]}" if found else ""
        raise StudyError(f"no part of the search is called {' or '.join(names)}{there}")
    return called if names else found


def states(
    found: list[Trial], notebooks: Path, results: Path, package: Path = PACKAGE
) -> list[tuple[Trial, tuple[str, str]]]:
    """Each trial with (missing, done or stale; why it is stale). A trial that was cut short has left no file; changed
    data are told by the runs, which share them.
    """
    return [(trial, _state(trial, trial.file(results), Path(notebooks), package)) for trial in found]


def _state(trial: Trial, file: Path, notebooks: Path, package: Path) -> tuple[str, str]:
    if not file.exists():
        return "missing", ""
    then = json.loads(file.read_text(encoding="utf-8"))["manifest"]
    resolved = declared(notebooks / f"{TRIAL}.ipynb") | trial.parameters
    now = {"parameters": json.loads(json.dumps(portable(resolved)))}
    now["made_by"] = made_by(trial.experiment, built(trial.parameters), notebooks, package)
    reason = difference(then, now)
    return ("stale", reason) if reason else ("done", "")


def status(study: str, notebooks: Path, results: Path, package: Path = PACKAGE) -> pd.DataFrame:
    """State of every trial, in the columns of `study.status`; the method is called "<method> (search)"."""
    found = states(trials(study, notebooks, results), notebooks, results, package)
    rows = [
        (study, trial.experiment, f"{trial.method} (search)", trial.parameters["seed"], *state)
        for trial, state in found
    ]
    return pd.DataFrame(rows, columns=["study", "experiment", "method", "seed", "state", "reason"])


# --- rows and table


def row(log: pd.DataFrame, metric: str, epoch: int) -> dict:
    """What a trial found: metric, swapped and internal (that metric on either validation), swapped_loss, at `epoch`,
    which the rule "swapped" chose. log: one row an epoch, as `train.fit` gives it.
    """
    at = log.iloc[epoch]
    scores = {"swapped": at[f"swapped_{metric}"], "internal": at[f"val_{metric}"], "swapped_loss": at["swapped_loss"]}
    return {"metric": metric, "epoch": int(epoch)} | {name: float(score) for name, score in scores.items()}


def write_row(file: str | Path, found: dict, manifest: dict) -> None:
    """Keep what a trial found, with all of its parameters, in one file; the last thing that a trial does."""
    write_atomically(file, json.dumps(found | {"manifest": manifest}, indent=1) + "\n")


def table(study: Path, trials: Iterable[Trial] | None = None) -> pd.DataFrame:
    """The finished trials of results/<study> as a table, best value of each method `chosen`: the highest of what the
    rule of selection ranks by, the lower of `swapped` and `internal`; of equals the lowest swapped_loss, then the lower
    value. A trial whose loss exploded has no scores and a note. trials: their experiments and methods alone.

    FileNotFoundError where there is none.
    """
    rows, wanted = [], None if trials is None else {(trial.experiment, trial.method) for trial in trials}
    for file in sorted(Path(study).glob("search/*/*/*.json")):
        if wanted is not None and file.parts[-3:-1] not in wanted:
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        given = found.pop("manifest")["parameters"]
        rows.append({name: given[name] for name in ("experiment", "method", "option", "value", "epochs")} | found)
    if not rows:
        raise FileNotFoundError(f"{Path(study) / 'search'}: no finished trial; a study with a `search` makes them")
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS).sort_values(COLUMNS[:4], ignore_index=True)
    frame["chosen"] = False
    frame["score"] = frame[["swapped", "internal"]].min(axis=1)
    ranked = frame.dropna(subset="swapped").sort_values(
        ["score", "swapped_loss", "value"], ascending=[False, True, True]
    )
    frame.loc[ranked.groupby(["experiment", "method"]).head(1).index, "chosen"] = True
    return frame[COLUMNS]


def not_followed(study: str, notebooks: Path, chosen: pd.DataFrame) -> list[str]:
    """Where study.yaml does not hold what the search chose, for the method itself and those that it serves, in one line
    each. chosen: the table.
    """
    content, lines = read_studies(notebooks), []
    for found in chosen[chosen["chosen"]].itertuples():
        entry = content["studies"][study]["search"].get(found.experiment, {}).get(found.method)
        here = methods_here(content, study, found.experiment)
        for method in [found.method, *entry.get("serves", [])] if entry else []:
            now = method_parameters(method, content["methods"], here)["method_options"].get(found.option)
            if now != found.value:
                place = f"experiments.{found.experiment}.methods" if method in here else "methods"
                told = f"study.yaml: {place}.{method}.{found.option} is {now}, the search chose {found.value:g}"
                lines.append(told)
    return lines
