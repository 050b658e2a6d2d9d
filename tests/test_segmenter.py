"""The lung segmenter and notebook 08, on a stub of the sources."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from stub_films import SOURCES, run_cells, write_sources

from isnetlib.data import files as places
from isnetlib.training import segmenter

NOTEBOOK = Path(__file__).parents[1] / "notebooks/pipeline/08_segment.ipynb"
SMALL = {"size": 40, "folds": 2, "epochs": 16, "depth": 2, "width": 4, "batch_size": 4, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The notebook's names after a second call, which finds everything made; its masks, results and what it fitted."""
    root, seen, fit = tmp_path_factory.mktemp("segmenter"), [], segmenter.fit
    (root / "films").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISNET_DATA", str(write_sources(root / "films", times=2)))
        patch.setenv("ISNET_MASKS", str(root / "masks"))
        patch.setattr(segmenter, "fit", lambda films, **more: seen.append(films.frame) or fit(films, **more))
        given = SMALL | {"results": str(root / "results")}
        before = torch.get_rng_state()
        run_cells(NOTEBOOK, given)
        scored = (root / "results/dice.csv").stat().st_mtime_ns
        names = run_cells(NOTEBOOK, given)
        assert torch.equal(torch.get_rng_state(), before)
        assert (root / "results/dice.csv").stat().st_mtime_ns == scored  # the unseen hospital is scored once
        with pytest.raises(ValueError, match=r"holds the scores of another run \(epochs differs\): give a folder"):
            run_cells(NOTEBOOK, given | {"epochs": 0})
    return names, root / "masks", root / "results", seen


def test_no_network_saw_a_patient_of_its_fold_nor_what_is_not_to_be_learnt_from(made):
    names, _, _, seen = made
    frame, folds = names["frame"], SMALL["folds"]
    assert frame.groupby("patient")["fold"].nunique().max() == 1
    assert pd.crosstab(frame["source"], frame["fold"]).min(axis=None) > 0
    assert len(seen) == folds  # nothing is learnt again
    for k, mine in enumerate(seen):
        assert not set(mine["patient"]) & set(frame["patient"][frame["fold"] == k])
        assert set(mine["source"]) <= {"jsrt", "ieee8023"} and (mine["hannover"] != "1").all()


def test_every_film_has_a_mask_of_its_size_or_a_reason(made):
    names, masks, results, _ = made
    doubtful, counts = pd.read_csv(results / "doubtful.csv"), pd.read_csv(results / "masks.csv", index_col="source")
    assert list(doubtful) == ["source", "image", "quality", "fold"] and set(counts.index) == set(SOURCES)
    for source in SOURCES:
        index = pd.read_csv(masks / source / "index.csv")
        assert list(index) == ["image", "mask", "mask_source", "quality", "fold"] and set(index["quality"]) == {"ok"}
        assert len(index) == counts.loc[source, "masks"] and index["mask_source"].eq("predicted").all()
        left_out = len(pd.read_csv(masks / source / "doubtful.csv"))
        assert len(index) + left_out == counts.loc[source, "films"] and (doubtful["source"] == source).sum() == left_out
        read = np.asarray(Image.open(masks / source / index["mask"][0])) > 0  # the stub's films have the masks' size
        row = names["frame"].index[names["frame"]["id"] == f"{source}/{index['image'][0]}"][0]
        assert np.array_equal(read, names["predicted"]["without_heart"][row] > 0)
    assert pd.read_csv(results / "dice.csv").query("own_convention")["dice"].median() > 0.8  # it has learnt the boxes


def test_what_may_be_committed_holds_no_film_and_no_place(made):
    _, masks, results, _ = made
    texts = {path.name: path.read_text() for path in results.iterdir()}
    assert set(texts) == {"dice.csv", "doubtful.csv", "manifest.json", "masks.csv", "summary.csv"}
    assert not any(str(masks.parent) in text for text in texts.values())
    assert set(pd.read_csv(results / "summary.csv")["source"]) == {"jsrt", "ieee8023", "shenzhen"}
    assert json.loads(texts["manifest.json"])["parameters"]["epochs"] == SMALL["epochs"]


def test_a_source_without_human_masks_and_a_missing_one_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ISNET_MASKS", str(tmp_path / "masks"))
    given = SMALL | {"data": str(write_sources(tmp_path)), "results": str(tmp_path / "results")}
    with pytest.raises(ValueError, match=r"no film of \['nih'\] has a human mask"):
        run_cells(NOTEBOOK, given | {"conventions": {"jsrt": "without_heart", "nih": "with_heart"}, "others": []})
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        run_cells(NOTEBOOK, given | {"others": ["nowhere"]})


def test_masks_go_to_a_place_outside_the_project_or_nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv("ISNET_MASKS", raising=False)
    with pytest.raises(FileNotFoundError, match="set ISNET_MASKS"):
        places.outside(None)
    for inside in ("masks", str(places.PROJECT / "results" / "masks"), str(tmp_path / ".." / places.PROJECT)):
        monkeypatch.setenv("ISNET_MASKS", inside)
        with pytest.raises(ValueError, match="lies inside .*: masks of films are not to be published"):
            places.outside(None)
    monkeypatch.setenv("ISNET_MASKS", str(tmp_path))
    assert places.outside(None) == tmp_path and places.outside(tmp_path / "other") == tmp_path / "other"


def test_cleaning_doubt_and_loss_have_known_answers():
    mask = np.zeros((40, 40), bool)
    mask[5:35, 4:16] = mask[5:35, 24:36] = True
    assert segmenter.doubt(mask) == ""
    dirty, one = mask.copy(), mask.copy()
    dirty[10:12, 8:10], dirty[0, 0:3] = False, True  # a hole and a speck
    assert np.array_equal(segmenter.clean(dirty), mask)
    one[20, 16:24] = True
    assert segmenter.doubt(one) == "1 component, not 2"
    assert segmenter.doubt(np.zeros((40, 40), bool)).startswith("area 0.00")
    lungs, b = segmenter.Lungs(2, 2, 4), torch.zeros(1, 1, 4, 4)
    b[..., 0, :] = 1
    for logits, loss in ((200 * b - 100, 0), (torch.zeros_like(b), np.log(2) + 1 - 4 / 12)):
        lungs.forward = lambda x, y, logits=logits: logits
        assert lungs.loss(b, torch.zeros(1), b)[1]["segmentation"] == pytest.approx(loss, rel=1e-5, abs=1e-5)
