"""Public data sets: each adapter on a tiny tree of its publisher's shape, and every way it can be wrong."""

import numpy as np
import pandas as pd
import pytest
from trees import HIGH, TREES, WIDE, index, lung, pixels, save, write

from isnetlib import papers, wording
from isnetlib.__main__ import main
from isnetlib.data import folder as dataset
from isnetlib.data.sources import SOURCES, SourceError, celebamask_hq, layout, prepare, tbx11k


def test_every_source_has_a_tree_and_a_card():
    assert set(TREES) == set(SOURCES)
    for name, source in SOURCES.items():
        card, lines = source.CARD, source.CARD.text().splitlines()
        assert all((card.title, card.origin, card.licence, card.citation, card.patient, card.remedy)), name
        assert "documented" in card.layout or layout.UNVERIFIED in card.layout, name
        assert not card.labels or sum(card.labels.values()) in card.images, name
        assert len(lines) == 7 and lines[-1].startswith("Images: "), name


@pytest.mark.parametrize("name", TREES)
def test_a_published_tree_becomes_a_folder_that_verifies(published, name, tmp_path):
    source, root, out = published(name)
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


def test_a_missing_image(published):
    source, root, out = published("hannover")
    (root / "png/bb.png").unlink()
    with pytest.raises(SourceError, match=r"png/bb.png: file is missing; clone the repository"):
        prepare(source, root, out)
    assert not (out / "index.csv").exists()
    left_out = prepare(source, root, out, partial=True)
    assert left_out.to_numpy().tolist() == [["png/bb.png", "file is missing"]]
    assert list(index(out).index) == ["images/aa.png"]
    assert pd.read_csv(out / "left_out.csv").equals(left_out)


@pytest.mark.parametrize("content", [b"", b"no image", None, "constant"])
def test_an_unreadable_image(published, content):
    source, root, out = published("hannover")
    if content is None:
        content = (root / "png/bb.png").read_bytes()[:-400]
    if content == "constant":
        save(root / "png/bb.png", np.full((40, 40), 9, np.uint8))
    else:
        (root / "png/bb.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"png/bb.png: (cannot be read|is constant).*; download it again"):
        prepare(source, root, out)
    assert len(prepare(source, root, out, partial=True)) == 1 and len(index(out)) == 1


def test_an_unreadable_mask_and_one_of_another_shape(published):
    source, root, out = published("montgomery")
    (root / "MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png").write_bytes(b"")
    for side in ("leftMask", "rightMask"):
        save(root / f"MontgomerySet/ManualMask/{side}/MCUCXR_0104_1.png", lung(True, WIDE, HIGH))
    with pytest.raises(SourceError) as error:
        prepare(source, root, out)
    assert "its mask MontgomerySet/ManualMask/leftMask/MCUCXR_0001_0.png cannot be read" in str(error.value)
    assert "CXR_png/MCUCXR_0104_1.png: its mask is 48 x 40, another shape than 40 x 48" in str(error.value)


def test_one_lung_is_no_mask(published):
    source, root, out = published("montgomery")
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
def test_paths_that_leave_the_folder_are_refused(published, tmp_path, name, problem):
    source, root, out = published("actualmed")
    save(tmp_path / "secret.png"), save(root / "secret.png")
    rows = f"A1,COVID-19,PA,CR.1.2.png\nA2,COVID-19,PA,{name}\nA3,,AP,DX.1.4.png\n"
    write(root / "metadata.csv", "patientid,finding,view,imagename\n" + rows)
    with pytest.raises(SourceError, match=f"secret.png: {problem}|hostname: {problem}"):
        prepare(source, root, out)
    prepare(source, root, out, partial=True)
    assert list(index(out).index) == ["images/CR.1.2.png", "images/DX.1.4.png"]


def test_a_link_out_of_the_folder_is_refused(published, tmp_path):
    source, root, out = published("hannover")
    save(tmp_path / "secret.png")
    (root / "png/bb.png").unlink()
    (root / "png/bb.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(SourceError, match="png/bb.png: path leaves the folder through a symbolic link"):
        prepare(source, root, out)


def test_a_byte_copy_is_left_out_and_told(published):
    source, root, out = published("hannover")
    (root / "png/bb.png").write_bytes((root / "png/aa.png").read_bytes())
    left_out = prepare(source, root, out)
    assert left_out.to_numpy().tolist() == [["png/bb.png", "is a byte copy of png/aa.png"]]
    assert dataset.verify(out).empty


def test_names_listed_twice(published):
    source, root, out = published("hannover")
    write(root / "data.csv", "patient_id,image_id,sex,projection\np1,aa,m,ap\np2,AA,m,pa\n")
    with pytest.raises(SourceError, match="listed twice: aa"):  # one file where names ignore case
        prepare(source, root, out)


def test_tables_that_are_none(published):
    source, root, out = published("nih")
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


def test_boxes_that_are_none(published):
    _, root, _ = published("tbx11k")
    path = root / "TBX11K/annotations/json/TBX11K_val.json"
    for text in ("{", "[]", '{"images": [{}]}'):
        write(path, text)
        with pytest.raises(SourceError, match="TBX11K_val.json is not in COCO's format"):
            tbx11k.read_boxes(path)


def test_places_that_cannot_be(published, tmp_path):
    source, root, out = published("hannover")
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


def test_an_archive_unpacked_twice(published):
    source, root, out = published("montgomery")
    save(root / "copy/CXR_png/MCUCXR_0001_0.png")
    with pytest.raises(SourceError, match="have one name; remove one of the copies"):
        prepare(source, root, out)
    (root / "copy/CXR_png/MCUCXR_0001_0.png").rename(root / "copy/CXR_png/._MCUCXR_0001_0.png")
    assert prepare(source, root, out).empty  # what macOS adds does not count


def test_prepare_then_verify_data_from_the_command_line(published, capsys):
    _, root, out = published("shenzhen")
    assert main(["prepare", "shenzhen", str(root), str(out), "--size", "40"]) == 0
    assert f"{out}: 3 images, 1 with a mask; 0 left out\n" in capsys.readouterr().out
    assert main(["verify-data", str(out)]) == 0
    assert "no problem found" in capsys.readouterr().out
    assert main(["prepare", "shenzhen", str(root), str(out)]) == 2
    assert "already holds a data set" in capsys.readouterr().err
    assert main(["prepare", "montgomry", str(root), str(out)]) == 2
    assert "there is no source 'montgomry'; known: montgomery, shenzhen, jsrt" in capsys.readouterr().err


def test_reports_cite_what_the_cards_do():
    assert set(papers.SOURCE_PAPERS) == set(papers.SOURCE_NAMES)
    for name, cited in papers.SOURCE_PAPERS.items():
        assert cited == SOURCES[name].CARD.citation
        assert any(name in of for of in papers.SOURCES_OF.values())
    assert "Wang et al., ChestX-ray8" in wording.data_sentence("tuberculosis")
    assert wording.data_sentence("covid_sim") == wording.data_sentence("covid_sim").strip()
    assert papers.after("standard") == "" and papers.after("rrr").startswith(" (Ross")
