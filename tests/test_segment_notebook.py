"""Notebook 08 on a stub of the sources: masks outside the project, scores and a list of doubtful masks, no film."""

import json
from pathlib import Path

import pandas as pd
import pytest
from stub_films import SOURCES, run_cells, write_sources

from isnetlib.data import places

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "08_segment.ipynb"
SMALL = {"size": 40, "folds": 2, "epochs": 12, "depth": 2, "width": 4, "batch_size": 4, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The notebook after two calls, of which the second finds everything made; its names, masks and results."""
    root = tmp_path_factory.mktemp("segmenter")
    (root / "films").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISNET_DATA", str(write_sources(root / "films", times=2)))
        patch.setenv("ISNET_MASKS", str(root / "masks"))
        given = SMALL | {"results": str(root / "results")}
        first = run_cells(NOTEBOOK, given)
        scores = (root / "results/dice.csv").stat().st_mtime_ns
        run_cells(NOTEBOOK, given)
    assert (root / "results/dice.csv").stat().st_mtime_ns == scores  # the unseen hospital is scored once
    return first, root / "masks", root / "results"


def test_every_film_has_a_mask_or_a_reason(made):
    names, masks, results = made
    doubtful, counts = pd.read_csv(results / "doubtful.csv"), pd.read_csv(results / "masks.csv", index_col="source")
    assert list(doubtful) == ["source", "image", "quality", "fold"] and set(counts.index) == set(SOURCES)
    assert (counts["films"] - counts["masks"]).to_dict() == {
        source: (doubtful["source"] == source).sum() for source in SOURCES
    }
    for source in SOURCES:
        index = pd.read_csv(masks / source / "index.csv")
        assert len(index) == counts.loc[source, "masks"] and index["mask_source"].eq("predicted").all()
        assert all((masks / source / name).exists() for name in index["mask"])
    assert (counts["masks"] > 0).all() and "ok" not in set(doubtful["quality"])
    dice = pd.read_csv(results / "dice.csv").query("own_convention")["dice"]
    assert dice.median() > 0.8  # it has learnt the boxes


def test_what_may_be_committed_holds_no_film_and_no_place(made):
    _, masks, results = made
    assert {path.name for path in results.iterdir()} == {
        "dice.csv", "doubtful.csv", "manifest.json", "masks.csv", "summary.csv",
    }  # fmt: skip
    assert not any(str(masks.parent) in path.read_text() for path in results.iterdir())
    summary = pd.read_csv(results / "summary.csv")
    assert set(summary["source"]) == {"jsrt", "ieee8023", "shenzhen"}
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["parameters"]["epochs"] == SMALL["epochs"] and "masks" not in manifest["parameters"]


def test_masks_go_to_a_place_outside_the_project_or_nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("ISNET_MASKS", raising=False)
    with pytest.raises(FileNotFoundError, match="no place for masks: set ISNET_MASKS to a folder outside"):
        places.outside(None)
    for inside in ("masks", str(places.PROJECT / "results" / "masks"), str(tmp_path / ".." / places.PROJECT)):
        monkeypatch.setenv("ISNET_MASKS", inside)
        with pytest.raises(ValueError, match="lies inside .*: masks of films are not to be published"):
            places.outside(None)
    monkeypatch.setenv("ISNET_MASKS", str(tmp_path))
    assert places.outside(None) == tmp_path and places.outside(tmp_path / "other") == tmp_path / "other"
