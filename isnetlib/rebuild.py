"""Tables, figures and reports anew from the files of the runs: `isnet report`. Nothing is trained."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from isnetlib import search
from isnetlib.names import LOCAL_STUDIES
from isnetlib.provenance import PACKAGE
from isnetlib.runner import cores, execute_own
from isnetlib.study import Run, StudyError, data_hashes, read_studies, resolve, status

FIRST = ("40_compare", "30_heatmaps", search.TABLE)  # none reads what another writes; the longest first
LAST = "50_report"  # reads what they write


def report(study: str, notebooks: Path, results: Path, package: Path = PACKAGE, hashes: Callable = data_hashes) -> int:
    """Make tables, figures and report anew from the files of the runs; nothing is trained. Returns the failures.

    Says how many runs are not done or stale. Raises StudyError where none is finished.
    """
    runs = resolve(study, notebooks, results)
    if not _finished(runs, results):
        raise StudyError(f"study {study} has no finished run in {results}; first: isnet run --study {study}")
    return _make([study], notebooks, results, lambda: _tell(study, status(study, notebooks, results, package, hashes)))


def report_all(notebooks: Path, results: Path, package: Path = PACKAGE, hashes: Callable = data_hashes) -> int:
    """`report` of every published study that has a finished run, then results/report.html, which joins them. Returns
    the failures; the joint report is made only without any. Raises StudyError where no run is finished.
    """
    studies = [study for study in read_studies(notebooks)["studies"] if study not in LOCAL_STUDIES]
    finished = {study: _finished(resolve(study, notebooks, results), results) for study in studies}
    begun = sorted((study for study in studies if finished[study]), key=lambda study: -finished[study])
    if not begun:
        raise StudyError(f"none of the published studies ({', '.join(studies)}) has a finished run in {results}")
    states = {}

    def look() -> None:
        states.update({study: status(study, notebooks, results, package, hashes) for study in studies})
        for study in begun:
            _tell(study, states[study])

    if failures := _make(begun, notebooks, results, look):
        print(f"{Path(results) / 'report.html'} is not made, because a part of it failed")
        return failures
    from isnetlib import joint  # imports Matplotlib, which nothing else here needs

    print(joint.write(results, pd.concat(states.values(), ignore_index=True)))
    return 0


def _finished(runs: list[Run], results: Path) -> int:
    return sum((run.folder(results) / "metrics.json").exists() for run in runs)


def _tell(study: str, states: pd.DataFrame) -> None:
    """Print how many runs are not done. states: `study.status`."""
    open_ = states.loc[states["state"] != "done", "state"].value_counts().sort_index()
    if len(open_):
        counts = ", ".join(f"{number} {state}" for state, number in open_.items())
        print(f"note: of the {len(states)} runs of study {study} {counts}")


def _make(studies: list[str], notebooks: Path, results: Path, meanwhile: Callable[[], None]) -> int:
    """Execute what makes the tables, figures and reports of the studies, a notebook a core, and call `meanwhile` beside
    them. Prints and counts the failures; a study that has one gets no report.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(cores()) as pool:
        try:
            parts: dict[str, list[Future]] = {study: [] for study in studies}
            given = {study: _wanted(study, notebooks, results) for study in studies}
            for name in FIRST:
                for study in (study for study in studies if name in given[study]):
                    own = given[study][name]
                    parts[study].append(pool.submit(execute_own, name, study, notebooks, results, stop, **own))
            last = [pool.submit(_last, parts[s], s, given[s], notebooks, results, stop) for s in studies]
            meanwhile()
            failures = [failure for one in last for failure in one.result()]
        except BaseException:  # Ctrl-C too: no notebook may outlive us
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


def _wanted(study: str, notebooks: Path, results: Path) -> dict[str, dict]:
    """The notebooks among `FIRST` and `LAST` that the study asks for, with their parameters."""
    searched = any(trial.file(results).exists() for trial in search.trials(study, notebooks, results))
    own = read_studies(notebooks)["studies"][study]["notebooks"]
    return own | ({search.TABLE: {}} if searched else {})


def _last(parts: list[Future], study: str, given: dict, notebooks: Path, results: Path, stop) -> list[str]:
    """Execute the study's report once its `parts` are made, all of which were begun before. Returns the failures."""
    failures = [failure for part in parts for failure in part.result()]
    if failures or LAST not in given:
        return failures
    return execute_own(LAST, study, notebooks, results, stop, **given[LAST])
