"""Making a study: its search and runs, several at a time, then its packed results and its report."""

import contextlib
import fcntl
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas as pd

from isnetlib.report import names, store
from isnetlib.study import runs, search
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.notebooks import execute, relative
from isnetlib.study.pack import pack, pack_trials
from isnetlib.study.runs import Run
from isnetlib.training.files import write_atomically


def run_study(
    study: str,
    notebooks: Path,
    results: Path,
    jobs: int | None = None,
    only: Iterable[str] = (),
    threads: int | None = None,
    runs_only: bool = False,
) -> int:
    """Make every run of a study that is not done, `jobs` at a time (two, of two cores), then, if all are done, pack and
    report them, unless `runs_only`. `only`: as `_called`. `threads`: cores of a run; None: shared out among the jobs.

    Returns how many runs or notebooks failed; each failed notebook is kept with its error. Raises StudyError, before
    anything is run, for a mistake in study or `only`, absent data, a configuration to be frozen that is in no commit.
    """
    home, only, failures = Path(results) / study, list(only), []
    trials, grid = (part(study, notebooks, results) for part in (search.trials, runs.resolve))
    for name in only:
        if not _called([*trials, *grid], [name]):
            raise StudyError(f"no run of study {study} is called {name}; one is called {grid[0].name}")
    jobs = jobs or min(2, cores())
    how = jobs, threads or max(1, cores() // jobs), read_studies(notebooks)["studies"][study]["budget_minutes"]
    wanted = _called(grid, only)
    if asked := _called(trials, only):
        failures = _make(f"{study}: search", asked, *how) + pack_trials(home)
        failures = failures or search.not_followed(trials)
    if wanted and not failures:  # runs with other options than chosen would be made in vain
        failures = _make(study, wanted, *how)
        if any(state != "done" for _, state, _ in runs.states(grid)):
            print(f"{study}: not all runs are done, so there is no report")
        elif not runs_only and _reported(grid):
            print(f"{study}: all {len(grid)} runs are done and in {home / 'report.html'}: nothing to do")
        elif not runs_only:
            return report(notebooks, results, study)
    return _told(failures)


def status(study: str, notebooks: Path, results: Path) -> pd.DataFrame:
    """State of every trial and run: columns study, experiment, method, seed, state, reason (of being stale)."""
    rows = [
        (study, run.experiment, run.method + " (search)" * (run.kind == "search"), run.seed, state, reason)
        for part in (search.trials, runs.resolve)
        for run, state, reason in runs.states(part(study, notebooks, results))
    ]
    return pd.DataFrame(rows, columns=["study", "experiment", "method", "seed", "state", "reason"])


def report(notebooks: Path, results: Path, study: str | None = None) -> int:
    """Make tables, figures and report of a study anew; nothing is trained. Without `study` of all that are published,
    then results/report.html, which joins them. Returns the failures. Raises StudyError where no run is finished.
    """
    published = [name for name in read_studies(notebooks)["studies"] if name not in names.LOCAL_STUDIES]
    asked, failures = [study] if study else published, []
    for name in asked:
        grid = runs.resolve(name, notebooks, results)  # refuses one that is unknown
        failures += pack(grid[0].home)
        reasons = {run.name: reason for run, _, reason in runs.states(grid)}
        for row in runs.packed(grid[0].home, "runs"):
            if reason := reasons.get(row, "it is not in study.yaml"):
                print(f"{name}: {row} is in the tables, and stale: {reason}")
    begun = [name for name in asked if store.experiments(Path(results) / name)]
    if not begun and not failures:
        raise StudyError(f"{', '.join(asked)}: no finished run in {results}; first: isnet run --study {asked[0]}")
    failures += _reports(begun, notebooks, results)
    if not study and not failures:
        failures = _reports([None], notebooks, results)
    return _told(failures)


def _told(failures: list[str]) -> int:
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


def _called(given: list[Run], only: list[str]) -> list[Run]:
    """The runs of which a name in `only` is the experiment, method, seed ("seed0") or kind ("search"), or several of
    these joined by "/". No names: all.
    """
    asked = [set(name.split("/")) for name in only]
    return [run for run in given if not only or any(parts <= {run.kind, *run.name.split("/")} for parts in asked)]


def _make(title: str, wanted: list[Run], jobs: int, threads: int, minutes: float) -> list[str]:
    """Make the runs that are not done. minutes: what the whole study takes. Returns the failures in one line each."""
    asked, left, failures = time.time(), [entry for entry in runs.states(wanted) if entry[1] != "done"], []
    if not left:
        return []
    for run in {run.experiment: run for run, *_ in left}.values():  # better told at once than by each run
        runs.data_hashes(run, needed=True)
    if wanted[0].kind == "runs":
        search.freeze([run for run, *_ in left])
    counts = f"{len(wanted)} runs, {len(wanted) - len(left)} done, {len(left)} to make, {jobs} at a time"
    print(f"{title}: {counts}; the whole study takes about {minutes} min", flush=True)
    with _workers(jobs) as (pool, stop):
        futures = {pool.submit(_make_one, *entry, asked, threads, stop): entry[0].name for entry in left}
        for made, future in enumerate(as_completed(futures), 1):
            name, error, spent = futures[future], future.result(), (time.time() - asked) / 60
            failures += [f"{name}: {error}"] if error else []
            rest = f"{spent:.1f} min; about {spent / made * (len(left) - made):.1f} left"
            print(f"[{made}/{len(left)}] {name}  {'FAILED ' * bool(error)}after {rest}", flush=True)
    return failures


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads, and an event that is set when we are interrupted: then no notebook may outlive us."""
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool, stop
        except BaseException:  # Ctrl-C too
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _make_one(run: Run, state: str, reason: str, asked: float, threads: int, stop: threading.Event) -> str | None:
    """Execute the notebooks of a run that was in a state when the clock `asked`, unless another process has made it
    since. Returns the error in one line or None.
    """
    how = {"stale": f"starts afresh: {reason}", "unfinished": "goes on where it stopped"}.get(state, "begins")
    print(f"{run.name}  {how}", flush=True)
    made = run.folder / "metrics.json"
    try:
        with alone(run, stop):
            if made.exists() and made.stat().st_mtime > asked:
                return None
            if state == "stale":  # its files must not mix with new ones
                shutil.rmtree(run.folder, ignore_errors=True)
            for left in filter(Path.is_file, run.folder.rglob(".*")):  # by a write that was cut short
                left.unlink()
            for notebook, known in run.declared():
                output = run.folder / "notebooks" / notebook.name
                given = {key: value for key, value in run.parameters.items() if key in known}
                if error := execute(notebook, output, given, threads, stop):
                    return error
            if not made.exists():
                return f"{notebook.stem}: ended without writing metrics.json (see {output})"
            write_atomically(run.folder / runs.SUMS, runs.sums(run.folder))
    except OSError as problem:  # the disk is full, or may not be written to
        return str(problem) if problem.filename else f"{problem}: {run.folder}"
    return None


@contextlib.contextmanager
def alone(run: Run, stop: threading.Event) -> Iterator[None]:
    """Nobody else makes the run inside: wait for another process that does. InterruptedError: `stop` is set before."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(run.folder.with_name(f".{run.folder.name}.lock"), "a") as file:
        for attempt in itertools.count():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 0:
                    print(f"{run.name}  waits: another process is making it", flush=True)
                if stop.wait(1):
                    raise InterruptedError("interrupted") from None
        yield


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reported(grid: list[Run]) -> bool:
    """Whether report.html is there, and holds all that was left in folders of runs."""
    page, rows = grid[0].home / "report.html", runs.packed(grid[0].home, "runs")
    made = [run for run in grid if (run.folder / "metrics.json").exists()]
    return page.exists() and all(
        (run.folder / "metrics.json").stat().st_mtime <= page.stat().st_mtime
        and runs.recorded(run.folder).get("time", "") <= rows.get(run.name, {}).get("time", "")
        for run in made
    )


def _reports(studies: Sequence[str | None], notebooks: Path, results: Path) -> list[str]:
    """Make the page of each study (None: the one that joins them), two at a time. Returns the failures."""
    with _workers(2) as (pool, stop):
        found = [pool.submit(_report, study, Path(notebooks), Path(results), stop) for study in studies]
        return [future.result() for future in found if future.result()]


def _report(study: str | None, notebooks: Path, results: Path, stop: threading.Event) -> str | None:
    from isnetlib.report import page  # imports nbconvert and Matplotlib, which nothing else here needs

    home, name = results / (study or ""), "50_report" if study else "51_joint_report"
    given = {"results": relative(results, notebooks)} | ({"study": study} if study else {})
    output = home / "notebooks" / f"{name}.ipynb"
    try:  # with one thread: sums in one order give the same bytes everywhere
        if error := execute(notebooks / f"{name}.ipynb", output, given, 1, stop):
            return error
        page.write(output, home / "report.html")
    except OSError as problem:
        return f"{name}: {problem}"
    print(home / "report.html", flush=True)
    return None
