"""The runner, on tiny notebooks and a tiny package made for the purpose; and what study.yaml itself asks for."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from isnetlib.baselines import METHODS
from isnetlib.notebooks import check_parameters, declared, execute
from isnetlib.provenance import RUN_NOTEBOOKS, begin, git_state, made_by, manifest, portable, sources
from isnetlib.rebuild import report
from isnetlib.runner import cores, in_words, is_called, run_study, time_left
from isnetlib.study import StudyError, method_parameters, read_studies, resolve, status

ROOT = Path(__file__).parent.parent

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


@pytest.fixture
def place(tmp_path):
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


# --- running


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
    assert (notebooks / "order.txt").read_text() == "40 50 30 "
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


# --- parameters


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs: 2", "epoch: 2", r"10_train.ipynb has no parameter 'epoch'. Did you mean 'epochs'\? It declares: "),
        (
            "epochs: 2",
            "epochs: two",
            r"10_train.ipynb: parameter 'epochs' is 'two' \(str\), but its default is 1 \(int\)",
        ),
        ("title: hello", "titel: hello", "40_compare.ipynb has no parameter 'titel'. Did you mean 'title'"),
        ("rate: 0.5", "rate: 5e-1", "experiments.toy.train.rate: '5e-1' is text to YAML; write 0.5"),
        ("rate: 0.5", "seed: 5", "training parameters of toy: unknown key 'seed'; allowed: epochs"),
        ("train: {toy: {epochs: 9}}", "train: {toys: {}}", "studies.fine.train: unknown key 'toys'; allowed: toy"),
        ("budget_minutes: 1", "budget: 1", "studies.mixed: unknown key 'budget'; allowed: budget_minutes, runs"),
        ("budget_minutes: 1", "budget_minutes: soon", "studies.mixed.budget_minutes: a number is needed"),
        ("toy: {data", "toy: {folds: 2, data", "experiments.toy.folds: a whole number, 3 or more .*, not 2"),
        (
            "toy: {data: {size: 3}",
            "toy: {daten: {size: 3}",
            "experiments.toy: unknown key 'daten'; allowed: data, train",
        ),
        ("methods:\n", "method:\n", "study.yaml: unknown key 'method'; allowed: experiments, methods, studies"),
        ("[plain], seeds: [0]", "[plane], seeds: [0]", "methods: unknown key 'plane'; allowed: plain, other, bad"),
        ("[plain], seeds: [0]", "[plain], seeds: [0, 0]", "seeds: a list of distinct int values is needed"),
        ("bad: [0]}", "worse: [0]}", "seeds: unknown key 'worse'; allowed: plain, other, bad"),
        (", bad: [0]}", "}", "seeds: missing: bad"),
        ("plain: {}", "plain:", "methods.plain: a mapping is needed, not None"),
        ("plain: {}", "plain: {", "is not valid YAML"),
        ("30_heatmaps: {}", "70_extra: {}", "70_extra.ipynb does not exist"),
    ],
)
def test_a_mistake_in_study_yaml_is_named_before_anything_is_run(place, old, new, message):
    notebooks, results, package = place
    assert old in STUDY
    (notebooks / "study.yaml").write_text(STUDY.replace(old, new))
    study = "fine" if old in ("title: hello", "30_heatmaps: {}") else "mixed"
    with pytest.raises(StudyError, match=message):
        run_study(study, notebooks, results, package=package, hashes=here)
    assert not results.exists()


def test_runs_get_their_parameters_and_the_studys_overrides(place):
    run = resolve("fine", *place[:2])[0]
    assert run.parameters == {
        "study": "fine", "experiment": "toy", "method": "plain", "seed": 0, "results": "../results",
        "epochs": 9, "rate": 0.5, "data_options": {"size": 4}, "method_options": {},
    }  # fmt: skip
    assert [run.name for run in resolve("mixed", *place[:2])] == [
        "toy/plain/seed0", "toy/other/seed0", "toy/bad/seed0", "toy/plain/seed1",
    ]  # fmt: skip


FOLDED = STUDY.replace("toy: {data", "toy: {folds: 3, data")


def test_seeds_are_folds_where_an_experiment_has_them(place):
    (place[0] / "study.yaml").write_text(FOLDED)
    options = {run.name: run.parameters["data_options"] for run in resolve("mixed", *place[:2])}
    assert options["toy/plain/seed0"] == options["toy/other/seed0"] == {"size": 3, "fold": 0, "folds": 3}
    assert options["toy/plain/seed1"] == {"size": 3, "fold": 1, "folds": 3}
    for seed in (0, 1):
        make_run(place, "mixed", "plain", seed)
    seen = []

    def hashes(experiment, options):
        seen.append(options)
        return {"toy": "abc"}

    found, _ = states(place, hashes=hashes)
    assert found["plain0"] == found["plain1"] == "done" and found["other0"] == "missing"
    assert seen == [{"size": 3, "fold": 0, "folds": 3}]  # the files are read once


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[plain], seeds: [0]", "[plain], seeds: [3]", "toy.seeds: 3 is no fold of toy: they are 0 to 2"),
        ("{size: 4}", "{fold: 1}", "data of toy: leave out fold and folds, which its folds give: seed k is fold k"),
    ],
)
def test_mistakes_about_folds(place, old, new, message):
    assert old in FOLDED
    (place[0] / "study.yaml").write_text(FOLDED.replace(old, new))
    with pytest.raises(StudyError, match=message):
        resolve("fine", *place[:2])


def test_parameter_cells_hold_literals_alone(tmp_path):
    path = tmp_path / "some.ipynb"
    write_notebook(
        path, "rate: float = 0.5  # annotated, which papermill itself would lose\nnames = ['a']\nsize = None"
    )
    assert declared(path) == {"rate": 0.5, "names": ["a"], "size": None}
    check_parameters(path, {"rate": 1, "size": 3})  # an int will do for a float, and anything for None
    write_notebook(path, "rate = 1 / 2")
    with pytest.raises(ValueError, match="only lines `name = literal`, not `rate = 1 / 2`"):
        declared(path)
    path.write_text('{"cells": []}')
    with pytest.raises(ValueError, match="no code cell is tagged 'parameters'"):
        declared(path)


# --- stale or not


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "stale"),
    [
        ("tiny/train.py", "# comment", "# another comment", set()),
        ("tiny/train.py", "Docstring.", "Another docstring.", set()),
        ("tiny/train.py", "penalty(x) + build", "penalty( x )  +  build", set()),
        ("tiny/figures.py", "return x", "return 2 * x", set()),
        ("tiny/__init__.py", "from tiny.figures import draw", "", set()),
        ("tiny/baselines/__init__.py", '"other": Other', '"other": Other, "new": plain.Plain', set()),
        ("tiny/train.py", "+ build", "- build", {"plain", "other"}),
        ("tiny/loss.py", "* 2", "* 3", {"plain", "other"}),  # reached by way of `import tiny`
        ("tiny/data/toy.py", "size=1", "size=2", {"plain", "other"}),
        ("tiny/baselines/__init__.py", "METHODS[x]", "METHODS[x]()", {"plain", "other"}),
        ("tiny/baselines/plain.py", "width = 3", "width = 4", {"plain"}),
        ("tiny/unet.py", "{3!r}", "{3!s}", {"other"}),  # imported by other's module alone
        ("notebooks/10_train.ipynb", "boom", "bang", {"plain", "other"}),
        ("notebooks/20_external_test.ipynb", "30", "31", {"plain", "other"}),
        ("notebooks/10_train.ipynb", "rate = 0.1", "rate = 0.3  # never the default anyway", set()),
        ("notebooks/10_train.ipynb", "extra = None", "extra = 1", {"plain", "other"}),
        ("notebooks/study.yaml", "{weight: 0.7}", "{weight: 0.8}", {"other"}),
        ("notebooks/study.yaml", "{epochs: 9}", "{epochs: 10}", set()),  # of another study
        ("notebooks/40_compare.ipynb", "assert title", "print(title)", set()),
    ],
)
def test_only_what_makes_a_run_makes_it_stale(place, tmp_path, name, old, new, stale):
    for method in ("plain", "other"):
        make_run(place, "mixed", method, 0)
    edit(tmp_path / name, old, new)
    found, reasons = states(place)
    assert {method for method in ("plain", "other") if found[f"{method}0"] == "stale"} == stale
    assert all(reasons[f"{method}0"] for method in stale)
    assert {found[f"{method}0"] for method in {"plain", "other"} - stale} <= {"done"}


def test_changed_data_are_stale_and_absent_data_are_not(place):
    make_run(place, "mixed", "plain", 0)
    seen = []

    def absent(experiment, options):
        seen.append((experiment, options, Path.cwd()))
        return {}

    assert states(place, hashes=absent)[0]["plain0"] == "done"
    assert seen == [("toy", {"size": 3}, place[0])]  # paths in options are relative to the notebooks
    found, reasons = states(place, hashes=lambda experiment, options: {"toy": "abd"})
    assert found["plain0"] == "stale" and reasons["plain0"] == "data toy was 'abc', is 'abd'"


def test_a_run_without_manifest_or_of_other_code_is_not_gone_on_with(place, tmp_path):
    finished, half = make_run(place, "mixed", "plain", 0), make_run(place, "mixed", "plain", 1, finished=False)
    (finished / "manifest.json").unlink()
    assert states(place)[0]["plain0"] == "stale" and states(place)[0]["plain1"] == "unfinished"
    edit(tmp_path / "tiny/train.py", "+ build", "- build")
    assert states(place)[0]["plain1"] == "stale"
    (half / "manifest.json").unlink()
    assert states(place)[0]["plain1"] == "unfinished"


def test_the_hash_is_the_same_in_every_version_of_python(place):
    # A fixed value, because syntax trees differ between versions of Python in fields that are empty.
    assert (
        made_by("toy", "other", place[0], place[2])
        == "b2bd6d24f08aba6a53b3c4b98345e1fa0670f6f83207a73ad7edc5384d916198"
    )


# --- the manifest


def test_manifest_tells_all_and_names_no_place(place):
    parameters = {"experiment": "toy", "method": "plain", "results": "/home/me/results", "seed": 3}
    parameters["data_options"] = {"folder": "/home/me/lungs", "sizes": (3, 4)}
    content = manifest(parameters, {"toy": "abc"}, place[0], place[2])
    options = {"folder": "lungs", "sizes": [3, 4]}
    assert content["parameters"] == {"experiment": "toy", "method": "plain", "seed": 3, "data_options": options}
    assert content["made_by"] == made_by("toy", "plain", *place[::2]) and content["data"] == {"toy": "abc"}
    assert set(content["versions"]) == {"python", "torch", "torchvision", "numpy", "isnetlib"}
    assert set(content) > {"platform", "cpus", "threads", "device", "git", "time"}
    text = json.dumps(content)
    assert "/home" not in text and str(Path.home()) not in text and os.uname().nodename not in text


def test_a_run_goes_on_only_as_what_it_began_as(place, tmp_path):
    parameters = {"experiment": "toy", "method": "plain", "sizes": (3, 4), "results": "there"}
    first = begin(tmp_path / "run", parameters, {"toy": "abc"}, place[0], place[2])
    assert json.loads((tmp_path / "run/manifest.json").read_text())["time"] == first["time"]
    again = begin(tmp_path / "run", parameters | {"results": "elsewhere"}, {"toy": "abc"}, place[0], place[2])
    assert again["time"] == first["time"]
    for other, data in (({"sizes": (3, 5)}, "abc"), ({}, "abd"), ({"method": "other"}, "abc")):
        with pytest.raises(ValueError, match="run holds another run .* was .*: remove it to train afresh"):
            begin(tmp_path / "run", parameters | other, {"toy": data}, place[0], place[2])
    edit(tmp_path / "tiny/train.py", "+ build", "- build")
    with pytest.raises(ValueError, match="the sources changed"):
        begin(tmp_path / "run", parameters, {"toy": "abc"}, place[0], place[2])


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_state_is_of_the_sources_alone(place, tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True
        ).stdout

    assert git_state(place[2]) is None  # no clone
    git("init")
    assert git_state(place[2]) is None  # the package is not among its files
    git("add", "tiny", "notebooks")
    git("commit", "-m", "first")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/file").write_text("a result")
    assert git_state(place[2]) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    edit(tmp_path / "tiny/train.py", "+ build", "- build")
    assert git_state(place[2])["dirty"] is True


# --- the real studies


SIMULATED = ("tuberculosis_sim", "covid_sim", "faces_sim")


def test_the_real_studies_are_in_order():
    notebooks, results = ROOT / "notebooks", ROOT / "results"
    assert list(read_studies(notebooks)["studies"])[:3] == ["smoke", "quick", "full"]
    methods = {
        study: {run.method for run in resolve(study, notebooks, results)} for study in ("smoke", "quick", "full")
    }
    assert methods["quick"] >= {"standard", "pipeline", "rrr", "background_random", "isnet_selective"}
    assert methods["full"] == set(METHODS) and methods["quick"] < methods["full"]
    seeds = Counter((run.experiment, run.method) for run in resolve("full", notebooks, results))
    expected = {(experiment, method): 3 for experiment in SIMULATED for method in METHODS}
    expected |= {("digits", method): 5 for method in METHODS} | {("digits", "isnet_original"): 3}
    assert seeds == expected
    assert set(Counter(run.method for run in resolve("ablations", notebooks, results)).values()) == {3}


FILMS = ("tuberculosis", "tuberculosis_planted", "covid")
PLANNED = {"standard", "multitask", "attention_gate", "gain_ext", "pipeline", "isnet_selective"}


@pytest.mark.parametrize("experiment", FILMS)
def test_every_method_meets_real_films_prepared_alike_and_frozen_before(experiment):
    runs = [run for run in resolve("real", ROOT / "notebooks", ROOT / "results") if run.experiment == experiment]
    seeds = Counter(run.method for run in runs)
    assert {method for method, number in seeds.items() if number == 3} == PLANNED
    assert set(METHODS) - set(seeds) == (set() if experiment == "tuberculosis_planted" else {"oracle"})
    alike = ("data_options", "backbone", "batch_size", "learning_rate", "epochs")
    assert len({json.dumps([run.parameters[name] for name in alike]) for run in runs}) == 1
    assert runs[0].parameters["data_options"]["augment"] and runs[0].parameters["data_options"]["equalise"]
    study = read_studies(ROOT / "notebooks")["studies"]["real"]
    assert experiment in study["freeze"] and {
        len(entry["values"]) for entry in study["search"][experiment].values()
    } == {4}


@pytest.mark.parametrize("name", list(read_studies(ROOT / "notebooks")["methods"]))
def test_every_method_of_the_real_studies_has_the_options_it_is_given(name):
    given = method_parameters(name, read_studies(ROOT / "notebooks")["methods"])
    known = inspect.signature(METHODS[given.get("base", name)]).parameters
    assert set(given["method_options"]) <= set(known)


# --- options of methods by experiment


HERE = STUDY.replace("{epochs: 2, rate: 0.5}}", "{epochs: 2, rate: 0.5}, methods: {other: {weight: 0.2, deep: 3}}}")


def test_an_experiment_may_have_its_own_options_of_a_method(place):
    (place[0] / "study.yaml").write_text(HERE)
    found = {run.method: run.parameters["method_options"] for run in resolve("mixed", *place[:2])}
    assert found == {"plain": {}, "other": {"weight": 0.2, "deep": 3}, "bad": {}}


def test_a_study_has_the_last_word_on_an_experiments_options(place):
    over = HERE.replace("    data: {toy: {size: 4}}", "    methods: {toy: {plain: {deep: 1}, other: {deep: 4}}}")
    over = over.replace("{methods: [plain], seeds: [0]}", "{methods: [plain, other], seeds: [0]}")
    (place[0] / "study.yaml").write_text(over)
    found = {run.method: run.parameters["method_options"] for run in resolve("fine", *place[:2])}
    assert found == {"plain": {"deep": 1}, "other": {"weight": 0.2, "deep": 4}}
    assert resolve("mixed", *place[:2])[1].parameters["method_options"] == {"weight": 0.2, "deep": 3}
    (place[0] / "study.yaml").write_text(over.replace("toy: {plain: {deep", "toy: {plane: {deep"))
    with pytest.raises(StudyError, match="studies.fine.methods.toy: unknown key 'plane'; allowed: plain, other"):
        read_studies(place[0])


def test_own_options_lie_over_the_base_and_under_the_variant():
    methods = {"a": {"p": 1, "q": 1, "r": 1}, "b": {"base": "a", "q": 2}}
    assert method_parameters("b", methods, {"a": {"p": 3, "q": 3}})["method_options"] == {"p": 3, "q": 2, "r": 1}
    assert method_parameters("b", methods, {"b": {"q": 4}}) == {
        "method": "b", "base": "a", "method_options": {"p": 1, "q": 4, "r": 1},
    }  # fmt: skip
    assert methods == {"a": {"p": 1, "q": 1, "r": 1}, "b": {"base": "a", "q": 2}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{other: {weight",
            "{another: {weight",
            "experiments.toy.methods: unknown key 'another'; allowed: plain, other",
        ),
        ("{weight: 0.2, deep: 3}", "0.2", "experiments.toy.methods.other: a mapping is needed, not 0.2"),
        ("deep: 3", "base: plain", "experiments.toy.methods.other: base holds in every experiment"),
        ("weight: 0.2", "weight: 2e-1", "experiments.toy.methods.other.weight: '2e-1' is text to YAML; write 0.2"),
    ],
)
def test_a_mistake_in_an_experiments_own_options_is_named(place, old, new, message):
    assert old in HERE
    (place[0] / "study.yaml").write_text(HERE.replace(old, new))
    with pytest.raises(StudyError, match=message):
        resolve("mixed", *place[:2])


@pytest.mark.parametrize("name", list(read_studies(ROOT / "notebooks")["experiments"]))
def test_the_real_experiments_give_methods_options_that_they_have(name):
    content = read_studies(ROOT / "notebooks")
    for method, options in content["experiments"][name]["methods"].items():
        base = content["methods"][method].get("base", method)
        assert set(options) <= set(inspect.signature(METHODS[base]).parameters), method


# --- a method under another name


NAMED = STUDY.replace("  bad: {}\n", "  bad: {}\n  other_heavy: {base: other, weight: 2.0, extra: null}\n", 1)


def test_a_named_variant_is_its_base_with_options_over_it(place):
    notebooks, results, package = place
    own = NAMED.replace("methods: [plain, other, bad]", "methods: [other_heavy]").replace(
        "seeds: {plain: [0, 1], other: [0], bad: [0]}", "seeds: [0]"
    )
    (notebooks / "study.yaml").write_text(own)
    train = notebooks / "10_train.ipynb"
    train.write_text(train.read_text().replace('method = \\"plain\\"', 'method = \\"plain\\"\\nbase = None'))
    run = resolve("mixed", notebooks, results)[0]
    assert run.name == "toy/other_heavy/seed0" and run.parameters["base"] == "other"
    assert run.parameters["method_options"] == {"weight": 2.0, "extra": None}
    made = manifest(portable(declared(train) | run.parameters), {}, notebooks, package)
    assert made["made_by"] == made_by("toy", "other", notebooks, package)  # the sources of its base
    folder = run.folder(results)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(made))
    (folder / "metrics.json").write_text("{}")
    assert states(place)[0] == {"other_heavy0": "done"}
    edit(notebooks.parent / "tiny/baselines/other.py", "width = net", "width = 2 * net")
    assert states(place)[0] == {"other_heavy0": "stale"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: other,", "base: another,", "methods.other_heavy.base: there is no method 'another' in methods"),
        ("  bad: {}", "  bad: {base: other_heavy}", "methods.bad.base: other_heavy has a base itself"),
    ],
)
def test_a_wrong_base_is_named(place, old, new, message):
    (place[0] / "study.yaml").write_text(NAMED.replace(old, new))
    with pytest.raises(StudyError, match=message):
        read_studies(place[0])


def test_a_real_run_depends_on_its_own_method_and_data():
    found = set(sources("digits", "isnet_selective", ROOT / "notebooks"))
    modules = ("train", "evaluate", "lrp", "rules", "loss", "isnet", "models", "data.digits", "data.swap", "baselines")
    assert found >= {f"isnetlib.{module}" for module in modules} | set(RUN_NOTEBOOKS)
    never = ("figures", "stats", "tables", "report", "study", "runner", "__main__", "data.folder")
    assert found.isdisjoint(f"isnetlib.{module}" for module in never)
