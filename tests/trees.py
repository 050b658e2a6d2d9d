"""Tiny trees of the publishers' shapes, one for each public data set."""

import json

import numpy as np
import pandas as pd
from PIL import Image

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


def index(out):
    return pd.read_csv(out / "index.csv", dtype=str, keep_default_na=False).set_index("image", drop=False)
