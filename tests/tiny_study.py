"""A study made for the tests: tiny notebooks, a tiny package, and folders of runs that look finished."""

import json

from isnetlib.notebooks import declared
from isnetlib.provenance import made_by, portable
from isnetlib.study import resolve, status

STUDY = """
experiments:
  toy: {data: {size: 3}, train: {epochs: 2, rate: 0.5}}
methods:
  plain: {}
  other: {weight: 0.7}
  bad: {}
studies:
  mixed:
    budget_minutes: 1
    runs: {toy: {methods: [plain, other, bad], seeds: {plain: [0, 1], other: [0], bad: [0]}}}
    notebooks: {40_compare: {}}
  fine:
    budget_minutes: 1
    runs: {toy: {methods: [plain], seeds: [0]}}
    data: {toy: {size: 4}}
    train: {toy: {epochs: 9}}
    notebooks: {60_cost: {}, 40_compare: {title: hello}, 50_report: {fail: true}, 30_heatmaps: {}}
"""

PARAMETERS = """
study = "mixed"  # results/<study>
experiment = "toy"
method = "plain"
seed = 0
results = "../results"
data_options = {}
method_options = {}
"""

# Waits for a second run beside itself (a run alone fails), notes how many there are, and goes on from a checkpoint.
TRAIN = """
import json, os, time
from pathlib import Path

folder = Path(results) / study / "runs" / experiment / method / f"seed{seed}"
started, active = Path("started"), Path("active") / f"{method}{seed}"
for place in (folder, started, active.parent):
    place.mkdir(parents=True, exist_ok=True)
names = ("experiment", "method", "seed", "epochs", "rate", "extra", "data_options", "method_options")
known = json.loads(Path("made_by.json").read_text())
content = {"parameters": {name: globals()[name] for name in names}, "made_by": known[method], "data": {"toy": "abc"}}
(folder / "manifest.json").write_text(json.dumps(content))
if method == "bad":
    raise ValueError("boom")
(started / active.name).touch()
active.touch()
deadline = time.monotonic() + 60
while len(list(started.iterdir())) < 2:
    assert time.monotonic() < deadline, "no second run was started"
    time.sleep(0.05)
with open("at_once.txt", "a") as file:
    file.write(f"{len(list(active.parent.iterdir()))} {os.environ['OMP_NUM_THREADS']}\\n")
checkpoint = folder / "checkpoint.txt"
epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
(folder / "log.txt").write_text(" ".join(str(epoch) for epoch in range(epoch, epochs)))
active.unlink()
"""

TEST = """
import json
from pathlib import Path

folder = Path(results) / study / "runs" / experiment / method / f"seed{seed}"
(folder / "metrics.json").write_text(json.dumps({"seconds": 30, "epochs": epochs}))
"""

PACKAGE = {
    "__init__.py": "from tiny.loss import penalty\nfrom tiny.figures import draw\n",
    "train.py": 'import tiny\nfrom tiny.baselines import build\n\ndef step(x):\n    """Docstring."""\n    '
    "return tiny.penalty(x) + build(x)  # comment\n",
    "evaluate.py": "from . import figures\nfrom .data import load\n\ndef test(x):\n    return figures.draw(load(x))\n",
    "loss.py": "def penalty(x):\n    return x * 2\n",
    "figures.py": "def draw(x):\n    return x\n",
    "baselines/__init__.py": "from tiny.baselines import plain\nfrom tiny.baselines.other import Other\n\n"
    'METHODS = {"plain": plain.Plain, "other": Other}\n\n\ndef build(x):\n    return METHODS[x]\n',
    "baselines/plain.py": "class Plain:\n    width = 3\n",
    "baselines/other.py": "from ..unet import net\n\nclass Other:\n    width = net\n",
    "unet.py": 'net = f"{1:>{2}} {3!r}"\n',
    "data/__init__.py": 'from tiny.data import toy\n\nEXPERIMENTS = {"toy": toy.load}\nload = EXPERIMENTS.get\n',
    "data/toy.py": "def load(size=1):\n    return size\n",
}


def write_notebook(path, parameters, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    tagged = [(parameters, {"tags": ["parameters"]})] + [(cell, {}) for cell in cells]
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": meta, "source": text, "outputs": [], "execution_count": None}
        for i, (text, meta) in enumerate(tagged)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def note(name):
    """A cell that appends its notebook's name to order.txt."""
    return f'with open("order.txt", "a") as file:\n    file.write("{name} ")'


def write_all(tmp_path):
    """notebooks, results and package, all tiny."""
    notebooks, package = tmp_path / "notebooks", tmp_path / "tiny"
    write_notebook(notebooks / "10_train.ipynb", PARAMETERS + "epochs = 1\nrate = 0.1\nextra = None\n", TRAIN)
    write_notebook(notebooks / "20_external_test.ipynb", PARAMETERS + "epochs = 1\n", TEST)
    own = 'study = ""\nresults = ""\n'
    write_notebook(notebooks / "30_heatmaps.ipynb", own, note("30"))
    write_notebook(notebooks / "40_compare.ipynb", own + 'title = ""\n', note("40") + "\nassert title")
    write_notebook(notebooks / "50_report.ipynb", own + "fail = False\n", note("50") + "\nassert not fail, 'no report'")
    write_notebook(notebooks / "60_cost.ipynb", own, note("60"))
    (notebooks / "study.yaml").write_text(STUDY)
    for name, text in PACKAGE.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    known = {method: made_by("toy", method, notebooks, package) for method in ("plain", "other", "bad")}
    (notebooks / "made_by.json").write_text(json.dumps(known))
    return notebooks, tmp_path / "results", package


def make_run(place, study, method, seed, finished=True, **changes):
    """A run folder as if it had been made now, but for `changes` of its parameters."""
    notebooks, results, package = place
    run = next(r for r in resolve(study, notebooks, results) if (r.method, r.seed) == (method, seed))
    folder = run.folder(results)
    folder.mkdir(parents=True)
    parameters = portable(declared(notebooks / "10_train.ipynb") | run.parameters | changes)
    content = {"parameters": parameters, "made_by": made_by("toy", method, notebooks, package), "data": {"toy": "abc"}}
    (folder / "manifest.json").write_text(json.dumps(content))
    if finished:
        (folder / "metrics.json").write_text('{"seconds": 10}')
    return folder


def here(experiment, options):
    """Data hashes as they are now: unchanged."""
    return {"toy": "abc"}


def states(place, study="mixed", hashes=here):
    """{method + seed: state} and {method + seed: reason}."""
    frame = status(study, place[0], place[1], place[2], hashes)
    names = frame["method"] + frame["seed"].astype(str)
    return dict(zip(names, frame["state"], strict=True)), dict(zip(names, frame["reason"], strict=True))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
