"""Tables, figures and reports anew from the files of the runs: `isnet report`. Nothing is trained."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from isnetlib import search
from isnetlib.names import LOCAL_STUDIES
from isnetlib.provenance import PACKAGE
from isnetlib.runner import REPORT_NOTEBOOKS, cores, execute_own, run_study_notebooks
from isnetlib.study import Run, StudyError, data_hashes, read_studies, resolve, status

LATER = 10  # how much nicer are the studies that need not be done first


def report(study: str, notebooks: Path, results: Path, package: Path = PACKAGE, hashes: Callable = data_hashes) -> int:
    """Make tables, figures and report anew from the files of the runs; nothing is trained. Returns the failures.

    Says how many runs are not done or stale. Raises StudyError where none is finished.
    """
    runs = resolve(study, notebooks, results)
    if not _finished(runs, results):
        raise StudyError(f"study {study} has no finished run in {results}; first: isnet run --study {study}")
    _tell(study, status(study, notebooks, results, package, hashes))
    return _report(study, notebooks, results)


def report_all(notebooks: Path, results: Path, package: Path = PACKAGE, hashes: Callable = data_hashes) -> int:
    """`report` of every published study that has a finished run, then results/report.html, which joins them. Returns
    the failures; the joint report is made only without any. Raises StudyError where no run is finished.
    """
    studies = [study for study in read_studies(notebooks)["studies"] if study not in LOCAL_STUDIES]
    finished = {study: _finished(resolve(study, notebooks, results), results) for study in studies}
    begun = sorted((study for study in studies if finished[study]), key=lambda study: -finished[study])
    if not begun:
        raise StudyError(f"none of the published studies ({', '.join(studies)}) has a finished run in {results}")
    stop = threading.Event()
    with ThreadPoolExecutor(cores() + 1) as pool:  # one more, for kernels take time to start; longest first
        try:
            makers = [_report] * cores() + [_report_behind] * len(begun)
            made = [
                pool.submit(make, study, notebooks, results, stop) for make, study in zip(makers, begun, strict=False)
            ]
            states = {study: status(study, notebooks, results, package, hashes) for study in studies}  # meanwhile
            for study in begun:
                _tell(study, states[study])
            failures = sum(one.result() for one in made)
        except BaseException:  # Ctrl-C too: no notebook may outlive us
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
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


def _report_behind(*args) -> int:
    """`_report` at a lower priority, where the system has one a thread: for all others wait for the longest."""
    if sys.platform == "linux":  # what the thread starts inherits it
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + LATER, 19))
    return _report(*args)


def _report(study: str, notebooks: Path, results: Path, stop: threading.Event | None = None) -> int:
    """Execute what makes a study's tables, figures and report. Returns the failures."""
    searched = [trial for trial in search.trials(study, notebooks, results) if trial.file(results).exists()]
    failures = execute_own(search.TABLE, study, notebooks, results, stop) if searched else []
    failures += run_study_notebooks(study, notebooks, results, REPORT_NOTEBOOKS, stop)
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)
