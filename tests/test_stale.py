"""What makes a run stale, and what its manifest tells."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tiny_study import edit, make_run, states

from isnetlib.provenance import RUN_NOTEBOOKS, begin, git_state, made_by, manifest, sources

ROOT = Path(__file__).parent.parent


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


def test_a_real_run_depends_on_its_own_method_and_data():
    found = set(sources("digits", "isnet_selective", ROOT / "notebooks"))
    modules = ("train", "evaluate", "lrp", "rules", "loss", "isnet", "models", "data.digits", "data.swap", "baselines")
    assert found >= {f"isnetlib.{module}" for module in modules} | set(RUN_NOTEBOOKS)
    never = ("figures", "stats", "tables", "report", "study", "runner", "__main__", "data.folder")
    assert found.isdisjoint(f"isnetlib.{module}" for module in never)
