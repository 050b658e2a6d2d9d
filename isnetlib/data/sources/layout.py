"""What a source says about itself (`Card`), what it lists (`Item`), and how it looks through its publisher's files."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import pandas as pd

UNVERIFIED = "layout unverified"


class SourceError(ValueError):
    """A publisher's folder that cannot be read; the message names the file and the remedy."""


class Card(NamedTuple):
    """A public data set in its publisher's words and ours.

    images : the numbers of images the publisher has shipped, by version; () = it grew, or no number is certain
    labels : images of each label, where that is certain
    masks : images with a mask, where that is certain
    layout : where the layout is documented, or UNVERIFIED and what was seen instead
    """

    title: str
    origin: str
    licence: str
    citation: str
    patient: str
    layout: str
    remedy: str  # what to download and unpack
    images: tuple[int, ...] = ()
    labels: Mapping[str, int] = {}
    masks: int | None = None
    colour: bool = False

    def text(self) -> str:
        """The card in lines, as it is written beside the images."""
        counts = ", ".join(f"{count} {label}" for label, count in self.labels.items())
        lines = [self.title, f"Origin: {self.origin}", f"Licence: {self.licence}", f"Citation: {self.citation}"]
        lines += [f"Patient: {self.patient}", f"Layout: {self.layout}"]
        lines += [f"Images: {' or '.join(map(str, self.images)) or 'no fixed number'}{counts and f' ({counts})'}"]
        return "\n".join(lines) + "\n"


class Item(NamedTuple):
    """One image of a source. Files are named relative to the publisher's folder, with '/'.

    name : of the files to write, unique in the source
    masks : files whose union is the mask
    parts : (value, file) painted one over the other into an index map; then the mask is where it is in `foreground`
    boxes : (name, left, top, right, bottom) in the image's pixels
    invert : whether the file shows air white
    """

    name: str
    image: str
    label: str
    patient: str
    masks: tuple[str, ...] = ()
    parts: tuple[tuple[int, str], ...] = ()
    foreground: tuple[int, ...] = ()
    boxes: tuple[tuple, ...] | None = None
    invert: bool = False
    meta: Mapping[str, str] = {}


def find(folder: Path, *patterns: str) -> dict[str, str]:
    """Stem -> file below `folder`, of all files that match a glob pattern at any depth; hidden files do not count.

    Raises
    ------
    SourceError : two files of one stem, which happens when an archive was unpacked twice
    """
    found = {}
    for path in sorted(path for pattern in patterns for path in Path(folder).rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith("."):
            continue
        if path.stem in found:
            raise SourceError(f"{folder}: {found[path.stem]} and {name} have one name; remove one of the copies")
        found[path.stem] = name
    return found


def locate(folder: Path, card: Card, *names: str) -> Path:
    """The file below `folder` that has one of these names, the first name that exists, nearest to the top.

    Raises
    ------
    SourceError : there is none
    """
    for name in names:
        if found := sorted(Path(folder).rglob(name), key=lambda path: (len(path.parts), path)):
            return found[0]
    raise SourceError(f"{folder}: {' or '.join(names)} is missing; {card.remedy}")


def read_csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A publisher's table as stripped text, separated by commas, semicolons or tabs, with the `columns` it must have.

    Raises
    ------
    SourceError : no text, no such column
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text), delimiter=separator) if line]
        table = pd.DataFrame(lines[1:], columns=lines[0] if lines else [], dtype=object)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise SourceError(f"{path} cannot be read as a table ({error}); download it again") from error
    if missing := [name for name in columns if name not in table]:
        raise SourceError(
            f"{path} has no column {', '.join(missing)}; is it the publisher's file? It has: {list(table)}"
        )
    return table


def below(folder: Path, path: Path, *names: str) -> str:
    """The file `names` (folders, then the file), written relative to the file `path`, relative to `folder`.

    Nothing is resolved: a name that leaves the folder ('..', an absolute path of any system) still shows it, and is
    refused when it is read.
    """
    return PureWindowsPath(Path(path).parent.relative_to(folder), *names).as_posix()
