"""The grid as jobs of Snakemake, on tiny notebooks: what is made, a job that is killed, what is never made again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import PARAMETERS, TEST, write_notebook

snakemake = pytest.importorskip("snakemake", reason="snakemake is not installed: pip install -e '.[scale]'")
ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "notebooks" / "cluster"
STUDY = """
experiments: {digits: {data: {}, train: {epochs: 2}}}
methods: {standard: {}, rrr: {}}
studies:
  grid:
    budget_minutes: 1
    runs: {digits: {methods: [standard, rrr], seeds: [0]}}
"""

# Each call leaves a line. With a file `kill` there, the run rrr/seed0 is killed in its second epoch.
TRAIN = """
import json, os, signal, time
from pathlib import Path

name = f"{method}{seed}"
folder = Path(results) / study / "runs" / experiment / method / f"seed{seed}"
folder.mkdir(parents=True, exist_ok=True)
known = ("experiment", "method", "base", "seed", "epochs", "data_options", "method_options")
manifest = {"settings": {key: globals()[key] for key in known}, "data": {}, "time": str(time.time())}
manifest |= {f"{part}_version": 1 for part in ("relevance", "training", "method", "data")}
(folder / "manifest.json").write_text(json.dumps(manifest))
checkpoint = folder / "checkpoint"
first = int(checkpoint.read_text()) if checkpoint.exists() else 0
with open("calls.txt", "a") as file:
    file.write(f"{name} from {first}, {os.environ['OMP_NUM_THREADS']} threads\\n")
for epoch in range(first, epochs):
    checkpoint.write_text(str(epoch + 1))
    if name == "rrr0" and Path("kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def notebooks(tmp_path):
    folder = tmp_path / "notebooks"
    write_notebook(folder / "10_train.ipynb", PARAMETERS + "epochs = 1\n", TRAIN)
    write_notebook(folder / "20_external_test.ipynb", PARAMETERS, TEST)
    code = 'open("order.txt", "a").write("report ")\nfrom IPython.display import HTML\nHTML("<h1>Report</h1>")'
    write_notebook(folder / "50_report.ipynb", 'study = ""\nresults = ""\n', code)
    (folder / "study.yaml").write_text(STUDY)
    return folder


def grid(notebooks, *options, study="grid"):
    """Call Snakemake on the study in `notebooks`, two jobs at a time; the process when it has ended."""
    command = [sys.executable, "-m", "snakemake", "-s", CLUSTER / "Snakefile", *options]
    command += ["--config", f"study={study}", f"notebooks={notebooks}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(notebooks.parent)}
    return subprocess.run(command, cwd=notebooks.parent, env=environment, capture_output=True, text=True)


def calls(notebooks):
    """The lines that runs have left since the last look, in order of name."""
    lines = (notebooks / "calls.txt").read_text().splitlines() if (notebooks / "calls.txt").exists() else []
    (notebooks / "calls.txt").unlink(missing_ok=True)
    return sorted(lines)


def test_a_killed_job_goes_on_and_nothing_that_is_done_is_made_again(notebooks):
    results = notebooks.parent / "results" / "grid"
    local = ("--cores", "2", "--keep-going")
    # a grid with a job that is killed: the others are made, the report is not
    (notebooks / "kill").touch()
    first = grid(notebooks, *local)
    assert first.returncode == 1, first.stderr
    assert calls(notebooks) == ["rrr0 from 0, 1 threads", "standard0 from 0, 1 threads"]
    assert [path.parent.parent.name for path in results.glob("runs/digits/*/*/metrics.json")] == ["standard"]
    assert (results / "runs/digits/standard/seed0/notebooks/20_external_test.ipynb").exists()  # the log
    assert not (notebooks / "order.txt").exists()
    # resumed: that job alone, from its checkpoint, then the report
    (notebooks / "kill").unlink()
    second = grid(notebooks, *local)
    assert second.returncode == 0, second.stderr
    assert calls(notebooks) == ["rrr0 from 1, 1 threads"]
    assert (notebooks / "order.txt").read_text() == "report "
    # of other parameters, one run is stale though its files are there: it is made afresh, and no other
    text = STUDY.replace("rrr: {}}", "rrr: {weight: 1.0}}")
    (notebooks / "study.yaml").write_text(text)
    third = grid(notebooks, *local)
    assert third.returncode == 0, third.stderr
    assert calls(notebooks) == ["rrr0 from 0, 1 threads"]
    # `isnet` agrees that all is done
    status = [sys.executable, "-m", "isnetlib", "status", "--notebooks", notebooks, "--results", results.parent]
    assert subprocess.run(status, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_mistakes_are_told_before_anything_is_run(notebooks):
    wrong = grid(notebooks, "--cores", "1", study="none")
    assert wrong.returncode == 1 and "there is no study 'none'; study.yaml has: grid" in wrong.stderr
    assert not (notebooks.parent / "results").exists()


def test_the_slurm_profile_is_one_that_snakemake_takes(notebooks):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[scale]'")
    plan = grid(notebooks, "--profile", CLUSTER / "profile", "--dry-run")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.count("rule run:") == 2 and plan.stdout.count("rule study:") == 1
    assert not (notebooks.parent / "results").exists()
