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

import pandas as pd

from isnetlib.report import names, store
from isnetlib.study import runs, search
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.notebooks import execute, relative
from isnetlib.study.pack import pack, pack_trials
from isnetlib.study.runs import Run
from isnetlib.training.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows: there nothing is locked
    fcntl = None

REPORTING = 1  # minutes that packing and the report of a large study take


def run_study(
    study: str,
    notebooks: Path,
    results: Path,
    jobs: int | None = None,
    only: Iterable[str] = (),
    threads: int | None = None,
    runs_only: bool = False,
) -> int:
    """Make every run of a study that is not done, `jobs` at a time, then, if all are done, pack them and report.

    `jobs`: None = two where there are two cores. `threads`: cores of a run; None = the cores are shared out among the
    jobs. `only`: names of experiments, methods, seeds ("seed0") or "search", or several joined by "/": nothing else is
    made. `runs_only`: pack and report nothing. Progress is printed.

    Returns how many runs or notebooks failed; each failed notebook is kept with its error. Raises StudyError for a
    mistake in the study or in `only`, for data that are needed and absent, and for a configuration that should be
    frozen and is in no commit, before anything is run.
    """
    home, only, failures = Path(results) / study, list(only), []
    trials, grid = (part(study, notebooks, results) for part in (search.trials, runs.resolve))
    for name in only:
        if not _called([*trials, *grid], [name]):
            raise StudyError(f"no run of study {study} is called {name}; one is called {grid[0].name}")
    searched = {trial.name for trial in trials}
    trials, wanted = _called(trials, only), _called(grid, only)
    jobs = jobs or min(2, cores())
    how = (jobs, threads or max(1, cores() // jobs), read_studies(notebooks)["studies"][study]["budget_minutes"])
    if trials:
        failures = _make(f"{study}: search", trials, *how)[1] + pack_trials(home)
        failures = failures or search.not_followed(study, notebooks, store.trials(home, searched))
    if wanted and not failures:  # runs with other options than chosen would be made in vain
        made, failures = _make(study, wanted, *how, 0 if runs_only else REPORTING)
        if any(state != "done" for _, state, _ in runs.states(grid)):
            print(f"{study}: not all runs are done, so there is no report")
        elif not runs_only and not made and _reported(grid):
            print(f"{study}: all {len(grid)} runs are done and in {home / 'report.html'}: nothing to do")
        elif not runs_only:
            failures = pack(home) + _reports([study], notebooks, results)
    return _told(failures)


def status(study: str, notebooks: Path, results: Path) -> pd.DataFrame:
    """State of every trial and run of a study: columns study, experiment, method, seed, state, reason (of being
    stale).
    """
    rows = [
        (study, run.experiment, run.method + " (search)" * (run.kind == "search"), run.seed, state, reason)
        for part in (search.trials, runs.resolve)
        for run, state, reason in runs.states(part(study, notebooks, results))
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
    for name in asked:
        _tell_strangers(name, notebooks, results)
    size = {name: len(store.find_runs(Path(results) / name)) for name in asked}
    begun = sorted(filter(size.get, asked), key=size.get, reverse=True)  # the longest first
    if not begun and not failures:
        raise StudyError(f"{', '.join(asked)}: no finished run in {results}; first: isnet run --study {asked[0]}")
    failures += _reports(begun, notebooks, results)
    if not study and not failures:
        failures = _reports([None], notebooks, results)
    return _told(failures)


def _tell_strangers(study: str, notebooks: Path, results: Path) -> None:
    """Print which packed runs study.yaml does not know, or knows otherwise: they are in the tables all the same."""
    grid, rows = runs.resolve(study, notebooks, results), runs.packed(Path(results) / study, "runs")
    found = {run.name: reason for run, state, reason in runs.states(grid) if state == "stale"} if rows else {}
    found |= dict.fromkeys(rows.keys() - {run.name for run in grid}, "it is not in study.yaml")
    for name, reason in found.items():
        print(f"{study}: {name} is in the tables, and stale: {reason}")


def _told(failures: list[str]) -> int:
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


# --- runs and trials


def _called(given: list[Run], only: list[str]) -> list[Run]:
    """Those of which a name in `only` is the experiment, method, seed ("seed0") or kind ("search"), or several of
    these joined by "/". No names: all.
    """
    asked = [set(name.split("/")) for name in only]
    return [run for run in given if not only or any(parts <= {run.kind, *run.name.split("/")} for parts in asked)]


def _make(title: str, wanted: list[Run], jobs: int, threads: int, minutes: float, after: float = 0) -> tuple:
    """Make the runs that are not done. minutes: what the whole study takes; after: what follows the runs.

    Returns how many there were, and the failures in one line each.
    """
    asked, left = time.time(), [entry for entry in runs.states(wanted) if entry[1] != "done"]
    if not left:
        return 0, []
    require_data([run for run, *_ in left])
    if wanted[0].kind == "runs":
        search.freeze([run for run, *_ in left])
    print(f"{title}: {len(wanted)} runs, {len(wanted) - len(left)} done, {len(left)} to make", end="")
    print(f", {jobs} at a time; the whole study takes about {minutes} min", flush=True)
    ended = []

    def make(entry: tuple, stop: threading.Event) -> str | None:
        run, state, reason = entry
        how = {"stale": f"starts afresh: {reason}", "unfinished": "goes on where it stopped"}.get(state, "begins")
        print(f"{run.name}  {how}", flush=True)
        return _make_one(run, state, asked, threads, stop)

    def told(entry: tuple, error: str | None) -> None:
        ended.append(f"{entry[0].name}: {error}" if error else "")
        made, spent = len(ended), (time.time() - asked) / 60
        rest = f"about {spent / made * (len(left) - made) + after:.1f} left{', with the report' if after else ''}"
        print(
            f"[{made}/{len(left)}] {entry[0].name}  {'FAILED ' * bool(error)}after {spent:.1f} min; {rest}", flush=True
        )

    _parallel(jobs, make, left, told)
    return len(left), list(filter(None, ended))


def _parallel(jobs: int, function: Callable, items: Iterable, told: Callable = lambda item, result: None) -> list:
    """What function(item, stop) gives of each item, `jobs` at a time; `told` is called as each ends. stop: an event
    that is set when we are interrupted: then no notebook may outlive us.
    """
    stop, results = threading.Event(), []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = {pool.submit(function, item, stop): item for item in items}
            for future in as_completed(futures):
                results.append(future.result())
                told(futures[future], results[-1])
        except BaseException:  # Ctrl-C too
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _make_one(run: Run, state: str, asked: float, threads: int, stop: threading.Event) -> str | None:
    """Execute the notebooks of a run that was in a state when the clock `asked`, unless another process has made it
    since. Returns the error in one line or None.
    """
    made = run.folder / "metrics.json"
    try:
        with alone(run, stop) as lock:
            if made.exists() and made.stat().st_mtime > asked:
                return None
            if state == "stale":  # its files must not mix with new ones
                shutil.rmtree(run.folder, ignore_errors=True)
            for left in filter(Path.is_file, run.folder.rglob(".*")):  # by a write that was cut short
                left.unlink()
            for name, known in runs.own_parameters(run).items():
                output = run.folder / "notebooks" / f"{name}.ipynb"
                given = {key: value for key, value in run.parameters.items() if key in known}
                if error := execute(run.notebooks / f"{name}.ipynb", output, given, threads, stop, (lock,)):
                    return f"{name}: {error} (see {output})"
            if not made.exists():
                return f"{name}: ended without writing metrics.json (see {output})"
            write_atomically(run.folder / runs.SUMS, runs.sums(run.folder))
    except InterruptedError:
        raise
    except OSError as problem:  # the disk is full, or may not be written to
        return str(problem) if problem.filename else f"{problem}: {run.folder}"
    return None


@contextlib.contextmanager
def alone(run: Run, stop: threading.Event) -> Iterator[int]:
    """Nobody else makes the run inside: wait for another process that does; InterruptedError if `stop` is set before.
    Gives the number of the open file that holds the lock, which whoever works on must keep open.
    """
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with open(run.folder.with_name(f".{run.folder.name}.lock"), "a+", encoding="utf-8") as file:
        told = False
        while fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                if not told:
                    print(f"{run.name}  waits: process {file.read()} is making it", flush=True)
                told = True
                if stop.wait(1):
                    raise InterruptedError("interrupted") from None
        file.truncate(0)
        print(os.getpid(), end="", file=file, flush=True)
        yield file.fileno()


def require_data(wanted: Sequence[Run]) -> None:
    """Load, once each, the data of experiments that read a folder, with all checks: better told at once than by each
    run. StudyError, in one line, for data that are absent or wrong.
    """
    for experiment, run in {run.experiment: run for run in wanted}.items():
        from isnetlib.data import EXPERIMENTS  # imports torch, which nothing before the runs needs

        if "folder" in inspect.signature(EXPERIMENTS.get(experiment, dict)).parameters:
            runs.data_hashes(run, needed=True)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- reports


def _reported(grid: list[Run]) -> bool:
    """Whether report.html is there, and holds all that was left in folders of runs."""
    page, rows = grid[0].home / "report.html", runs.packed(grid[0].home, "runs")
    for run in grid if page.exists() else ():
        made = run.folder / "metrics.json"
        if made.exists() and (
            made.stat().st_mtime > page.stat().st_mtime
            or runs.recorded(run.folder).get("time", "") > rows.get(run.name, {}).get("time", "")
        ):
            return False
    return page.exists()


def _reports(studies: Sequence[str | None], notebooks: Path, results: Path) -> list[str]:
    """Execute the report's notebook of each study (None: the one that joins them), two at a time, and make pages of
    them. Returns the failures.
    """
    found = _parallel(2, lambda study, stop: _report(study, Path(notebooks), Path(results), stop), studies)
    return list(filter(None, found))


def _report(study: str | None, notebooks: Path, results: Path, stop: threading.Event) -> str | None:
    from isnetlib.report import page  # imports nbconvert and Matplotlib, which nothing else here needs

    home, name = results / (study or ""), "50_report" if study else "51_joint_report"
    output, given = home / "notebooks" / f"{name}.ipynb", {"results": relative(results, notebooks)}
    try:  # with one thread: sums in one order give the same bytes everywhere
        error = execute(notebooks / f"{name}.ipynb", output, given | ({"study": study} if study else {}), 1, stop)
        if error:
            return f"{name}: {error} (see {output})"
        page.write(output, home / "report.html")
    except OSError as problem:
        return f"{name}: {problem}"
    print(home / "report.html", flush=True)
    return None
