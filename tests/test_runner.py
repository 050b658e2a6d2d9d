"""Running a study: on tiny notebooks and a tiny package made for the purpose."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import PARAMETERS, STUDY, here, make_run, states, write_notebook

from isnetlib.notebooks import execute
from isnetlib.provenance import RUN_NOTEBOOKS
from isnetlib.rebuild import report
from isnetlib.runner import cores, in_words, is_called, run_study, time_left
from isnetlib.study import StudyError, resolve

ROOT = Path(__file__).parent.parent


def test_a_study_skips_resumes_starts_afresh_and_survives_a_failure(place, capsys):
    notebooks, results, package = place
    done = make_run(place, "mixed", "plain", 0)
    half = make_run(place, "mixed", "plain", 1, finished=False)
    (half / "checkpoint.txt").write_text("1")
    stale = make_run(place, "mixed", "other", 0, rate=0.25)
    (stale / "checkpoint.txt").write_text("1")
    assert states(place)[0] == {"plain0": "done", "other0": "stale", "bad0": "missing", "plain1": "unfinished"}
    before = (done / "metrics.json").stat().st_mtime_ns

    assert run_study("mixed", notebooks, results, jobs=2, package=package, hashes=here) == 1

    printed = capsys.readouterr().out
    assert "mixed: 4 runs, 1 done, 3 to make, 2 at a time; about" in printed
    assert "toy/other/seed0  starts afresh: parameter rate was 0.25, is 0.5" in printed
    assert "toy/plain/seed1  goes on where it stopped" in printed
    assert printed.count("[3/3] ") == 1
    assert states(place)[0] == {"plain0": "done", "other0": "done", "bad0": "unfinished", "plain1": "done"}
    assert (done / "metrics.json").stat().st_mtime_ns == before and not (done / "notebooks").exists()
    assert (half / "log.txt").read_text() == "1"  # from its checkpoint
    assert (stale / "log.txt").read_text() == "0 1"  # without the old one
    # two beside each other, never three, and the cores shared out between them
    at_once = [line.split() for line in (notebooks / "at_once.txt").read_text().splitlines()]
    assert max(int(count) for count, _ in at_once) <= 2
    assert {int(threads) for _, threads in at_once} == {max(1, cores() // 2)}
    # the failed notebook is kept with its error, and no report pretends that all went well
    bad = results / "mixed/runs/toy/bad/seed0/notebooks/10_train.ipynb"
    assert f"FAILED toy/bad/seed0: 10_train: ValueError: boom (see {bad})" in printed
    outputs = [output for cell in json.loads(bad.read_text())["cells"] for output in cell.get("outputs", [])]
    assert [output["evalue"] for output in outputs if output["output_type"] == "error"] == ["boom"]
    assert "not all runs are done" in printed and not (notebooks / "order.txt").exists()


def test_study_notebooks_run_in_the_studys_order_until_one_fails(place, capsys):
    notebooks, results, package = place
    make_run(place, "fine", "plain", 0)
    (results / "fine/tables").mkdir()
    (results / "fine/tables/cost.csv").write_text("")
    assert run_study("fine", notebooks, results, package=package, hashes=here) == 1
    printed = capsys.readouterr().out
    assert (notebooks / "order.txt").read_text() == "40 50 "
    assert "60_cost  skipped" in printed
    assert "FAILED fine/50_report: AssertionError: no report" in printed
    assert (results / "fine/notebooks/40_compare.ipynb").exists()


def test_report_trains_nothing_and_measures_nothing(place, capsys):
    notebooks, results, package = place
    (notebooks / "study.yaml").write_text(STUDY.replace("fail: true", "fail: false"))
    folder = make_run(place, "fine", "plain", 0, rate=0.25)
    assert report("fine", notebooks, results, package, here) == 0
    assert (notebooks / "order.txt").read_text() in ("40 30 50 ", "30 40 50 ")  # side by side, then the report
    assert "of the 1 runs of study fine 1 stale" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "metrics.json"]


def test_interrupted_it_ends_its_notebooks_and_can_go_on(place):
    notebooks, results, _ = place
    sleep = (
        "import os, time\nopen('pid.tmp', 'w').write(str(os.getpid()))\nos.rename('pid.tmp', 'pid')\ntime.sleep(600)"
    )
    write_notebook(notebooks / "10_train.ipynb", PARAMETERS + "epochs = 1\nrate = 0.1\n", sleep)
    command = [
        sys.executable,
        "-m",
        "isnetlib",
        "run",
        "--study",
        "fine",
        "--notebooks",
        notebooks,
        "--results",
        results,
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        wait_for((notebooks / "pid").exists)
        kernel = int((notebooks / "pid").read_text())
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "isnet: interrupted; the same command goes on from here\n"
    wait_for(lambda: not is_alive(kernel))


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def is_alive(pid):
    """Whether a process runs. An ended one that nobody has collected yet (state Z, on Linux) does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # no such file system: the signal's word counts


def test_a_notebook_that_cannot_start_is_told_in_one_line(tmp_path):
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{}")
    error = execute(broken, tmp_path / "out" / "broken.ipynb", {}, threads=1)
    assert error and "\n" not in error


@pytest.mark.parametrize("name", ["other", "toy", "seed0", "toy/bad/seed0", "bad/toy"])
def test_only_takes_names_of_runs(place, name):
    run = next(run for run in resolve("mixed", *place[:2]) if run.method == ("other" if name == "other" else "bad"))
    assert is_called(run, name)
    assert not is_called(run, "plain/toy") and not is_called(run, "seed1")


def test_only_that_names_nothing_is_refused(place):
    with pytest.raises(StudyError, match="no run of study mixed is called nobody; one is called toy/plain/seed0"):
        run_study("mixed", *place[:2], only=["nobody"], package=place[2], hashes=here)


def test_one_run_alone_with_cores_of_its_own_leaves_the_studys_notebooks_out(place, monkeypatch):
    given = []

    def execute(notebook, output, parameters, threads, stop=None):
        given.append((notebook.stem, threads))
        output.parent.mkdir(parents=True, exist_ok=True)
        (output.parents[1] / "metrics.json").write_text("{}")

    monkeypatch.setattr("isnetlib.runner.execute", execute)
    alone = {"only": ["toy/plain/seed0"], "package": place[2], "hashes": here}
    assert run_study("fine", *place[:2], jobs=1, threads=3, runs_only=True, **alone) == 0
    assert given == [(name, 3) for name in RUN_NOTEBOOKS]
    # all runs are done then, and without the option the study's notebooks follow
    (place[1] / "fine/runs/toy/plain/seed0").rename(place[1] / "gone")
    make_run(place, "fine", "plain", 0)
    given.clear()
    assert run_study("fine", *place[:2], **alone) == 0
    assert [name for name, _ in given] == ["60_cost", "40_compare", "50_report", "30_heatmaps"]


def test_time_left_comes_from_runs_alike(place):
    runs = resolve("mixed", *place[:2])  # plain, other, bad, plain
    durations = {("toy", "plain"): [100, 140], ("toy", "other"): [30], None: [50]}
    assert time_left(runs, durations, jobs=2) == f"about {in_words((120 + 30 + 50 + 120) / 2)} left"
    assert time_left(runs[:1], durations, jobs=2) == "about 2 min 00 s left"
    assert [in_words(s) for s in (0.4, 59.6, 3599, 3660)] == ["0 s", "1 min 00 s", "59 min 59 s", "1 h 01 min"]
