"""Where data lie: named by options, or by the environment variables ISNET_DATA and ISNET_MASKS.

A relative path in a variable is seen from the project's folder, since notebooks run in a folder of their own. What is
not there is a FileNotFoundError, what is wrong a ValueError.
"""

import os
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def find_sources(
    folder: str | Path | None, sources: Sequence[str], variable: str = "ISNET_DATA", maker: str = "`isnet prepare`"
) -> Path:
    """The folder (None: of the variable) that holds, made by `maker`, a folder for each of the sources."""
    root = _named(folder, variable, f"that holds {', '.join(sources)}, made by {maker}")
    if missing := [source for source in sources if not (root / source).is_dir()]:
        raise FileNotFoundError(f"{root} has no folder {', '.join(missing)}; {maker} makes it")
    return root


def find_masks(masks: str | Path | None, sources: Sequence[str]) -> Path | None:
    """The folder (None: of ISNET_MASKS) that holds predicted masks of each of the sources; None for "": go without."""
    return None if masks == "" else find_sources(masks, sources, "ISNET_MASKS", "notebook 08_segment")


def outside(masks: str | Path | None) -> Path:
    """The folder (None: of ISNET_MASKS) to write masks of films to; ValueError inside the project's folder."""
    root = _named(masks, "ISNET_MASKS", f"for masks outside {PROJECT.name}")
    if root.resolve().is_relative_to(PROJECT):
        raise ValueError(f"{root} lies inside {PROJECT.name}: masks of films are not to be published; name another")
    return root


def _named(option, variable, what):
    if not option and not os.environ.get(variable):
        raise FileNotFoundError(f"set {variable} to the folder {what}, or name it; README.md tells how, under Data")
    return Path(option) if option else PROJECT / os.environ[variable]
