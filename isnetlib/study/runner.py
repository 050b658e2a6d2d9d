"""Making a study: its search and runs, several at a time, then its packed results and its report."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pandas as pd

from isnetlib.report import names, store
from isnetlib.study import runs, search
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.pack import pack, pack_trials
from isnetlib.study.runs import Run
from isnetlib.training.files import locked

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # that we may use
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# Papermill, ended when its input is closed, as it is when we end, however that is.
PAPERMILL = """
import json, os, sys, threading
def end_with_input():
    os.read(0, 1)
    os._exit(1)  # a kernel without its parent ends by itself
threading.Thread(target=end_with_input, daemon=True).start()
sys.modules["rfc3987_syntax"] = None  # as config.check does
import papermill
try:
    papermill.execute_notebook(*json.loads(sys.argv[1]), progress_bar=False, start_timeout=180)
except papermill.PapermillExecutionError as error:
    sys.exit(" ".join(f"{error.ename}: {error.evalue}".split()))
"""


def run_study(
    study: str, notebooks: Path, results: Path, jobs=0, only: Iterable[str] = (), threads=0, runs_only=False
) -> int:
    """Make every run of a study that is not done, `jobs` at a time (0: two, of two cores), each on `threads` cores (0:
    all, shared), then, if all are done, pack and report them, unless `runs_only`. `only`: as `_called`.

    Returns how many runs or notebooks failed; each failed notebook is kept with its error. Raises StudyError, before
    anything is run, for a mistake in study or `only`, absent data, a configuration to be frozen that is in no commit.
    """
    home, only, failures = Path(results) / study, list(only), []
    trials, grid = (part(study, notebooks, results) for part in (search.trials, runs.resolve))
    for name in only:
        if not _called([*trials, *grid], [name]):
            raise StudyError(f"no run of study {study} is called {name}; one is called {grid[0].name}")
    jobs = jobs or min(2, CORES)
    how = jobs, threads or max(1, CORES // jobs), read_studies(notebooks)["studies"][study]["budget_minutes"]
    wanted = _called(grid, only)
    if asked := _called(trials, only):
        failures = _make(f"{study}: search", asked, *how) + pack_trials(home)
        failures = failures or search.not_followed(trials)
    if wanted and not failures:  # runs with other options than chosen would be made in vain
        failures = _make(study, wanted, *how)
        if any(state != "done" for _, state, _ in runs.states(grid)):
            print(f"{study}: not all runs are done, so there is no report")
        elif not runs_only and _is_reported(grid):
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
    with ThreadPool(2) as pool:
        failures += filter(None, pool.map(lambda name: _report(name, notebooks, results), begun))
    if not study and not failures:
        failures += filter(None, [_report(None, notebooks, results)])
    return _told(failures)


def _told(failures: list[str]) -> int:
    for failure in failures:
        print(f"FAILED {failure}")
    return len(failures)


def _called(given: list[Run], only: list[str]) -> list[Run]:
    """All, or those whose experiment, method, "seed0" or kind ("search") `only` names; "/" joins several of these."""
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
    with ThreadPool(jobs) as pool:  # of threads that end with us, and their notebooks with them
        ended = pool.imap_unordered(lambda entry: (entry[0].name, _make_one(*entry, asked, threads)), left)
        for made, (name, error) in enumerate(ended, 1):
            failures += [f"{name}: {error}"] if error else []
            spent = (time.time() - asked) / 60
            rest = f"{spent:.1f} min; about {spent / made * (len(left) - made):.1f} left"
            print(f"[{made}/{len(left)}] {name}  {'FAILED ' * bool(error)}after {rest}", flush=True)
    return failures


def _make_one(run: Run, state: str, reason: str, asked: float, threads: int) -> str | None:
    """Execute a run's notebooks, unless another process makes it or has since `asked`. Returns the error or None."""
    made = run.folder / "metrics.json"
    try:
        with locked(run.folder.with_name(f".{run.folder.name}.lock"), wait=False):
            if made.exists() and made.stat().st_mtime > asked:
                return None
            how = {"stale": f"starts afresh: {reason}", "unfinished": "goes on where it stopped"}.get(state, "begins")
            print(f"{run.name}  {how}", flush=True)
            if state == "stale":  # its files must not mix with new ones
                shutil.rmtree(run.folder, ignore_errors=True)
            for notebook, known in run.declared():
                output = run.folder / "notebooks" / notebook.name
                given = {key: value for key, value in run.parameters.items() if key in known}
                if error := execute(notebook, output, given, threads):
                    return error
            return None if made.exists() else f"{notebook.stem}: ended without writing metrics.json (see {output})"
    except BlockingIOError:
        return "another process is making it"


def execute(notebook: Path, output: Path, parameters: dict, threads: int) -> str | None:
    """Run a notebook in its own folder, in a process on `threads` cores that ends when we do, and keep it, outputs and
    error included, at `output`. Returns None if all went well, else the error in a line.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)  # an old copy must not pass for this one
    given = [notebook.name, os.path.relpath(output, notebook.parent), parameters]
    command = [sys.executable, "-c", PAPERMILL, json.dumps(given)]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    # A session of its own, so that Ctrl-C reaches us alone; in the end its input is closed.
    with subprocess.Popen(command, cwd=notebook.parent, env=environment, start_new_session=True, **streams) as process:
        errors = process.stderr.read().decode(errors="replace")
    told = errors.strip() or f"exit code {process.returncode}"
    return f"{notebook.stem}: {told.splitlines()[-1]} (see {output})" if process.returncode else None


def _is_reported(grid: list[Run]) -> bool:
    """Whether every run is packed, and report.html no older than what is left in their folders."""
    home, rows = grid[0].home, runs.packed(grid[0].home, "runs")
    files = [home / "report.html", *home.glob("runs/*/*/*/metrics.json")]
    return all(run.name in rows for run in grid) and files[0].exists() and files[0] == max(files, key=os.path.getmtime)


def _report(study: str | None, notebooks: Path, results: Path) -> str | None:
    """Make the page of a study, or the one that joins them. Returns the error in one line or None."""
    from isnetlib.report import page  # imports nbconvert and Matplotlib, which nothing else here needs

    home, name = results / (study or ""), "50_report" if study else "51_joint_report"
    given = {"results": os.path.relpath(results, notebooks)} | ({"study": study} if study else {})
    output = home / "notebooks" / f"{name}.ipynb"
    if error := execute(notebooks / f"{name}.ipynb", output, given, 1):  # sums in one order: the same bytes
        return error
    page.write(output, home / "report.html")
    print(home / "report.html", flush=True)
    return None
