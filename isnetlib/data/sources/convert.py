"""From a publisher's folder to a dataset folder: 8-bit images, masks on their pixels, index.csv.

Text in a publisher's tables is foreign: a file is opened only below the publisher's folder, and names of written files
hold letters, digits, '_', '.' and '-' only.
"""

import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from tqdm import tqdm

from isnetlib.data import checks
from isnetlib.data.checks import Refused
from isnetlib.data.sources import dicom
from isnetlib.data.sources.layout import Card, Item, SourceError
from isnetlib.files import write_atomically

SIZE = 512  # pixels of an image's longer side: more than the 224 of the largest network
SMALLEST = 32  # pixels that a dataset folder allows
FORMATS = (*checks.FORMATS, "GIF")  # GIF: masks of the SCR database
JSRT_SIDE = 2048
MANY = 10  # errors after which the rest is not tried
WHITE = 127  # of 255; a mask is above it. V7's masks also hold 127, "ignore"
SHAPES = 0.03  # relative difference of the aspect ratios of an image and its mask that rounding can explain


def prepare(source: ModuleType, folder: Path, out: Path, size: int = SIZE, partial: bool = False) -> pd.DataFrame:
    """Write the dataset folder `out` from a publisher's `folder`.

    Parameters
    ----------
    source : module with CARD and read(folder) -> list of Item
    size : pixels of the longer side to which larger images are reduced; 0 = as published
    partial : take a folder that is not complete: leave out what is missing or unreadable, and check no count

    Returns
    -------
    DataFrame with columns image, reason: what was left out. Images whose file is a byte copy of an earlier one are
    always left out, since two patients' copies are a leak; it is written to left_out.csv.

    Raises
    ------
    SourceError : a missing or unreadable file, a wrong count, a path that leaves the folder; nothing is indexed then
    """
    folder, out = Path(folder), Path(out)
    if size < 0 or 0 < size < SMALLEST:
        raise SourceError(f"size must be 0 or at least {SMALLEST} pixels, not {size}")
    _check_folders(folder, out)
    items = list(source.read(folder))
    check_names(items, folder, source.CARD)
    if not partial:
        check_counts(items, folder, source.CARD)
    rows, copies, errors = _write_all(items, folder, out, source, size, None if partial else MANY)
    if errors and not partial:
        raise SourceError(_tell(folder, errors))
    if not rows:
        raise SourceError(f"{folder}: no image is left; {source.CARD.remedy}")
    reasons = [(name, error.args[0]) for name, error in (copies | errors).items()]
    left_out = pd.DataFrame(reasons, columns=["image", "reason"])
    write_atomically(out / "left_out.csv", left_out.to_csv(index=False))
    write_atomically(out / "card.txt", source.CARD.text())
    write_atomically(out / "index.csv", pd.DataFrame(rows).fillna("").to_csv(index=False))  # last: the folder is whole
    return left_out


class Copy(Refused):
    """The image is a byte copy of an earlier one."""


def _check_folders(folder: Path, out: Path) -> None:
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; unpack the publisher's archive and name its folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"{out} lies inside {folder}; name a place outside, the publisher's folder stays as it is")
    if (out / "index.csv").exists() or (out.exists() and not out.is_dir()):
        raise SourceError(f"{out} already holds a data set; remove it or name another folder")


def check_names(items: list[Item], folder: Path, card: Card) -> None:
    """SourceError if nothing was found or two images would be written to one file."""
    if not items:
        raise SourceError(f"{folder}: no image found; {card.remedy}")
    counts = Counter(safe_name(item.name).casefold() for item in items)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise SourceError(f"{folder}: listed twice: {', '.join(twice[:5])}; download the publisher's table again")


def check_counts(items: list[Item], folder: Path, card: Card) -> None:
    """SourceError if images, labels or masks are not as many as the card says."""
    problems = []
    if card.images and len(items) not in card.images:
        problems.append(f"{len(items)} images instead of {' or '.join(map(str, card.images))}")
    labels = Counter(item.label for item in items)
    problems += [f"{labels[name]} {name} instead of {n}" for name, n in card.labels.items() if labels[name] != n]
    masks = sum(bool(item.masks or item.parts) for item in items)
    if card.masks is not None and masks != card.masks:
        problems.append(f"{masks} with a mask instead of {card.masks}")
    if problems:
        remedy = f"{card.remedy}; if you have a part of it on purpose, use --partial"
        raise SourceError(f"{folder}: {', '.join(problems)}; {remedy}")


def _write_all(items, folder, out, source, size, most):
    """Rows of index.csv, and by the image file the copies and what cannot be used; ends after `most` of these."""
    rows, copies, errors, digests = [], {}, {}, {}
    for item in tqdm(items, desc=f"to {out}", unit="image", disable=None):
        try:
            digest, row = write_item(item, folder, out, source, size, digests)
            digests[digest] = item.image
            rows.append(row)
        except Copy as error:
            copies[item.image] = error
        except Refused as error:
            errors[item.image] = error
        if len(errors) == most:
            break
    return rows, copies, errors


def write_item(item: Item, folder: Path, out: Path, source, size: int, digests: dict[str, str]) -> tuple[str, dict]:
    """Write one image and its mask; (sha256 of the publisher's file, row of index.csv). Refused if it cannot be."""
    data = _read(folder, item.image, source.CARD.remedy)
    digest = hashlib.sha256(data).hexdigest()
    if digest in digests:
        raise Copy(f"is a byte copy of {digests[digest]}", "none is needed")
    image = read_image(item.image, data, source.CARD.colour, item.invert)
    whole = image.size
    image.thumbnail((size or max(whole),) * 2, Image.Resampling.BICUBIC)
    name, ending = safe_name(item.name), "jpg" if source.CARD.colour else "png"
    row = {"image": f"images/{name}.{ending}", "mask": "", "label": item.label}
    row |= {"source": source.__name__.rpartition(".")[2], "patient": item.patient}
    files = {row["image"]: _encode(image, quality=95)}
    mask, parts = read_mask(item, folder, image.size, source.CARD.remedy)
    if parts is not None:
        row["parts"] = f"parts/{name}.png"
        files[row["parts"]] = _encode(parts, "png")
    if mask is not None:
        row["mask"] = f"masks/{name}.png"
        files[row["mask"]] = _encode(mask, "png")
    if item.boxes is not None:
        row["boxes"] = json.dumps([[kind, *_scaled(box, whole, image.size)] for kind, *box in item.boxes])
    for file, content in files.items():  # plainly: they count only once index.csv is there
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(content)
    return digest, row | {key: value for key, value in item.meta.items() if key not in row}


def _read(folder, name, remedy):
    try:
        return checks.read_file(folder, name)
    except Refused as error:  # its remedy is for a dataset folder
        raise Refused(error.args[0], remedy) from error


def safe_name(text: str) -> str:
    """A file name of harmless letters that does not start with a dot."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"


def read_image(name: str, data: bytes, colour: bool, invert: bool) -> Image.Image:
    """8-bit image of mode L or RGB, upright; more than 8 bits are stretched so that their range becomes 0 to 255."""
    if dicom.is_dicom(name, data):
        grey = dicom.decode(data)
    elif name.lower().endswith(".img"):
        grey = _decode_jsrt(data)
    else:
        image = _open(data)
        if image.mode[0] not in "IF":
            image = image.convert("RGB") if colour else image.convert("RGB").convert("L")  # drops any transparency
            return _varied(ImageOps.invert(image) if invert else image)
        grey = np.asarray(image, dtype=np.float64)
    low, high = grey.min(), grey.max()
    image = Image.fromarray(np.uint8(np.rint((grey - low) / max(high - low, 1e-9) * 255)))
    return _varied(ImageOps.invert(image) if invert else image)


def _varied(image):
    if all(low == high for low, high in np.atleast_2d(image.getextrema())):
        raise Refused("is constant: all pixels have one value", "download it again, or leave it out with --partial")
    return image


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        frames = getattr(image, "n_frames", 1)
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # on damaged bytes the readers raise almost anything
        remedy = "download it again, or leave it out with --partial"
        raise Refused(f"cannot be read as an image ({type(error).__name__})", remedy) from error
    if frames > 1:
        raise Refused(f"has {frames} frames", "leave it out with --partial")
    return upright


def _decode_jsrt(data: bytes) -> np.ndarray:
    """(2048, 2048) of JSRT's headerless files: big-endian, 12 of 16 bit; values grow with the film's blackness."""
    if len(data) != 2 * JSRT_SIDE**2:
        raise Refused(f"has {len(data)} bytes, not {2 * JSRT_SIDE**2}", "download it again")
    return 4095.0 - np.frombuffer(data, dtype=">u2").reshape(JSRT_SIDE, JSRT_SIDE)


def read_mask(item: Item, folder: Path, size: tuple[int, int], remedy: str) -> tuple[Image.Image | None, ...]:
    """Mask and index map of an item in the pixels of its image, `size` = (width, height); None where it has none."""
    if item.parts:
        layers = [(value, _grey(folder, name, remedy)) for value, name in item.parts]
        values = np.zeros((layers[0][1].height, layers[0][1].width), np.uint8)
        for value, layer in layers:
            values[_like(layer, values.shape[::-1]) > WHITE] = value
        parts = _fit(Image.fromarray(values), size, Image.Resampling.NEAREST)
        return Image.fromarray(255 * np.isin(parts, item.foreground).astype(np.uint8)), parts
    layers = [_grey(folder, name, remedy) for name in item.masks]
    if not layers:
        return None, None
    union = np.maximum.reduce([255 * (_like(layer, layers[0].size) > WHITE).astype(np.uint8) for layer in layers])
    smooth = _fit(Image.fromarray(union), size, Image.Resampling.BILINEAR)
    return Image.fromarray(255 * (np.asarray(smooth) > WHITE).astype(np.uint8)), None


def _grey(folder, name, remedy):
    try:
        return _open(_read(folder, name, remedy)).convert("RGB").convert("L")
    except Refused as error:
        raise Refused(f"its mask {name} {error.args[0]}", error.args[1]) from error


def _like(layer, size):
    """The pixels of a layer, Refused if it is not of the size of the first one."""
    if layer.size != size:
        raise Refused(f"its masks differ in size: {layer.size} and {size}", "download them again")
    return np.asarray(layer)


def _fit(mask, size, resampling):
    """Resize to `size` (width, height); Refused if that would change the shape."""
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > SHAPES:
        text = f"its mask is {mask.width} x {mask.height}, another shape than {size[0]} x {size[1]}"
        raise Refused(text, "is it the mask of another image?")
    return mask.resize(size, resampling)


def _scaled(box, whole, size):
    """(left, top, right, bottom) on an image reduced from `whole` to `size`, to a tenth of a pixel."""
    return [round(float(edge) * size[i % 2] / whole[i % 2], 1) for i, edge in enumerate(box)]


def _encode(image: Image.Image, kind: str = "", quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind or ("jpeg" if image.mode == "RGB" else "png"), quality=quality)
    return buffer.getvalue()


def _tell(folder: Path, errors: dict[str, Refused]) -> str:
    lines = [f"{name}: {error.args[0]}; {error.args[1]}" for name, error in errors.items()]
    return "\n  ".join([f"{folder}: files that cannot be used (--partial leaves them out):", *lines])
