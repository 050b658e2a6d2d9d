"""BIMCV-COVID19+: films of patients of the Valencia region who tested positive at some time."""

import json
from pathlib import Path

from isnetlib.data.sources.layout import UNVERIFIED, Card, Item, find

CARD = Card(
    title="BIMCV-COVID19+",
    origin="Valencia region, Spain; https://bimcv.cipf.es/bimcv-projects/bimcv-covid19/",
    licence="the publisher's research use agreement",
    citation="de la Iglesia Vaya et al., BIMCV COVID-19+, arXiv:2006.01174, 2020",
    patient="the folder sub-S<number>",
    layout=f"{UNVERIFIED}; names in MIDS form as others' published code reads them",
    remedy="unpack the archives: sub-S*/ses-E*/mod-rx/sub-S*_ses-E*_..._vp-<ap, pa>_<cr, dx>.png, each with its .json",
)


def read(folder: Path) -> list[Item]:
    """Frontal films (vp-ap, vp-pa). All are labelled covid: the patient tested positive, not always on that day."""
    files = find(folder, "mod-rx/sub-S*_cr.png", "mod-rx/sub-S*_dx.png")
    items = []
    for name, file in files.items():
        words = dict(word.split("-", 1) for word in name.split("_") if "-" in word)
        if words.get("vp", "")[:2] in ("ap", "pa"):
            items.append(
                Item(
                    name=name,
                    image=file,
                    label="covid",
                    patient=f"sub-{words['sub']}",
                    invert=photometric(Path(folder) / file) == "MONOCHROME1",
                    meta={"session": words.get("ses", ""), "view": words["vp"]},
                )
            )
    return items


def photometric(image: Path) -> str:
    """The DICOM element 0028,0004 in the JSON beside an image: MONOCHROME1 means that air is white. "" if not told."""
    try:
        return json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))["00280004"]["Value"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return ""
