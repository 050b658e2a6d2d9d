"""The dataset folder: every check, and what load makes of it. Folders are built in tmp_path."""

import csv
import io
import json
import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from isnetlib import data
from isnetlib.data import files, folder

QUARTERS = {"size": 16, "fractions": (0.5, 0.25, 0.25)}  # 8 images: 4, 2 and 2 of them, both classes in each


def noise(i, height=40, width=48):
    return np.random.default_rng(i).integers(0, 256, (height, width), dtype=np.uint8)


def box(height=40, width=48):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[10:30, 8:24] = 255
    return mask


def row(i, **cells):
    usual = {"image": f"images/{i}.png", "mask": f"masks/{i}.png", "label": ["ill", "well"][i % 2], "source": "A"}
    return usual | {"patient": f"p{i}"} | cells


def write_index(root, rows):
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def build(tmp_path):
    """build(n, changes {row: {column: cell}}, columns, whose cells give n, too): a folder correct but for these."""

    def build(n=8, changes=None, **columns):
        n = min([n, *map(len, columns.values())])
        root = build.root = tmp_path / "set"
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        for i in range(n):
            Image.fromarray(noise(i)).save(root / f"images/{i}.png")
            Image.fromarray(box()).save(root / f"masks/{i}.png")
        rows = [row(i, **{name: values[i] for name, values in columns.items()}) for i in range(n)]
        write_index(root, [cells | (changes or {}).get(i, {}) for i, cells in enumerate(rows)])
        return root

    return build


def only(problems, level="error"):
    """The one problem a folder has."""
    assert len(problems) == 1, problems.to_string()
    assert problems.level[0] == level and problems.remedy[0]
    return problems.iloc[0]


HEAD = b"image,mask,label,source,patient\n"
NO_BOXES = ("two lesions", "[1, 2]", '[["a", 1, 2, 3]]', '[["a", 1, 2, 3, NaN]]', "[" * 9999)
PARTS = {"split": ["train", "train", "validation", "test"]}


def test_a_correct_folder_has_no_problems(build, tmp_path):
    problems = folder.verify(build())
    assert problems.empty and list(problems) == ["level", "file", "row", "problem", "remedy"]
    before = folder.load(build.root, **QUARTERS).train.x
    path = tmp_path / "set/index.csv"
    path.write_text("\ufeff" + path.read_text().replace("\n", "\n\n").replace(",", " ; "))  # as spreadsheets do
    for old, new in ((";", ";"), ("/", "\\"), (";", "\t")):
        path.write_text(path.read_text().replace(old, new))
        assert folder.verify(build.root).empty
        assert torch.equal(folder.load(build.root, **QUARTERS).train.x, before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        (b"", "lists no images"),
        (HEAD.replace(b"mask,", b"") + b"a,b,c,d\n", "column 'mask' is missing"),
        (b"image,mask,label,label,source,patient\na,,b,b,c,d\n", "column names occur twice"),
        (HEAD + b"a,,b,c,d\nb,,x,y,z,Paris, France\n", "7 cells for 5 columns"),
        (HEAD + b"\xff\xfe,,,,\n", "cannot be read"),
        (HEAD + b'"a,,b,c,d\n', "cannot be read"),
    ],
)
def test_an_index_that_is_no_table(tmp_path, content, message):
    if content is not None:
        (tmp_path / "index.csv").write_bytes(content)
    problem = only(folder.verify(tmp_path))
    assert problem.file == "index.csv" and message in problem.problem
    with pytest.raises(ValueError, match=rf"index.csv(, row {problem.row or 0})?: .*{message}.*Remedy: "):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "columns", "options", "row", "message"),
    [
        *(({2: {name: ""}}, PARTS, {}, 4, f"{name} is empty") for name in ("image", "label", "patient", "split")),
        ({1: {"label": "unwell"}}, {}, {"classes": ["ill", "well"]}, 3, "label is 'unwell'"),
        ({2: {"label": "Ill"}}, {}, {}, "", "labels ['ill', 'Ill'] differ only by case"),
        ({}, {"hat": ["0", "1", "yes", "0"]}, {"attributes": ["hat"]}, 4, "hat is 'yes'"),
        ({3: {"image": "images/2.png"}}, {}, {}, 5, "'images/2.png' is listed twice"),
        *(({}, {"boxes": ["", "[]", cell, ""]} | PARTS, {}, 4, f"boxes are {cell[:40]!r}") for cell in NO_BOXES),
        ({3: {"patient": "p0"}}, PARTS, {}, 5, "patient 'p0' is in test and train: leakage"),
        ({3: {"split": "../test"}}, PARTS, {}, "", "'../test' cannot name a test set"),
        ({2: {"split": "test"}}, PARTS, {}, "", "no row is in validation"),
        ({3: {"split": "train"}}, PARTS, {}, "", "no row is in a test set"),
        ({}, {}, {"split": "fold"}, "", "column 'fold' is missing"),
        (dict.fromkeys(range(8), {"label": "ill"}), {}, {}, "", "column 'label' holds one class only ('ill')"),
        (dict.fromkeys(range(8), {"patient": "p"}), {}, {}, "", "too few patients (1) for a part"),
        ({}, {}, {"classes": ["ill", "well", "odd"]}, "", "one value) of ['odd']"),
        ({}, {}, {"fractions": (0.9, 0.05, 0.05)}, "", "too few patients (8) for a part"),
        (dict.fromkeys(range(8), {"source": "B"}), {}, {"external": ["B"]}, "", "too few patients (0)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_index_is_told_and_refused(build, changes, columns, options, row, message):
    root = build(changes=changes, **columns)
    problem = only(folder.verify(root, **options))
    assert message in problem.problem and (problem.file, problem.row) == ("index.csv", row)
    with pytest.raises(ValueError, match=re.escape(message)):
        folder.load(root, size=16, **options)


def test_boxes_are_scaled_to_the_loaded_image(build):
    boxes = ["", '[["a", 12, 20, 24.6, 40]]', "[]", ""] * 2
    loaded = folder.load(build(boxes=boxes), size=(20, 12), fractions=(0.5, 0.25, 0.25))
    frame = pd.concat([one.frame for one in (loaded.train, loaded.validation, *loaded.tests.values())]).set_index("id")
    assert json.loads(frame.boxes["images/1.png"]) == [["a", 3, 10, 6.15, 20]] and frame.boxes["images/0.png"] == "[]"


def test_paths_that_leave_the_folder_links_and_names_that_cannot_be_opened(build, tmp_path):
    names = ["x" * 300, "loop.png", "linked/x.png", "absent.png", "pipe.png", "in.png"]
    outside = ["/etc/hostname", "images/../../outside.png", "..\\outside.png", "C:\\x.png"]
    root = build(10, {i: {"image" if i < 6 else "mask": name} for i, name in enumerate(names + outside)})
    (tmp_path / "elsewhere").mkdir()
    for name in ("elsewhere/x.png", "outside.png"):
        Image.fromarray(noise(9)).save(tmp_path / name)
    os.mkfifo(root / "pipe.png")
    for name, target in {"loop.png": "loop.png", "linked": tmp_path / "elsewhere", "in.png": "images/0.png"}.items():
        (root / name).symlink_to(target)
    problems = folder.verify(root)
    assert list(problems.row) == [*range(2, 7), *range(8, 12)]  # a link inside the folder is fine
    assert "symbolic link" in problems.problem[2] and set(problems.problem[3:5]) == {"file is missing"}
    assert set(problems.problem[5:]) == {"path leaves the folder"} and list(problems.file[5:]) == outside


def png(array, kind="PNG", mode=None, **options):
    image = Image.frombytes(mode, array.shape[1::-1], array.tobytes()) if mode else Image.fromarray(array)
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be shown turned
BAD_IMAGES = {
    "cut": (png(noise(0))[:-400], "cannot be read as an image"),
    "empty": (b"", "cannot be read as an image"),
    "postscript": (png(noise(0), "EPS"), "cannot be read as an image"),  # Pillow would start Ghostscript
    "constant": (png(np.full((40, 48, 3), (200, 100, 50), np.uint8)), "is constant"),
    "large": (png(np.zeros((8000, 6400), bool)), "has 6400 x 8000 pixels, more than 50,000,000"),
    "larger": (png(np.zeros((14000, 14000), bool)), "cannot be read as an image (DecompressionBombError)"),
    "lab": (png(np.zeros((40, 48, 3), np.uint8), "TIFF", "LAB"), "has the colour mode LAB"),
    "small": (png(noise(0, 40, 20)), "is 20 x 40 pixels, smaller than 32"),
    "depth": (png(noise(0).astype(np.float32) / 255, "TIFF"), "has pixels outside 8 and 16 bit"),
    "frames": (png(noise(0), "TIFF", save_all=True, append_images=[Image.fromarray(noise(1))]), "has 2 frames"),
    "turned": (png(noise(9), "JPEG", exif=EXIF), "is turned by its EXIF tag"),
    "alpha": (png(np.dstack([noise(0)] * 3 + [box()])), "is transparent in parts"),  # no viewer shows all of it
}
BAD_MASKS = {
    "turned mask": (png(box(48, 40)), "mask is 40 x 48 pixels, its image 48 x 40"),
    "grey mask": (png(noise(0)), "mask is not binary"),
    "mask without 0": (png(box() + 100), "mask is not binary"),
    "mask in alpha": (png(np.dstack([box() | 255] * 3 + [box()])), "is transparent in parts"),
    "empty mask": (png(box() * 0), "mask is empty"),
    "full mask": (png(box() | 255), "mask is full"),
}


@pytest.mark.parametrize("content, message", (BAD_IMAGES | BAD_MASKS).values(), ids=BAD_IMAGES | BAD_MASKS)
def test_bad_images_and_masks(build, content, message):
    name, row = ("masks/1.png", 3) if (content, message) in BAD_MASKS.values() else ("images/0.png", 2)
    root = build(changes={0: {"mask": ""}})
    (root / name).write_bytes(content)
    doubted = message in ("mask is empty", "mask is full")
    problem = only(folder.verify(root), "warning" if doubted else "error")
    assert message in problem.problem and (problem.file, problem.row) == (name, row)
    if not doubted:
        with pytest.raises(ValueError, match=rf"{name}, row {row}: .* Remedy: "):
            folder.load(root, **QUARTERS)


@pytest.mark.parametrize("others, warned", [(19, True), (18, False)])
def test_a_class_of_one_image_among_many_may_be_misspelt(build, others, warned):
    labels, parts = [("ill", "well")[i % 2] for i in range(others)], ["validation"] * 2 + ["test"] * 2
    root = build(others + 5, label=["wel", *labels, *["ill", "well"] * 2], split=["train"] * (others + 1) + parts)
    problems = folder.verify(root)
    assert len(problems) == warned and (
        not warned or "no more than two images of ['wel']" in only(problems, "warning").problem
    )


def test_a_jpeg_of_too_many_pixels_is_read_at_half_its_size():
    grey = np.zeros((8000, 6401), np.uint8)
    grey[:4000] = 200
    pixels = files.to_pixels(files.decode(png(grey, "JPEG")))
    assert pixels.shape == (4000, 3201, 3) and (pixels[:1990] == 200).all() and not pixels[2010:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_air_is_dark_in_tiffs_whose_white_is_zero(dtype):
    high = np.iinfo(dtype).max
    ramp = np.tile(np.linspace(0, high, 40).astype(dtype), (40, 1))
    data = bytearray(png(high - ramp, "TIFF"))
    at = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # tag 262, short, 1 value: 1 = black is zero
    data[at + 8] = 0
    assert np.abs(files.to_pixels(files.decode(bytes(data)))[..., 0] - ramp / (high / 255)).max() < 1


def test_what_is_loaded_with_a_warning(build):
    root = build()
    Image.fromarray(noise(0).astype(np.uint16) * 16).save(root / "images/0.png")  # 12 bit in 16
    thin = np.zeros((40, 48), np.uint8)
    thin[3, 3] = 255
    Image.fromarray(thin).save(root / "masks/2.png")
    told = "(?s)images/0.png, row 2: is almost black.*masks/2.png, row 4: mask vanishes when resized to 8"
    with pytest.warns(UserWarning, match=told):
        folder.load(root, **(QUARTERS | {"size": 8}))


def test_copies(build):
    root = build()
    (root / "images/3.png").write_bytes((root / "images/1.png").read_bytes())
    problem = only(folder.verify(root))
    assert problem.problem == "is a copy of images/1.png (row 3) under another patient: leakage"
    write_index(root, [row(i, patient="p1" if i == 3 else f"p{i}") for i in range(8)])
    assert only(folder.verify(root), "warning").problem == "is a copy of images/1.png (row 3)"


def test_items_are_the_files(build):
    """8 and 16 bit, grey and colour, with and without mask; metadata may have any name."""
    parts = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    columns = {"split": parts, "age": list("12345678"), "id": list("abcdefgh")}
    root = build(changes={i: {"patient": "", "mask": f"masks/{i}.png" if i else ""} for i in range(8)}, **columns)
    colour = np.stack([noise(10), noise(11), noise(12)], axis=-1)
    Image.fromarray(colour).save(root / "images/1.png")
    Image.fromarray(noise(2).astype(np.uint16) * 257).save(root / "images/2.png")
    experiment = data.load("folder", folder=root, size=(40, 48), patient=None)
    assert not experiment.publishable and list(experiment.tests) == ["test"]
    train, frame = experiment.train, experiment.train.frame
    assert np.array_equal(train.x[1].permute(1, 2, 0), colour) and np.array_equal(train.x[2, 0], noise(2))
    x, y, mask, i = experiment.tests["test"][1]
    assert np.array_equal((x * 255).round().numpy(), np.stack([noise(7)] * 3)) and (y, i) == (1, 1)
    assert np.array_equal(mask[0].numpy(), box() > 0) and train[0][2].sum() == 0
    assert list(frame) == ["id", "patient", "source", "y", "label", "split", "age"] and list(frame.age) == list("1234")
    assert list(frame.id) == [f"images/{i}.png" for i in range(4)] and frame.patient.equals(frame.id)


def test_resizing_keeps_image_and_mask_aligned():
    pixels = np.repeat(box(80, 96)[..., None], 3, axis=2).astype(np.float32)
    x, mask = files.resize(pixels, 24), files.resize_mask(box(80, 96) > 0, 24)
    assert x.shape == (3, 24, 24) and mask.shape == (1, 24, 24) and x.dtype == mask.dtype == torch.uint8
    assert (((x[:1] > 127) != (mask > 0)).sum() <= 2) and 0 < mask.sum() < 576
    dark = np.repeat(noise(1)[..., None] / np.float32(4), 3, axis=2)
    assert files.resize(dark, 10).float().std() < dark.std() / 3  # antialiased: each pixel averages its area
    assert files.resize(dark, 40, equalise=True).max() == 255
    middle = np.arange(81).reshape(9, 9) == 40
    assert files.resize_mask(middle, 3)[0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_external_sources_are_test_sets(build):
    root = build(14, source=["A"] * 10 + ["B", "B", "C", "C"], changes={i: {"label": "odd"} for i in (0, 3, 6, 9)})
    classes, fractions = ["well", "odd", "ill"], (0.6, 0.4, 0)
    experiment = folder.load(root, external=["B", "C"], classes=classes, fractions=fractions, size=16)
    assert list(experiment.tests) == ["B", "C"] and len(experiment.tests["B"]) == 2
    assert list(experiment.train.frame.y) == [classes.index(one) for one in experiment.train.frame.label]
    assert set(experiment.train.frame.source) | set(experiment.validation.frame.source) == {"A"}
    write_index(root, [row(i, source="AB"[i > 9], patient=f"p{i % 11}") for i in range(14)])
    with pytest.raises(ValueError, match="'p0' is in B and .*leakage"):
        folder.load(root, external=["B"], size=16)


def test_options_that_cannot_be(build):
    root = build(source=["internal"] * 8)
    for options, message in (
        ({"classes": "ill"}, "lists of names"),
        ({"external": ["internal"]}, "not of parts"),
        ({"external": "A"}, "list of sources"),
        ({"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"attributes": ["hat"], "classes": ["a"]}, "one of them is given"),
        ({"patient": "subject"}, "column 'subject' is missing"),
        ({"split": "label", "external": ["A"]}, "name the test sets there"),
    ):
        with pytest.raises(ValueError, match=message):
            folder.load(root, **(QUARTERS | options))


def test_seeded_splits_keep_patients_together_are_stratified_and_depend_on_the_seed_alone():
    patient = pd.Series(np.random.default_rng(0).integers(0, 200, 600).astype(str))
    stratum = patient.map({name: "ill" if int(name) % 4 == 0 else "well" for name in patient})
    shares = (0.7, 0.15, 0.15)
    part, same, other = (folder.split_by_patient(patient, stratum, shares, seed) for seed in (0, 0, 1))
    turned = folder.split_by_patient(patient[::-1], stratum[::-1], shares, 0)
    assert part.equals(same) and not part.equals(other) and turned.sort_index().equals(part)
    assert part.groupby(patient).nunique().max() == 1
    people = pd.DataFrame({"part": part, "stratum": stratum}).groupby(patient).first()
    found = pd.crosstab(people.stratum, people.part, normalize="index")[list(folder.PARTS)]
    assert (abs(found - np.array(shares)) < 0.03).all(axis=None)
    rare = pd.Series([str(i) for i in range(100)])  # each alone in its stratum: pooled, not all put in one part
    counts = folder.split_by_patient(rare, rare, (0.5, 0.25, 0.25), 0).value_counts()
    assert counts.to_dict() == {"train": 50, "validation": 25, "internal": 25}


PNG, TIFF = png(noise(0, 32, 32)), png(noise(1), "TIFF")
DAMAGE = {  # column -> cells that may be put there
    "image": ["", "../a.png", "absent.png", "C:\\a", "i1.png", "\0", "x" * 300, ".", "bad0.png", "bad1.png"],
    "mask": ["", "m.png", "i2.png", "bad0.png", "small.png", "empty.png"],
    "label": ["", "a", "b", "A", "c", "=1+1", "\u2603"],
    "source": ["", "s", "t", "train", "../x"],
    "patient": ["", "p0", "p1", "P0", "1"],
    "split": ["", "train", "validation", "test", "te st"],
    "boxes": ["", "[]", "[[1]]", "{}", '[["k", 1, 2, 3, 4]]', "text"],
}
OPTIONS = [{}, {"external": ["t"]}, {"patient": None}, {"classes": ["a", "b"]}]


def damaged(rng):
    """Bytes of a file that is cut, has random bytes inside, or is none."""
    data, kind = bytearray(PNG if rng.random() < 0.5 else TIFF), rng.integers(3)
    at = int(rng.integers(len(data)))
    return [data[:at], data[:at] + rng.bytes(4) + data[at + 4 :], rng.bytes(40)][kind]


def test_verify_and_load_agree_on_a_thousand_damaged_folders(tmp_path):
    masks = {"m": box(32, 32), "small": box(31, 32), "empty": np.zeros((32, 32), np.uint8)}
    for name, array in (masks | {f"i{i}": noise(i, 32, 32) for i in range(6)}).items():
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    rng, refused = np.random.default_rng(0), 0
    for _ in range(1000):
        n = int(rng.integers(1, 7))
        usual = [{"image": f"i{i}.png", "mask": "m.png", "label": "ab"[i % 2]} for i in range(n)]
        rows = [cells | {"source": "st"[i % 5 == 4], "patient": f"p{i}"} for i, cells in enumerate(usual)]
        for column in rng.choice(list(DAMAGE), rng.integers(3), replace=False):
            for cells in rows:
                usual = {"split": ["train", "validation", "test"][rng.integers(3)], "boxes": ""}
                damage = rng.random() < 0.1
                cells[column] = rng.choice(DAMAGE[column]) if damage else cells.get(column, usual.get(column))
        for k in range(2):
            (tmp_path / f"bad{k}.png").write_bytes(damaged(rng))
        write_index(tmp_path, rows)
        if rng.random() < 0.1:
            text = (tmp_path / "index.csv").read_bytes()
            at = int(rng.integers(len(text)))
            (tmp_path / "index.csv").write_bytes(text[:at] + rng.bytes(2) + text[at + rng.integers(4) :])
        options, outcomes = OPTIONS[rng.integers(len(OPTIONS))] | {"fractions": (0.5, 0.25, 0.25)}, []
        for call, size in ((folder.verify, None), (folder.load, 8)):
            try:
                with warnings.catch_warnings(action="ignore"):
                    found = call(tmp_path, size=size, **options)
                outcomes.append(call is folder.verify and (found["level"] == "error").any())
            except ValueError as error:  # of verify: an option that does not fit this index
                assert call is folder.load or "external" in str(error)
                outcomes.append(True)
        assert outcomes[0] == outcomes[1], rows
        refused += outcomes[1]
    assert 200 < refused < 900
