"""Where data lie that nobody can hand on: named by options, or by the environment variables ISNET_DATA and ISNET_MASKS.

A relative path in a variable is seen from the project's folder, since notebooks run in a folder of their own. What is
not there is told by FileNotFoundError, so that "absent" can be told from "wrong" (ValueError).
"""

import os
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DATA, MASKS = "ISNET_DATA", "ISNET_MASKS"
TOLD = "README.md tells how, under Data"


def named(variable: str) -> Path | None:
    """The folder that an environment variable names; None where it is not set."""
    value = os.environ.get(variable)
    return PROJECT / value if value else None


def find_sources(folder: str | Path | None, sources: Sequence[str]) -> Path:
    """The folder (None: of ISNET_DATA) that holds a data set folder for each of the sources.

    Raises FileNotFoundError where none is named, or where it lacks a source.
    """
    root = Path(folder) if folder else named(DATA)
    if root is None:
        raise FileNotFoundError(
            f"no data: set {DATA} to the folder that holds {', '.join(sources)}, or give the option folder; {TOLD}"
        )
    if missing := [source for source in sources if not (root / source).is_dir()]:
        raise FileNotFoundError(f"{root} (option folder or {DATA}) has no folder {', '.join(missing)}; {TOLD}")
    return root


def find_masks(masks: str | Path | None, sources: Sequence[str]) -> Path | None:
    """The folder (None: of ISNET_MASKS) that holds predicted masks of each of the sources; None for "": go without.

    Raises FileNotFoundError where none is named, or where it lacks a source.
    """
    if masks == "":
        return None
    root = Path(masks) if masks else named(MASKS)
    if root is None:
        raise FileNotFoundError(
            f"no lung masks: set {MASKS} to the folder that notebook 08_segment wrote, or give the option masks ('': "
            f"go without); {TOLD}"
        )
    if missing := [source for source in sources if not (root / source).is_dir()]:
        raise FileNotFoundError(
            f"{root} (option masks or {MASKS}) has no masks of {', '.join(missing)}; notebook 08_segment makes them"
        )
    return root


def outside(masks: str | Path | None) -> Path:
    """The folder (None: of ISNET_MASKS) to write masks of films to. ValueError where it lies in the project's folder,
    from where they might be published, and FileNotFoundError where none is named.
    """
    root = Path(masks) if masks else named(MASKS)
    if root is None:
        raise FileNotFoundError(f"no place for masks: set {MASKS} to a folder outside {PROJECT.name}; {TOLD}")
    if root.resolve().is_relative_to(PROJECT):
        raise ValueError(
            f"{root} lies inside {PROJECT.name}: masks of films are not to be published; name another folder"
        )
    return root
