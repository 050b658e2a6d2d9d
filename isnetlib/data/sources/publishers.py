"""What the publishers of data sets ship: one function each, from their folder to its images."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from isnetlib.data.files import Refused, read_file
from isnetlib.data.index import parse


class SourceError(ValueError):
    """A publisher's folder that cannot be read; the message names the file and the remedy."""


class Item(NamedTuple):
    """One image of a source. Files are named relative to the publisher's folder, with '/'."""

    name: str  # of the files to write, unique in the source
    image: str
    label: str
    patient: str
    masks: tuple[str, ...] = ()  # files painted one over the other, each as foreground, or,
    hides: frozenset[str] = frozenset()  # those among them, as background
    boxes: tuple[tuple, ...] | None = None  # (kind, left, top, right, bottom) in the image's pixels
    meta: Mapping[str, str] = {}


# --- chest films


def hannover(folder: Path) -> Iterator[Item]:
    """data.csv names the films png/<image_id>.png; several a patient."""
    path, rows = read_csv(folder, ["data.csv"], ["patient_id", "image_id"])
    for row in rows:
        yield Item(row["image_id"], beside(path, "png", f"{row['image_id']}.png"), "covid", row["patient_id"])


FRONTAL = ("PA", "AP", "AP Supine", "APS", "AP erect")
PNEUMONIA = {"ARDS", "Bacterial", "Chlamydophila", "E.Coli", "Influenza", "Klebsiella", "Legionella", "Lipoid"}
PNEUMONIA |= {"Mycoplasma Bacterial Pneumonia", "Pneumocystis", "Pneumonia", "SARS", "Streptococcus", "Varicella"}


def ieee8023(folder: Path) -> Iterator[Item]:
    """Frontal X-rays with COVID-19, another pneumonia or no finding; other views, CT and findings are left out.

    `hannover` is 1 where the film may show a patient of the source hannover: never train on the one, test on the other.
    """
    kept = ["finding", "view", "location", "license"]
    path, rows = read_csv(folder, ["metadata.csv"], ["patientid", "modality", "filename", *kept])
    masks = find(folder, "semantic_masks_v7labs_lungs/*.*")
    for row in rows:
        label, file = covid_label(row["finding"]), row["filename"]
        if row["modality"] == "X-ray" and row["view"] in FRONTAL and label:
            name = PurePosixPath(file).stem
            meta = {key: row[key] for key in kept} | {"hannover": str(int("Hannover" in row["location"]))}
            item = Item(name, beside(path, "images", file), label, f"ieee_{row['patientid']}", named(name, masks))
            yield item._replace(meta=meta)


def covid_label(finding: str) -> str:
    """covid, pneumonia, no_finding or "" of a finding as "Pneumonia/Viral/COVID-19" or, in older versions, "SARS"."""
    parts = set(re.split(r"[/,] *", finding))
    if "COVID-19" in parts:
        return "covid"
    return "pneumonia" if parts & PNEUMONIA else "no_finding" if "No Finding" in parts else ""


def jsrt(folder: Path) -> Iterator[Item]:
    """JPCLN<number>.IMG with a nodule, JPCNN<number>.IMG without; masks of the SCR database, without the heart."""
    left, right = find(folder, "left lung/JPC*.gif"), find(folder, "right lung/JPC*.gif")
    for name, file in find(folder, "JPC[LN]N*.[Ii][Mm][Gg]").items():
        yield Item(name, file, "nodule" if name.startswith("JPCLN") else "normal", name, named(name, left, right))


SCREENED = {"0": "normal", "1": "tuberculosis"}  # the last letter of a file's name; before "_", the patient


def montgomery(folder: Path) -> Iterator[Item]:
    """MontgomerySet/CXR_png/MCUCXR_<number>_<0 normal, 1 tuberculosis>.png and a mask for each lung."""
    left, right = find(folder, "leftMask/MCUCXR_*.png"), find(folder, "rightMask/MCUCXR_*.png")
    for name, file in find(folder, "CXR_png/MCUCXR_*_[01].png").items():
        yield Item(name, file, SCREENED[name[-1]], name[:-2], named(name, left, right))


def shenzhen(folder: Path) -> Iterator[Item]:
    """ChinaSet_AllFiles/CXR_png/CHNCXR_<number>_<0 normal, 1 tuberculosis>.png; masks as <name>_mask.png."""
    masks = find(folder, "mask/CHNCXR_*_mask.png")
    for name, file in find(folder, "CXR_png/CHNCXR_*_[01].png").items():
        yield Item(name, file, SCREENED[name[-1]], name[:-2], named(f"{name}_mask", masks))


def nih(folder: Path) -> Iterator[Item]:
    """Data_Entry_2017*.csv names the films, in any folder: no_finding, pneumonia (alone or with others), or other."""
    columns = ["Image Index", "Finding Labels", "Patient ID"]
    path, rows = read_csv(folder, ["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"], columns)
    files = find(folder, "*_[0-9][0-9][0-9].png")
    for file, findings, patient in ([row[column] for column in columns] for row in rows):
        name = PurePosixPath(file).stem
        label = "pneumonia" if "Pneumonia" in findings.split("|") else "other"
        label = "no_finding" if findings == "No Finding" else label
        item = Item(name, files.get(name, beside(path, "images", file)), label, patient.zfill(8))
        yield item._replace(meta={"findings": findings})


def tbx11k(folder: Path) -> Iterator[Item]:
    """The labelled films (training and validation) with their boxes; test and extra films are left out."""
    boxes = read_boxes(folder, "TBX11K_train.json") | read_boxes(folder, "TBX11K_val.json")
    for directory, label in {"health": "normal", "sick": "sick", "tb": "tuberculosis"}.items():
        for name, file in find(folder, f"imgs/{directory}/*.png").items():
            own = boxes.get(name, ()) if label == "tuberculosis" else None
            yield Item(name, file, label, name, boxes=own)


def read_boxes(folder: Path, name: str) -> dict[str, tuple]:
    """Stem of the image -> its boxes (kind, left, top, right, bottom), from a file in COCO's format."""
    path, found = locate(folder, name), {}
    try:
        content = json.loads(read_file(Path(folder), path))
        names = {image["id"]: PurePosixPath(image["file_name"]).stem for image in content["images"]}
        kinds = {category["id"]: category["name"] for category in content["categories"]}
        for one in content["annotations"]:
            (left, top, width, height), image = one["bbox"], names[one["image_id"]]
            box = (kinds[one["category_id"]], left, top, left + width, top + height)
            found[image] = (*found.get(image, ()), box)
    except (Refused, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not in COCO's format ({error!r})") from error
    return found


# --- faces

# In the publisher's order of painting: what comes later covers what came before. The face is what comes before hair.
FACE = ("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip")
OTHERS = ("hair", "hat", "ear_r", "neck_l", "neck", "cloth")
# attributes that follow from the parts an image has
SEEN = {"Eyeglasses": {"eye_g"}, "Wearing_Hat": {"hat"}, "Wearing_Earrings": {"ear_r"}, "Wearing_Necklace": {"neck_l"}}
SEEN |= {"Mouth_Open": {"mouth"}, "Ears_Visible": {"l_ear", "r_ear"}}


def celebamask_hq(folder: Path) -> Iterator[Item]:
    """CelebA-HQ-img/<n>.jpg with parts <n, five digits>_<part>.png; every image counts as a person."""
    images, parts = find(folder, "CelebA-HQ-img/*.jpg"), find(folder, "CelebAMask-HQ-mask-anno/*/*.png")
    for number in sorted((name for name in images if name.isdigit()), key=int):
        stem, name = f"{int(number):05d}", f"face_{int(number):05d}"
        files = {part: parts[f"{stem}_{part}"] for part in (*FACE, *OTHERS) if f"{stem}_{part}" in parts}
        hides = frozenset(files[part] for part in OTHERS if part in files)
        seen = {key: str(int(bool(of & set(files)))) for key, of in SEEN.items()}
        yield Item(name, images[number], "", name, tuple(files.values()), hides, meta=seen)


SOURCES = {read.__name__: read for read in (montgomery, shenzhen, jsrt, ieee8023, hannover, nih, tbx11k, celebamask_hq)}


# --- looking through a publisher's folder


def find(folder: Path, pattern: str) -> dict[str, str]:
    """Stem -> file below `folder`, of all files that match a glob pattern at any depth; hidden files do not count.
    SourceError: two files of one stem, as when an archive was unpacked twice.
    """
    found = {}
    for path in sorted(Path(folder).rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith("."):
            continue
        if path.stem in found:
            raise SourceError(f"{found[path.stem]} and {name} have one name; remove one of the copies")
        found[path.stem] = name
    return found


def locate(folder: Path, *names: str) -> str:
    """The file below `folder` that has one of these names, the first name that exists, nearest to the top."""
    for name in names:
        if found := sorted(Path(folder).rglob(name), key=lambda path: (len(path.parts), path)):
            return found[0].relative_to(folder).as_posix()
    raise SourceError(f"{' or '.join(names)} is missing")


def named(name: str, *masks: dict[str, str]) -> tuple[str, ...]:
    """The files called `name` in all of `masks`; none unless each has one."""
    return tuple(files[name] for files in masks) if all(name in files for files in masks) else ()


def read_csv(folder: Path, names: Iterable[str], columns: Iterable[str]) -> tuple[str, list[dict[str, str]]]:
    """A publisher's table, the first of `names` that is there: its file and its rows."""
    path = locate(folder, *names)
    try:
        table = parse(read_file(Path(folder), path), strict=False)
    except Refused as error:
        raise SourceError(f"{path} cannot be read as a table ({error.args[0]})") from error
    if missing := [name for name in columns if name not in table]:
        raise SourceError(f"{path} has no column {', '.join(missing)}; it has: {list(table)}")
    return path, table.to_dict("records")


def beside(table: str, *names: str) -> str:
    """The file `names` (folders, then the file) beside the file `table`. Nothing is resolved: a name that leaves the
    folder still shows it, and is refused when it is read.
    """
    return PureWindowsPath(PurePosixPath(table).parent, *names).as_posix()
