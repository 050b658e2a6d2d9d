"""Public data sets: `prepare` makes a dataset folder of what a publisher ships; cards.yaml says what each one is.

Text in a publisher's tables is foreign: a file is opened only below the publisher's folder, and written names are safe.
"""

import hashlib
import json
import re
from collections import Counter, namedtuple
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from tqdm import tqdm

from isnetlib.data.files import FORMATS, SMALLEST, Refused, decode, parse, read_file
from isnetlib.training.files import write_atomically

CARDS = yaml.safe_load(Path(__file__).with_name("cards.yaml").read_text(encoding="utf-8"))
JSRT_SIDE = 2048
MANY = 10  # errors after which the rest is not tried
WHITE = 127  # of 255; a mask is above it. V7's masks also hold 127, "ignore"
SHAPES = 0.03  # relative difference of the aspect ratios of an image and its mask that rounding can explain


class SourceError(ValueError):
    """A publisher's folder that cannot be read; the message names the file and the remedy."""


# One image of a source. name: of the files to write, safe; image: its file, named as all others relative to the
# publisher's folder, with '/'; masks: of files painted one over the other, whether as foreground; boxes: None, or kind,
# left, top, right, bottom in the image's pixels; meta: further columns.
Item = namedtuple("Item", "name image label patient masks boxes meta")


def prepare(name: str, folder: Path, out: Path, size: int = 512, partial: bool = False) -> pd.DataFrame:
    """Write the dataset folder `out` from the `folder` of the publisher of the source `name`. size: pixels of the
    longer side to which larger images are reduced, 0 = as published; partial: leave out what is missing, count nothing.

    Returns what was left out (image, reason; also in left_out.csv), among it byte copies of earlier files. SourceError:
    no such source, a missing or unreadable file, a wrong count, a path out of the folder; nothing is indexed then.
    """
    folder, out = Path(folder), Path(out)
    if name not in CARDS:
        raise SourceError(f"there is no source {name!r}; known: {', '.join(CARDS)}")
    if size and size < SMALLEST:
        raise SourceError(f"size must be 0 or at least {SMALLEST} pixels, not {size}")
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; unpack the publisher's archive and name its folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise SourceError(f"{out} lies inside {folder}, which stays as it is")
    if (out / "index.csv").exists() or out.is_file():
        raise SourceError(f"{out} already holds a data set; remove it or name another")
    try:
        items = items_of(name, folder)
        _check_items(items, {} if partial else CARDS[name])
        rows, copies, errors = _write_all(name, items, folder, out, size, None if partial else MANY)
        if errors and (not partial or not rows):
            raise SourceError("\n  ".join(["files that cannot be used:", *(f"{key}: {errors[key]}" for key in errors)]))
    except SourceError as error:
        raise SourceError(f"{folder}: {error}; {CARDS[name]['remedy']}; if it is partial, use --partial") from error
    left_out = pd.DataFrame((copies | errors).items(), columns=["image", "reason"])
    write_atomically(out / "left_out.csv", left_out.to_csv(index=False))
    card = {key: value for key, value in CARDS[name].items() if key not in ("remedy", "colour", "read")}
    write_atomically(out / "card.txt", yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=120))
    write_atomically(out / "index.csv", pd.DataFrame(rows).fillna("").to_csv(index=False))  # last: the folder is whole
    return left_out


def _check_items(items: list[Item], own: dict) -> None:
    if not items:
        raise SourceError("no image found")
    names = pd.Series([item.name.casefold() for item in items])
    if len(twice := names[names.duplicated()].unique()):
        raise SourceError(f"listed twice: {', '.join(twice[:5])}")
    found = Counter(item.label for item in items)
    found |= {"images": len(items), "with a mask": sum(bool(item.masks) for item in items)}
    wanted = {"images": own.get("images"), **own.get("labels", {}), "with a mask": own.get("masks")}
    if wrong := [f"{found[what]} {what} instead of {n}" for what, n in wanted.items() if n not in (None, found[what])]:
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
    colour, name = CARDS[source].get("colour", False), item.name
    image = read_image(item.image, data, colour)
    whole = image.size
    image.thumbnail((size or max(whole),) * 2, Image.Resampling.BICUBIC)
    row = {"image": f"images/{name}.{'jpg' if colour else 'png'}", "mask": f"masks/{name}.png" if item.masks else ""}
    pictures = {row["mask"]: read_mask(item, folder, image.size)} if item.masks else {}
    for file, picture in {row["image"]: image, **pictures}.items():  # plainly: they count once index.csv is there
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        picture.save(out / file, quality=95)
    row |= {"label": item.label, "source": source, "patient": item.patient}
    if item.boxes is not None:
        edges = ((kind, zip(box, image.size * 2, whole * 2, strict=True)) for kind, *box in item.boxes)
        row["boxes"] = json.dumps([[k, *(round(float(edge) * new / old, 1) for edge, new, old in e)] for k, e in edges])
    return row | item.meta


def read_image(name: str, data: bytes, colour: bool) -> Image.Image:
    """8-bit image of mode L or RGB, upright; more than 8 bits are stretched so that their range becomes 0 to 255."""
    if name.lower().endswith(".img"):  # JSRT's: no header, big-endian, 12 of 16 bit; values grow with blackness
        if len(data) != 2 * JSRT_SIDE**2:
            raise Refused(f"has {len(data)} bytes, not {2 * JSRT_SIDE**2}", "download it again")
        film = np.frombuffer(data, dtype=">u2").reshape(JSRT_SIDE, JSRT_SIDE).astype(np.float32)
        image = Image.fromarray(4095 - film)
    else:
        image = decode(data, (*FORMATS, "GIF"), turn=True, transparent=True)
    if image.mode[0] in "IF":
        grey = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.uint8(np.rint((grey - grey.min()) / max(np.ptp(grey), 1e-9) * 255)))
    image = image.convert("RGB") if colour else image.convert("RGB").convert("L")  # drops any transparency
    if all(low == high for low, high in np.atleast_2d(image.getextrema())):
        raise Refused("is constant: all pixels have one value", "download it again")
    return image


def read_mask(item: Item, folder: Path, size: tuple[int, int]) -> Image.Image:
    """The mask of an item, its files painted over each other, in the pixels of its image: `size` = (width, height)."""
    layers = []
    for name, foreground in item.masks.items():
        try:
            layer = decode(read_file(folder, name), (*FORMATS, "GIF"), turn=True, transparent=True)
        except Refused as error:
            raise Refused(f"its mask {name} {error.args[0]}", error.args[1]) from error
        layers.append((np.asarray(layer.convert("RGB").convert("L")), 255 * foreground))
    if len(sizes := dict.fromkeys(layer.shape[::-1] for layer, _ in layers)) > 1:
        raise Refused(f"its masks differ in size: {' and '.join(map(str, sizes))}", "download them again")
    painted = np.zeros_like(layers[0][0])
    for layer, value in layers:
        painted[layer > WHITE] = value
    mask = Image.fromarray(painted)
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > SHAPES:
        text = f"its mask is {mask.width} x {mask.height}, another shape than {size[0]} x {size[1]}"
        raise Refused(text, "is it the mask of another image?")
    smooth = np.asarray(mask.resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(255 * (smooth > WHITE).astype(np.uint8))


def items_of(source: str, folder: Path) -> list[Item]:
    """The images of a source in its publisher's folder: of names of files, of a table or of parts of faces."""
    how = dict(CARDS[source]["read"])
    if "parts" in how:
        return list(by_parts(folder, **how))
    if name := how.pop("name", ""):  # a regular expression, whose groups are cells
        found = {file: re.search(name, file) for file in find(folder, how.pop("images")).values()}
        return list(by_label(folder, [(file, match.groupdict()) for file, match in found.items() if match], **how))
    tables = how.pop("tables")
    try:
        return list(by_label(folder, by_table(folder, tables, how.pop("image"), how.pop("files", "")), **how))
    except KeyError as error:
        raise SourceError(f"{' or '.join(tables)} has no column {error}") from error


def by_table(folder: Path, tables, image: str, files: str = ""):
    """Files named by the first of `tables` that is there, or of `files` those of these names, and its rows."""
    path, found = locate(folder, tables), find(folder, files) if files else {}
    try:
        table = parse(read_file(folder, path), strict=False)
    except Refused as error:
        raise SourceError(f"{path} cannot be read as a table ({error.args[0]})") from error
    for row in table.to_dict("records"):
        # beside the table, and not resolved: a name that leaves the folder shows it, and is refused when it is read
        file = PureWindowsPath(PurePosixPath(path).parent, image.format(**row)).as_posix()
        yield found.get(PurePosixPath(file).stem, file), row


def by_label(folder: Path, rows, patient="{patient}", finding="label", other="", masks=(), boxes=(), **how):
    """Items of files and their cells. A row's label is the first of `labels` of whose words one is in the cell
    `finding`, or `other`; rows without a label, or with cells other than `where`, are left out. masks: a glob pattern
    for each layer; boxes: files in COCO's format, of the last label; kept: metadata and their columns; marked: 1 where
    a column has a word.
    """
    labels, where, kept, marked = (how.get(key, {}) for key in ("labels", "where", "kept", "marked"))
    layers = [find(folder, pattern) for pattern in masks]
    found = {stem: own for file in boxes for stem, own in read_boxes(folder, file).items()}
    for file, row in rows:
        words = set(re.split(r"[/,|] *", row[finding])) if labels else set()
        label = next((label for label, own in labels.items() if words & set(own)), other)
        if label and all(row[column] in cells for column, cells in where.items()):
            stem, meta = PurePosixPath(file).stem, {name: row[column] for name, column in kept.items()}
            meta |= {name: str(int(word in row[column])) for name, (column, word) in marked.items()}
            own = found.get(stem, ()) if boxes and label == list(labels)[-1] else None
            parts = [layer.get(stem, layer.get(f"{stem}_mask")) for layer in layers]
            painted = dict.fromkeys(parts, True) if all(parts) else {}  # none unless each layer has one
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip(".") or "_"
            yield Item(name, file, label, patient.format(**row), painted, own, meta)


def by_parts(folder: Path, images: str, parts: str, face, others, seen: dict):
    """<n>.jpg with masks <n, five digits>_<part>.png, of the face or of others; every image counts as a person."""
    images, parts = find(folder, images), find(folder, parts)
    for number in sorted(filter(str.isdigit, images), key=int):
        there = [part for part in (*face, *others) if f"{int(number):05d}_{part}" in parts]
        masks = {parts[f"{int(number):05d}_{part}"]: part in face for part in there}
        name, meta = f"face_{int(number):05d}", {key: str(int(bool({*of} & {*there}))) for key, of in seen.items()}
        yield Item(name, images[number], "", name, masks, None, meta)


def read_boxes(folder: Path, name: str) -> dict[str, list[tuple]]:
    """Stem of the image -> its boxes (kind, left, top, right, bottom), from a file in COCO's format."""
    path, found = locate(folder, [name]), {}
    try:
        content = json.loads(read_file(folder, path))
        names = {image["id"]: PurePosixPath(image["file_name"]).stem for image in content["images"]}
        kinds = {category["id"]: category["name"] for category in content["categories"]}
        for one in content["annotations"]:
            left, top, width, height = one["bbox"]
            box = (kinds[one["category_id"]], left, top, left + width, top + height)
            found.setdefault(names[one["image_id"]], []).append(box)
    except (Refused, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not in COCO's format ({error!r})") from error
    return found


def find(folder: Path, pattern: str) -> dict[str, str]:
    """Stem -> file below `folder`, of all files but hidden ones that match a glob pattern at any depth."""
    found = {}
    for path in sorted(folder.rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if not path.name.startswith(".") and (first := found.setdefault(path.stem, name)) != name:
            raise SourceError(f"{first} and {name} have one name; remove one of the copies")
    return found


def locate(folder: Path, names: list[str]) -> str:
    """The file below `folder` that has one of these names, the first name that exists, nearest to the top."""
    for name in names:
        if found := sorted(folder.rglob(name), key=lambda path: (len(path.parts), path)):
            return found[0].relative_to(folder).as_posix()
    raise SourceError(f"{' or '.join(names)} is missing")
