"""From a publisher's folder to a dataset folder: 8-bit images, masks on their pixels, index.csv.

Text in a publisher's tables is foreign: a file is opened only below the publisher's folder, and names of written files
hold letters, digits, '_', '.' and '-' only.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from tqdm import tqdm

from isnetlib.data.files import FORMATS, SMALLEST, Refused, decode, read_file
from isnetlib.data.sources.publishers import CARDS, Item, SourceError, items_of
from isnetlib.training.files import write_atomically

SIZE = 512  # pixels of an image's longer side: more than the 224 of the largest network
JSRT_SIDE = 2048
MANY = 10  # errors after which the rest is not tried
WHITE = 127  # of 255; a mask is above it. V7's masks also hold 127, "ignore"
SHAPES = 0.03  # relative difference of the aspect ratios of an image and its mask that rounding can explain


def card(name: str) -> str:
    """What a source is, as it is written beside its images."""
    own = {key: value for key, value in CARDS[name].items() if key not in ("remedy", "colour", "read")}
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=120)


def prepare(name: str, folder: Path, out: Path, size: int = SIZE, partial: bool = False) -> pd.DataFrame:
    """Write the dataset folder `out` from the `folder` of the publisher of the source `name`.

    size : pixels of the longer side to which larger images are reduced; 0 = as published
    partial : take a folder that is not complete: leave out what is missing or unreadable, and check no count

    Returns a DataFrame with columns image, reason, also written to left_out.csv: what was left out, among it every file
    that is a byte copy of an earlier one, since two patients' copies are a leak. SourceError: no such source, a missing
    or unreadable file, a wrong count, a path that leaves the folder; nothing is indexed then.
    """
    if name not in CARDS:
        raise SourceError(f"there is no source {name!r}; known: {', '.join(CARDS)}")
    folder, out, remedy = Path(folder), Path(out), CARDS[name]["remedy"]
    _check_places(folder, out, size)
    try:
        items = items_of(name, folder)
        _check_items(items, {} if partial else CARDS[name])
        rows, copies, errors = _write_all(name, items, folder, out, size, None if partial else MANY)
        if errors and (not partial or not rows):
            told = "".join(f"\n  {key}: {text}" for key, text in errors.items())
            raise SourceError(f"files that cannot be used:{told}")
    except SourceError as error:
        raise SourceError(f"{folder}: {error}; {remedy}; if you have a part of it on purpose, use --partial") from error
    left_out = pd.DataFrame((copies | errors).items(), columns=["image", "reason"])
    write_atomically(out / "left_out.csv", left_out.to_csv(index=False))
    write_atomically(out / "card.txt", card(name))
    write_atomically(out / "index.csv", pd.DataFrame(rows).fillna("").to_csv(index=False))  # last: the folder is whole
    return left_out


def _check_places(folder, out, size):
    for wrong, told in (
        (size < 0 or 0 < size < SMALLEST, f"size must be 0 or at least {SMALLEST} pixels, not {size}"),
        (not folder.is_dir(), f"{folder} is not a folder; unpack the publisher's archive and name its folder"),
        (out.resolve().is_relative_to(folder.resolve()), f"{out} lies inside {folder}, which stays as it is"),
        ((out / "index.csv").exists() or out.is_file(), f"{out} already holds a data set; remove it or name another"),
    ):
        if wrong:
            raise SourceError(told)


def _check_items(items: list[Item], own: dict) -> None:
    """SourceError if nothing was found, two images would be written to one file, or counts are not the card's."""
    if not items:
        raise SourceError("no image found")
    names = pd.Series([safe_name(item.name).casefold() for item in items])
    if len(twice := names[names.duplicated()].unique()):
        raise SourceError(f"listed twice: {', '.join(twice[:5])}")
    found = Counter(item.label for item in items)
    found |= {"images": len(items), "with a mask": sum(bool(item.masks) for item in items)}
    wanted = {"images": own.get("images"), **own.get("labels", {}), "with a mask": own.get("masks")}
    wrong = [f"{found[what]} {what} instead of {n}" for what, n in wanted.items() if n not in (None, found[what])]
    if wrong:
        raise SourceError(", ".join(wrong))


def _write_all(source, items, folder, out, size, most):
    """Rows of index.csv, and by the image file the copies and what cannot be used; ends after `most` of these."""
    rows, copies, errors, seen = [], {}, {}, {}
    for item in tqdm(items, desc=f"to {out}", unit="image", disable=None):
        try:
            data = read_file(folder, item.image)
            first = seen.setdefault(hashlib.sha256(data).digest(), item.image)
            if first == item.image:
                rows.append(_write_item(source, item, data, folder, out, size))
            else:
                copies[item.image] = f"is a byte copy of {first}"
        except Refused as error:
            errors[item.image] = error.args[0]
        if len(errors) == most:
            break
    return rows, copies, errors


def _write_item(source, item: Item, data: bytes, folder: Path, out: Path, size: int) -> dict[str, str]:
    """Write one image and its mask; the row of index.csv. Refused if it cannot be."""
    colour, name = CARDS[source].get("colour", False), safe_name(item.name)
    image = read_image(item.image, data, colour)
    whole = image.size
    image.thumbnail((size or max(whole),) * 2, Image.Resampling.BICUBIC)
    files = {"image": (f"images/{name}.{'jpg' if colour else 'png'}", image)}
    if item.masks:
        files["mask"] = (f"masks/{name}.png", read_mask(item, folder, image.size))
    row = {"image": "", "mask": "", "label": item.label, "source": source, "patient": item.patient}
    for column, (file, picture) in files.items():  # plainly: they count only once index.csv is there
        row[column] = file
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        picture.save(out / file, quality=95)
    if item.boxes is not None:
        edges = ((kind, zip(box, image.size * 2, whole * 2, strict=True)) for kind, *box in item.boxes)
        row["boxes"] = json.dumps([[k, *(round(float(edge) * new / old, 1) for edge, new, old in e)] for k, e in edges])
    return row | {key: value for key, value in item.meta.items() if key not in row}


def safe_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".") or "_"


def read_image(name: str, data: bytes, colour: bool) -> Image.Image:
    """8-bit image of mode L or RGB, upright; more than 8 bits are stretched so that their range becomes 0 to 255."""
    image = _read_jsrt(data) if name.lower().endswith(".img") else decode(data, (*FORMATS, "GIF"), turn=True)
    if image.mode[0] in "IF":
        grey = np.asarray(image, dtype=np.float64)
        low, high = grey.min(), grey.max()
        image = Image.fromarray(np.uint8(np.rint((grey - low) / max(high - low, 1e-9) * 255)))
    image = image.convert("RGB") if colour else image.convert("RGB").convert("L")  # drops any transparency
    if all(low == high for low, high in np.atleast_2d(image.getextrema())):
        raise Refused("is constant: all pixels have one value", "download it again")
    return image


def _read_jsrt(data):
    """(2048, 2048) of JSRT's headerless files: big-endian, 12 of 16 bit; values grow with the film's blackness."""
    if len(data) != 2 * JSRT_SIDE**2:
        raise Refused(f"has {len(data)} bytes, not {2 * JSRT_SIDE**2}", "download it again")
    return Image.fromarray(4095 - np.frombuffer(data, dtype=">u2").reshape(JSRT_SIDE, JSRT_SIDE).astype(np.float32))


def read_mask(item: Item, folder: Path, size: tuple[int, int]) -> Image.Image:
    """The mask of an item, its files painted over each other, in the pixels of its image: `size` = (width, height)."""
    painted = None
    for name in item.masks:
        try:
            layer = decode(read_file(folder, name), (*FORMATS, "GIF"), turn=True)
        except Refused as error:
            raise Refused(f"its mask {name} {error.args[0]}", error.args[1]) from error
        layer = np.asarray(layer.convert("RGB").convert("L"))
        painted = np.zeros(layer.shape, np.uint8) if painted is None else painted
        if layer.shape != painted.shape:
            sizes = f"{layer.shape[::-1]} and {painted.shape[::-1]}"
            raise Refused(f"its masks differ in size: {sizes}", "download them again")
        painted[layer > WHITE] = 0 if name in item.hides else 255
    mask = Image.fromarray(painted)
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > SHAPES:
        text = f"its mask is {mask.width} x {mask.height}, another shape than {size[0]} x {size[1]}"
        raise Refused(text, "is it the mask of another image?")
    smooth = np.asarray(mask.resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(255 * (smooth > WHITE).astype(np.uint8))
