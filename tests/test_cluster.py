"""The grid as jobs of Snakemake, on tiny notebooks: what is made, a job that is killed, what is never made again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import MORE, PARAMETERS, TRAIN, edit, write_all, write_notebook

snakemake = pytest.importorskip("snakemake", reason="snakemake is not installed: pip install -e '.[scale]'")
ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "notebooks" / "cluster"


@pytest.fixture
def notebooks(tmp_path):
    """Of the study `mixed`, without the method that fails."""
    folder, _ = write_all(tmp_path)
    write_notebook(folder / "10_train.ipynb", PARAMETERS + MORE, TRAIN.replace('{"digits": "abc"}', "{}"))
    html = 'from IPython.display import HTML\nHTML("<h1>Report</h1>")'
    write_notebook(folder / "50_report.ipynb", 'study = ""\nresults = ""\n', html)
    edit(folder / "study.yaml", "rrr, gain], seeds: {standard: [0, 1], rrr: [0], gain: [0]}", "rrr], seeds: [0]")
    return folder


def grid(notebooks, *options, study="mixed"):
    """Call Snakemake on the study in `notebooks`, two jobs at a time; the process when it has ended."""
    command = [sys.executable, "-m", "snakemake", "-s", CLUSTER / "Snakefile", *options]
    command += ["--config", f"study={study}", f"notebooks={notebooks}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(notebooks.parent)}
    return subprocess.run(command, cwd=notebooks.parent, env=environment, capture_output=True, text=True)


def threads(notebooks):
    """Those of the trainings since the last look, which each leave a line."""
    lines = (notebooks / "at_once.txt").read_text().splitlines()
    (notebooks / "at_once.txt").unlink()
    return [line.split()[1] for line in lines]


def test_a_killed_job_goes_on_and_nothing_that_is_done_is_made_again(notebooks):
    results = notebooks.parent / "results" / "mixed"
    standard, rrr = (results / f"runs/digits/{method}/seed0" for method in ("standard", "rrr"))
    local = ("--cores", "2", "--keep-going")
    # a grid with a job that is killed: the others are made, the report is not
    (notebooks / "kill").touch()
    first = grid(notebooks, *local)
    assert first.returncode == 1, first.stderr
    assert threads(notebooks) == ["1", "1"] and (standard / "log.txt").read_text() == "0 1"
    assert [path.parent for path in results.glob("runs/digits/*/*/metrics.json")] == [standard]
    assert (standard / "notebooks/20_external_test.ipynb").exists()  # the log
    assert not (results / "report.html").exists()
    # resumed: that job alone, from its checkpoint, then the report
    (notebooks / "kill").unlink()
    second = grid(notebooks, *local)
    assert second.returncode == 0, second.stderr
    assert threads(notebooks) == ["1"] and (rrr / "log.txt").read_text() == "1"
    assert (results / "report.html").exists()
    # of other parameters, one run is stale though its files are there: it is made afresh, and no other
    edit(notebooks / "study.yaml", "rrr: {weight: 0.7}", "rrr: {weight: 1.0}")
    third = grid(notebooks, *local)
    assert third.returncode == 0, third.stderr
    assert threads(notebooks) == ["1"] and (rrr / "log.txt").read_text() == "0 1"
    # `isnet` agrees that all is done
    status = [sys.executable, "-m", "isnetlib", "status", "--study", "mixed"]
    status += ["--notebooks", notebooks, "--results", results.parent]
    assert subprocess.run(status, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_mistakes_are_told_before_anything_is_run(notebooks):
    wrong = grid(notebooks, "--cores", "1", study="none")
    assert wrong.returncode == 1 and "there is no study 'none'; study.yaml has: mixed, fine" in wrong.stderr
    assert not (notebooks.parent / "results").exists()


def test_the_slurm_profile_is_one_that_snakemake_takes(notebooks):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[scale]'")
    plan = grid(notebooks, "--profile", CLUSTER / "profile", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.count("rule run:") == 2 and plan.stdout.count("rule study:") == 1
    assert not (notebooks.parent / "results").exists()
