"""Tiny trees of the publishers' shapes; each function returns (images, of these with a mask, patients, labels)."""

import json

import numpy as np
import pandas as pd
from PIL import Image

RNG = np.random.default_rng(0)
HIGH, WIDE = 48, 40


def save(path, array=None):
    """Write an image (noise if no array is given), making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = RNG.integers(0, 256, (HIGH, WIDE), dtype=np.uint8) if array is None else array
    Image.fromarray(array).save(path)
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


def index(out):
    return pd.read_csv(out / "index.csv", dtype=str, keep_default_na=False).set_index("image", drop=False)


def tree_montgomery(root):
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        save(root / f"MontgomerySet/CXR_png/{name}.png")
        save(root / f"MontgomerySet/ManualMask/leftMask/{name}.png", lung(True) > 0)  # as 1-bit images
        save(root / f"MontgomerySet/ManualMask/rightMask/{name}.png", lung(False) > 0)
    return 2, 2, 2, {"normal", "tuberculosis"}


def tree_shenzhen(root):
    for name in ("CHNCXR_0001_0", "CHNCXR_0002_0", "CHNCXR_0330_1"):
        save(root / f"ChinaSet_AllFiles/CXR_png/{name}.png", RNG.integers(0, 256, (HIGH, WIDE, 3), dtype=np.uint8))
    save(root / "mask/mask/CHNCXR_0001_0_mask.png", lung(True))
    return 3, 1, 3, {"normal", "tuberculosis"}


def tree_jsrt(root):
    for i, name in enumerate(("JPCLN001", "JPCNN001")):
        write(root / f"All247images/{name}.IMG", "")
        film = np.random.default_rng(i).integers(0, 4096, (64, 64)).astype(">u2")
        (root / f"All247images/{name}.IMG").write_bytes(film.tobytes())
        for side in ("left", "right"):
            save(root / f"scratch/fold{i + 1}/masks/{side} lung/{name}.gif", lung(side == "left", 32, 32))
    return 2, 2, 2, {"nodule", "normal"}


def tree_ieee8023(root):
    rows = """patientid,finding,view,modality,location,filename,license
2,Pneumonia/Viral/COVID-19,PA,X-ray,Hanoi,a.png,CC BY
3,No Finding,AP,X-ray,Rome,b.jpeg,
4,"COVID-19, ARDS",AP Supine,X-ray,"Hannover Medical School, Germany",c.png,
5,SARS,L,X-ray,Rome,lateral.png,
6,todo,PA,X-ray,Rome,d.png,
7,Pneumonia/Viral/COVID-19,Axial,CT,Rome,e.png,
8,SARS,PA,X-ray,Rome,f.png,
"""
    write(root / "metadata.csv", rows)
    save(root / "images/a.png", RNG.integers(0, 256, (HIGH, WIDE, 4), dtype=np.uint8))  # transparency is dropped
    for name in ("b.jpeg", "c.png", "f.png"):
        save(root / f"images/{name}")
    save(root / "semantic_masks_v7labs_lungs/a.png", np.where(lung(True) > 0, 255, 127).astype(np.uint8))
    return 4, 1, 4, {"covid", "no_finding", "pneumonia"}


def tree_hannover(root):
    write(root / "data.csv", "patient_id,image_id,sex,projection\np1,aa,m,ap\np1,bb,m,pa\n")
    save(root / "png/aa.png"), save(root / "png/bb.png")
    return 2, 0, 1, {"covid"}


def tree_nih(root):
    table = "Image Index,Finding Labels,Patient ID\n00000001_000.png,No Finding,1\n"
    table += "00000001_001.png,Effusion|Pneumonia,1\n00000002_000.png,Hernia,2\n"
    write(root / "Data_Entry_2017_v2020.csv", table)
    for name in ("001/images/00000001_000", "001/images/00000001_001", "002/images/00000002_000"):
        save(root / f"images_{name}.png")
    return 3, 0, 2, {"no_finding", "pneumonia", "other"}


def tree_tbx11k(root):
    for name in ("health/h0001", "sick/s0001", "tb/tb0003", "tb/._tb0003", "test/test_0001", "extra/da/p001"):
        save(root / f"TBX11K/imgs/{name}.png")
    content = {"images": [{"id": 7, "file_name": "tb/tb0003.png"}]}
    content["categories"] = [{"id": 1, "name": "ActiveTuberculosis"}]
    content["annotations"] = [{"image_id": 7, "category_id": 1, "bbox": [8, 6, 16, 12]}]
    write(root / "TBX11K/annotations/json/TBX11K_train.json", json.dumps(content))
    write(root / "TBX11K/annotations/json/TBX11K_val.json", json.dumps(dict.fromkeys(content, [])))
    return 3, 0, 3, {"normal", "sick", "tuberculosis"}


def tree_celebamask_hq(root):
    parts = {"skin": slice(0, 32), "eye_g": slice(8, 16), "hat": slice(0, 4), "neck": slice(40, 48)}
    for i in (0, 2000):
        save(root / f"CelebA-HQ-img/{i}.jpg", RNG.integers(0, 256, (96, 96, 3), dtype=np.uint8))
        for part, rows in parts.items():
            array = np.zeros((48, 48, 3), np.uint8)
            array[rows] = 255
            save(root / f"CelebAMask-HQ-mask-anno/{i // 2000}/{i:05d}_{part}.png", array)
    return 2, 2, 2, {""}


TREES = {name.removeprefix("tree_"): tree for name, tree in list(globals().items()) if name.startswith("tree_")}
