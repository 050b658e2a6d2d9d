"""A study made for the tests: tiny notebooks, with real names of methods, and run folders that look finished."""

import json
import subprocess

from isnetlib.study import runner
from isnetlib.study.config import declared
from isnetlib.study.runs import portable, resolve, versions

STUDY = """
experiments:
  digits: {data: {size: 3}, train: {epochs: 2, rate: 0.5}}
methods:
  standard: {}
  rrr: {weight: 0.7}
  gain: {}
studies:
  mixed:
    budget_minutes: 1
    runs: {digits: {methods: [standard, rrr, gain], seeds: {standard: [0, 1], rrr: [0], gain: [0]}}}
  fine:
    budget_minutes: 1
    runs: {digits: {methods: [standard], seeds: [0]}}
    data: {digits: {size: 4}}
    train: {digits: {epochs: 9}}
"""

# The same with everything that a study may have.
WHOLE = STUDY.replace("{epochs: 2, rate: 0.5}}", "{epochs: 2, rate: 0.5}, methods: {rrr: {weight: 0.2}}, folds: 3}")
WHOLE = WHOLE.replace("  gain: {}\n", "  gain: {}\n  named: {base: rrr, weight: 2.0, backbone: small_vit}\n")
WHOLE += """    search: {digits: {standard: {option: weight, values: [0.5, 5.0], serves: [gain]}}}
    trial_epochs: {digits: 3}
"""

PARAMETERS = """
study = "mixed"  # results/<study>
experiment = "digits"
method = "standard"
base = None
seed = 0
results = "../results"
data_options = {}
method_options = {}
"""
MORE = "epochs = 1\nrate = 0.1\nextra = None\n"  # of 10_train alone

# Waits for a second run beside itself (a run alone fails), notes how many there are, and goes on from a checkpoint.
TRAIN = """
import json, os, time
from pathlib import Path

folder = Path(results) / study / "runs" / experiment / method / f"seed{seed}"
started, active = Path("started"), Path("active") / f"{method}{seed}"
for place in (folder, started, active.parent):
    place.mkdir(parents=True, exist_ok=True)
names = ("experiment", "method", "base", "seed", "epochs", "rate", "extra", "data_options", "method_options")
content = {"settings": {name: globals()[name] for name in names}, "data": {"digits": "abc"}, "time": "2027"}
content |= {f"{part}_version": 1 for part in ("relevance", "training", "method", "data")}
(folder / "manifest.json").write_text(json.dumps(content))
if method == "gain":
    raise ValueError("boom")
active.touch()  # before it counts as started: who sees two has both at work
(started / active.name).touch()
deadline = time.monotonic() + 60
while len(list(started.iterdir())) < 2:
    assert time.monotonic() < deadline, "no second run was started"
    time.sleep(0.05)
with open("at_once.txt", "a") as file:
    file.write(f"{len(list(active.parent.iterdir()))} {os.environ['OMP_NUM_THREADS']}\\n")
checkpoint = folder / "checkpoint.txt"
if method == "rrr" and Path("kill").exists():  # in its second epoch
    checkpoint.write_text("1")
    os.kill(os.getpid(), 9)
epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
(folder / "log.txt").write_text(" ".join(str(epoch) for epoch in range(epoch, epochs)))
active.unlink()
"""

TEST = """
import json
from pathlib import Path

folder = Path(results) / study / "runs" / experiment / method / f"seed{seed}"
(folder / "predictions").mkdir(exist_ok=True)
(folder / "predictions/biased.csv").write_text("id,y,p_a,p_b\\na,0,0.9,0.1\\nb,1,0.2,0.8\\n")
(folder / "log.csv").write_text("epoch,loss\\n0,0.5\\n")
(folder / "metrics.json").write_text(json.dumps({"seconds": 30, "epoch": 0, "thresholds": []}))
"""


def write_notebook(path, parameters, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    tagged = [(parameters, {"tags": ["parameters"]})] + [(cell, {}) for cell in cells]
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": meta, "source": text, "outputs": [], "execution_count": None}
        for i, (text, meta) in enumerate(tagged)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def write_all(tmp_path):
    """(notebooks, results), all tiny."""
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks / "10_train.ipynb", PARAMETERS + MORE, TRAIN)
    write_notebook(notebooks / "20_external_test.ipynb", PARAMETERS, TEST)
    for name in ("50_report", "51_joint_report"):
        code = f'with open("order.txt", "a") as file:\n    file.write("{name[:2]} {{study}} ")'
        write_notebook(notebooks / f"{name}.ipynb", 'study = ""\nresults = ""\n', code)
    (notebooks / "study.yaml").write_text(STUDY)
    return notebooks, tmp_path / "results"


def make_run(place, study, method, seed, finished=True, time="2026", **changes):
    """A run folder as if it had been made now, but for `changes` of its parameters."""
    run = next(run for run in resolve(study, *place) if (run.method, run.seed) == (method, seed))
    folder = run.folder
    folder.mkdir(parents=True)
    settings = portable(declared(place[0] / "10_train.ipynb") | run.parameters | changes)
    content = versions(settings) | {"settings": settings, "data": {"digits": "abc"}, "time": time}
    (folder / "manifest.json").write_text(json.dumps(content))
    if finished:
        (folder / "metrics.json").write_text('{"seconds": 10, "thresholds": [], "epoch": 1}')
        (folder / "predictions").mkdir()
        (folder / "predictions/biased.csv").write_text("id,y,p_a,p_b\na,0,0.9,0.1\nb,1,0.2,0.8\n")
        (folder / "log.csv").write_text("epoch,loss\n0,0.5\n")
    return folder


def here(run, needed=False):
    """Data hashes as they are now: unchanged."""
    return {"digits": "abc"}


def states(place, study="mixed"):
    """{method + seed: state} and {method + seed: reason}."""
    frame = runner.status(study, *place)
    keys = frame["method"] + frame["seed"].astype(str)
    return dict(zip(keys, frame["state"], strict=True)), dict(zip(keys, frame["reason"], strict=True))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
