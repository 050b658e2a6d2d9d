"""The dataset folder: every check, and what load makes of it. Folders are built in tmp_path."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from isnetlib import data
from isnetlib.data import folder

REAL = Path(os.environ.get("ISNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
QUARTERS = {"size": 16, "fractions": (0.5, 0.25, 0.25)}  # 8 images: 4, 2 and 2 of them, both classes in each
FACES = ["Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace", "Mouth_Open", "Ears_Visible"]


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
    """build(n, changes): a correct folder of n images, and index.csv with `changes` {row: {column: cell}}."""

    def build(n=4, changes=None, **columns):
        root = tmp_path / "set"
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


# --- verify: index ------------------------------------------------------------------------------------------------


def test_a_correct_folder_has_no_problems(build):
    problems = folder.verify(build())
    assert problems.empty and list(problems) == ["level", "file", "row", "problem", "remedy"]


def test_missing_index(tmp_path):
    problem = only(folder.verify(tmp_path))
    assert (problem.file, problem.problem) == ("index.csv", "is missing")
    with pytest.raises(ValueError, match="index.csv, row 0: is missing"):
        folder.load(tmp_path)


@pytest.mark.parametrize("column", ["image", "mask", "label", "source", "patient"])
def test_missing_column(build, column):
    root = build()
    pd.read_csv(root / "index.csv").drop(columns=column).to_csv(root / "index.csv", index=False)
    problem = only(folder.verify(root))
    assert problem.problem == f"column '{column}' is missing" and problem.row == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no images"),
        (b"image,mask,label,source,patient\n", "lists no images"),
        (b"image,mask,label,label,source,patient\na,,b,b,c,d\n", "column names occur twice"),
        (b"image,mask,label,source,patient\na,,b,c,d\nb,,x,y,z,Paris, France\n", "7 cells for 5 columns"),
        (b"image,mask,label,source,patient\n\xff\xfe,,,,\n", "cannot be read"),
        (b'image,mask,label,source,patient\n"a,,b,c,d\n', "cannot be read"),
    ],
)
def test_an_index_that_is_no_table(tmp_path, content, message):
    (tmp_path / "index.csv").write_bytes(content)
    assert message in only(folder.verify(tmp_path)).problem


def test_spreadsheets_byte_order_mark_blank_lines_and_spaces_are_fine(build):
    root = build()
    text = (root / "index.csv").read_text().replace("\n", "\n\n").replace(",", " , ")
    (root / "index.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert folder.verify(root).empty


@pytest.mark.parametrize("column", ["image", "label", "source", "patient", "split"])
def test_empty_cells(build, column):
    problems = folder.verify(build(changes={2: {column: ""}}, split=["train", "validation", "test", "test"]))
    assert only(problems).problem == f"{column} is empty" and problems.row[0] == 4  # as a spreadsheet counts


def test_unknown_label(build):
    root = build(changes={1: {"label": "unwell"}})
    problem = only(folder.verify(root, classes=["ill", "well"]))
    assert "unknown label 'unwell'" in problem.problem and problem.row == 3 and "['ill', 'well']" in problem.remedy


def test_labels_that_differ_by_case(build):
    assert "['ill', 'Ill']" in only(folder.verify(build(changes={2: {"label": "Ill"}}))).problem


def test_labels_are_never_evaluated(build, tmp_path):
    label = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    root = build(changes={0: {"label": label}, 2: {"label": "=1+1"}})
    assert folder.verify(root).empty and not (tmp_path / "made").exists()


def test_attributes_must_be_0_or_1(build):
    problem = only(folder.verify(build(hat=["0", "1", "yes", "0"]), attributes=["hat"]))
    assert problem.problem == "hat is 'yes'" and problem.row == 4


def test_listed_twice(build):
    problem = only(folder.verify(build(changes={3: {"image": "images/2.png"}})))
    assert "'images/2.png' is listed twice" in problem.problem and problem.row == 5


def test_leakage_between_parts(build):
    root = build(changes={2: {"patient": "p0"}}, split=["train", "validation", "test", "test"])
    problem = only(folder.verify(root))
    assert problem.problem == "patient 'p0' is in test and train: leakage" and problem.row == 4
    with pytest.raises(ValueError, match="leakage"):
        folder.load(root)


def test_split_column_names(build):
    root = build(split=["train", "val", "../test", "test"])
    problems = folder.verify(root)
    assert list(problems.problem) == ["'../test' cannot name a test set", "no row is in 'validation'"]
    assert "column 'fold' is missing" in only(folder.verify(root, split="fold")).problem


# --- verify: files ------------------------------------------------------------------------------------------------


def test_missing_files(build):
    root = build()
    (root / "images/1.png").unlink()
    (root / "masks/2.png").unlink()
    problems = folder.verify(root)
    assert list(problems.file) == ["images/1.png", "masks/2.png"] and list(problems.row) == [3, 4]
    assert set(problems.problem) == {"file is missing"}


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../outside.png", "images/../../outside.png", "..\\outside.png", "C:\\x.png"]
)
@pytest.mark.parametrize("column", ["image", "mask"])
def test_paths_that_leave_the_folder(build, tmp_path, name, column):
    Image.fromarray(noise(9)).save(tmp_path / "outside.png")
    problem = only(folder.verify(build(changes={0: {column: name}})))
    assert problem.problem == "path leaves the folder" and problem.file == name


def test_symbolic_links(build, tmp_path):
    root = build(8)
    Image.fromarray(noise(9)).save(tmp_path / "outside.png")
    (root / "images/0.png").unlink()
    (root / "images/0.png").symlink_to(tmp_path / "outside.png")
    assert "symbolic link" in only(folder.verify(root)).problem
    with pytest.raises(ValueError, match="symbolic link"):
        folder.load(root, **QUARTERS)
    (root / "images/0.png").unlink()
    (root / "images/kept.png").write_bytes((tmp_path / "outside.png").read_bytes())
    (root / "images/0.png").symlink_to("kept.png")  # a link inside the folder
    assert folder.verify(root).empty


def test_a_linked_directory(build, tmp_path):
    root = build(changes={0: {"image": "linked/x.png"}})
    (tmp_path / "elsewhere").mkdir()
    Image.fromarray(noise(9)).save(tmp_path / "elsewhere/x.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in only(folder.verify(root)).problem


def test_names_that_cannot_be_opened(build):
    root = build(changes={0: {"image": "x" * 300}, 1: {"image": "images/loop.png"}, 2: {"image": "images"}})
    (root / "images/loop.png").symlink_to("loop.png")
    problems = folder.verify(root)
    assert list(problems.row) == [2, 3, 4] and problems.problem.str.contains("file").all()


def png(array, kind="PNG"):
    Image.fromarray(array).save(buffer := io.BytesIO(), kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(noise(0))[:-400], "cannot be read as an image"),  # cut short
        (png(noise(0))[:500] + b"\0" * 20 + png(noise(0))[520:], "cannot be read as an image"),  # damaged
        (b"no image", "cannot be read as an image"),
        (b"", "cannot be read as an image"),
        (png(noise(0), "EPS"), "cannot be read as an image"),  # Pillow would start Ghostscript
        (png(noise(0), "GIF"), "cannot be read as an image"),  # readable, but not among the formats
        (png(np.full((40, 48), 7, np.uint8)), "is constant"),
        (png(noise(0, 40, 20)), "is 20 x 40 pixels, smaller than 32"),
    ],
    ids=["cut", "damaged", "text", "empty", "postscript", "gif", "constant", "small"],
)
def test_bad_images(build, content, message):
    root = build(8, changes={0: {"mask": ""}})
    (root / "images/0.png").write_bytes(content)
    problem = only(folder.verify(root))
    assert message in problem.problem and (problem.file, problem.row) == ("images/0.png", 2)
    with pytest.raises(ValueError, match=r"images/0.png, row 2: .* Remedy: "):
        folder.load(root, **QUARTERS)


def test_more_bad_images(build):
    root = build(changes={i: {"mask": "", "image": f"{i}.tif"} for i in range(3)})
    Image.fromarray(np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)).save(root / "0.tif")
    frames = [Image.fromarray(noise(i)) for i in (7, 8)]
    frames[0].save(root / "1.tif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(9)).save(root / "2.tif", "JPEG", exif=exif)
    problems = folder.verify(root)
    texts = ["has pixels outside 8 and 16 bit", "has 2 frames", "is turned by its EXIF tag"]
    assert list(problems.problem) == texts and list(problems.row) == [2, 3, 4]


@pytest.mark.parametrize(
    ("array", "level", "message"),
    [
        (box(48, 40), "error", "mask is 40 x 48 pixels, its image 48 x 40"),
        (noise(0), "error", "mask is not binary"),
        (box() + 100, "error", "mask is not binary"),  # two values, neither is 0
        (box() * 0, "warning", "mask is empty"),
        (box() | 255, "warning", "mask is full"),
    ],
)
def test_bad_masks(build, array, level, message):
    root = build()
    Image.fromarray(array.astype(np.uint8)).save(root / "masks/1.png")
    problem = only(folder.verify(root), level)
    assert message in problem.problem and (problem.file, problem.row) == ("masks/1.png", 3)


def test_copies(build):
    root = build()
    (root / "images/3.png").write_bytes((root / "images/1.png").read_bytes())
    problem = only(folder.verify(root))
    assert problem.problem == "is a copy of images/1.png (row 3) under another patient: leakage"
    assert folder.verify(root, exclude=["images/3.png"]).empty
    write_index(root, [row(i, patient="same") for i in range(4)])
    assert only(folder.verify(root), "warning").problem == "is a copy of images/1.png (row 3)"


def test_dark_16_bit_image(build):
    root = build(8)
    Image.fromarray(noise(0).astype(np.uint16) * 16).save(root / "images/0.png")  # 12 bit in 16
    assert "almost black" in only(folder.verify(root), "warning").problem
    with pytest.warns(UserWarning, match=r"images/0.png, row 2: is almost black"):
        folder.load(root, **QUARTERS)


# --- load ---------------------------------------------------------------------------------------------------------


def test_items_are_the_files(build):
    root = build(
        8, changes={0: {"mask": ""}}, split=["train"] * 4 + ["validation"] * 2 + ["test"] * 2, age=list("12345678")
    )
    experiment = data.load("folder", folder=root, size=(40, 48))
    assert (experiment.metric, experiment.publishable, list(experiment.tests)) == ("auc", False, ["test"])
    assert [len(experiment.train), len(experiment.validation), len(experiment.tests["test"])] == [4, 2, 2]
    assert experiment.train.classes == ["ill", "well"] and experiment.train.x.dtype == torch.uint8
    x, y, mask, i = experiment.tests["test"][1]
    assert np.array_equal((x * 255).round().numpy(), np.stack([noise(7)] * 3)) and (y, i) == (1, 1)
    assert np.array_equal(mask[0].numpy(), box() > 0)
    assert experiment.train[0][2].sum() == 0 and experiment.train[1][2].sum() == 320  # a missing mask is allowed
    assert list(experiment.train.frame) == ["id", "patient", "source", "y", "label", "split", "age"]
    assert list(experiment.train.frame.id) == [f"images/{i}.png" for i in range(4)]
    assert list(experiment.tests["test"].frame.age) == ["7", "8"]


def test_16_bit_and_colour(build):
    root = build()
    Image.fromarray(noise(0).astype(np.uint16) * 257).save(root / "images/0.png")
    colour = np.stack([noise(10), noise(11), noise(12)], axis=-1)
    Image.fromarray(colour).save(root / "images/1.png")
    assert folder.verify(root).empty
    table, _ = folder.read_index(root, "label", (), None, "patient", None, ())
    x, *_ = folder.read_files(root, table, size=(40, 48))
    assert np.array_equal(x[0].numpy(), np.stack([noise(0)] * 3))
    assert np.array_equal(x[1].permute(1, 2, 0).numpy(), colour)


def test_resizing_keeps_image_and_mask_aligned():
    pixels = np.repeat(box(80, 96)[..., None], 3, axis=2).astype(np.float32)
    x, mask = folder.resize(pixels, 24), folder.resize_mask(box(80, 96) > 0, 24)
    assert x.shape == (3, 24, 24) and mask.shape == (1, 24, 24) and x.dtype == mask.dtype == torch.uint8
    assert (((x[:1] > 127) != (mask > 0)).sum() <= 2) and 0 < mask.sum() < 576
    smooth = folder.resize(np.repeat(noise(1)[..., None].astype(np.float32), 3, axis=2), 10).float()
    assert smooth.std() < noise(1).std() / 3  # antialiased: each pixel averages its area
    middle = np.zeros((9, 9), bool)
    middle[4, 4] = True
    assert folder.resize_mask(middle, 3)[0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    equal = folder.resize(np.repeat(noise(1)[..., None] / np.float32(4), 3, axis=2), 40, equalise=True)
    assert equal.max() == 255


def test_attributes(build):
    columns = {"hat": list("0101") * 3, "beard": list("0011") * 3}
    experiment = folder.load(build(12, **columns), attributes=["beard", "hat"], size=16, fractions=(0.6, 0.2, 0.2))
    assert experiment.train.classes == ["beard", "hat"] and experiment.metric == "auc"
    for images in (experiment.train, experiment.validation, *experiment.tests.values()):
        assert images.y.dtype == torch.float32 and images.y.shape == (len(images), 2)
        assert [" ".join(pair) for pair in zip(images.frame.beard, images.frame.hat, strict=True)] == list(
            images.frame.y
        )


def test_classes_give_the_order_and_three_the_metric(build):
    root = build(12, changes={i: {"label": "odd"} for i in (0, 3, 6, 9)})
    experiment = folder.load(root, classes=["well", "odd", "ill"], size=16, fractions=(0.6, 0.2, 0.2))
    assert experiment.metric == "macro_f1" and folder.load(root, size=16, metric="accuracy").metric == "accuracy"
    frame = experiment.train.frame
    assert list(frame.y) == [["well", "odd", "ill"].index(label) for label in frame.label]


def test_external_sources_are_test_sets(build):
    root = build(14, source=["A"] * 10 + ["B", "B", "C", "C"])
    experiment = folder.load(root, external=["B", "C"], fractions=(0.6, 0.4, 0), size=16)
    assert list(experiment.tests) == ["B", "C"] and len(experiment.tests["B"]) == 2
    assert set(experiment.train.frame.source) | set(experiment.validation.frame.source) == {"A"}
    write_index(root, [row(i, source="AB"[i > 9], patient=f"p{i % 11}") for i in range(14)])
    with pytest.raises(ValueError, match="'p0' is in B and .*leakage"):
        folder.load(root, external=["B"], size=16)


def test_identities_unknown(build):
    root = build(8, changes={i: {"patient": ""} for i in range(8)})
    experiment = folder.load(root, patient=None, **QUARTERS)
    assert experiment.train.frame.patient.equals(experiment.train.frame.id)


def test_hashes_follow_the_files(build):
    hashes = [folder.load(build(8), **QUARTERS).hashes for _ in range(2)]
    assert hashes[0] == hashes[1] and list(hashes[0]) == ["set/index.csv", "set/files"]
    root = build(8)
    Image.fromarray(noise(99)).save(root / "images/5.png")
    changed = folder.load(root, **QUARTERS).hashes
    assert changed["set/index.csv"] == hashes[0]["set/index.csv"] and changed["set/files"] != hashes[0]["set/files"]


def test_metadata_may_have_any_name(build):
    frame = folder.load(build(8, id=list("abcdefgh"), y=list("ijklmnop"), row=list("12345678")), **QUARTERS).train.frame
    assert list(frame) == ["id", "patient", "source", "y", "label", "meta_id", "meta_y", "row"]
    assert frame.id.str.startswith("images/").all() and set(frame.y) == {0, 1} and set(frame.meta_y) <= set("ijklmnop")


def test_a_mask_that_vanishes_is_said(build):
    root = build(8)
    thin = np.zeros((40, 48), np.uint8)
    thin[3, 3] = 255
    Image.fromarray(thin).save(root / "masks/2.png")
    with pytest.warns(UserWarning, match=r"masks/2.png, row 4: mask vanishes when resized to 8"):
        folder.load(root, **(QUARTERS | {"size": 8}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, "metric must be one of auc"),
        ({"classes": "ill"}, "lists of names"),
        ({"external": "A"}, "list of sources"),
        ({"external": ["Z"]}, "does not list: .'Z'"),
        ({"exclude": ["Z"]}, "does not list: .'Z'"),
        ({"fractions": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"fractions": (0.9, 0.05, 0.05)}, "too few"),
        ({"classes": ["ill", "well", "odd"]}, r"training holds no images .*\['odd'\]"),
        ({"attributes": ["hat"], "classes": ["a"]}, "either attributes or classes"),
        ({"patient": "subject"}, "column 'subject' is missing"),
        ({"exclude": [f"images/{i}.png" for i in (0, 2, 4, 6)]}, "one class only"),
    ],
)
def test_options_that_cannot_be(build, options, message):
    with pytest.raises(ValueError, match=message):
        folder.load(build(8), **(QUARTERS | options))


def test_external_does_not_go_with_a_split_column(build):
    root = build(split=["train", "train", "validation", "test"])
    with pytest.raises(ValueError, match="name the test sets there"):
        folder.load(root, external=["A"])


# --- splits -------------------------------------------------------------------------------------------------------


@pytest.fixture
def patients():
    rng = np.random.default_rng(0)
    patient = pd.Series(rng.integers(0, 200, 600).astype(str))
    return patient, patient.map({name: "ill" if int(name) % 4 == 0 else "well" for name in patient})


def test_seeded_splits_keep_patients_together_and_are_stratified(patients):
    patient, stratum = patients
    part = folder.split_by_patient(patient, stratum, (0.7, 0.15, 0.15), seed=0)
    assert part.groupby(patient).nunique().max() == 1
    people = pd.DataFrame({"part": part, "stratum": stratum}).groupby(patient).first()
    shares = pd.crosstab(people.stratum, people.part, normalize="index")
    expected = {"train": 0.7, "validation": 0.15, "internal": 0.15}
    assert all(abs(shares[name] - share).max() < 0.03 for name, share in expected.items())


def test_seeded_splits_depend_on_the_seed_alone(patients):
    patient, stratum = patients
    one, same, other = (folder.split_by_patient(patient, stratum, (0.7, 0.15, 0.15), seed) for seed in (0, 0, 1))
    turned = folder.split_by_patient(patient[::-1], stratum[::-1], (0.7, 0.15, 0.15), 0)
    assert one.equals(same) and not one.equals(other) and turned.sort_index().equals(one)


def test_rare_strata_are_pooled_not_all_put_in_one_part():
    patient = pd.Series([str(i) for i in range(100)])
    part = folder.split_by_patient(patient, patient, (0.5, 0.25, 0.25), 0)  # each alone in its stratum
    assert part.value_counts().to_dict() == {"train": 50, "validation": 25, "internal": 25}


# --- real folders -------------------------------------------------------------------------------------------------

needs_data = [pytest.mark.data, pytest.mark.skipif(not REAL.is_dir(), reason=f"no data at {REAL} (set ISNET_DATA)")]


def real(name):
    return pytest.param(name, marks=[*needs_data, pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"no {name}")])


@pytest.mark.parametrize("name", [real("shenzhen"), real("hannover")])
def test_real_folders_are_fine(name):
    assert folder.verify(REAL / name).empty


@pytest.mark.parametrize("name", [real("ieee8023")])
def test_a_real_leak_is_found(name):
    assert "another patient: leakage" in only(folder.verify(REAL / name)).problem


@pytest.mark.parametrize("name", [real("shenzhen")])
def test_a_real_folder_loads(name):
    experiment = folder.load(REAL / name, size=64)
    sets = [experiment.train, experiment.validation, experiment.tests["internal"]]
    assert sum(len(images) for images in sets) == 550 and experiment.train.classes == ["normal", "tuberculosis"]
    assert all(0.1 < images.mask.float().mean() < 0.5 for images in sets)
    assert len(set.union(*(set(images.frame.patient) for images in sets))) == sum(
        i.frame.patient.nunique() for i in sets
    )
    assert not experiment.publishable


@pytest.mark.parametrize("name", [real("celebamask_hq")])
def test_real_attributes_load(name):
    table, problems = folder.read_index(REAL / name, "label", FACES, None, None, None, ())
    y, names = folder.encode(table, "label", FACES, None)
    assert not problems and names == FACES and y.sum(0).tolist() == [58, 53, 234, 45, 528, 686]
