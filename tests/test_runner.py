"""Running a study, on tiny notebooks: what is skipped, resumed and made afresh, and what is left of it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil  # which comes with ipykernel
import pytest
from stub_films import write_predicted, write_sources
from tiny_study import MORE, PARAMETERS, edit, make_run, states, write_notebook

from isnetlib.report import page, store
from isnetlib.study import runner
from isnetlib.study.config import StudyError
from isnetlib.study.runner import CORES, execute, report, run_study
from isnetlib.study.runs import Run, data_hashes, resolve
from isnetlib.training.files import locked, write_atomically

ROOT = Path(__file__).parents[1]


def test_a_study_skips_resumes_starts_afresh_and_survives_a_failure(place, capsys):
    notebooks, results = place
    done = make_run(place, "mixed", "standard", 0)
    half = make_run(place, "mixed", "standard", 1, finished=False)
    (half / "checkpoint.txt").write_text("1")
    stale = make_run(place, "mixed", "rrr", 0, rate=0.25)
    (stale / "checkpoint.txt").write_text("1")
    found = {"standard0": "done", "rrr0": "stale", "gain0": "missing", "standard1": "unfinished"}
    assert states(place)[0] == found
    before = (done / "metrics.json").stat().st_mtime_ns

    assert run_study("mixed", *place, jobs=2) == 1

    printed = capsys.readouterr().out
    assert "mixed: 4 runs, 1 done, 3 to make, 2 at a time; the whole study takes about 1 min" in printed
    assert "digits/rrr/seed0  starts afresh: parameter rate was 0.25, is 0.5" in printed
    assert "digits/standard/seed1  goes on where it stopped" in printed
    assert printed.count("[3/3] ") == 1 and printed.count(" min; about ") == 3
    assert "mixed: not all runs are done, so there is no report" in printed
    assert states(place)[0] == found | {"rrr0": "done", "gain0": "unfinished", "standard1": "done"}
    assert (done / "metrics.json").stat().st_mtime_ns == before and not (done / "notebooks").exists()
    assert (half / "log.txt").read_text() == "1" and (stale / "log.txt").read_text() == "0 1"
    assert "FAILED digits/gain/seed0: 10_train: ValueError: boom (see " in printed
    assert (results / "mixed/runs/digits/gain/seed0/notebooks/10_train.ipynb").exists()
    lines = [line.split() for line in (notebooks / "at_once.txt").read_text().splitlines()]
    assert max(int(number) for number, _ in lines) == 2  # two at a time, each with its share of the cores
    assert {threads for _, threads in lines} == {str(max(1, CORES // 2))}


@pytest.fixture
def reported(place, monkeypatch):
    """The tiny study, whose notebooks are not executed but told: [(name, threads)]."""
    told = []

    def execute(notebook, output, parameters, threads):
        told.append((notebook.stem, threads))
        output.parent.mkdir(parents=True, exist_ok=True)
        if notebook.stem == "20_external_test":
            folder = output.parents[1]
            folder.rename(folder.with_name("gone"))
            make_run(place, folder.parts[-5], folder.parts[-2], int(folder.name[4:]), time="2027")

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr(page, "write", lambda executed, to: to.write_text("page"))
    return told


def test_what_is_done_is_packed_reported_and_never_made_again(place, reported, capsys):
    home = place[1] / "fine"
    assert run_study("fine", *place, jobs=1, threads=3, runs_only=True) == 0
    assert reported == [("10_train", 3), ("20_external_test", 3)] and not (home / "digits").exists()
    assert run_study("fine", *place) == 0
    assert reported[2:] == [("50_report", 1)] and (home / "report.html").read_text() == "page"
    (home / "runs").rename(place[1] / "gone")
    assert states(place, "fine")[0] == {"standard0": "done"}  # by its packed row
    capsys.readouterr()
    assert run_study("fine", *place) == 0 and len(reported) == 3
    assert capsys.readouterr().out == f"fine: all 1 runs are done and in {home / 'report.html'}: nothing to do\n"
    edit(place[0] / "study.yaml", "epochs: 9", "epochs: 8")
    assert states(place, "fine")[0] == {"standard0": "stale"}
    assert run_study("fine", *place) == 0 and reported[3][0] == "10_train"
    assert pd.read_csv(home / "digits/runs.csv")["time"].tolist() == [2027]
    assert store.find_runs(home)[0].parameters["epochs"] == 8 and states(place, "fine")[0] == {"standard0": "done"}


def test_a_report_is_made_anew_where_it_is_older_than_a_run_or_lacks_one(place, reported, capsys):
    folder, page = make_run(place, "fine", "standard", 0), place[1] / "fine/report.html"
    assert run_study("fine", *place) == 0 and run_study("fine", *place) == 0 and len(reported) == 1
    assert "[1/1] " not in capsys.readouterr().out
    os.utime(page, (0, 0))
    assert run_study("fine", *place) == 0 and len(reported) == 2
    shutil.rmtree(place[1] / "fine/digits")
    (folder / "log.csv").write_text("")
    assert run_study("fine", *place) == run_study("fine", *place) == 1  # not packed, and told until it is mended
    assert capsys.readouterr().out.count("log.csv is damaged") == 2


@pytest.mark.parametrize("name", ["heatmaps.npz", "logs.csv", "runs.csv", "predictions.npz"])
def test_a_full_disk_ends_it_in_a_line_that_names_the_file_and_it_goes_on_later(place, reported, monkeypatch, name):
    def full(path, data):
        if path.name == name:
            raise OSError(28, "No space left on device", str(path))
        write_atomically(path, data)

    make_run(place, "fine", "standard", 0)
    with monkeypatch.context() as patched:
        patched.setattr("isnetlib.study.pack.write_atomically", full)
        with pytest.raises(OSError, match=f"No space left.*{name}"):
            run_study("fine", *place)
    assert states(place, "fine")[0] == {"standard0": "done"}
    assert run_study("fine", *place) == 0 and len(store.find_runs(place[1] / "fine")) == 1


def test_what_cannot_be_written_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    (tmp_path / "manifest.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*manifest.json"):
        write_atomically(tmp_path / "manifest.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("manifest.json", "old")]
    with pytest.raises(OSError, match="manifest.json/below.csv'"):
        write_atomically(tmp_path / "manifest.json" / "below.csv", "")


def test_report_trains_nothing_and_joins_what_is_published(place, reported, monkeypatch, capsys):
    monkeypatch.setattr(runner.names, "LOCAL_STUDIES", ("fine",))
    with pytest.raises(StudyError, match="mixed: no finished run in .*; first: isnet run --study mixed"):
        report(*place)
    make_run(place, "fine", "standard", 0), make_run(place, "mixed", "rrr", 0, rate=0.25)
    assert report(*place, "fine") == 0 and reported == [("50_report", 1)]
    assert report(*place) == 0 and [name for name, _ in reported[1:]] == ["50_report", "51_joint_report"]
    pages = {place[1] / part / "report.html" for part in ("", "fine", "mixed")}
    assert set(place[1].glob("**/report.html")) == pages
    (place[1] / "fine/runs/digits/standard/seed0/log.csv").write_text("")
    assert report(*place, "fine") == 1 and reported[-1] == ("50_report", 1)  # of what is packed
    assert "FAILED packing: " in (printed := capsys.readouterr().out) and "seed0/log.csv is damaged" in printed


def test_a_run_that_leaves_no_metrics_and_a_report_that_fails_are_told_and_nothing_joins_it(place, capsys):
    write_notebook(place[0] / "20_external_test.ipynb", PARAMETERS, "pass")
    write_notebook(place[0] / "10_train.ipynb", PARAMETERS + MORE, "pass")
    assert run_study("fine", *place) == 1
    told = "FAILED digits/standard/seed0: 20_external_test: ended without writing metrics.json"
    assert told in capsys.readouterr().out
    make_run(place, "mixed", "rrr", 0)
    write_notebook(place[0] / "50_report.ipynb", 'study = ""\nresults = ""\n', "assert False, 'no report'")
    assert report(*place) == 1
    assert "FAILED 50_report: AssertionError: no report (see " in capsys.readouterr().out
    assert not (place[1] / "report.html").exists()


INTERRUPTED = "isnet: interrupted; the same train or run goes on from here\n"


@pytest.mark.parametrize("sig, code, told", [(signal.SIGTERM, 130, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL, "")])
def test_no_notebook_outlives_isnet_that_is_interrupted_or_killed(place, sig, code, told):
    sleep = "import os, time\nopen('p', 'w').write(str(os.getpid()))\nos.rename('p', 'pid')\ntime.sleep(600)"
    write_notebook(place[0] / "10_train.ipynb", PARAMETERS + MORE, sleep)
    command = [sys.executable, "-m", "isnetlib", "run", "--study", "fine"]
    command += ["--notebooks", place[0], "--results", place[1]]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        wait_for((place[0] / "pid").exists)
        process.send_signal(sig)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors) == (code, told)
    kernel = int((place[0] / "pid").read_text())
    wait_for(lambda: not is_alive(kernel))


def test_a_run_has_one_worker_and_who_comes_second_is_told(place, reported, capsys):
    with locked(place[1] / "fine/runs/digits/standard/.seed0.lock"):
        assert run_study("fine", *place) == 1 and reported == []
    assert "FAILED digits/standard/seed0: another process is making it" in capsys.readouterr().out
    made = make_run(place, "fine", "standard", 0)  # between its being missing and its turn
    assert runner._make_one(resolve("fine", *place)[0], "missing", "", 0.0, 1) is None
    assert made.exists() and reported == []


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def is_alive(pid):
    """Whether a process runs. An ended one that nobody has collected yet does not."""
    return any(one.pid == pid and one.info["status"] != "zombie" for one in psutil.process_iter(["status"]))


@pytest.mark.parametrize("text", ["", "{}", "null", '{"cells": ['])
def test_a_notebook_that_cannot_start_is_told_in_one_line(tmp_path, text):
    (tmp_path / "broken.ipynb").write_text(text)
    error = execute(tmp_path / "broken.ipynb", tmp_path / "out" / "broken.ipynb", {}, threads=1)
    assert error and "\n" not in error


@pytest.mark.parametrize("name", ["gain", "digits/gain", "digits/gain/seed0", "gain/seed0", "runs/gain"])
def test_only_takes_names_of_runs(place, name):
    assert [run.name for run in runner._called(resolve("mixed", *place), [name])] == ["digits/gain/seed0"]


def test_data_that_are_absent_or_wrong_are_told_at_once_and_nothing_is_lost(place, monkeypatch, tmp_path):
    monkeypatch.setattr(runner.runs, "data_hashes", data_hashes)
    monkeypatch.delenv("ISNET_DATA", raising=False)
    edit(place[0] / "study.yaml", "  digits: {data: {size: 3}", "  tuberculosis: {data: {size: 32}")
    edit(place[0] / "study.yaml", "digits", "tuberculosis")
    stale = make_run(place, "fine", "standard", 0, rate=0.25)
    assert states(place, "fine")[0] == {"standard0": "stale"}
    with pytest.raises(StudyError, match="data of tuberculosis: .*set ISNET_DATA .*README.md") as caught:
        run_study("fine", *place)
    assert "\n" not in str(caught.value) and (stale / "metrics.json").exists()
    monkeypatch.setenv("ISNET_DATA", str(write_sources(tmp_path)))
    monkeypatch.setenv("ISNET_MASKS", str(write_predicted(tmp_path, tmp_path / "masks")))
    run = Run(place[1], place[0], "tuberculosis", "standard", 0, {"data_options": {"size": 32}})
    assert data_hashes(run, needed=True)
    (tmp_path / "nih/index.csv").unlink()
    with pytest.raises(StudyError, match="data of tuberculosis: .*nih: 1 problem.*index.csv"):
        data_hashes(run, needed=True)
