"""A dataset folder's files: index.csv, images and masks. Names and cells are foreign: nothing in them is evaluated."""

import csv
import hashlib
import io
import json
import os
import shutil
import warnings
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import torch
from PIL import ExifTags, Image, ImageOps
from torch.nn.functional import interpolate
from torchvision.transforms.functional import equalize

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # none whose reader starts another program, as that of EPS does
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F")
SMALLEST = 32  # pixels of an image's shorter side
LIMIT = 50_000_000  # pixels: a file of some kB may hold more than memory does
TIFF_PHOTOMETRIC = 262
PROJECT = Path(__file__).resolve().parents[2]


class Refused(ValueError):
    """What cannot be used: Refused(problem, remedy)."""


# level: "error" (refused by load) or "warning"; row: of index.csv as a spreadsheet counts, the header being 1, or ""
Problem = namedtuple("Problem", "level file row problem remedy")


def of_index(problem: str, remedy: str, row: int | str = "") -> Problem:
    return Problem("error", "index.csv", row, problem, remedy)


def refuse(folder, problems: list[Problem]) -> None:
    """ValueError if any is an error; one warning that counts the others."""
    errors = [problem for problem in problems if problem.level == "error"]
    told = errors or problems
    lines = [f"{p.file}{f', row {p.row}' if p.row else ''}: {p.problem}. Remedy: {p.remedy}." for p in told[:10]]
    count = f"{folder}: {len(told)} problem{'s' * (len(told) != 1)}; `isnet verify-data` lists all. The first:"
    if errors:
        raise ValueError("\n".join([count, *lines]))
    if problems:
        warnings.warn("\n".join([count, *lines]), stacklevel=3)


def read_index(folder, label="label", attributes=(), classes=None, patient="patient", split=None, others=()):
    """`read_table` with column patient, by options of `folder.load`, its cells checked; others: further columns."""
    if isinstance(attributes, str) or isinstance(classes, str) or (attributes and classes):
        raise ValueError("attributes and classes are lists of names, and one of them is given at most")
    filled = [name for name in ("image", "source", patient, *(attributes or [label]), split) if name]
    table, problems = read_table(Path(folder), ["mask", *filled, *others])
    if problems:
        return table, problems
    table = table.assign(patient=table[patient] if patient else table["image"])
    known = {name: ["0", "1"] for name in attributes} or {label: list(classes or table[label].unique())}
    filled += ["split"] * ("split" in table and not split)
    return table, list(check_cells(table, filled, known))


def read_table(folder: Path, columns=()) -> tuple[pd.DataFrame, list[Problem]]:
    """index.csv with these columns as stripped text, its index being spreadsheet rows; and its problems."""
    path = folder / "index.csv"
    try:
        if not path.is_file():
            raise Refused("is missing", f"write {path} with columns image, mask, label, source, patient")
        table = parse(path.read_bytes())
    except Refused as error:
        return pd.DataFrame(), [of_index(*error.args)]
    remedy = "add it, or name another by the options label, attributes, split, patient (None: identities are unknown)"
    return table, [of_index(f"column {name!r} is missing", remedy) for name in columns if name not in table]


def parse(data: bytes, strict: bool = True) -> pd.DataFrame:
    """A table of comma, semicolon or tab, as stripped text, its index spreadsheet rows. strict: no quotes left open."""
    try:  # utf-8-sig: spreadsheets start the file with a byte order mark
        text = data.decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
        header, *lines = [[cell.strip() for cell in line] for line in lines] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"cannot be read: {error}", "save it as CSV, comma separated, UTF-8") from error
    rows = {i: line for i, line in enumerate(lines, 2) if line}  # a blank line is an empty list
    if not rows:
        raise Refused("lists no images", "add one row for each image")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise Refused(f"column names occur twice: {twice}", "rename or delete one of each")
    if wrong := [i for i, line in rows.items() if len(line) != len(header)]:
        text = f"{len(rows[wrong[0]])} cells for {len(header)} columns"
        raise Refused(text, f"put cells that contain {separator!r} in double quotes", wrong[0])
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype=object)


def check_cells(table: pd.DataFrame, filled: list[str], known: dict[str, list[str]]):
    """What is wrong with cells. filled: columns without empty ones; known: the cells that a column may have."""
    for column in filled:
        for row in table.index[table[column] == ""]:
            yield of_index(f"{column} is empty", f"fill in column {column!r} or delete the row", row)
    for column, cells in known.items():
        for row, cell in table.loc[~table[column].isin([*cells, ""]), column].items():
            yield of_index(f"{column} is {cell!r}", f"write one of {cells}, or delete the row", row)
        plain = pd.Series(cells, index=cells, dtype=object).str.casefold()
        for _, same in plain[plain.duplicated(keep=False)].groupby(plain):
            yield of_index(f"labels {list(same.index)} differ only by case", "write a label in one way")
    for row, name in table.loc[table["image"].duplicated() & (table["image"] != ""), "image"].items():
        yield of_index(f"image {name!r} is listed twice", "delete one of the rows", row)
    for row, cell in table["boxes"].items() if "boxes" in table else ():
        try:
            read_boxes(cell)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            yield of_index(f"boxes are {cell[:40]!r}", 'write [["kind", left, top, right, bottom], ...]', row)


def read_boxes(cell: str) -> list[tuple[str, np.ndarray]]:
    """Kind and edges (left, top, right, bottom) of each box of a cell, JSON; raises what `check_cells` catches."""
    boxes = [(str(kind), np.array(edges, dtype=float)) for kind, *edges in json.loads(cell or "[]")]
    if not all(edges.shape == (4,) and np.isfinite(edges).all() for _, edges in boxes):
        raise ValueError
    return boxes


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of the file `name` below `folder`. Refused if the path leaves the folder or cannot be read."""
    pure = PureWindowsPath(name)  # knows "/" and "\\", drives and servers: both systems refuse the same names
    if pure.drive or pure.root or ".." in pure.parts or "\0" in name:
        raise Refused("path leaves the folder", "move the file into the folder and name it relative to index.csv")
    try:
        path = (folder / pure.as_posix()).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise Refused("path leaves the folder through a symbolic link", "copy the file into the folder")
        if not path.is_file():  # nor is a device or pipe, which might never end
            raise Refused("file is missing", "add it, correct its name in index.csv, or delete the row")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links, no permission
        raise Refused(f"file cannot be opened ({type(error).__name__})", "check its name and permissions") from error


def decode(data: bytes, formats: tuple[str, ...] = FORMATS, turn=False, transparent=False) -> Image.Image:
    """An image of one frame, fully read, air dark, a JPEG above LIMIT at half its size. turn: obey an EXIF tag."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong is told by Refused
            image = Image.open(io.BytesIO(data), formats=formats)
            if image.width * image.height > LIMIT:
                image.draft(None, (image.width // 2, image.height // 2))  # of JPEG alone
            if image.width * image.height > LIMIT:
                raise Refused(f"has {image.width} x {image.height} pixels, more than {LIMIT:,}", "save it smaller")
            image.load()
            frames, orientation = getattr(image, "n_frames", 1), image.getexif().get(ExifTags.Base.Orientation, 1)
            if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == 0:
                image = Image.fromarray(65535 - np.asarray(image))  # 8 bits are inverted by Pillow
            image = ImageOps.exif_transpose(image) if turn else image
    except Refused:
        raise
    except Exception as error:  # on damaged bytes the readers raise almost anything
        told = f"cannot be read as an image ({type(error).__name__})"
        raise Refused(told, f"replace the file; formats: {', '.join(formats)}") from error
    if frames > 1:
        raise Refused(f"has {frames} frames", "save one frame as the file")
    if orientation in range(2, 9) and not turn:  # other numbers mean nothing
        raise Refused("is turned by its EXIF tag", "save the pixels upright, so that image and mask agree")
    if not transparent and image.has_transparency_data and np.ptp(image.convert("RGBA").getchannel("A")) > 0:
        raise Refused("is transparent in parts", "save it without transparency, as it is to be seen")
    if image.mode.partition(";")[0] not in MODES:
        raise Refused(f"has the colour mode {image.mode}", "save it as grey or RGB")
    return image


def to_pixels(image: Image.Image) -> np.ndarray:
    """float32 (H, W, 3) in [0, 255] of an 8- or 16-bit image, grey repeated; Refused if small, constant or deeper."""
    if min(image.size) < SMALLEST:
        raise Refused(f"is {image.width} x {image.height} pixels, smaller than {SMALLEST}", "use the original file")
    pixels = np.asarray(image if image.mode[0] in "IF" else image.convert("RGB"), dtype=np.float32)
    if pixels.ndim == 2:
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
            raise Refused("has pixels outside 8 and 16 bit", "save it as 8 or 16 bit: 0 is black, the maximum white")
        pixels = np.repeat(pixels[..., None] / 257, 3, axis=2)  # 65535 / 257 = 255
    if (pixels == pixels[0, 0]).all():
        raise Refused("is constant: all pixels have one value", "replace the file or delete the row")
    return pixels


def to_mask(image: Image.Image) -> np.ndarray:
    """bool (H, W), the larger of two values being True; Refused for more values than 0 and one other."""
    array = np.asarray(image if image.mode[0] in "IF1" else image.convert("L"))
    values = np.unique(array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise Refused(f"mask is not binary: holds {values[:4].tolist()} ...", "save it as PNG with 0 and 255 only")
    return array > 0


def resize(pixels: np.ndarray, size: int | tuple[int, int], equalise: bool = False) -> torch.Tensor:
    """uint8 (3, *size) of float pixels (H, W, 3) in [0, 255]; equalise: each channel's histogram, after resizing."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    x = interpolate(x, size, mode="bilinear", antialias=True)[0].round().clamp(0, 255).to(torch.uint8)
    return equalize(x) if equalise else x


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> torch.Tensor:
    """uint8 (1, *size) of a bool mask (H, W)."""
    return interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="nearest-exact")[0].to(torch.uint8)


def stored_at(cache: Path, folder: Path, table, size: int | tuple[int, int], equalise: bool) -> Path:
    """KEY.u8 in `cache`; KEY changes with index.csv, the rows and patients, the size, any file's date or size."""
    about = [hashlib.sha256((folder / "index.csv").read_bytes()).hexdigest(), size, equalise]
    about += table[["image", "mask", "patient"]].to_numpy().tolist()
    found = [path.stat() for name in (*table["image"], *table["mask"]) if name and (path := folder / name).is_file()]
    about += [(one.st_size, one.st_mtime_ns) for one in found]
    return Path(cache) / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.u8"


@contextmanager
def writing(path: Path, need: int):
    """A file to write `need` bytes to, which is at `path` once all went well. OSError: the disk is too small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if need > (free := shutil.disk_usage(path.parent).free):
        raise OSError(f"{path.parent}: {need / 1e9:.1f} GB of images do not fit, {free / 1e9:.1f} GB are free")
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        if part.stat().st_size == need:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def find_sources(folder, sources: list[str], variable="ISNET_DATA", maker="`isnet prepare`") -> Path:
    """The folder (None: of the variable) that holds, made by `maker`, a folder for each of the sources."""
    root = _named(folder, variable, f"that holds {', '.join(sources)}, made by {maker}")
    if missing := [source for source in sources if not (root / source).is_dir()]:
        raise FileNotFoundError(f"{root} has no folder {', '.join(missing)}; {maker} makes it")
    return root


def outside(masks: str | Path | None) -> Path:
    """The folder (None: of ISNET_MASKS) to write masks of films to; ValueError inside the project's folder."""
    root = _named(masks, "ISNET_MASKS", f"for masks outside {PROJECT.name}")
    if root.resolve().is_relative_to(PROJECT):
        raise ValueError(f"{root} lies inside {PROJECT.name}: masks of films are not to be published; name another")
    return root


def _named(option, variable, what):
    """A relative path in a variable is seen from the project's folder, since notebooks run in a folder of their own."""
    if not option and not os.environ.get(variable):
        raise FileNotFoundError(f"set {variable} to the folder {what}, or name it; README.md tells how, under Data")
    return Path(option) if option else PROJECT / os.environ[variable]
