"""The lung segmenter on fabricated films whose masks are exact: it learns, leaves patients out, resumes, says no."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from isnetlib import segmenter
from isnetlib.data.drawing import to_bytes
from isnetlib.data.films import draw_patients
from isnetlib.data.reading import read_listing

SIZE = 64
TRAINING = {"epochs": 20, "depth": 3, "width": 8, "batch_size": 4, "learning_rate": 1e-2, "report": lambda line: None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sources `human`, every film with its mask, two films a patient, and `bare`, none with one."""
    root, drawn = tmp_path_factory.mktemp("data"), draw_patients(40, SIZE, np.random.default_rng(0))
    for source, rows in (("human", range(32)), ("bare", range(32, 40))):
        table = []
        (root / source / "images").mkdir(parents=True)
        for k in rows:
            Image.fromarray(to_bytes(drawn.film[k])).save(root / source / f"images/{k}.png")
            Image.fromarray(255 * drawn.mask[k].astype(np.uint8)).save(root / source / f"{k}m.png")
            mask = f"{k}m.png" if source == "human" else ""
            table.append((f"images/{k}.png", mask, "normal", source, k // 2, "1" if k < 2 else "0"))
        columns = ["image", "mask", "label", "source", "patient", "hannover"]
        pd.DataFrame(table, columns=columns).to_csv(root / source / "index.csv", index=False)
    return root


@pytest.fixture(scope="module")
def films(root):
    return segmenter.read_films(root, ["human", "bare"], SIZE)


def test_folds_keep_patients_together_and_spread_sources(films):
    fold = segmenter.assign_folds(films.frame, 2, 0)
    assert films.frame.assign(fold=fold).groupby("patient")["fold"].nunique().max() == 1
    assert pd.crosstab(films.frame["source"], fold).to_numpy().tolist() == [[4, 4], [16, 16]]
    assert films.x.shape == films.mask.shape == (40, 1, SIZE, SIZE)


def test_who_is_learnt_from(films):
    rows = segmenter.learns(films, ["human"], {"hannover": "1"})
    assert rows.sum() == 30 and not rows[:2].any() and not rows[32:].any()
    with pytest.raises(ValueError, match=r"no film of \['bare'\] has a human mask"):
        segmenter.learns(films, ["human", "bare"], {})


def test_dice_rises_out_of_fold_and_masks_are_stored_as_the_films_read_them(films, root, tmp_path, monkeypatch):
    fold, heart = segmenter.assign_folds(films.frame, 2, 0), torch.zeros(len(films.frame))
    rows, seen = segmenter.learns(films, ["human"], {}), []
    fit = segmenter.fit
    monkeypatch.setattr(segmenter, "fit", lambda x, *rest, **more: seen.append(x) or fit(x, *rest, **more))
    before = torch.get_rng_state()
    masks = segmenter.out_of_fold(films, fold, rows, heart, tmp_path / "folds", **TRAINING)
    assert torch.equal(torch.get_rng_state(), before)
    for k, x in enumerate(seen):
        assert torch.equal(x, films.x[torch.from_numpy(rows & (fold != k))])  # no film of the fold itself
    again = segmenter.out_of_fold(films, fold, rows, heart, tmp_path / "folds", **TRAINING)
    assert len(seen) == 2 and all(torch.equal(masks[name], again[name]) for name in masks)  # nothing trained again
    table = segmenter.summarise(segmenter.score(films, masks, fold, {"human": "without_heart"}))
    own = table[table["own_convention"]].iloc[0]
    assert own["films"] == 32 and own["patients"] == 16 and own["dice"] > 0.95
    stored = segmenter.store(films, masks["without_heart"], fold, root, tmp_path)
    index = pd.read_csv(tmp_path / "bare" / "index.csv")
    assert list(index) == ["image", "mask", "mask_source", "quality", "fold"] and set(index["quality"]) == {"ok"}
    doubtful = pd.read_csv(tmp_path / "bare" / "doubtful.csv")
    assert len(index) + len(doubtful) == 8 and len(stored) == 40 and len(index) > 0
    listing = read_listing(tmp_path / "bare")
    assert set(listing) == set(index["image"])
    first = films.frame.index[films.frame["image"] == index["image"][0]][0]
    read = np.asarray(Image.open(tmp_path / "bare" / listing[index["image"][0]])) > 0
    assert np.array_equal(read, masks["without_heart"][first, 0].numpy() > 0)


def test_cleaning_and_doubt_have_known_answers():
    mask = np.zeros((40, 40), bool)
    mask[5:35, 4:16] = mask[5:35, 24:36] = True
    assert segmenter.doubt(mask) == ""
    dirty = mask.copy()
    dirty[10:12, 8:10], dirty[0, 0:3] = False, True  # a hole and a speck
    assert np.array_equal(segmenter.clean(dirty), mask)
    one = mask.copy()
    one[20, 16:24] = True
    assert segmenter.doubt(one) == "1 component, not 2"
    assert segmenter.doubt(np.zeros((40, 40), bool)).startswith("area 0.00")


def test_overlap_and_loss_have_known_answers():
    a, b = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    a[..., :2, :], b[..., 0, :] = 1, 1  # twice the truth
    assert segmenter.overlap(a, b).iloc[0].tolist() == pytest.approx([2 * 4 / 12, 0.5, 1.0])
    assert float(segmenter.segmentation_loss(200 * b - 100, b)) == pytest.approx(0, abs=1e-5)
    assert float(segmenter.segmentation_loss(torch.zeros_like(b), b)) == pytest.approx(np.log(2) + 1 - 4 / 12, rel=1e-5)


def test_mistakes_are_told(films, tmp_path):
    with pytest.raises(ValueError, match="every film to learn from needs a mask"):
        segmenter.fit(films.x, films.mask, torch.zeros(40), epochs=1)
    segmenter.begin(tmp_path, {"size": 64}, {"a": "1"})
    segmenter.begin(tmp_path, {"size": 64}, {"a": "1"})
    with pytest.raises(ValueError, match=r"holds masks of another segmenter \(parameter size was 64, is 96\)"):
        segmenter.begin(tmp_path, {"size": 96}, {"a": "1"})
    with pytest.raises(ValueError, match="nowhere"):
        segmenter.read_films(tmp_path, ["nowhere"], 64)
