"""One training loop for every method: steps, validation, selection of an epoch, checkpoints, resume.

Selection is by one named rule for every method, "swapped": the epoch with the best primary metric on validation images
whose backgrounds were swapped across classes by the validation masks. Where the background tells the class, plain
validation saturates and would choose the most biased epoch; that rule, "internal", is kept beside it for comparison.
Both look at the epochs after the learning rate's warm-up only; ties go to the lower loss. Two ways to look good on
swapped backgrounds without ignoring them are closed: an epoch counts with the lower of its swapped and plain scores, so
that reading the background in reverse does not pay; and only if its plain score is at least `WORKS` of the run's best,
since a network that fails (in eval mode, say, while its running statistics lag) is at chance, above one that is misled.
"""

import contextlib
import io
import math
import statistics
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from isnetlib.data import swap_backgrounds
from isnetlib.evaluate import log_loss, measure, scores
from isnetlib.files import write_atomically
from isnetlib.memory import peak_mib

RULES = ("swapped", "internal")
WORKS = 0.6  # of the best plain score: a network at chance (AUC 0.5) stays below it once another epoch nears 1
EXPLODED = 1e6  # no loss of ours comes near it while training works: the heatmap terms start below 1e3


class TrainingStopped(FloatingPointError):
    """A loss became NaN, infinite or enormous; epochs before it are kept."""


@contextlib.contextmanager
def seeded(seed: int):
    """torch's global generator starts at `seed` inside and is afterwards as it was; on CPU, algorithms are
    deterministic inside.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(not torch.cuda.is_available())
        torch.utils.deterministic.fill_uninitialized_memory = False  # all of it is written before it is read
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
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
) -> pd.DataFrame:
    """Train `method` on the data set `train` and return the log, one row an epoch; AdamW, one-cycle learning rate,
    clipped gradients.

    folder: gets log.csv and checkpoints/{last,swapped,internal}.pt after every epoch; with a checkpoint there, training
    goes on from it and ends with the same numbers. clip: largest gradient norm. warm_up: share of the steps before the
    peak learning rate. A method with `prepare(train, validation, learn)` is given that call first; learn(other, epochs)
    trains another module with a `loss` on the same images by the same recipe. Raises TrainingStopped, naming epoch,
    batch and term, and ValueError where the method's option multilabel does not fit the labels.
    """
    if train.multilabel != bool(getattr(method, "multilabel", False)):
        raise ValueError(
            f"labels of shape {tuple(train.y.shape)} need multilabel={train.multilabel} in the options of the method"
        )
    folder, method = Path(folder), method.to(device)
    rows, swapped = [], swapped_set(validation)
    order = torch.Generator().manual_seed(seed)
    with seeded(seed):
        recipe = {"batch_size": batch_size, "clip": clip, "order": order, "device": device}
        optimizing = {"learning_rate": learning_rate, "weight_decay": weight_decay, "warm_up": warm_up}
        optimizer, schedule = _optimizer(method, epochs * steps_an_epoch(len(train), batch_size), **optimizing)
        if (folder / "checkpoints" / "last.pt").exists():
            rows = _resume(folder, method, optimizer, schedule, order)
        elif hasattr(method, "prepare"):
            method.prepare(train, validation, partial(_learn, train=train, recipe=recipe, optimizing=optimizing))
        for epoch in range(len(rows), epochs):
            start = time.perf_counter()
            row = {"epoch": epoch, **_epoch(method, train, optimizer, schedule, f"epoch {epoch}", **recipe)}
            for name, images in (("val", validation), ("swapped", swapped)):
                y, p = scores(method, images, batch_size=4 * batch_size, device=device)
                check_finite({f"scores ({name})": float(p.sum())}, f"epoch {epoch}")
                row |= {f"{name}_{metric}": measure(metric, y, p), f"{name}_loss": log_loss(y, p)}
            row |= {
                "warm_up": epoch + 1 <= warm_up * epochs,
                "seconds": time.perf_counter() - start,
                "peak_mib": peak_mib(),
            }
            rows.append(row)
            _save(folder, method, optimizer, schedule, order, rows, metric)
            report(_progress(rows, epochs, metric))
    method.eval()
    return pd.DataFrame(rows)


def chosen_epochs(log: pd.DataFrame, metric: str) -> dict[str, int]:
    """The epoch that each selection rule chooses: highest score, then lowest loss, then the earlier; epochs of the
    warm-up only where there are no others, and of them only those that work (see above).
    """
    plain = log[f"val_{metric}"]
    trained = [k for k in range(len(log)) if not log["warm_up"].iloc[k]] or list(range(len(log)))
    working = [k for k in trained if plain.iloc[k] >= WORKS * plain.iloc[trained].max()]
    return {rule: max(working, key=lambda k: _rank(log.iloc[k], rule, metric)) for rule in RULES}


def selection_score(row, rule: str, metric: str) -> float:
    """What a rule ranks an epoch by. row: of the log, with `val_<metric>` and `swapped_<metric>`."""
    plain, swapped = row[f"val_{metric}"], row[f"swapped_{metric}"]
    return plain if rule == "internal" else min(plain, swapped)


def load_chosen(method: nn.Module, folder: str | Path, rule: str = "swapped") -> int:
    """Load the weights that a selection rule chose into `method`; returns their epoch. Tensors only: a checkpoint
    cannot run code.
    """
    checkpoint = _read(Path(folder) / "checkpoints" / f"{rule}.pt")
    method.load_state_dict(checkpoint["method"])
    method.eval()
    return checkpoint["epoch"]


def swapped_set(images, seed: int = 0):
    """The data set with its backgrounds swapped across classes by its masks, the same for every method and training
    seed.
    """
    x, y, mask, _ = images[list(range(len(images)))]
    swapped = images.subset(range(len(images)))
    swapped.x = swap_backgrounds(x, y, mask, torch.Generator().manual_seed(seed))
    return swapped


def steps_an_epoch(images: int, batch_size: int) -> int:
    """Batches of an epoch; a last batch of one image is left out, since batch statistics need two."""
    return max(1, images // batch_size + (images % batch_size > 1))


# --- the steps
def _optimizer(method, steps, learning_rate, weight_decay, warm_up):
    optimizer = torch.optim.AdamW(
        [p for p in method.parameters() if p.requires_grad], learning_rate, weight_decay=weight_decay
    )
    if math.isclose(warm_up * steps, 1):  # OneCycleLR divides by zero where the warm-up is one step
        warm_up *= 1.5
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=warm_up
    )


def _epoch(method, train, optimizer, schedule, place, batch_size, clip, order, device) -> dict[str, float]:
    """One pass over `train` in the order that the generator `order` gives; mean loss and terms."""
    method.train()
    terms, steps = {}, steps_an_epoch(len(train), batch_size)
    for batch, rows in enumerate(torch.randperm(len(train), generator=order).split(batch_size)[:steps]):
        x, y, mask, _ = train[rows]
        loss, parts = method.loss(x.to(device), y.to(device), mask.to(device))
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
    """Raise TrainingStopped naming the place and the first term (other than the sum "loss", unless it is alone) that is
    NaN, infinite or above `limit`.
    """
    wrong = {name: value for name, value in parts.items() if not abs(value) < limit}
    if wrong:
        name = next((name for name in wrong if name != "loss"), "loss")
        raise TrainingStopped(
            f"{place}: the term '{name}' is {wrong[name]:g}; try a lower learning rate or heatmap weight, or a larger "
            f"decay. Earlier epochs are kept"
        )


def _learn(other: nn.Module, epochs: int, train, recipe: dict, optimizing: dict) -> None:
    """Train a module that a method needs beside itself: its `loss`, the same images, the same recipe."""
    other.to(recipe["device"])
    optimizer, schedule = _optimizer(other, epochs * steps_an_epoch(len(train), recipe["batch_size"]), **optimizing)
    for epoch in range(epochs):
        _epoch(other, train, optimizer, schedule, f"{type(other).__name__} beside the method, epoch {epoch}", **recipe)


def _progress(rows, epochs, metric) -> str:
    row, left = rows[-1], (epochs - len(rows)) * sum(r["seconds"] for r in rows) / len(rows)
    terms = "  ".join(
        f"{name} {row[name]:.4f}"
        for name in ("loss", "background", "foreground", f"val_{metric}", f"swapped_{metric}")
        if name in row
    )
    return f"epoch {len(rows)}/{epochs}  {terms}  {left / 60:.1f} min left"


# --- checkpoint and resume
def _rank(row, rule, metric):
    name = {"swapped": "swapped", "internal": "val"}[rule]
    return selection_score(row, rule, metric), -row[f"{name}_loss"]


def _save(folder, method, optimizer, schedule, order, rows, metric):
    """The chosen weights first, the resume point next, the log last: a kill between them costs one epoch, which is then
    repeated exactly.
    """
    state = {"method": method.state_dict(), "epoch": len(rows) - 1}
    for rule, epoch in chosen_epochs(pd.DataFrame(rows), metric).items():
        if epoch == len(rows) - 1:
            _write(folder / "checkpoints" / f"{rule}.pt", state)
    generators = {"order": order.get_state(), "torch": torch.get_rng_state()}
    _write(
        folder / "checkpoints" / "last.pt",
        state | {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "rows": rows} | generators,
    )
    _write_log(folder, rows)


def _write_log(folder, rows):
    write_atomically(folder / "log.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))


def _resume(folder, method, optimizer, schedule, order) -> list[dict]:
    checkpoint = _read(folder / "checkpoints" / "last.pt")
    method.load_state_dict(checkpoint["method"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    schedule.load_state_dict(checkpoint["schedule"])
    order.set_state(checkpoint["order"])
    torch.set_rng_state(checkpoint["torch"])
    _write_log(folder, checkpoint["rows"])  # a log that was lost, or that a kill left behind
    return checkpoint["rows"]


def _write(path, state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _read(path):
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: train the run first (notebook 10_train)") from None
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint of tensors and numbers ({type(error).__name__}): remove the run's folder and "
            f"train it again"
        ) from error
