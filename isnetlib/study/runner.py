"""Making a study: its search and runs, several at a time, then its packed results and its report."""

import contextlib
import inspect
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isnetlib.report import names, store
from isnetlib.study import runs, search
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.notebooks import execute, relative
from isnetlib.study.pack import pack, pack_trials
from isnetlib.study.runs import Run


class How(NamedTuple):
    """Where a study lies and how its runs are made: `jobs` at a time, each on so many `threads`."""

    notebooks: Path
    results: Path
    jobs: int
    threads: int
    hashes: Callable | None  # as `runs.states`


def run_study(
    study: str,
    notebooks: Path,
    results: Path,
    jobs: int | None = None,
    only: Iterable[str] = (),
    threads: int | None = None,
    runs_only: bool = False,
    hashes: Callable | None = None,
) -> int:
    """Make every run of a study that is not done, `jobs` at a time, then, if all are done, pack them and report.

    `jobs`: None = two where there are two cores. `threads`: cores of a run; None = the cores are shared out among the
    jobs. `only`: names of experiments, methods, seeds ("seed0") or "search", or several joined by "/": nothing else is
    made. `runs_only`: pack and report nothing. hashes: as `runs.states`. Progress is printed.

    Returns how many runs or notebooks failed; each failed notebook is kept with its error. Raises StudyError for a
    mistake in the study or in `only`, for data that are needed and absent, and for a configuration that should be
    frozen and is in no commit, before anything is run.
    """
    home, failures, only = Path(results) / study, [], list(only)
    trials, grid = search.trials(study, notebooks, results), runs.resolve(study, notebooks, results)
    for name in only:
        if not any(is_called(run, name) for run in [*trials, *grid]):
            raise StudyError(f"no run of study {study} is called {name}; one is called {grid[0].name}")
    jobs = jobs or min(2, cores())
    how = How(Path(notebooks), Path(results), jobs, threads or max(1, cores() // jobs), hashes)
    minutes = read_studies(notebooks)["studies"][study]["budget_minutes"]
    if wanted := _called(trials, only):
        failures = _make(f"{study}: search", wanted, how, minutes) + pack_trials(home)
        failures = failures or search.not_followed(study, notebooks, store.trials(home))
    if (wanted := _called(grid, only)) and not failures:  # runs with other options than chosen would be made in vain
        failures = _make(study, wanted, how, minutes)
        if any(state != "done" for _, state, _ in runs.states(grid, notebooks, results, hashes)):
            print(f"{study}: not all runs are done, so there is no report")
        elif not runs_only:
            failures = pack(home) + _reports([study], how.notebooks, how.results)
    return _told(failures)


def status(study: str, notebooks: Path, results: Path, hashes: Callable | None = None) -> pd.DataFrame:
    """State of every trial and run of a study: columns study, experiment, method, seed, state, reason (of being stale).
    hashes: as `runs.states`.
    """
    rows = [
        (study, run.experiment, run.method + " (search)" * (run.KIND == "search"), run.seed, state, reason)
        for part in (search.trials(study, notebooks, results), runs.resolve(study, notebooks, results))
        for run, state, reason in runs.states(part, notebooks, results, hashes)
    ]
    return pd.DataFrame(rows, columns=["study", "experiment", "method", "seed", "state", "reason"])


def report(notebooks: Path, results: Path, study: str | None = None) -> int:
    """Make tables, figures and report anew from the results of the runs; nothing is trained. Without `study` of all
    that are published, then results/report.html, which joins them. Returns the failures. Raises StudyError where no run
    is finished.
    """
    if study:
        runs.resolve(study, notebooks, results)  # refuses one that is unknown
    published = [name for name in read_studies(notebooks)["studies"] if name not in names.LOCAL_STUDIES]
    asked = [study] if study else published
    failures = [failure for name in asked for failure in pack(Path(results) / name)]
    size = {name: len(store.find_runs(Path(results) / name)) for name in asked}
    begun = sorted(filter(size.get, asked), key=size.get, reverse=True)  # the longest first
    if not begun:
        raise StudyError(f"{', '.join(asked)}: no finished run in {results}; first: isnet run --study {asked[0]}")
    failures += _reports(begun, notebooks, results)
    if not study and not failures:
        failures = _reports([None], notebooks, results)
    return _told(failures)


def _told(failures: list[str]) -> int:
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


# --- runs and trials


def is_called(run: Run, name: str) -> bool:
    """Whether `name` is the run's experiment, method, seed ("seed0") or kind ("search"), or several joined by "/"."""
    return set(name.split("/")) <= {run.KIND, *run.name.split("/")}


def _called(given: list[Run], only: list[str]) -> list[Run]:
    return [run for run in given if not only or any(is_called(run, name) for name in only)]


def _make(title: str, wanted: list[Run], how: How, minutes: float) -> list[str]:
    """Make the runs that are not done. Returns the failures in one line each. minutes: what the whole study takes."""
    asked, states = time.time(), runs.states(wanted, how.notebooks, how.results, how.hashes)
    left, failures = [entry for entry in states if entry[1] != "done"], []
    waiting = [run for run, *_ in left]
    require_data(waiting, how.notebooks)
    if wanted[0].KIND == Run.KIND:
        search.freeze(waiting, how.notebooks, how.results)
    print(f"{title}: {len(wanted)} runs, {len(wanted) - len(left)} done, {len(left)} to make", end="")
    print(f", {how.jobs} at a time; the whole study takes about {minutes} min" if left else "", flush=True)
    for run, state, reason in left:
        if state != "missing":
            print(f"{run.name}  " + (f"starts afresh: {reason}" if state == "stale" else "goes on where it stopped"))
    known = runs.own_parameters(type(wanted[0]), how.notebooks)
    with _pool(how.jobs) as (pool, stop):
        futures = {pool.submit(_make_one, run, state, asked, known, how, stop): run for run, state, _ in left}
        for made, future in enumerate(as_completed(futures), 1):
            run, error = futures[future], future.result()
            failures += [f"{run.name}: {error}"] if error else []
            spent = (time.time() - asked) / 60
            told = (
                f"{'FAILED ' if error else ''}after {spent:.1f} min; about {spent / made * (len(left) - made):.1f} left"
            )
            print(f"[{made}/{len(left)}] {run.name}  {told}", flush=True)
    return failures


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads, and an event that is set when we are interrupted: then no notebook may outlive us."""
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool, stop
        except BaseException:  # Ctrl-C too
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _make_one(run: Run, state: str, asked: float, known: dict, how: How, stop: threading.Event) -> str | None:
    """Execute the notebooks of a run that was in a state when the clock `asked`, unless another process has made it
    since. known: the notebooks' parameters. Returns the error in one line or None.
    """
    folder = run.folder(how.results)
    made = folder / "metrics.json"
    try:
        with runs.alone(run, how.results, stop) as lock:
            if made.exists() and made.stat().st_mtime > asked:
                return None
            if state == "stale":  # its files must not mix with new ones
                shutil.rmtree(folder, ignore_errors=True)
            for left in folder.rglob(".*"):  # by a write that was cut short
                if left.is_file():
                    left.unlink()
            for name in run.NOTEBOOKS:
                output = folder / "notebooks" / f"{name}.ipynb"
                given = {key: value for key, value in run.parameters.items() if key in known[name]}
                if error := execute(how.notebooks / f"{name}.ipynb", output, given, how.threads, stop, (lock,)):
                    return f"{name}: {error} (see {output})"
    except InterruptedError:
        raise
    except OSError as problem:  # the disk is full, or may not be written to
        return str(problem)
    return None if made.exists() else f"{name}: ended without writing metrics.json (see {output})"


def require_data(wanted: Sequence[Run], notebooks: Path) -> None:
    """Load, once each, the data of experiments that read a folder, with all checks: better told at once than by each
    run. StudyError, in one line, for data that are absent or wrong.
    """
    for experiment, run in {run.experiment: run for run in wanted}.items():
        from isnetlib.data import EXPERIMENTS  # imports torch, which nothing before the runs needs

        if "folder" in inspect.signature(EXPERIMENTS.get(experiment, dict)).parameters:
            with contextlib.chdir(notebooks):  # paths in options are the notebooks' own
                runs.data_hashes(experiment, run.parameters["data_options"], needed=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- reports


def _reports(studies: Sequence[str | None], notebooks: Path, results: Path) -> list[str]:
    """Execute the report's notebook of each study (None: the one that joins them), two at a time, and make pages of
    them. Returns the failures.
    """
    with _pool(2) as (pool, stop):
        found = pool.map(lambda study: _report(study, Path(notebooks), Path(results), stop), studies)
        return [failure for failure in found if failure]


def _report(study: str | None, notebooks: Path, results: Path, stop: threading.Event) -> str | None:
    from isnetlib.report import page  # imports nbconvert and Matplotlib, which nothing else here needs

    home = results / (study or "")
    name = "50_report" if study else "51_joint_report"
    output, given = home / "notebooks" / f"{name}.ipynb", {"results": relative(results, notebooks)}
    # One thread: sums in one order give the same bytes everywhere.
    error = execute(notebooks / f"{name}.ipynb", output, given | ({"study": study} if study else {}), 1, stop)
    if error:
        return f"{name}: {error} (see {output})"
    page.write(output, home / "report.html")
    print(home / "report.html", flush=True)
    return None
