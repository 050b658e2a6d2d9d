"""Before anything is run: are the data here, and in order? Better told at once than by each run for itself."""

import contextlib
import inspect
import json
from collections.abc import Iterable
from pathlib import Path

from isnetlib.study import StudyError


def require_data(wanted: Iterable, notebooks: Path) -> None:
    """Load, once each, the data of runs or trials whose experiments read a folder, with all checks.

    wanted: each has an `experiment` and `parameters` with data_options, whose paths are seen from the notebooks.
    Raises StudyError, in one line, for data that are absent or wrong.
    """
    from isnetlib.data import EXPERIMENTS, load  # imports torch, which nothing before the runs needs

    for experiment, options in dict.fromkeys((one.experiment, _shared(one.parameters)) for one in wanted):
        if experiment not in EXPERIMENTS or "folder" not in inspect.signature(EXPERIMENTS[experiment]).parameters:
            continue  # simulated, or unknown, which the run itself will tell
        try:
            with contextlib.chdir(notebooks):
                load(experiment, **json.loads(options))
        except (FileNotFoundError, ValueError) as error:
            raise StudyError(f"nothing is run: data of {experiment}: {' '.join(str(error).split())}") from None


def _shared(parameters: dict) -> str:
    """The options of the loader as JSON, but for the fold: all folds are cut from the same files."""
    return json.dumps({name: value for name, value in parameters["data_options"].items() if name != "fold"})
