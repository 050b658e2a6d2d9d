"""Data that are absent: a study's state can be told, nothing is run, nothing is lost."""

import json
from pathlib import Path

import pytest
import yaml
from stub_films import write_predicted, write_sources

from isnetlib.__main__ import main
from isnetlib.needed import require_data
from isnetlib.provenance import made_by, portable
from isnetlib.study import StudyError, resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The project's notebooks beside a study of one method on films of which this machine has none."""
    for variable in ("ISNET_DATA", "ISNET_MASKS"):
        monkeypatch.delenv(variable, raising=False)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        (notebooks / path.name).write_bytes(path.read_bytes())
    runs = {"tuberculosis": {"methods": ["standard", "rrr"], "seeds": [0]}}
    search = {"tuberculosis": {"rrr": {"option": "penalty_weight", "values": [1.0]}}}
    content = {
        "experiments": {"tuberculosis": {"data": {"size": 32}, "train": {"epochs": 4}}},
        "methods": {"standard": {}, "rrr": {"penalty_weight": 1.0}},
        "studies": {"films": {"budget_minutes": 1, "runs": runs, "search": search}},
    }
    (notebooks / "study.yaml").write_text(yaml.safe_dump(content))
    return notebooks, tmp_path / "results"


def isnet(command, study, *more):
    return main([command, "--study", "films", "--notebooks", str(study[0]), "--results", str(study[1]), *more])


def leave_run(study):
    """A finished run, as it is committed, whose data are elsewhere."""
    run = next(run for run in resolve("films", *study) if run.method == "standard")
    folder = run.folder(study[1])
    folder.mkdir(parents=True)
    from isnetlib.notebooks import declared

    parameters = portable(declared(study[0] / "10_train.ipynb") | run.parameters)
    content = {"parameters": parameters, "made_by": made_by("tuberculosis", "standard", study[0])}
    content = json.loads(json.dumps(content | {"data": {"nih/index.csv": "abc"}}))
    (folder / "manifest.json").write_text(json.dumps(content))
    (folder / "metrics.json").write_text("{}")
    return folder


def test_the_state_is_told_and_absent_data_make_nothing_stale(study, capsys):
    leave_run(study)
    assert isnet("status", study) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[2:] for line in printed[1:]] == [
        ["rrr", "(search)", "0", "0", "1", "0"], ["standard", "1", "0", "0", "0"], ["rrr", "0", "0", "1", "0"],
    ]  # fmt: skip


@pytest.mark.parametrize("only", [(), ("--only", "seed0"), ("--only", "search/tuberculosis")])
def test_running_without_data_fails_at_once_in_one_line_and_loses_nothing(study, capsys, only):
    folder = leave_run(study)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parameters"]["epochs"] = 5  # stale: with data it would be removed and made afresh
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(study[1].rglob("*"))
    assert isnet("run", study, *only) == 2
    error = capsys.readouterr().err
    assert error.startswith("isnet: nothing is run: data of tuberculosis: no data: set ISNET_DATA to the folder that")
    assert "README.md" in error and error.count("\n") == 1 and sorted(study[1].rglob("*")) == before


def test_data_that_are_changed_make_stale_and_those_that_are_wrong_are_told(study, capsys, monkeypatch, tmp_path):
    leave_run(study)
    monkeypatch.setenv("ISNET_DATA", str(write_sources(tmp_path)))
    monkeypatch.setenv("ISNET_MASKS", str(write_predicted(tmp_path, tmp_path / "masks")))
    assert isnet("status", study) == 1
    assert "standard/seed0: data nih/" in capsys.readouterr().out
    require_data(resolve("films", *study), study[0])
    (tmp_path / "nih/index.csv").unlink()
    with pytest.raises(StudyError, match="data of tuberculosis: .*nih: 1 problem.*index.csv") as caught:
        require_data(resolve("films", *study), study[0])
    assert "\n" not in str(caught.value)


def test_the_readme_tells_what_the_message_points_to():
    text = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    part = text[text.index("\n## Data") :]
    assert "ISNET_DATA" in part and "ISNET_MASKS" in part and "08_segment" in part
