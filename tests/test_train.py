"""One loop for every method: deterministic, resumable after a kill at any moment, stopped by a loss that is NaN."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from isnetlib import data
from isnetlib.baselines import METHODS, build
from isnetlib.training import fit as train

KILLED = "import json, sys, test_train\ntest_train.fitted(*sys.argv[1:3], **json.loads(sys.argv[3]))"
FALLING = {"heatmap_weight": [0.9, 0.3]}


def tiny():
    return data.load("digits", train_size=40, validation_size=20, test_size=10)


def fitted(folder, method="isnet_stochastic", seed=0, dies_at=0, own=None, **options):
    """The method after three epochs of three batches, and its log; at batch `dies_at` the process is killed."""
    digits = tiny()
    with train.seeded(seed):
        made = build(method, "small_resnet", 10, size=40, **own or {})
    plain, batches = made.loss, itertools.count(1)
    made.loss = lambda *batch: os.kill(os.getpid(), signal.SIGKILL) if next(batches) == dies_at else plain(*batch)
    options = {"epochs": 3, "batch_size": 16, "seed": seed, "report": lambda line: None} | options
    log = train.fit(made, digits.train, digits.validation, folder, **options)
    return made, log.drop(columns=["seconds", "peak_mib"])


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "method, own, deaths",
    [("isnet_stochastic", {}, (2, 8)), ("isnet_selective", FALLING, (5,)), ("pipeline", {}, (5,))],
)
def test_a_killed_training_ends_with_the_same_numbers(tmp_path, method, own, deaths):
    """Killed in the first epoch of three batches, again in the last; in the second, when the segmenter has learnt."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for batch in deaths:
        options = json.dumps({"dies_at": batch, "own": own})
        call = [sys.executable, "-c", KILLED, tmp_path / "killed", method, options]
        assert subprocess.run(call, env=environment).returncode == -signal.SIGKILL
    (killed, log), (whole, again) = (fitted(tmp_path / run, method, own=own) for run in ("killed", "whole"))
    assert same_weights(killed, whole) and (own != FALLING or log["P"].iloc[0] > log["P"].iloc[-1])
    pd.testing.assert_frame_equal(log, again)
    assert train.load_chosen(killed, tmp_path / "killed") == train.load_chosen(whole, tmp_path / "whole")
    assert same_weights(killed, whole)


def test_a_finished_training_is_not_trained_again_and_global_state_stays(tmp_path):
    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    first, log = fitted(tmp_path)
    assert torch.equal(state, torch.get_rng_state()) and torch.are_deterministic_algorithms_enabled() == deterministic
    before = os.stat(tmp_path / "checkpoints" / "last.pt").st_mtime_ns
    second, again = fitted(tmp_path)
    assert os.stat(tmp_path / "checkpoints" / "last.pt").st_mtime_ns == before and same_weights(first, second)
    pd.testing.assert_frame_equal(log, again)
    assert {"P", "net_share", "range_low", "gradient_classification", "gradient_heatmap"} <= set(log)
    assert train.load_chosen(second, tmp_path) == train.chosen_epoch(log, "accuracy")
    assert not any(path.name.startswith(".") for path in tmp_path.rglob("*"))  # no half-written files
    assert not same_weights(first, fitted(tmp_path / "other", seed=1)[0])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_loss(tmp_path, method):
    """With P constant: where it is steered, the losses of two epochs are sums of other parts."""
    own = {"heatmap_weight": 0.7} if "isnet" in method or method == "grad_input" else {}
    _, log = fitted(tmp_path, method, epochs=6, own=own)
    assert log["loss"].iloc[-1] < (0.6 if method == "standard" else 1) * log["loss"].iloc[0]


def test_a_loss_that_is_no_number_stops_the_run_and_names_epoch_batch_and_term(tmp_path):
    (made, _), digits, calls = fitted(tmp_path, epochs=1), tiny(), itertools.count(1)
    before, plain = (tmp_path / "log.csv").read_text(), made.loss

    def broken(*batch):
        loss, parts = plain(*batch)
        return (loss * np.nan, parts | {"background": np.nan}) if next(calls) == 2 else (loss, parts)

    made.loss = broken
    (tmp_path / "checkpoints" / "last.pt").unlink()
    with pytest.raises(train.TrainingStopped, match="epoch 0, batch 1: the term 'background' is nan"):
        train.fit(made, digits.train, digits.validation, tmp_path, epochs=2, batch_size=16)
    assert (tmp_path / "log.csv").read_text() == before
    for value in (np.nan, np.inf, -np.inf, 1e9):
        with pytest.raises(train.TrainingStopped, match="batch 7: the term 'foreground' is"):
            train.check_finite({"loss": value, "classification": 1.0, "foreground": value}, "batch 7")
    train.check_finite({"loss": 12.0, "foreground": 11.0}, "batch 7")
    assert not made.watch  # which would cost each later step two more backward passes


def test_scores_that_are_no_numbers_stop_the_run(tmp_path):
    images, made = tiny(), build("standard", "small_resnet", 10)
    made.predict = lambda x: torch.full((len(x), 10), torch.nan)
    with pytest.raises(train.TrainingStopped, match="scores"):
        train.fit(made, images.train, images.validation, tmp_path, epochs=1, report=lambda line: None)
    made.predict = lambda x: torch.full((len(x), 10), 0.1)
    with pytest.MonkeyPatch.context() as patch:  # many images of many labels have a large sum, and nothing is wrong
        patch.setattr(train, "EXPLODED", 3.0)
        made.loss = lambda *batch: (made.model[-1].weight.sum() * 0, {})
        train.fit(made, images.train, images.validation, tmp_path, epochs=1, report=lambda line: None)


def test_selection():
    """The best epoch of all is of the warm-up, and counts only where there is no other."""
    for plain, swapped, losses, chosen in (
        ([1.0, 1.0, 1.0, 1.0], [0.5, 0.8, 0.8, 0.7], [0.9, 0.5, 0.4, 0.3], 3),  # of equals the lower loss
        ([0.9, 0.01, 0.85], [0.3, 0.97, 0.4], [0, 0, 0], 3),  # not the one that reads the background in reverse
        ([1.0, 0.5, 1.0], [0.02, 0.5, 0.05], [0, 0, 0], 3),  # not the one that fails: one that is misled
        ([1.0, 1.0, 0.8, 0.65], [0.0, 0.05, 0.8, 0.66], [0, 0, 0, 0], 3),  # that gives up the mark, learns the object
        ([], [], [], 0),
    ):
        log = pd.DataFrame({"val_auc": [1.0, *plain], "swapped_auc": [1.0, *swapped], "swapped_loss": [0.0, *losses]})
        assert train.chosen_epoch(log.assign(warm_up=log.index == 0), "auc") == chosen, plain


class Trap:
    def __reduce__(self):
        return sys.exit, ("a checkpoint ran code",)


def test_a_checkpoint_that_is_damaged_would_run_code_or_is_missing_is_told(tmp_path):
    torch.save({"method": Trap()}, tmp_path / "trap.pt")
    train_it = partial(fitted, tmp_path, "standard", epochs=1, batch_size=8)  # five steps, one of them to warm up
    for name, call in (("swapped", partial(train.load_chosen, train_it()[0], tmp_path)), ("last", train_it)):
        path = tmp_path / "checkpoints" / f"{name}.pt"
        for damaged in (path.read_bytes()[:-100], (tmp_path / "trap.pt").read_bytes()):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{name}.pt is no file of tensors.*: remove the run's folder"):
                call()
    with pytest.raises(FileNotFoundError, match="swapped.pt"):
        train.load_chosen(None, tmp_path / "elsewhere")


def test_a_folder_of_another_training_is_refused_naming_what_differs(tmp_path):
    fitted(tmp_path, "isnet_selective", epochs=1)
    for change, told in (
        ({"epochs": 2}, "epochs was 1, is 2"),
        ({"batch_size": 20, "learning_rate": 0.1}, "learning_rate was 0.003, is 0.1, batch_size was 16, is 20"),
        ({"method": "isnet_original"}, "variant was selective, is original"),
        ({"method": "standard"}, "method was ISNet, is Standard.*heatmap_weight.ends was"),
        ({"seed": 1}, "seed was 0, is 1"),
    ):
        told = f"{tmp_path} holds another training: {told}.*Take another folder"
        with pytest.raises(ValueError, match=told) as caught:
            fitted(tmp_path, **{"method": "isnet_selective", "epochs": 1} | change)
        assert "\n" not in str(caught.value)
    assert len(fitted(tmp_path, "isnet_selective", epochs=1)[1]) == 1
    whole, decimal = (fitted(tmp_path / "p", "background_random", epochs=1, own={"p": p}) for p in (1, 1.0))
    assert whole[1].equals(decimal[1])  # one number, however it is written


@pytest.mark.parametrize(
    "change, told",
    [
        ({"batch_size": 0}, "batch_size is 0: it must be above 0"),
        ({"learning_rate": np.nan}, "learning_rate is nan"),
        ({"weight_decay": -1}, "weight_decay value: -1"),
        ({"warm_up": 1}, "1 - warm_up is 0"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'"),
        ("empty", "training holds 40 images and validation 0"),
        ("one class", "validation holds no image, or only images, of 0, 1, .*AUC"),
        ("no masks", "ISNet learns from masks: those of training are all empty or full"),
        ("full masks", "ISNet learns from masks"),
        ("labels", r"labels \(40,\) need multilabel=False"),
    ],
)
def test_options_and_data_sets_that_cannot_be_are_refused_before_anything_is_trained(tmp_path, change, told):
    images, validation, *_ = tiny()
    if "mask" in change:
        images.mask = torch.full_like(images.mask, int(change == "full masks"))
        train.refuse(build("gain", "small_resnet", 10), images, validation, "accuracy", {})  # it reads no masks
    if change in ("empty", "one class"):
        validation = validation.subset([] if change == "empty" else np.flatnonzero(validation.y == 3))
    made = build("isnet_selective", "small_resnet", 10, multilabel=change == "labels")
    options = {"metric": "auc" if change == "one class" else "accuracy"} if isinstance(change, str) else change
    with pytest.raises(ValueError, match=told):
        train.fit(made, images, validation, tmp_path, epochs=1, **options)
    assert not list(tmp_path.iterdir())


def test_the_peak_counts_a_large_tensor_and_freed_memory_is_kept_and_not_cleared_again():
    before, large = train.peak_mib(), torch.ones(2**26)  # 256 MiB
    assert train.peak_mib() >= max(before, 256) and large.sum() > 0

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**25)  # 128 MiB, in pages of 2 MiB at most
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    train.keep_freed_memory()
    assert sys.platform != "linux" or min(faults() for _ in range(4)) < 32
