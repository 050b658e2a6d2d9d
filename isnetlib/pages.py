"""What every HTML page of this library shares: the templates with escaping on, and pictures inside the page.

A tall picture is cut into pieces that fit on a sheet of paper, so that print need not shrink it until nobody can read
its labels; on a screen the pieces join without a gap.
"""

import base64
import io
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from isnetlib import cost_findings, findings, names, papers

WIDE = 1300  # pixels: a wider picture may use the whole width of a page
COLOURS = 256  # of a picture in a page
TALL = 1.3  # height by width: what fits on a sheet of A4 between the margins, with a caption


def render(template: str, shown: dict) -> str:
    """The page that `template` makes of `shown`. Whatever comes from files (names of methods, classes) is escaped; a
    name that `shown` lacks is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": findings.number,
        "signed": findings.signed,
        "p": findings.p_value,
        "ratio": cost_findings.ratio,
    }
    environment.filters |= {"method": names.method_name, "set": names.name_of_test_set, "metric": names.metric_name}
    environment.filters |= {"background": names.AUDIT_NAMES.get, "paper": papers.after}
    return environment.get_template(template).render(shown)


def picture(folder: Path, stem: str, alt: str, maker: str) -> dict:
    """`folder`/`stem`.png for a page: stem, alt, pieces (base64 of PNGs, from the top down; none where the file is not
    there), maker (who makes it), wide.
    """
    path = Path(folder) / f"{stem}.png"
    data = path.read_bytes() if path.exists() else b""
    width = int.from_bytes(data[16:20], "big")  # the header of a PNG: width in pixels
    return {"stem": stem, "alt": alt, "pieces": pieces(data) if data else [], "maker": maker, "wide": width > WIDE}


def pieces(png: bytes) -> list[str]:
    """A PNG in base64, whole if it is at most `TALL` times as high as wide, else cut where the least is drawn."""
    with Image.open(io.BytesIO(png)) as image:
        image = image.convert("RGB")
    if image.height <= TALL * image.width:
        return [_encoded(image)]
    ink = (np.asarray(image) < 255).any(2).sum(1)
    edges = [0, *cuts(ink, int(TALL * image.width)), image.height]
    return [_encoded(image.crop((0, top, image.width, end))) for top, end in zip(edges[:-1], edges[1:], strict=True)]


def cuts(ink: np.ndarray, most: int) -> list[int]:
    """Rows to cut at, so that no piece is higher than `most` rows: for each the middle of the longest run of the
    emptiest rows in the lower half of what fits, of equals the lowest. ink (H,): pixels of each row that are not white.
    """
    found, top = [], 0
    while len(ink) - top > most:
        window = ink[top + most // 2 : top + most]
        steps = np.diff(np.pad((window == window.min()).astype(int), 1))
        starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        longest = len(starts) - 1 - int((ends - starts)[::-1].argmax())
        top += most // 2 + int(starts[longest] + ends[longest] + 1) // 2
        found.append(top)
    return found


def _encoded(image: Image.Image) -> str:
    """In base64, with a palette of `COLOURS`: a third of the size, and the eye sees no difference. The signs + and
    / are percent-encoded, as a URL may have them: letters between them would be words to whoever searches the page.
    """
    buffer = io.BytesIO()
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return quote(base64.b64encode(buffer.getvalue()).decode(), safe="=")
