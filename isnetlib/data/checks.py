"""What can be wrong with a dataset folder: its index, its splits, its files. Every finding names a remedy.

Text in index.csv is foreign: file names are looked up below the folder only, labels are compared, nothing is evaluated.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # none whose reader starts another program, as that of EPS does
TEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it becomes a file name
DARK = 64  # of 255: 12-bit pixels stored in 16 bits reach 16
EXIF_ORIENTATION = 0x0112


class Problem(NamedTuple):
    level: str  # "error": refused by load; "warning": loaded as it is
    file: str
    row: int  # of index.csv as a spreadsheet counts, the header being 1; 0 = the file as a whole
    problem: str
    remedy: str


class Refused(ValueError):
    """A file that cannot be used: Refused(problem, remedy)."""


def read_table(folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """index.csv as stripped text, its index being spreadsheet rows. Empty, with problems, if it cannot be read."""
    path = folder / "index.csv"
    if not path.is_file():
        return pd.DataFrame(), [_index("is missing", f"write {path} with columns image, mask, label, source, patient")]
    try:  # utf-8-sig: spreadsheets start the file with a byte order mark
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        return pd.DataFrame(), [_index(f"cannot be read: {error}", "save it as CSV, comma separated, UTF-8")]
    header = lines[0] if lines else []
    rows = {i: line for i, line in enumerate(lines[1:], 2) if line}  # a blank line is an empty list
    if not rows:
        return pd.DataFrame(), [_index("lists no images", "add one row for each image")]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        return pd.DataFrame(), [_index(f"column names occur twice: {twice}", "rename or delete one of each")]
    ragged = {i: line for i, line in rows.items() if len(line) != len(header)}
    if ragged:
        remedy = "put cells that contain commas in double quotes"
        return pd.DataFrame(), [
            _index(f"{len(line)} cells for {len(header)} columns", remedy, i) for i, line in ragged.items()
        ]
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype=object), []


def check_columns(table: pd.DataFrame, needed: dict[str, str]) -> Iterator[Problem]:
    """Missing columns; needed: column -> remedy."""
    for column, remedy in needed.items():
        if column not in table:
            yield _index(f"column {column!r} is missing", remedy)


def check_cells(table: pd.DataFrame, filled: list[str]) -> Iterator[Problem]:
    """Empty cells in the columns `filled`, and images listed twice."""
    for column in filled:
        for row in table.index[table[column] == ""]:
            yield _index(f"{column} is empty", f"fill in column {column!r} or delete the row", row)
    images = table["image"][table["image"] != ""]
    for row, name in images[images.duplicated()].items():
        yield _index(f"image {name!r} is listed twice", "delete one of the rows", row)


def check_labels(labels: pd.Series, classes: list[str] | None) -> Iterator[Problem]:
    """Labels that are not among `classes`, or that differ only by case."""
    known = list(classes or labels.unique())
    for row, cell in labels[~labels.isin(known) & (labels != "")].items():
        yield _index(f"unknown label {cell!r}", f"use one of {known}, add it to classes, or exclude the row", row)
    plain = pd.Series(known, index=known, dtype=object).str.casefold()
    for _, same in plain[plain.duplicated(keep=False)].groupby(plain):
        yield _index(f"labels {list(same.index)} differ only by case", "write a label in one way")


def check_attributes(table: pd.DataFrame, attributes: list[str]) -> Iterator[Problem]:
    """Attribute cells other than 0 and 1."""
    for column in attributes:
        for row, cell in table.loc[~table[column].isin(["0", "1"]), column].items():
            yield _index(f"{column} is {cell!r}", "write attributes as 0 or 1", row)


def check_parts(part: pd.Series, patient: pd.Series) -> Iterator[Problem]:
    """part: train, validation or a test set's name, for each row. Bad names, missing parts, patients in several."""
    for name in sorted(set(part) - {""}):
        if not TEST_NAME.fullmatch(name):
            yield _index(f"{name!r} cannot name a test set", "use letters, digits, '_', '.' and '-' only")
    for name in ("train", "validation"):
        if not (part == name).any():
            yield _index(f"no row is in {name!r}", "the parts are train, validation, and a name for each test set")
    if set(part) <= {"train", "validation", ""}:
        yield _index("no row is in a test set", "the parts are train, validation, and a name for each test set")
    remedy = "move the patient's rows to one part; if they are two people, make the names unique across sources"
    for name, parts in part[(part != "") & (patient != "")].groupby(patient):
        if parts.nunique() > 1:
            text = f"patient {name!r} is in {' and '.join(sorted(set(parts)))}: leakage"
            yield _index(text, remedy, parts.index[-1])


def check_copies(table: pd.DataFrame, digests: pd.Series) -> Iterator[Problem]:
    """Image files with the same bytes; digests: sha256 of the rows' images, those that could be read."""
    for _, rows in digests.groupby(digests):
        group = table.loc[rows.index].drop_duplicates("image")  # an image listed twice is reported as that
        first = group.iloc[0]
        for row, name, patient in zip(group.index[1:], group["image"][1:], group["patient"][1:], strict=True):
            text = f"is a copy of {first['image']} (row {group.index[0]})"
            if patient == first["patient"]:
                yield Problem("warning", name, row, text, "delete one of the rows: it counts twice")
            else:
                remedy = "exclude one of the rows, or give both the same patient"
                yield Problem("error", name, row, f"{text} under another patient: leakage", remedy)


def without_copies(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Without the rows whose image has the bytes of an earlier row's; what cannot be read stays, to be reported."""
    seen, kept = set(), []
    for name in table["image"]:
        try:
            digest = hashlib.sha256(read_file(folder, name)).hexdigest()
        except Refused:
            digest = name
        kept.append(digest not in seen)
        seen.add(digest)
    return table[kept]


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of the file `name` below `folder`. Refused if the path leaves the folder or cannot be read."""
    pure = PureWindowsPath(name)  # knows "/" and "\\", drives and servers: both systems refuse the same names
    if pure.drive or pure.root or ".." in pure.parts or "\0" in name:
        raise Refused("path leaves the folder", "move the file into the folder and name it relative to index.csv")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise Refused("path leaves the folder through a symbolic link", "copy the file into the folder")
        if not path.is_file():  # nor is a device or pipe, which might never end
            raise Refused("file is missing", "add it, correct its name in index.csv, or delete the row")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links, no permission
        raise Refused(f"file cannot be opened ({type(error).__name__})", "check its name and permissions") from error


def decode(data: bytes) -> Image.Image:
    """An image of one frame, upright, fully read; otherwise Refused."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        frames, orientation = getattr(image, "n_frames", 1), image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception as error:  # on damaged bytes the readers raise almost anything
        problem = f"cannot be read as an image ({type(error).__name__})"
        raise Refused(problem, f"replace the file; formats: {', '.join(FORMATS)}") from error
    if frames > 1:
        raise Refused(f"has {frames} frames", "save one frame as the file")
    if orientation != 1:
        raise Refused("is turned by its EXIF tag", "save the pixels upright, so that image and mask agree")
    return image


def to_pixels(image: Image.Image) -> np.ndarray:
    """float32 (H, W, 3) in [0, 255] of an 8- or 16-bit image, grey repeated; Refused if constant or of other depth."""
    if image.mode[0] in "IF":
        grey = np.asarray(image)
        if image.mode[0] == "F" or grey.min() < 0 or grey.max() > 65535:
            raise Refused("has pixels outside 8 and 16 bit", "save it as 8 or 16 bit: 0 is black, the maximum white")
        pixels = np.repeat(grey[..., None].astype(np.float32) / 257, 3, axis=2)  # 65535 / 257 = 255
    else:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    if np.ptp(pixels) == 0:
        raise Refused("is constant: all pixels have one value", "replace the file or delete the row")
    return pixels


def to_mask(image: Image.Image) -> np.ndarray:
    """bool (H, W), the larger of two values being True; Refused for more values than 0 and one other."""
    array = np.asarray(image if image.mode[0] in "IF1" else image.convert("L"))
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        some = ", ".join(f"{value:g}" for value in values[:4])
        raise Refused(f"mask is not binary: {len(values)} values ({some} ...)", "save it as PNG with 0 and 255 only")
    return array > 0


def check_pair(pixels: np.ndarray | None, mask: np.ndarray | None, minimum: int) -> Iterator[tuple[str, str, str, str]]:
    """What is wrong with an image (H, W, 3) and its mask (H, W): (level, "image" or "mask", problem, remedy)."""
    if pixels is not None and min(pixels.shape[:2]) < minimum:
        text = f"is {_size(pixels)} pixels, smaller than {minimum}"
        yield "error", "image", text, "use the original file, or lower `minimum`"
    if pixels is not None and pixels.max() < DARK:
        text = f"is almost black: its brightest pixel is {pixels.max():.0f} of 255 after scaling"
        yield "warning", "image", text, "spread the pixels over the full range (12 bit stored as 16: multiply by 16)"
    if pixels is not None and mask is not None and mask.shape != pixels.shape[:2]:
        text = f"mask is {_size(mask)} pixels, its image {_size(pixels)}"
        yield "error", "mask", text, "make the mask on the image's own pixels"
    if mask is not None and mask.all() != mask.any():
        return
    if mask is not None:
        text = "mask is full" if mask.all() else "mask is empty"
        yield "warning", "mask", f"{text}: it gives no instruction", "correct it, or leave the cell empty"


def _size(array):
    return f"{array.shape[1]} x {array.shape[0]}"


def _index(problem, remedy, row=0):
    return Problem("error", "index.csv", int(row), problem, remedy)
