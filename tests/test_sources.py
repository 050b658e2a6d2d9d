"""Public data sets: each reader on a tiny tree of its publisher's shape, right and in every way wrong."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import HIGH, RNG, TREES, WIDE, index, lung, pixels, save, write

from isnetlib.__main__ import main
from isnetlib.data import folder
from isnetlib.data.sources import SourceError, prepare

module = sys.modules[prepare.__module__]
PARTS_OF_LUNGS = "MontgomerySet/ManualMask"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """published(name): the publisher's folder of a source, its card changed so that the tiny tree is all there is."""
    monkeypatch.setattr(module, "JSRT_SIDE", 64)

    def build(name):
        images, masks, *_ = TREES[name](tmp_path / "published")
        own = module.CARDS[name] | {"images": images, "labels": {}, "masks": masks}
        monkeypatch.setitem(module.CARDS, name, own)
        return tmp_path / "published", tmp_path / "out"

    return build


@pytest.mark.parametrize("name", sorted({*TREES, *module.CARDS}))
def test_a_published_tree_becomes_a_folder_that_verifies(published, name, tmp_path):
    own = module.CARDS[name]
    assert all(own[key] for key in ("title", "origin", "licence", "citation", "patient", "layout", "remedy"))
    assert not own.get("labels") or sum(own["labels"].values()) == own["images"]
    root, out = published(name)
    images, masks, patients, labels = TREES[name](tmp_path / "again")
    assert prepare(name, root, out).empty
    table = index(out)
    assert len(table) == images and (table["mask"] != "").sum() == masks
    assert set(table["label"]) == labels and table["patient"].nunique() == patients
    assert own["licence"].split()[0] in (out / "card.txt").read_text()
    problems = [p for p in folder.read_files(out, table)[3] if p.level == "error"]
    assert not problems and pixels(out / table["image"].iloc[0]).ndim == 2 + (name == "celebamask_hq")
    attributes = list(own["read"].get("seen", ()))
    assert folder.read_index(out, attributes=attributes)[1] == []


@pytest.mark.parametrize("name", TREES)
def test_a_wrong_count_and_an_empty_folder_are_told_with_the_remedy(name, tmp_path):
    TREES[name](tmp_path / "published")
    if "images" in module.CARDS[name]:
        with pytest.raises(SourceError, match=rf"{tmp_path}.* instead of \d+.*; (unpack|clone).*; if .* use --partial"):
            prepare(name, tmp_path / "published", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty: .*(is missing|no image found); (unpack|clone)"):
        prepare(name, tmp_path / "empty", tmp_path / "out", partial=True)


def test_images_that_are_missing_or_cannot_be_used_and_byte_copies(published):
    root, out = published("hannover")
    whole, path = (root / "png/aa.png").read_bytes(), root / "png/bb.png"
    save(root / "constant.png", np.full((40, 40), 9, np.uint8))
    contents = {whole[:-400]: "cannot be read", (root / "constant.png").read_bytes(): "is constant"}
    for content, told in (contents | {None: "file is missing"}).items():
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(SourceError, match=rf"png/bb.png: {told}(.|\n)*clone the repository"):
            prepare("hannover", root, out)
        assert not (out / "index.csv").exists()
    left_out = prepare("hannover", root, out, partial=True)
    assert list(left_out["image"]) == ["png/bb.png"] and pd.read_csv(out / "left_out.csv").equals(left_out)
    assert list(index(out).index) == ["images/aa.png"]
    path.write_bytes(whole)
    left_out = prepare("hannover", root, out.parent / "other")
    assert left_out.to_numpy().tolist() == [["png/bb.png", "is a byte copy of png/aa.png"]]


def test_an_unreadable_mask_one_of_another_shape_one_lung_alone_and_an_archive_unpacked_twice(published):
    root, out = published("montgomery")
    left, right = (root / f"{PARTS_OF_LUNGS}/{side}Mask" for side in ("left", "right"))
    (left / "MCUCXR_0001_0.png").write_bytes(b"")
    for side in (left, right):
        save(side / "MCUCXR_0104_1.png", lung(True, WIDE, HIGH))
    with pytest.raises(SourceError) as error:
        prepare("montgomery", root, out)
    assert f"its mask {PARTS_OF_LUNGS}/leftMask/MCUCXR_0001_0.png cannot be read" in str(error.value)
    assert "CXR_png/MCUCXR_0104_1.png: its mask is 48 x 40, another shape than 40 x 48" in str(error.value)
    save(left / "MCUCXR_0104_1.png", lung(True, 20, 20))
    (left / "MCUCXR_0001_0.png").unlink()
    with pytest.raises(SourceError, match="1 with a mask instead of 2; unpack NLM-MontgomeryCXRSet.zip"):
        prepare("montgomery", root, out)
    left_out = prepare("montgomery", root, out, partial=True)
    assert left_out["reason"].tolist() == ["its masks differ in size: (20, 20) and (48, 40)"]
    assert (index(out)["mask"] == "").tolist() == [True]
    save(root / "copy/CXR_png/MCUCXR_0001_0.png")
    with pytest.raises(SourceError, match="MCUCXR_0001_0.png have one name; remove one of the copies"):
        prepare("montgomery", root, out.parent / "other")


@pytest.mark.parametrize("name", ["x/../../../secret", "C:\\secret"])
def test_paths_that_leave_the_folder_are_refused(published, tmp_path, name):
    root, out = published("hannover")
    save(tmp_path / "secret.png"), save(root / "secret.png")
    write(root / "data.csv", f"patient_id,image_id\np1,aa\np2,{name}\n")
    with pytest.raises(SourceError, match=r"secret.png: (path leaves the folder|file is missing)"):
        prepare("hannover", root, out)
    prepare("hannover", root, out, partial=True)
    assert list(index(out).index) == ["images/aa.png"]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [  # in the first, one file where names ignore case
        ("hannover", "data.csv", "patient_id,image_id\np1,aa\np2,AA\n", "listed twice: aa"),
        ("hannover", "data.csv", "patient_id,sex\na,b\n", "data.csv has no column .image_id."),
        ("hannover", "data.csv", "", "data.csv cannot be read as a table .lists no images"),
        ("tbx11k", "TBX11K/annotations/json/TBX11K_val.json", "{", "TBX11K_val.json is not in COCO's format"),
        ("tbx11k", "TBX11K/annotations/json/TBX11K_val.json", "[]", "TBX11K_val.json is not in COCO's format"),
    ],
)
def test_tables_that_are_none(published, name, file, content, message):
    root, out = published(name)
    write(root / file, content)
    with pytest.raises(SourceError, match=message):
        prepare(name, root, out)


def test_options_that_cannot_be(published, tmp_path):
    published("hannover")
    for name, place, out, size, message in (
        ("hannover", "nowhere", "out", 512, "is not a folder"),
        ("hannover", "published", "published/out", 512, "lies inside"),
        ("hanover", "published", "out", 512, "there is no source 'hanover'; known: celebamask_hq, hannover, ieee8023"),
        ("hannover", "published", "out", 8, "size must be 0 or at least 32"),
    ):
        with pytest.raises(SourceError, match=message):
            prepare(name, tmp_path / place, tmp_path / out, size)


def test_prepare_then_verify_data_from_the_command_line(published, capsys):
    root, out = published("shenzhen")
    assert main(["prepare", "shenzhen", str(root), str(out), "--size", "40"]) == 0
    assert f"{out}: 3 images, 1 with a mask; 0 left out\n" in capsys.readouterr().out
    assert main(["prepare", "shenzhen", str(root), str(out)]) == 2
    assert "already holds a data set" in capsys.readouterr().err
    assert main(["verify-data", str(out)]) == 1  # three patients
    told = capsys.readouterr().out
    assert told.startswith("error: index.csv: too few patients (3) for a part internal; add some")
    assert told.endswith(f"\n{out}: 1 problem\n")
    (out / "images/CHNCXR_0002_0.png").unlink()
    assert main(["verify-data", str(out)]) == 1
    told = capsys.readouterr().out
    assert "\nerror: images/CHNCXR_0002_0.png, row 3: file is missing; " in told and told.endswith(": 2 problems\n")


def test_lungs_are_merged_and_follow_their_image(published):
    root, out = published("montgomery")
    name = "MCUCXR_0001_0"
    save(root / f"MontgomerySet/CXR_png/{name}.png", np.repeat(np.repeat(lung(True) // 2, 4, 0), 4, 1))
    for side in ("left", "right"):
        save(root / f"{PARTS_OF_LUNGS}/{side}Mask/{name}.png", np.kron(lung(side == "left"), np.ones((2, 2), np.uint8)))
    prepare("montgomery", root, out, size=48)
    row = index(out).loc[f"images/{name}.png"]
    assert np.array_equal(pixels(out / row["mask"]), lung(True) | lung(False)) and row["patient"] == "MCUCXR_0001"
    assert abs(pixels(out / row["image"]).astype(int) - lung(True) // 2)[2:-2, 6:14].max() < 12


def test_v7_masks_hold_an_ignore_value_and_films_of_hannover_are_known(published):
    root, out = published("ieee8023")
    prepare("ieee8023", root, out)
    assert np.array_equal(pixels(out / "masks/a.png"), lung(True)) and list(index(out)["hannover"]) == list("0010")
    assert list(index(out)["label"]) == ["covid", "no_finding", "covid", "pneumonia"]


def test_boxes_shrink_with_their_image(published):
    root, out = published("tbx11k")
    save(root / "TBX11K/imgs/tb/tb0003.png", RNG.integers(0, 256, (64, 64), dtype=np.uint8))
    prepare("tbx11k", root, out, size=32)
    boxes = index(out).set_index("label")["boxes"]
    assert json.loads(boxes["tuberculosis"]) == [["ActiveTuberculosis", 4, 3, 12, 9]] and boxes["normal"] == ""


def test_jsrt_films_are_inverted_and_big_endian(published):
    root, out = published("jsrt")
    film = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095, and 0 is clear film, which is white
    (root / "All247images/JPCLN001.IMG").write_bytes(film.astype(">u2").tobytes())
    prepare("jsrt", root, out)
    assert np.array_equal(pixels(out / "images/JPCLN001.png"), np.rint((4095 - film) / 4095 * 255))
    (root / "All247images/JPCNN001.IMG").write_bytes(b"12")
    with pytest.raises(SourceError, match="JPCNN001.IMG: has 2 bytes, not 8192"):
        prepare("jsrt", root, out.parent / "other")


def test_16_bit_is_stretched_and_exif_orientation_applied(published):
    root, out = published("hannover")
    raw = save(root / "png/aa.png", RNG.integers(100, 4096, (HIGH, WIDE)).astype(np.uint16)).astype(float)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    Image.fromarray(np.repeat(lung(True), 2, 1)).save(root / "png/bb.png", exif=exif)
    prepare("hannover", root, out)
    assert np.array_equal(pixels(out / "images/aa.png"), np.rint((raw - raw.min()) / np.ptp(raw) * 255))
    assert np.array_equal(pixels(out / "images/bb.png"), np.rot90(np.repeat(lung(True), 2, 1), -1))


def test_parts_of_faces_are_painted_in_the_publishers_order(published):
    root, out = published("celebamask_hq")
    prepare("celebamask_hq", root, out, size=48)
    row = index(out).loc["images/face_00000.jpg"]
    seen = [0] * 4 + [255] * 28 + [0] * 16  # a hat over skin, glasses on skin, nothing, a neck
    assert pixels(out / row["mask"])[:, 0].tolist() == seen and np.ptp(pixels(out / row["mask"]), axis=1).max() == 0
    assert (row["Eyeglasses"], row["Wearing_Hat"], row["Mouth_Open"], row["patient"]) == ("1", "1", "0", "face_00000")
