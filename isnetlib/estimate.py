"""What a study would cost on one GPU: operations of its training steps, counted here, over a speed that is assumed.

An estimate, and to be called so: matrix products and convolutions are counted exactly (two operations a multiply-add,
derivatives and relevance passes included), everything else (normalisation, activations, memory traffic, loading) is
left to the speed, which is far below what a data sheet promises for that reason. Nothing is trained.
"""

import inspect
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from isnetlib import search
from isnetlib.baselines import METHODS, build
from isnetlib.evaluate import inputs
from isnetlib.provenance import built
from isnetlib.study import resolve

SPEED = 5e12  # operations a second: a quarter of the 19.5e12 that NVIDIA's data sheet gives an A100 in fp32
SWAPPED_AND_PLAIN = 2  # validation sets, each predicted once an epoch


class Films(NamedTuple):
    """How many classes an experiment has, and how many films it trains on and validates with."""

    classes: int
    train: int
    validation: int


# Of the full public data sets, split 70 : 15 : 15, with the study paper's `most` films of a class and source.
FULL = {
    "tuberculosis": Films(2, 1120, 240),  # 800 of TBX11K, as many healthy ones of ChestX-ray14
    "tuberculosis_planted": Films(2, 396, 85),  # 566 of Shenzhen's 662 have a lung mask
    "covid": Films(3, 2330, 500),  # about 400 of the COVID-19 image data collection, 1,430 + 1,500 of ChestX-ray14
}


class Operations(TorchDispatchMode):
    """Counts, in `total`, the operations of matrix products and convolutions inside."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def counted(parameters: dict, classes: int, size: int, batch: int = 2) -> dict[str, float]:
    """Operations an image of a run's method: of a `step` of training, of a prediction (`predict`), and of a step of the
    `segmenter` that a pipeline trains before.

    parameters: of a run (method, backbone, method_options, ...). One step is made, on random images, to be counted.
    """
    name, options = built(parameters), dict(parameters["method_options"])
    if "range" in inspect.signature(METHODS[name]).parameters:
        options |= {"range": (1.0, 25.0)}  # it would be read off a network that has learnt
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = build(name, parameters["backbone"], classes, size, **options).train()
        x, y = torch.rand(batch, 3, size, size), torch.arange(batch) % classes
        mask = torch.zeros(batch, 1, size, size)
        mask[..., size // 4 : -size // 4, size // 4 : -size // 4] = 1
        found = {"step": _count(lambda: method.loss(x, y, mask)[0].backward())}
        if hasattr(method, "segmenter"):
            segmenter = method.segmenter.train().requires_grad_(True)
            found["segmenter"] = _count(lambda: segmenter.loss(x, y, mask)[0].backward())
        method.eval()
        found["predict"] = _count(lambda: torch.no_grad()(method.predict)(*inputs(method, x, mask)))
    return {name: total / batch for name, total in found.items()}


def _count(function) -> int:
    with Operations() as counter:
        function()
    return counter.total


def estimate(
    study: str, notebooks: Path, results: Path, films: dict[str, Films] | None = None, speed: float = SPEED
) -> pd.DataFrame:
    """One row an experiment and method: runs, trials of its search, film_passes of all of them, operations of training
    step of one film (`step`), and `hours` on one GPU. films: by experiment; None = `FULL`.

    Trials and the validation after every epoch are in it, tests and loading are not.
    """
    films, rows = films or FULL, {}
    for one in [*resolve(study, Path(notebooks), results), *search.trials(study, Path(notebooks), results)]:
        row = rows.setdefault((one.experiment, one.method), {"runs": 0, "trials": 0, "film_passes": 0, "operations": 0})
        row["trials" if isinstance(one, search.Trial) else "runs"] += 1
        size, mine = one.parameters["data_options"]["size"], films[one.experiment]
        if "cost" not in row:
            row["cost"] = counted(one.parameters, mine.classes, size)
        epochs = one.parameters["epochs"]
        row["film_passes"] += epochs * mine.train
        row["operations"] += epochs * (mine.train * row["cost"]["step"])
        row["operations"] += epochs * SWAPPED_AND_PLAIN * mine.validation * row["cost"]["predict"]
        before = one.parameters["method_options"].get("segmenter_epochs", 0) * mine.train
        row["operations"] += before * row["cost"].get("segmenter", 0)
    table = [
        {"experiment": experiment, "method": method, **row, "step": row["cost"]["step"]}
        | {"hours": row["operations"] / speed / 3600}
        for (experiment, method), row in rows.items()
    ]
    return pd.DataFrame(table)[["experiment", "method", "runs", "trials", "film_passes", "step", "hours"]]
