"""What the publishers of data sets ship: from their folder to its images.

Names of files tell what they are, or a table does, or masks of parts: cards.yaml says which (`read`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from string import Formatter
from typing import NamedTuple

import yaml

from isnetlib.data.files import Refused, read_file
from isnetlib.data.index import parse

CARDS = yaml.safe_load(Path(__file__).with_name("cards.yaml").read_text(encoding="utf-8"))


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


def items_of(source: str, folder: Path) -> list[Item]:
    """The images of a source in its publisher's folder."""
    how = dict(CARDS[source]["read"])
    return list({"names": by_name, "table": by_table, "parts": by_parts}[how.pop("by")](folder, **how))


def by_name(folder: Path, images: str, name: str, labels: dict, masks=(), boxes=()) -> Iterator[Item]:
    """Names of files tell patient and label, groups of the regular expression `name`; labels: what a label means;
    masks: a glob pattern for each layer; boxes: files in COCO's format, of the images of the last label.
    """
    layers, found = [find(folder, pattern) for pattern in masks], {}
    for file in boxes:
        found |= read_boxes(folder, file)
    for stem, file in find(folder, images).items():
        if match := re.search(name, file):
            label, patient = match["label"], match["patient"]
            own = found.get(stem, ()) if boxes and label == list(labels)[-1] else None
            yield Item(stem, file, labels[label], patient, named(stem, layers), boxes=own)


def by_table(folder: Path, tables, image, patient, other="", files="", masks="", **how) -> Iterator[Item]:
    """A table, the first of `tables` that is there, names the images. image, patient: made of a row's cells; files:
    where images may lie instead. how: a row's label is the first of `labels` of whose words one is in the column
    `finding`, or `other`; rows without a label, or whose cells are not those of `where`, are left out; kept: metadata
    and their columns; marked: metadata of 0/1, 1 where a column has a word.
    """
    labels, where, kept, marked = (how.get(key, {}) for key in ("labels", "where", "kept", "marked"))
    columns = {*where, *kept.values(), *(column for column, _ in marked.values()), how.get("finding")} - {None}
    columns |= {name for text in (image, patient) for _, name, _, _ in Formatter().parse(text) if name}
    path, rows = read_csv(folder, tables, sorted(columns))
    found, layers = find(folder, files) if files else {}, [find(folder, masks)] if masks else []
    for row in rows:
        words = set(re.split(r"[/,|] *", row[how["finding"]])) if labels else set()
        label = next((label for label, own in labels.items() if words & set(own)), other)
        if label and all(row[column] in cells for column, cells in where.items()):
            # beside the table, and not resolved: a name that leaves the folder shows it, and is refused when it is read
            file = PureWindowsPath(PurePosixPath(path).parent, image.format(**row)).as_posix()
            stem, meta = PurePosixPath(file).stem, {name: row[column] for name, column in kept.items()}
            meta |= {name: str(int(word in row[column])) for name, (column, word) in marked.items()}
            own = (label, patient.format(**row), named(stem, layers))
            yield Item(stem, found.get(stem, file), *own, meta=meta)


def by_parts(folder: Path, images: str, parts: str, face, others, seen: dict) -> Iterator[Item]:
    """<n>.jpg with masks <n, five digits>_<part>.png, of the face or of others; every image counts as a person."""
    images, parts = find(folder, images), find(folder, parts)
    for number in sorted(filter(str.isdigit, images), key=int):
        stem = f"{int(number):05d}"
        files = {part: parts[f"{stem}_{part}"] for part in (*face, *others) if f"{stem}_{part}" in parts}
        hides = frozenset(files[part] for part in others if part in files)
        meta, name = {key: str(int(not files.keys().isdisjoint(of))) for key, of in seen.items()}, f"face_{stem}"
        yield Item(name, images[number], "", name, tuple(files.values()), hides, meta=meta)


def read_boxes(folder: Path, name: str) -> dict[str, tuple]:
    """Stem of the image -> its boxes (kind, left, top, right, bottom), from a file in COCO's format."""
    path, found = locate(folder, [name]), {}
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


def find(folder: Path, pattern: str) -> dict[str, str]:
    """Stem -> file below `folder`, of all files that match a glob pattern at any depth; hidden files do not count.
    SourceError: two files of one stem, as when an archive was unpacked twice.
    """
    found = {}
    for path in sorted(Path(folder).rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if not path.name.startswith(".") and (first := found.setdefault(path.stem, name)) != name:
            raise SourceError(f"{first} and {name} have one name; remove one of the copies")
    return found


def named(name: str, layers: list[dict[str, str]]) -> tuple[str, ...]:
    """The mask files of an image in all layers; none unless each has one."""
    files = [layer.get(name, layer.get(f"{name}_mask")) for layer in layers]
    return tuple(files) if all(files) else ()


def locate(folder: Path, names: Iterable[str]) -> str:
    """The file below `folder` that has one of these names, the first name that exists, nearest to the top."""
    for name in names:
        if found := sorted(Path(folder).rglob(name), key=lambda path: (len(path.parts), path)):
            return found[0].relative_to(folder).as_posix()
    raise SourceError(f"{' or '.join(names)} is missing")


def read_csv(folder: Path, names: Iterable[str], columns: Iterable[str]) -> tuple[str, list[dict[str, str]]]:
    """A publisher's table, the first of `names` that is there: its file and its rows."""
    path = locate(folder, names)
    try:
        table = parse(read_file(Path(folder), path), strict=False)
    except Refused as error:
        raise SourceError(f"{path} cannot be read as a table ({error.args[0]})") from error
    if missing := [name for name in columns if name not in table]:
        raise SourceError(f"{path} has no column {', '.join(missing)}; it has: {list(table)}")
    return path, table.to_dict("records")
