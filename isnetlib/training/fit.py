"""One training loop for every method: steps, validation, selection of an epoch, checkpoints, resume.

One rule selects the epoch: the best score on validation images whose backgrounds were swapped across classes by the
masks; on plain ones, where the background tells the class, it would be the most biased. Only epochs after the learning
rate's warm-up count; ties go to the lower loss. An epoch counts with the lower of its swapped and plain scores, so that
reading the background in reverse does not pay; and only if its plain score is at least `WORKS` of the run's best, since
a network that fails (in eval mode, say, while its running statistics lag) is at chance, above one that is misled.
"""

import contextlib
import ctypes
import math
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from isnetlib.method.course import Weight
from isnetlib.training.checkpoints import configuration, differences, read_tensors, write_tensors
from isnetlib.training.evaluate import Swapped, log_loss, measure, scores
from isnetlib.training.files import write_atomically

WORKS = 0.6  # of the best plain score: a network at chance (AUC 0.5) stays below it once another epoch nears 1
EXPLODED = 1e6  # no loss of ours comes near it while training works: the heatmap terms start below 1e3


class TrainingStopped(FloatingPointError):
    """A loss became NaN, infinite or enormous; epochs before it are kept."""


@contextlib.contextmanager
def seeded(seed: int):
    """Inside, torch's global generator starts at `seed`, and on CPU algorithms are deterministic."""
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(not torch.cuda.is_available())
        torch.utils.deterministic.fill_uninitialized_memory = False  # all of it is written before it is read
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            torch.utils.deterministic.fill_uninitialized_memory = fill


def fit(
    method: nn.Module,
    train,
    validation,
    folder: str | Path,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-2,
    clip: float = 1.0,
    warm_up: float = 0.2,
    metric: str = "accuracy",
    seed: int = 0,
    device: str = "cpu",
    report=print,
    after: float = 0.0,
) -> pd.DataFrame:
    """Train `method` on the data set `train` by AdamW, one-cycle learning rate; the log, a row an epoch.

    folder: gets log.csv and checkpoints/{last,swapped}.pt after every epoch; where it holds some, training goes on, on
    the CPU with the same numbers. clip: largest gradient norm; warm_up: share of the steps before the peak learning
    rate. A method's `prepare(train, validation, learn)` is called first; learn(other, epochs) trains another module by
    the same recipe. report: is given a line an epoch; after: epochs' worth of time that follows, for its estimate.
    TrainingStopped; at once ValueError: what cannot be, a folder that holds another training.
    """
    positive = {"learning_rate": learning_rate, "warm_up": warm_up, "batch_size": batch_size, "clip": clip}
    refuse(method, train, validation, metric, positive | {"epochs": epochs, "1 - warm_up": 1 - warm_up})
    recipe = positive | {"weight_decay": weight_decay}
    asked = configuration(method, train, epochs=epochs, metric=metric, seed=seed, **recipe)
    folder, method, order = Path(folder), method.to(device), torch.Generator().manual_seed(seed)
    rows, sets = [], {"val": validation, "swapped": Swapped(validation)}
    recipe |= {"train": train, "order": order, "device": device}
    with seeded(seed):
        learning = {"method": method} | _optimizer(method, epochs, **recipe)
        for weight in (module for module in method.modules() if isinstance(module, Weight)):
            weight.plan(learning["schedule"].total_steps)
        if (folder / "checkpoints" / "last.pt").exists():
            rows = _resume(folder, learning, order, asked)
        elif hasattr(method, "prepare"):
            method.prepare(train, validation, partial(learn, **recipe))
        for epoch in range(len(rows), epochs):
            start, place = time.perf_counter(), f"epoch {epoch}"
            row = {"epoch": epoch, **_epoch(**learning, place=place, **recipe)}
            for name, images in sets.items():
                y, p = scores(method, images, 4 * batch_size, device)
                check_finite({f"scores ({name})": float(p.sum())}, place, math.inf)
                row |= {f"{name}_{metric}": measure(metric, y, p), f"{name}_loss": log_loss(y, p)}
            row["warm_up"] = epoch + 1 <= warm_up * epochs
            rows.append(row | {"seconds": time.perf_counter() - start, "peak_mib": peak_mib()})
            _save(folder, learning, order, rows, metric, asked)
            report(_progress(rows, epochs, metric, after))
    method.eval()
    return pd.DataFrame(rows)


def refuse(method: nn.Module, train, validation, metric: str, positive: dict[str, float]) -> None:
    """ValueError for what `fit` would notice late or never. positive: numbers above 0, by name."""
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
    measure(metric, np.arange(2), np.eye(2))  # refuses an unknown one
    if train.multilabel != bool(getattr(method, "multilabel", False)):
        raise ValueError(f"labels {tuple(train.y.shape)} need multilabel={train.multilabel} in the method's options")
    if not len(train) or not len(validation):
        raise ValueError(f"training holds {len(train)} images and validation {len(validation)}: both need some")
    y = validation.y if train.multilabel else torch.nn.functional.one_hot(validation.y, len(validation.classes))
    if metric == "auc" and (lacking := [c for c, n in zip(train.classes, y.sum(0), strict=True) if not 0 < n < len(y)]):
        raise ValueError(f"validation holds no image, or only images, of {', '.join(lacking)}: its AUC is not defined")
    area = train.area()
    if getattr(method, "reads_masks", True) and not ((area > 0) & (area < 1)).any():
        raise ValueError(f"{type(method).__name__} learns from masks: those of training are all empty or full")


def chosen_epoch(log: pd.DataFrame, metric: str) -> int:
    """The epoch that the rule (see above) chooses; of the warm-up only where there is no other."""
    plain, swapped, loss = (log[name].to_numpy() for name in (f"val_{metric}", f"swapped_{metric}", "swapped_loss"))
    trained = np.flatnonzero(log["warm_up"] == 0) if not log["warm_up"].all() else np.arange(len(log))
    working = trained[plain[trained] >= WORKS * plain[trained].max()]
    return int(max(working, key=lambda k: (min(plain[k], swapped[k]), -loss[k])))


def load_chosen(method: nn.Module, folder: str | Path) -> int:
    """Load the weights of the chosen epoch into `method`; returns that epoch. Errors as of `read_tensors`."""
    state = read_tensors(Path(folder) / "checkpoints" / "swapped.pt")
    method.load_state_dict(state["method"])
    method.eval()
    return int(state["epoch"])


def learn(other: nn.Module, epochs: int, **recipe) -> None:
    """Train a module by its `loss` alone. recipe: of `fit`, with train, device and the generator `order` of images."""
    learning = _optimizer(other.to(recipe["device"]), epochs, **recipe)
    for epoch in range(epochs):
        _epoch(other, **learning, place=f"{type(other).__name__} beside the method, epoch {epoch}", **recipe)


# --- the steps
def steps_an_epoch(images: int, batch_size: int) -> int:
    """Batches of an epoch; a last one of a single image is left out, since batch statistics need two."""
    return max(1, images // batch_size + (images % batch_size > 1))


def _optimizer(method, epochs, train, learning_rate, warm_up, batch_size, weight_decay, **_) -> dict:
    steps = epochs * steps_an_epoch(len(train), batch_size)
    weights = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay)
    if math.isclose(warm_up * steps, 1):  # OneCycleLR divides by zero where the warm-up is one step
        warm_up *= 1.5
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=warm_up)
    return {"optimizer": optimizer, "schedule": schedule}


def _epoch(method, optimizer, schedule, place, train, batch_size, clip, order, device, **_) -> dict[str, float]:
    """One pass over `train` in the order that the generator `order` gives; mean loss and terms."""
    method.train()
    terms, steps = {}, steps_an_epoch(len(train), batch_size)
    for batch, rows in enumerate(torch.randperm(len(train), generator=order).split(batch_size)[:steps]):
        x, y, mask, _ = train[rows]
        method.watch = batch == 0  # some tell more about a step, at a price: once an epoch
        loss, parts = method.loss(x.to(device), y.to(device), mask.to(device))
        method.watch = False
        parts = {"loss": loss.item(), **parts}
        check_finite(parts, f"{place}, batch {batch}")
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(method.parameters(), clip)
        check_finite({"gradient": norm.item()}, f"{place}, batch {batch}", math.inf)
        optimizer.step()
        schedule.step()
        for name, value in parts.items():
            terms.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in terms.items()}  # a term may be absent from some steps


def check_finite(parts: dict[str, float], place: str, limit: float = EXPLODED) -> None:
    """TrainingStopped, naming the place and the last term that is NaN, infinite or above `limit`."""
    for name in reversed(parts):
        if not abs(parts[name]) < limit:
            remedy = "try a lower learning rate or heatmap weight, or a larger decay. Earlier epochs are kept"
            raise TrainingStopped(f"{place}: the term '{name}' is {parts[name]:g}; {remedy}")


def _progress(rows, epochs, metric, after) -> str:
    shown = "  ".join(f"{name} {rows[-1][name]:.4f}" for name in ("loss", f"val_{metric}", f"swapped_{metric}"))
    left = (epochs - len(rows) + after) * statistics.fmean(row["seconds"] for row in rows)
    return f"epoch {len(rows)}/{epochs}  {shown}  {left / 60:.1f} min left"


# --- checkpoint and resume
def _save(folder, learning, order, rows, metric, asked):
    """last.pt last: a kill costs one epoch, which is then repeated exactly."""
    state = {name: part.state_dict() for name, part in learning.items()} | {"epoch": len(rows) - 1, "rows": rows}
    log = pd.DataFrame(rows)
    if chosen_epoch(log, metric) == len(rows) - 1:
        write_tensors(folder / "checkpoints" / "swapped.pt", {name: state[name] for name in ("method", "epoch")})
    write_atomically(folder / "log.csv", log.to_csv(index=False, float_format="%.6g"))
    state |= {"order": order.get_state(), "torch": torch.get_rng_state(), "asked": asked}
    write_tensors(folder / "checkpoints" / "last.pt", state)


def _resume(folder, learning, order, asked) -> list[dict]:
    state = read_tensors(folder / "checkpoints" / "last.pt")
    if others := differences(state["asked"], asked):
        raise ValueError(f"{folder} holds another training: {others}. Take another folder, or remove this one")
    for name, part in learning.items():
        part.load_state_dict(state[name])
    order.set_state(state["order"])
    torch.set_rng_state(state["torch"])
    return state["rows"]


# --- memory of the process
def peak_mib() -> float:
    """Largest memory of this process so far, MiB; NaN where the system does not tell it."""
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    return int(text.split("VmHWM:")[1].split()[0]) / 2**10 if "VmHWM:" in text else math.nan


def keep_freed_memory() -> None:
    """Let the process keep the memory of freed tensors; to map and clear it anew can take a third of a step (Linux)."""
    with contextlib.suppress(AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(-4, 0)  # malloc.h: M_MMAP_MAX
        ctypes.CDLL(None).mallopt(-1, -1)  # M_TRIM_THRESHOLD, never
