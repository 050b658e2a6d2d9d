"""Public data sets: each adapter on a tiny tree of its publisher's shape, made here, and every way it can be wrong."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isnetlib.__main__ import main
from isnetlib.data import folder as dataset
from isnetlib.data.sources import SOURCES, SourceError, celebamask_hq, dicom, ieee8023, layout, nih, prepare, tbx11k
from isnetlib.data.sources import montgomery as montgomery_module
from isnetlib.data.sources.convert import read_image

RNG = np.random.default_rng(0)
HIGH, WIDE = 48, 40


def save(path, array=None, **options):
    """Write an image (noise if no array is given), making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(0, 256, (HIGH, WIDE), dtype=np.uint8) if array is None else array
    Image.fromarray(array).save(path, **options)
    return array


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def lung(left, high=HIGH, wide=WIDE):
    mask = np.zeros((high, wide), np.uint8)
    columns = slice(wide // 10, wide * 4 // 10) if left else slice(wide * 6 // 10, wide * 9 // 10)
    mask[high // 4 : high * 3 // 4, columns] = 255
    return mask


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- the trees: each returns (images, of these with a mask, labels in order of name) ------------------------------


def tree_montgomery(root):
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        save(root / f"MontgomerySet/CXR_png/{name}.png")
        save(root / f"MontgomerySet/ManualMask/leftMask/{name}.png", lung(True) > 0)  # as 1-bit images
        save(root / f"MontgomerySet/ManualMask/rightMask/{name}.png", lung(False) > 0)
        write(root / f"MontgomerySet/ClinicalReadings/{name}.txt", "Patient's Sex: F\nPatient's Age: 027Y\nnormal")
    return 2, 2, {"normal", "tuberculosis"}


def tree_shenzhen(root):
    for name in ("CHNCXR_0001_0", "CHNCXR_0002_0", "CHNCXR_0330_1"):
        save(root / f"ChinaSet_AllFiles/CXR_png/{name}.png", RNG.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8))
        write(root / f"ChinaSet_AllFiles/ClinicalReadings/{name}.txt", "male 45yrs\nnormal")
    save(root / "mask/mask/CHNCXR_0001_0_mask.png", lung(True))
    return 3, 1, {"normal", "tuberculosis"}


def tree_jsrt(root):
    for i, name in enumerate(("JPCLN001", "JPCNN001")):
        write(root / "All247images/readme.txt", "")
        film = np.random.default_rng(i).integers(0, 4096, (64, 64)).astype(">u2")
        (root / f"All247images/{name}.IMG").write_bytes(film.tobytes())
        for side in ("left", "right"):
            save(root / f"scratch/fold{i + 1}/masks/{side} lung/{name}.gif", lung(side == "left", 32, 32))
    return 2, 2, {"nodule", "normal"}


def tree_ieee8023(root):
    head = "patientid,sex,age,finding,view,modality,location,filename,license\n"
    rows = "2,M,65,Pneumonia/Viral/COVID-19,PA,X-ray,Hanoi,a.png,CC BY\n"
    rows += "3,F,30,No Finding,AP,X-ray,Rome,b.jpeg,\n"
    rows += '4,F,30,"COVID-19, ARDS",AP Supine,X-ray,"Hannover Medical School, Germany",c.png,\n'
    rows += "5,F,30,SARS,L,X-ray,Rome,lateral.png,\n6,F,30,todo,PA,X-ray,Rome,d.png,\n"
    rows += "7,F,30,Pneumonia/Viral/COVID-19,Axial,CT,Rome,e.png,\n8,M,9,SARS,PA,X-ray,Rome,f.png,\n"
    write(root / "metadata.csv", head + rows)
    save(root / "images/a.png", RNG.integers(0, 256, (HIGH, WIDE, 4), dtype=np.uint8))  # transparency is dropped
    for name in ("b.jpeg", "c.png", "f.png"):
        save(root / f"images/{name}")
    save(root / "semantic_masks_v7labs_lungs/a.png", np.where(lung(True) > 0, 255, 127).astype(np.uint8))
    return 4, 1, {"covid", "no_finding", "pneumonia"}


def tree_hannover(root):
    write(root / "data.csv", "patient_id,image_id,sex,projection\np1,aa,m,ap\np1,bb,m,pa\n")
    save(root / "png/aa.png"), save(root / "png/bb.png")
    return 2, 0, {"covid"}


def tree_actualmed(root):
    rows = "A1,COVID-19,PA,CR.1.2.png\nA2,No finding,AP,CR.1.3.png\nA3,,AP,DX.1.4.png\n"
    write(root / "metadata.csv", "patientid,finding,view,imagename\n" + rows)
    for name in ("CR.1.2.png", "CR.1.3.png", "DX.1.4.png"):
        save(root / "images" / name)
    return 3, 0, {"covid", "no_finding", "inconclusive"}


def tree_figure1(root):
    rows = "COVID-00003a,COVID-19,AP\nCOVID-00003b,COVID-19,AP\nCOVID-00009,Pneumonia,PA\nCOVID-00010,,\n"
    write(root / "metadata.csv", "patientid,finding,view\n" + rows)
    (
        save(root / "images/COVID-00003a.jpg"),
        save(root / "images/COVID-00003b.png"),
        save(root / "images/COVID-00009.jpg"),
    )
    return 3, 0, {"covid", "pneumonia"}


def tree_nih(root):
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    rows = "00000001_000.png,No Finding,0,1,058Y,M,PA\n00000001_001.png,Effusion|Pneumonia,1,1,58,M,AP\n"
    write(root / "Data_Entry_2017_v2020.csv", head + rows + "00000002_000.png,Hernia,0,2,81,F,PA\n")
    for name, part in (("00000001_000", 1), ("00000001_001", 1), ("00000002_000", 2)):
        save(root / f"images_{part:03d}/images/{name}.png")
    return 3, 0, {"no_finding", "pneumonia", "other"}


def tree_tbx11k(root):
    for name in ("health/h0001", "sick/s0001", "tb/tb0003", "test/test_0001", "extra/da/p001"):
        save(root / f"TBX11K/imgs/{name}.png")
    content = {
        "images": [{"id": 7, "file_name": "tb/tb0003.png"}],
        "categories": [{"id": 1, "name": "ActiveTuberculosis"}],
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [8, 6, 16, 12]}],
    }
    empty = {"images": [], "categories": [], "annotations": []}
    write(root / "TBX11K/annotations/json/TBX11K_train.json", json.dumps(content))
    write(root / "TBX11K/annotations/json/TBX11K_val.json", json.dumps(empty))
    return 3, 0, {"normal", "sick", "tuberculosis"}


def tree_brixia(root):  # the films are DICOM; here PNG under their names, so that the test needs no pydicom
    rows = "a.png;S1;001210;4\nb.png;S2;1;1\n"
    write(root / "metadata_global_v2.csv", "Filename;Subject;BrixiaScore;BrixiaScoreGlobal\n" + rows)
    save(root / "dicom_clean/a.png"), save(root / "dicom_clean/b.png")
    return 2, 0, {"covid"}


def tree_bimcv(root):
    for view in ("ap", "pa", "ll"):
        name = f"sub-S03047/ses-E07985/mod-rx/sub-S03047_ses-E07985_run-1_bp-chest_vp-{view}_dx"
        save(root / f"{name}.png", RNG.integers(0, 4096, (HIGH, WIDE)).astype(np.uint16))
        tags = {"00280004": {"vr": "CS", "Value": ["MONOCHROME1" if view == "ap" else "MONOCHROME2"]}}
        write(root / f"{name}.json", json.dumps(tags))
    return 2, 0, {"covid"}


def tree_chexpert(root):
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pneumonia\n"
    base = "CheXpert-v1.0-small"
    rows = f"{base}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,\n"
    rows += f"{base}/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,\n"
    rows += f"{base}/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,-1.0\n"
    write(root / base / "train.csv", head + rows)
    write(
        root / base / "valid.csv", head + f"{base}/valid/patient64541/study1/view1_frontal.jpg,Male,7,Frontal,AP,0,1\n"
    )
    for name in ("train/patient00001/study1", "train/patient00002/study2", "valid/patient64541/study1"):
        save(root / base / name / "view1_frontal.jpg")
    return 3, 0, {"no_finding", "pneumonia", "other"}


def tree_celebamask_hq(root):
    for i in (0, 2000):
        save(root / f"CelebA-HQ-img/{i}.jpg", RNG.integers(0, 256, (96, 96, 3), dtype=np.uint8))
        for part, rows in (
            ("skin", slice(0, 32)),
            ("eye_g", slice(8, 16)),
            ("hat", slice(0, 4)),
            ("neck", slice(40, 48)),
        ):
            if i == 0 or part in ("skin", "neck"):
                array = np.zeros((48, 48, 3), np.uint8)
                array[rows] = 255
                save(root / f"CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png", array)
    return 2, 2, {""}


TREES = {name.removeprefix("tree_"): tree for name, tree in list(globals().items()) if name.startswith("tree_")}


@pytest.fixture
def build(tmp_path, monkeypatch):
    """build(name): the publisher's folder of a source, its card changed so that the tiny tree is all there is."""
    monkeypatch.setattr("isnetlib.data.sources.convert.JSRT_SIDE", 64)

    def build(name):
        root, source = tmp_path / "published", SOURCES[name]
        images, masks, _ = TREES[name](root)
        card = source.CARD._replace(images=(images,), labels={}, masks=masks)
        monkeypatch.setattr(source, "CARD", card)
        return source, root, tmp_path / "out"

    return build


def index(out):
    return pd.read_csv(out / "index.csv", dtype=str, keep_default_na=False).set_index("image", drop=False)


def test_every_source_has_a_tree_and_a_card():
    assert set(TREES) == set(SOURCES)
    for name, source in SOURCES.items():
        card, lines = source.CARD, source.CARD.text().splitlines()
        assert all((card.title, card.origin, card.licence, card.citation, card.patient, card.remedy)), name
        assert "documented" in card.layout or layout.UNVERIFIED in card.layout, name
        assert not card.labels or sum(card.labels.values()) in card.images, name
        assert len(lines) == 7 and lines[-1].startswith("Images: "), name


@pytest.mark.parametrize("name", TREES)
def test_a_published_tree_becomes_a_folder_that_verifies(build, name, tmp_path):
    source, root, out = build(name)
    images, masks, labels = TREES[name](tmp_path / "again")
    assert prepare(source, root, out).empty
    table = index(out)
    assert len(table) == images and (table["mask"] != "").sum() == masks and set(table["label"]) == labels
    assert (out / "card.txt").read_text() == source.CARD.text() and set(table["source"]) == {name}
    attributes = list(celebamask_hq.SEEN) if name == "celebamask_hq" else ()
    problems = dataset.verify(out, attributes=attributes)
    assert problems.empty, problems.to_string()
    for file in table["image"]:
        assert pixels(out / file).ndim == 2 + source.CARD.colour


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.CARD.images])
def test_a_wrong_count_is_told_with_the_remedy(name, tmp_path):
    TREES[name](tmp_path / "published")
    with pytest.raises(SourceError, match=rf"{tmp_path}.* instead of \d+.*; if you have a part of it .* --partial"):
        prepare(SOURCES[name], tmp_path / "published", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TREES)
def test_an_empty_folder_is_told_with_the_remedy(name, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty: .*(is missing|no image found); (unpack|clone)"):
        prepare(SOURCES[name], tmp_path / "empty", tmp_path / "out", partial=True)


def test_a_missing_image(build):
    source, root, out = build("hannover")
    (root / "png/bb.png").unlink()
    with pytest.raises(SourceError, match=r"png/bb.png: file is missing; clone the repository"):
        prepare(source, root, out)
    assert not (out / "index.csv").exists()
    left_out = prepare(source, root, out, partial=True)
    assert left_out.to_numpy().tolist() == [["png/bb.png", "file is missing"]]
    assert list(index(out).index) == ["images/aa.png"]
    assert pd.read_csv(out / "left_out.csv").equals(left_out)


@pytest.mark.parametrize("content", [b"", b"no image", None, "constant"])
def test_an_unreadable_image(build, content):
    source, root, out = build("hannover")
    if content is None:
        content = (root / "png/bb.png").read_bytes()[:-400]
    if content == "constant":
        save(root / "png/bb.png", np.full((40, 40), 9, np.uint8))
    else:
        (root / "png/bb.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"png/bb.png: (cannot be read|is constant).*; download it again"):
        prepare(source, root, out)
    assert len(prepare(source, root, out, partial=True)) == 1 and len(index(out)) == 1


def test_an_unreadable_mask_and_one_of_another_shape(build):
    source, root, out = build("montgomery")
    (root / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png").write_bytes(b"")
    for side in ("leftMask", "rightMask"):
        save(root / f"MontgomerySet/ManualMask/{side}/MCUCXR_0104_1.png", lung(True, WIDE, HIGH))
    with pytest.raises(SourceError) as error:
        prepare(source, root, out)
    assert "its mask MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png cannot be read" in str(error.value)
    assert "CXR_png/MCUCXR_0104_1.png: its mask is 48 x 40, another shape than 40 x 48" in str(error.value)


def test_one_lung_is_no_mask(build):
    source, root, out = build("montgomery")
    (root / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png").unlink()
    with pytest.raises(SourceError, match="1 with a mask instead of 2; unpack NLM-MontgomeryCXRSet.zip"):
        prepare(source, root, out)
    prepare(source, root, out, partial=True)
    assert (index(out)["mask"] == "").tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../secret.png", "path leaves the folder"),
        ("/etc/hostname", "path leaves the folder"),
        ("..\\secret.png", "path leaves the folder"),
        ("x/../../../secret.png", "path leaves the folder"),
        ("C:\\secret.png", "path leaves the folder"),
    ],
)
def test_paths_that_leave_the_folder_are_refused(build, tmp_path, name, problem):
    source, root, out = build("actualmed")
    save(tmp_path / "secret.png"), save(root / "secret.png")
    rows = f"A1,COVID-19,PA,CR.1.2.png\nA2,COVID-19,PA,{name}\nA3,,AP,DX.1.4.png\n"
    write(root / "metadata.csv", "patientid,finding,view,imagename\n" + rows)
    with pytest.raises(SourceError, match=f"secret.png: {problem}|hostname: {problem}"):
        prepare(source, root, out)
    prepare(source, root, out, partial=True)
    assert list(index(out).index) == ["images/CR.1.2.png", "images/DX.1.4.png"]


def test_a_link_out_of_the_folder_is_refused(build, tmp_path):
    source, root, out = build("hannover")
    save(tmp_path / "secret.png")
    (root / "png/bb.png").unlink()
    (root / "png/bb.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(SourceError, match="png/bb.png: path leaves the folder through a symbolic link"):
        prepare(source, root, out)


def test_a_byte_copy_is_left_out_and_told(build):
    source, root, out = build("hannover")
    (root / "png/bb.png").write_bytes((root / "png/aa.png").read_bytes())
    left_out = prepare(source, root, out)
    assert left_out.to_numpy().tolist() == [["png/bb.png", "is a byte copy of png/aa.png"]]
    assert dataset.verify(out).empty


def test_names_listed_twice(build):
    source, root, out = build("hannover")
    write(root / "data.csv", "patient_id,image_id,sex,projection\np1,aa,m,ap\np2,AA,m,pa\n")
    with pytest.raises(SourceError, match="listed twice: aa"):  # one file where names ignore case
        prepare(source, root, out)


def test_tables_that_are_none(build):
    source, root, out = build("nih")
    write(root / "Data_Entry_2017_v2020.csv", "Image Index,Patient ID\na,b\n")
    with pytest.raises(
        SourceError, match="v2020.csv has no column Finding Labels, .* It has: .'Image Index', 'Patient"
    ):
        prepare(source, root, out)
    (root / "Data_Entry_2017_v2020.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="v2020.csv cannot be read as a table"):
        prepare(source, root, out)
    write(root / "Data_Entry_2017_v2020.csv", "a,b\n1,2,3\n")
    with pytest.raises(SourceError, match="v2020.csv cannot be read as a table"):
        prepare(source, root, out)


def test_boxes_that_are_none(build):
    _, root, _ = build("tbx11k")
    path = root / "TBX11K/annotations/json/TBX11K_val.json"
    for text in ("{", "[]", '{"images": [{}]}'):
        write(path, text)
        with pytest.raises(SourceError, match="TBX11K_val.json is not in COCO's format"):
            tbx11k.read_boxes(path)


def test_places_that_cannot_be(build, tmp_path):
    source, root, out = build("hannover")
    for wrong, message in (
        ((tmp_path / "nowhere", out), "is not a folder"),
        ((root, root / "out"), "lies inside"),
        ((root, tmp_path / "file"), "already holds"),
    ):
        write(tmp_path / "file", "")
        with pytest.raises(SourceError, match=message):
            prepare(source, *wrong)
    with pytest.raises(SourceError, match="size must be 0 or at least 32"):
        prepare(source, root, out, size=8)
    prepare(source, root, out)
    with pytest.raises(SourceError, match="already holds a data set"):
        prepare(source, root, out)


def test_an_archive_unpacked_twice(build):
    source, root, out = build("montgomery")
    save(root / "copy/CXR_png/MCUCXR_0001_0.png")
    with pytest.raises(SourceError, match="have one name; remove one of the copies"):
        prepare(source, root, out)
    (root / "copy/CXR_png/MCUCXR_0001_0.png").rename(root / "copy/CXR_png/._MCUCXR_0001_0.png")
    assert prepare(source, root, out).empty  # what macOS adds does not count


# --- what the pixels become ---------------------------------------------------------------------------------------


def test_lungs_are_merged_and_follow_their_image(build):
    source, root, out = build("montgomery")
    name = "MCUCXR_0001_0"
    film = save(root / f"MontgomerySet/CXR_png/{name}.png", np.repeat(np.repeat(lung(True) // 2, 4, 0), 4, 1))
    assert film.shape == (192, 160)
    for side in ("left", "right"):
        big = np.repeat(np.repeat(lung(side == "left"), 2, 0), 2, 1)
        save(root / f"MontgomerySet/ManualMask/{side}Mask/{name}.png", big)
    prepare(source, root, out, size=48)
    row = index(out).loc[f"images/{name}.png"]
    assert np.array_equal(pixels(out / row["mask"]), lung(True) | lung(False))
    assert abs(pixels(out / row["image"]).astype(int) - lung(True) // 2)[2:-2, 6:14].max() < 12
    assert (row["sex"], row["age"], row["patient"]) == ("F", "27", "MCUCXR_0001")


def test_v7_masks_hold_an_ignore_value(build):
    source, root, out = build("ieee8023")
    prepare(source, root, out)
    assert np.array_equal(pixels(out / "masks/a.png"), lung(True))
    table = index(out)
    assert list(table["hannover"]) == ["0", "0", "1", "0"] and list(table["patient"])[0] == "ieee_2"


@pytest.mark.parametrize(
    ("finding", "label"),
    [
        ("COVID-19, ARDS", "covid"),
        ("Pneumonia/Viral/COVID-19", "covid"),
        ("Pneumonia/Bacterial/Streptococcus", "pneumonia"),
        ("SARS", "pneumonia"),
        ("Tuberculosis", ""),
        ("No Finding", "no_finding"),
        ("todo", ""),
    ],
)
def test_findings_of_the_covid_collection(finding, label):
    assert ieee8023.label_of(finding) == label


def test_nih_labels():
    assert [nih.label_of(text) for text in ("No Finding", "Pneumonia", "Mass|Pneumonia", "Mass")] == [
        *("no_finding", "pneumonia", "pneumonia", "other")
    ]


def test_clinical_readings(tmp_path):
    for text, sex, age in (
        ("Patient's Sex: M\nPatient's Age: 004Y\nnormal", "M", "4"),
        ("Female , 33yrs\nSTB", "F", "33"),
        ("unknown", "", ""),
    ):
        write(tmp_path / "a.txt", text)
        assert montgomery_module.clinical(tmp_path / "a.txt") == {"sex": sex, "age": age}


def test_boxes_shrink_with_their_image(build):
    source, root, out = build("tbx11k")
    save(root / "TBX11K/imgs/tb/tb0003.png", RNG.integers(0, 256, (64, 64), dtype=np.uint8))
    prepare(source, root, out, size=32)
    table = index(out).set_index("label")
    assert json.loads(table.loc["tuberculosis", "boxes"]) == [["ActiveTuberculosis", 4, 3, 12, 9]]
    assert table.loc["tuberculosis", "tb_kind"] == "ActiveTuberculosis" and table.loc["normal", "boxes"] == ""


def test_jsrt_films_are_inverted_and_big_endian(build):
    source, root, out = build("jsrt")
    film = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095, and 0 is clear film, which is white
    (root / "All247images/JPCLN001.IMG").write_bytes(film.astype(">u2").tobytes())
    prepare(source, root, out)
    assert np.array_equal(pixels(out / "images/JPCLN001.png"), np.rint((4095 - film) / 4095 * 255))
    (root / "All247images/JPCNN001.IMG").write_bytes(b"12")
    with pytest.raises(SourceError, match="JPCNN001.IMG: has 2 bytes, not 8192; download it again"):
        prepare(source, root, out.parent / "other")


def test_16_bit_is_stretched_and_monochrome1_inverted(build):
    source, root, out = build("bimcv")
    prepare(source, root, out)
    for view in ("ap", "pa"):
        name = f"sub-S03047_ses-E07985_run-1_bp-chest_vp-{view}_dx"
        raw = pixels(root / f"sub-S03047/ses-E07985/mod-rx/{name}.png").astype(float)
        expected = np.rint((raw - raw.min()) / np.ptp(raw) * 255)
        now = pixels(out / f"images/{name}.png")
        assert np.array_equal(now, 255 - expected if view == "ap" else expected)


def test_parts_are_painted_in_the_publishers_order(build):
    source, root, out = build("celebamask_hq")
    prepare(source, root, out, size=48)
    row = index(out).loc["images/face_00000.jpg"]
    parts, mask = (pixels(out / row[name]) for name in ("parts", "mask"))
    expected = np.repeat([14] * 4 + [1] * 4 + [3] * 8 + [1] * 16 + [0] * 8 + [17] * 8, 48).reshape(48, 48)
    assert np.array_equal(parts, expected) and np.array_equal(mask > 0, (expected == 1) | (expected == 3))
    assert (row["Eyeglasses"], row["Wearing_Hat"], row["Mouth_Open"], row["patient"]) == ("1", "1", "0", "face_00000")


@pytest.mark.parametrize("own", [True, False])
def test_celeba_attributes_and_identities(build, own):
    source, root, out = build("celebamask_hq")
    write(root / "CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx orig_file\n0 5 000006.jpg\n2000 8 000009.jpg\n")
    write(root / "identity_CelebA.txt", "000006.jpg 77\n")
    files = ("0.jpg", "2000.jpg") if own else ("000006.jpg", "000009.jpg")
    name = "CelebAMask-HQ-attribute-anno.txt" if own else "list_attr_celeba.txt"
    write(root / name, f"2\nMale Smiling\n{files[0]}  1 -1\n{files[1]} -1  1\n")
    prepare(source, root, out)
    table = index(out)
    assert list(table["celeba_Male"]) == ["1", "0"] and list(table["celeba_Smiling"]) == ["0", "1"]
    assert list(table["patient"]) == ["celeba_77", "face_02000"]
    write(root / name, f"2\nMale Smiling\n{files[0]} 1\n")
    with pytest.raises(SourceError, match="has other than 2 cells"):
        prepare(source, root, out.parent / "other")


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    wide = np.zeros((32, 64), np.uint8)
    wide[:, :32] = 200
    Image.fromarray(wide).save(buffer := io.BytesIO(), "jpeg", exif=exif)
    upright = np.asarray(read_image("a.jpg", buffer.getvalue(), False, False))
    assert upright.shape == (64, 32) and upright[:30].mean() > 190 and upright[34:].mean() < 10


# --- DICOM --------------------------------------------------------------------------------------------------------


def film(pixels, **elements):
    """Bytes of a DICOM file of unsigned 16-bit pixels (H, W)."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    own = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    usual = {"PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "PixelRepresentation": 0}
    usual |= {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "Rows": len(pixels), "Columns": len(pixels[0])}
    usual |= {"SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3"}
    for name, value in (usual | elements).items():
        setattr(own, name, value)
    own.PixelData = np.asarray(pixels, "<u2").tobytes()
    own.save_as(buffer := io.BytesIO(), enforce_file_format=True)
    return buffer.getvalue()


RAMP = np.arange(4096).reshape(64, 64)


def test_dicom_as_it_is_and_inverted():
    expected = np.rint(RAMP / 4095 * 255)
    data = film(RAMP)
    assert (
        dicom.is_dicom("no_ending", data) and dicom.is_dicom("a.DCM", b"") and not dicom.is_dicom("a.png", b"x" * 200)
    )
    assert np.array_equal(np.asarray(read_image("a.dcm", data, False, False)), expected)
    inverted = film(RAMP, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(np.asarray(read_image("a.dcm", inverted, False, False)), np.rint((4095 - RAMP) / 4095 * 255))


def test_dicom_rescale_and_window():
    # With slope 2 and intercept -1000 the stored value 1500 is 2000, the window's centre; 200 wide: 1900 to 2100.
    data = film(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2000, WindowWidth=200)
    expected = np.clip(((RAMP * 2 - 1000) - (2000 - 0.5)) / (200 - 1) + 0.5, 0, 1)  # DICOM PS3.3 C.11.2.1.2.1
    now = np.asarray(read_image("a.dcm", data, False, False)).astype(int)
    assert abs(now - expected * 255).max() <= 1 and now[0, 0] == 0 and now[-1, -1] == 255


def test_dicom_that_cannot_be_used(build):
    source, root, out = build("brixia")
    for content, message in (
        (b"\0" * 200, "cannot be read as DICOM"),
        (film(RAMP)[:-5000], "cannot be read as DICOM"),
        (film(np.zeros((64, 64))), "is constant"),
    ):
        (root / "dicom_clean/a.dcm").write_bytes(content)
        text = "Filename,Subject,BrixiaScore,BrixiaScoreGlobal\na.dcm,S1,000000,0\nb.png,S2,0,0\n"
        write(root / "metadata_global_v2.csv", text)
        with pytest.raises(SourceError, match=f"dicom_clean/a.dcm: {message}"):
            prepare(source, root, out)


def test_without_pydicom_the_remedy_is_told(build, monkeypatch, capsys):
    _, root, out = build("brixia")
    (root / "dicom_clean/a.png").rename(root / "dicom_clean/a.dcm")
    write(root / "metadata_global_v2.csv", "Filename,Subject,BrixiaScore,BrixiaScoreGlobal\na.dcm,S,1,1\nb.png,T,1,1\n")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert main(["prepare", "brixia", str(root), str(out)]) == 2
    assert capsys.readouterr().err == "isnet: DICOM files need pydicom: pip install 'isnetlib[dicom]'\n"


# --- the command --------------------------------------------------------------------------------------------------


def test_prepare_then_verify_data_from_the_command_line(build, capsys):
    _, root, out = build("shenzhen")
    assert main(["prepare", "shenzhen", str(root), str(out), "--size", "40"]) == 0
    assert f"{out}: 3 images, 1 with a mask; 0 left out\n" in capsys.readouterr().out
    assert main(["verify-data", str(out)]) == 0
    assert "no problem found" in capsys.readouterr().out
    assert main(["prepare", "shenzhen", str(root), str(out)]) == 2
    assert "already holds a data set" in capsys.readouterr().err
    assert main(["prepare", "montgomry", str(root), str(out)]) == 2
    assert "there is no source 'montgomry'; known: montgomery, shenzhen, jsrt" in capsys.readouterr().err
