"""What every HTML page of this library shares: the templates with escaping on, and pictures inside the page."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from isnetlib import findings, names

WIDE = 1300  # pixels: a wider picture may use the whole width of a page


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
    environment.filters |= {"number": findings.number, "signed": findings.signed, "p": findings.p_value}
    environment.filters |= {"method": names.method_name, "set": names.name_of_test_set, "metric": names.metric_name}
    environment.filters |= {"background": names.AUDIT_NAMES.get}
    return environment.get_template(template).render(shown)


def picture(folder: Path, stem: str, alt: str, maker: str) -> dict:
    """`folder`/`stem`.png for a page: stem, alt, data (base64; None where the file is not there), maker (who makes it),
    wide.
    """
    path = Path(folder) / f"{stem}.png"
    data = base64.b64encode(path.read_bytes()).decode() if path.exists() else None
    width = int.from_bytes(path.read_bytes()[16:20], "big") if data else 0  # the header of a PNG: width in pixels
    return {"stem": stem, "alt": alt, "data": data, "maker": maker, "wide": width > WIDE}
