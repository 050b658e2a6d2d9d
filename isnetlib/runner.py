"""Running a study: its search and runs, several at a time, then the notebooks for its tables, figures and report."""

import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from isnetlib import search
from isnetlib.frozen import freeze
from isnetlib.needed import require_data
from isnetlib.notebooks import execute, relative
from isnetlib.provenance import PACKAGE, RUN_NOTEBOOKS
from isnetlib.study import Run, StudyError, data_hashes, own_parameters, read_studies, resolve, run_states

REPORT_NOTEBOOKS = ("30_heatmaps", "40_compare", "50_report")  # made from the runs' files alone
# What takes minutes is not repeated while the file it leaves is there.
MEASURED = {
    "60_cost": "tables/cost.csv",
    "70_coverage": "tables/coverage.csv",
    "80_constants": "tables/constants.csv",
}


def run_study(
    study: str,
    notebooks: Path,
    results: Path,
    jobs: int | None = None,
    only: Iterable[str] = (),
    package: Path = PACKAGE,
    hashes: Callable = data_hashes,
    threads: int | None = None,
    runs_only: bool = False,
) -> int:
    """Make every run of a study that is not done, `jobs` at a time, then, if all are done, the study's own notebooks.

    `jobs`: None = two where there are two cores. `threads`: cores of a run; None = the cores are shared out among the
    jobs. `only`: names of experiments, methods or seeds ("seed0"), or several joined by "/"; no other run is made, and
    the search only where "search", or "search/" and a part of it, is among them. `runs_only`: leave out the
    notebooks that follow the runs. Progress is printed.

    Returns how many runs or notebooks failed; each failed notebook is kept with its error. Raises StudyError for a
    mistake in the study or in `only`, for data that are needed and absent, and for a configuration that should be
    frozen and is in no commit (`isnetlib.frozen`), before anything is run.
    """
    runs, only = resolve(study, notebooks, results), list(only)
    searched = [name for name in only if name.split("/")[0] == "search"]
    if not only or searched:
        failures = run_search(study, notebooks, results, jobs, package, searched, threads)
        for failure in failures:
            print(f"FAILED {failure}")
        if failures or (only and only == searched):  # runs with other options than those chosen would be made in vain
            return len(failures)
    only = [name for name in only if name not in searched]
    wanted = [run for run in runs if not only or any(is_called(run, name) for name in only)]
    if not wanted:
        raise StudyError(f"no run of study {study} is called {' or '.join(only)}; one is called {runs[0].name}")
    states = run_states(runs, notebooks, results, package, hashes)
    open_runs = [(run, *state) for run, state in states if state[0] != "done"]
    left = [entry for entry in open_runs if entry[0] in wanted]
    require_data([run for run, *_ in left], notebooks)
    freeze(study, [run.experiment for run, *_ in left], notebooks, results)
    jobs = jobs or min(2, cores())
    durations = _known_durations(runs, results)
    durations.setdefault(None, [_seconds_of_a_run(study, notebooks, results, jobs)])
    print(f"{study}: {len(runs)} runs, {len(runs) - len(open_runs)} done, {len(left)} to make", end="")
    print(f", {jobs} at a time; {time_left([run for run, *_ in left], durations, jobs)}" if left else "", flush=True)
    make = partial(_run_one, notebooks=notebooks, results=results)
    failures = _run_all(left, make, jobs, threads or max(1, cores() // jobs), durations)
    if len(failures) + len(open_runs) - len(left):
        print(f"{study}: not all runs are done, so its tables, figures and report are not made")
    elif not runs_only:
        failures += run_study_notebooks(study, notebooks, results)
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


def run_search(
    study: str,
    notebooks: Path,
    results: Path,
    jobs: int | None = None,
    package: Path = PACKAGE,
    only: Iterable[str] = (),
    threads: int | None = None,
) -> list[str]:
    """Make every trial of the study's search that is not done, `jobs` at a time, then its table. Returns the failures,
    and where study.yaml does not hold what was chosen, in one line each; nothing where the study has no search.
    `only`: parts of it, as "search/tuberculosis" or "search/covid/rrr"; `threads` as
    in `run_study`. Raises StudyError where no trial is so called.
    """
    trials = search.among(search.trials(study, notebooks, results), only)
    if not trials:
        return []
    states = search.states(trials, notebooks, results, package)
    left, jobs = [(trial, *state) for trial, state in states if state[0] != "done"], jobs or min(2, cores())
    require_data([trial for trial, *_ in left], notebooks)
    print(f"{study}: search of {len(trials)} trials, {len(trials) - len(left)} done, {len(left)} to make", flush=True)
    durations = {None: [_seconds_of_a_run(study, notebooks, results, jobs) / search.SHARE]}
    make = partial(_try_one, notebooks=notebooks, results=results)
    failures = _run_all(left, make, jobs, threads or max(1, cores() // jobs), durations)
    if not failures:
        failures = execute_own(search.TABLE, study, notebooks, results)
    if not failures:
        failures = search.not_followed(study, notebooks, search.table(Path(results) / study, trials))
    return failures


def run_study_notebooks(study: str, notebooks: Path, results: Path) -> list[str]:
    """Execute the study's own notebooks one by one, in the order of study.yaml, and stop at the first that fails.

    Returns the failure in one line, or nothing. Copies are kept in results/<study>/notebooks.
    """
    home = Path(results) / study
    for name, parameters in read_studies(notebooks)["studies"][study]["notebooks"].items():
        if name in MEASURED and (home / MEASURED[name]).exists():
            print(f"{study}/{name}  skipped: {home / MEASURED[name]} is there; remove it to measure again")
            continue
        failures = execute_own(name, study, notebooks, results, **parameters)
        if failures:  # the next one may read what this one should have written
            return failures
    return []


def execute_own(
    name: str, study: str, notebooks: Path, results: Path, stop: threading.Event | None = None, **parameters
) -> list[str]:
    """Execute one of the study's own notebooks. Returns the failure in one line, or nothing."""
    start, output = time.monotonic(), Path(results) / study / "notebooks" / f"{name}.ipynb"
    given = {"study": study, "results": relative(results, notebooks), **parameters}
    threads = 1 if name in REPORT_NOTEBOOKS else cores()  # one: sums in one order give the same bytes everywhere
    error = execute(Path(notebooks) / f"{name}.ipynb", output, given, threads, stop)
    if error:
        return [f"{study}/{name}: {error} (see {output})"]
    print(f"{study}/{name}  {in_words(time.monotonic() - start)}", flush=True)
    return []


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_words(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def is_called(run: Run, name: str) -> bool:
    """Whether `name` is the run's experiment, method or seed ("seed0"), or several of them joined by "/"."""
    return set(name.split("/")) <= {run.experiment, run.method, f"seed{run.seed}"}


def time_left(waiting: list[Run], durations: dict, jobs: int) -> str:
    """In words, from the mean duration of runs alike; durations[None] stands in for those that nothing is known of."""
    each = [statistics.mean(durations.get((run.experiment, run.method), durations[None])) for run in waiting]
    return f"about {in_words(sum(each) / max(1, min(jobs, len(each))))} left"


def _seconds_of_a_run(study: str, notebooks: Path, results: Path, jobs: int) -> float:
    """What the study's budget has for a run, where nothing else is known."""
    runs = len(resolve(study, notebooks, results))
    return 60 * read_studies(notebooks)["studies"][study]["budget_minutes"] * min(jobs, runs) / runs


def _known_durations(runs: list[Run], results: Path) -> dict[tuple[str, str] | None, list[float]]:
    """Seconds of the finished runs, by (experiment, method)."""
    durations = {}
    for run in runs:
        path = run.folder(results) / "metrics.json"
        seconds = json.loads(path.read_text(encoding="utf-8")).get("seconds") if path.exists() else None
        if seconds:
            durations.setdefault((run.experiment, run.method), []).append(seconds)
    return durations


def _run_all(left: list, make: Callable, jobs: int, threads: int, durations: dict) -> list[str]:
    """Make the runs, given as (run, state, reason), by make(run, state, threads, stop) -> (seconds, error), `jobs` at a
    time. Returns the failures in one line each.
    """
    stop, failures, waiting = threading.Event(), [], [run for run, *_ in left]
    for run, state, reason in left:
        if state != "missing":
            print(f"{run.name}  " + (f"starts afresh: {reason}" if state == "stale" else "goes on where it stopped"))
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(make, run, state, threads, stop): run for run, state, _ in left}
        try:
            for future in as_completed(futures):
                run, (seconds, error) = futures[future], future.result()
                waiting.remove(run)
                if error:
                    failures.append(f"{run.name}: {error}")
                else:
                    durations.setdefault((run.experiment, run.method), []).append(seconds)
                line = f"[{len(left) - len(waiting)}/{len(left)}] {run.name}  {'FAILED after ' if error else ''}"
                print(f"{line}{in_words(seconds)}; {time_left(waiting, durations, jobs)}", flush=True)
        except BaseException:  # Ctrl-C too: no notebook may outlive us
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return failures


def _run_one(
    run: Run, state: str, threads: int, stop: threading.Event, notebooks: Path, results: Path
) -> tuple[float, str | None]:
    """Train and test one run. Returns (seconds, the error in one line or None)."""
    start, folder = time.monotonic(), run.folder(results)
    if state == "stale":  # its files must not mix with new ones
        shutil.rmtree(folder)
    for name in RUN_NOTEBOOKS:
        notebook, output = Path(notebooks) / f"{name}.ipynb", folder / "notebooks" / f"{name}.ipynb"
        error = execute(notebook, output, own_parameters(notebook, run.parameters), threads, stop)
        if error:
            return time.monotonic() - start, f"{name}: {error} (see {output})"
    if not (folder / "metrics.json").exists():
        return time.monotonic() - start, f"{name} ended without writing metrics.json (see {output})"
    return time.monotonic() - start, None


def _try_one(
    trial: search.Trial, state: str, threads: int, stop: threading.Event, notebooks: Path, results: Path
) -> tuple[float, str | None]:
    """Make one trial of a search. Returns (seconds, the error in one line or None)."""
    start, notebook = time.monotonic(), Path(notebooks) / f"{search.TRIAL}.ipynb"
    file = trial.file(results)
    file.unlink(missing_ok=True)
    output = Path(results) / trial.parameters["study"] / "notebooks" / f"{trial.name}.ipynb"
    error = execute(notebook, output, own_parameters(notebook, trial.parameters), threads, stop)
    if not error and not file.exists():
        error = f"{search.TRIAL} ended without writing {file.name}"
    return time.monotonic() - start, f"{error} (see {output})" if error else None
