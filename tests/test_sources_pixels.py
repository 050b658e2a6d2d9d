"""What the images, masks and tables of public data sets become, DICOM among them."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from trees import RNG, index, lung, pixels, save, write

from isnetlib.__main__ import main
from isnetlib.data.sources import SourceError, dicom, ieee8023, nih, prepare
from isnetlib.data.sources import montgomery as montgomery_module
from isnetlib.data.sources.convert import read_image


def test_lungs_are_merged_and_follow_their_image(published):
    source, root, out = published("montgomery")
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


def test_v7_masks_hold_an_ignore_value(published):
    source, root, out = published("ieee8023")
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


def test_boxes_shrink_with_their_image(published):
    source, root, out = published("tbx11k")
    save(root / "TBX11K/imgs/tb/tb0003.png", RNG.integers(0, 256, (64, 64), dtype=np.uint8))
    prepare(source, root, out, size=32)
    table = index(out).set_index("label")
    assert json.loads(table.loc["tuberculosis", "boxes"]) == [["ActiveTuberculosis", 4, 3, 12, 9]]
    assert table.loc["tuberculosis", "tb_kind"] == "ActiveTuberculosis" and table.loc["normal", "boxes"] == ""


def test_jsrt_films_are_inverted_and_big_endian(published):
    source, root, out = published("jsrt")
    film = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095, and 0 is clear film, which is white
    (root / "All247images/JPCLN001.IMG").write_bytes(film.astype(">u2").tobytes())
    prepare(source, root, out)
    assert np.array_equal(pixels(out / "images/JPCLN001.png"), np.rint((4095 - film) / 4095 * 255))
    (root / "All247images/JPCNN001.IMG").write_bytes(b"12")
    with pytest.raises(SourceError, match="JPCNN001.IMG: has 2 bytes, not 8192; download it again"):
        prepare(source, root, out.parent / "other")


def test_16_bit_is_stretched_and_monochrome1_inverted(published):
    source, root, out = published("bimcv")
    prepare(source, root, out)
    for view in ("ap", "pa"):
        name = f"sub-S03047_ses-E07985_run-1_bp-chest_vp-{view}_dx"
        raw = pixels(root / f"sub-S03047/ses-E07985/mod-rx/{name}.png").astype(float)
        expected = np.rint((raw - raw.min()) / np.ptp(raw) * 255)
        now = pixels(out / f"images/{name}.png")
        assert np.array_equal(now, 255 - expected if view == "ap" else expected)


def test_parts_are_painted_in_the_publishers_order(published):
    source, root, out = published("celebamask_hq")
    prepare(source, root, out, size=48)
    row = index(out).loc["images/face_00000.jpg"]
    parts, mask = (pixels(out / row[name]) for name in ("parts", "mask"))
    expected = np.repeat([14] * 4 + [1] * 4 + [3] * 8 + [1] * 16 + [0] * 8 + [17] * 8, 48).reshape(48, 48)
    assert np.array_equal(parts, expected) and np.array_equal(mask > 0, (expected == 1) | (expected == 3))
    assert (row["Eyeglasses"], row["Wearing_Hat"], row["Mouth_Open"], row["patient"]) == ("1", "1", "0", "face_00000")


@pytest.mark.parametrize("own", [True, False])
def test_celeba_attributes_and_identities(published, own):
    source, root, out = published("celebamask_hq")
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


def test_dicom_that_cannot_be_used(published):
    source, root, out = published("brixia")
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


def test_without_pydicom_the_remedy_is_told(published, monkeypatch, capsys):
    _, root, out = published("brixia")
    (root / "dicom_clean/a.png").rename(root / "dicom_clean/a.dcm")
    write(root / "metadata_global_v2.csv", "Filename,Subject,BrixiaScore,BrixiaScoreGlobal\na.dcm,S,1,1\nb.png,T,1,1\n")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert main(["prepare", "brixia", str(root), str(out)]) == 2
    assert capsys.readouterr().err == "isnet: DICOM files need pydicom: pip install 'isnetlib[dicom]'\n"
