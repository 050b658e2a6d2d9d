"""One loop for every method: deterministic, resumable after a kill at any moment, stopped by a loss that is NaN."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

from isnetlib import data, train
from isnetlib.baselines import METHODS, build

TINY = {"epochs": 3, "batch_size": 16}
FIT = textwrap.dedent("""
    import os, signal, sys, torch
    from isnetlib import data, train
    from isnetlib.baselines import build
    folder, method, dies_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    digits = data.load("digits", train_size=40, validation_size=20, test_size=10)
    with train.seeded(0):
        made = build(method, "small_resnet", 10, size=40)
    plain, batches = made.loss, []
    def loss(*batch):
        batches.append(1)
        if len(batches) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*batch)
    made.loss = loss
    train.fit(made, digits.train, digits.validation, folder, epochs=3, batch_size=16, seed=0, report=lambda line: None)
""")


def tiny():
    return data.load("digits", train_size=40, validation_size=20, test_size=10)


def fitted(folder, method="isnet_stochastic", seed=0, **options):
    digits = tiny()
    with train.seeded(seed):
        made = build(method, "small_resnet", 10, size=40)
    log = train.fit(
        made, digits.train, digits.validation, folder, seed=seed, report=lambda line: None, **(TINY | options)
    )
    return made, log.drop(columns=["seconds", "peak_mib"])


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    (first, log), (second, again), (other, _) = (
        fitted(tmp_path / "a"),
        fitted(tmp_path / "b"),
        fitted(tmp_path / "c", seed=1),
    )
    assert same_weights(first, second) and not same_weights(first, other)
    pd.testing.assert_frame_equal(log, again)


@pytest.mark.parametrize("dies_at", [2, 5, 9])  # in the first epoch, in the second, in the last (three batches each)
def test_a_killed_training_ends_with_the_same_numbers(tmp_path, dies_at):
    call = [sys.executable, "-W", "error", "-c", FIT, str(tmp_path / "killed"), "isnet_stochastic"]
    assert subprocess.run([*call, str(dies_at)]).returncode == -signal.SIGKILL
    assert subprocess.run([*call, "0"]).returncode == 0
    assert subprocess.run([*call[:-2], str(tmp_path / "whole"), "isnet_stochastic", "0"]).returncode == 0
    for name in ("last", "swapped", "internal"):
        killed, whole = (
            torch.load(tmp_path / run / "checkpoints" / f"{name}.pt", weights_only=True) for run in ("killed", "whole")
        )
        assert killed["epoch"] == whole["epoch"]
        assert all(torch.equal(killed["method"][key], whole["method"][key]) for key in whole["method"])
    logs = [
        pd.read_csv(tmp_path / run / "log.csv").drop(columns=["seconds", "peak_mib"]) for run in ("killed", "whole")
    ]
    pd.testing.assert_frame_equal(*logs)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first, log = fitted(tmp_path)
    before = os.stat(tmp_path / "checkpoints" / "last.pt").st_mtime_ns
    second, again = fitted(tmp_path)
    assert os.stat(tmp_path / "checkpoints" / "last.pt").st_mtime_ns == before and same_weights(first, second)
    pd.testing.assert_frame_equal(log, again)


def test_the_classifier_learns_and_global_state_stays(tmp_path):
    before, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    _, log = fitted(tmp_path, "standard", epochs=8)
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]
    assert torch.equal(before, torch.get_rng_state()) and torch.are_deterministic_algorithms_enabled() == deterministic


@pytest.mark.parametrize("method", METHODS)
def test_every_method_lowers_its_loss(tmp_path, method):
    _, log = fitted(tmp_path, method, epochs=6)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]


def test_a_loss_that_is_no_number_stops_the_run_and_names_epoch_batch_and_term(tmp_path):
    digits = tiny()
    made, _ = fitted(tmp_path, epochs=2)
    before = (tmp_path / "log.csv").read_text()
    plain, calls = made.loss, []

    def broken(x, y, mask):
        loss, parts = plain(x, y, mask)
        calls.append(1)
        return (loss * float("nan"), parts | {"background": float("nan")}) if len(calls) == 2 else (loss, parts)

    made.loss = broken
    (tmp_path / "checkpoints" / "last.pt").rename(tmp_path / "kept.pt")
    with pytest.raises(train.TrainingStopped, match="epoch 0, batch 1: the term 'background' is nan"):
        train.fit(made, digits.train, digits.validation, tmp_path, seed=0, report=print, **TINY)
    assert (tmp_path / "log.csv").read_text() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9])
def test_check_finite_names_the_term(value):
    with pytest.raises(train.TrainingStopped, match="epoch 3, batch 7: the term 'foreground' is"):
        train.check_finite({"loss": value, "classification": 1.0, "foreground": value}, "epoch 3, batch 7")
    train.check_finite({"loss": 12.0, "foreground": 11.0}, "epoch 3, batch 7")


def test_selection_takes_the_best_swapped_epoch_after_the_warm_up_and_ties_by_loss():
    log = pd.DataFrame(
        {
            "swapped_accuracy": [0.9, 0.5, 0.8, 0.8, 0.7], "swapped_loss": [0.1, 0.9, 0.5, 0.4, 0.6],
            "val_accuracy": [1.0, 0.9, 1.0, 1.0, 1.0], "val_loss": [0.1, 0.4, 0.3, 0.2, 0.1],
            "warm_up": [True, False, False, False, False],
        }
    )  # fmt: skip
    assert train.chosen_epochs(log, "accuracy") == {"swapped": 3, "internal": 4}
    assert train.chosen_epochs(log.assign(warm_up=True), "accuracy") == {"swapped": 0, "internal": 0}


def chosen(*epochs):
    """The epoch chosen among those given as (plain, swapped) scores."""
    rows = [
        {"warm_up": False, "val_auc": plain, "swapped_auc": swapped, "val_loss": 0.0, "swapped_loss": 0.0}
        for plain, swapped in epochs
    ]
    return train.chosen_epochs(pd.DataFrame(rows), "auc")


def test_reading_the_background_in_reverse_is_not_chosen():
    assert chosen((0.9, 0.3), (0.01, 0.97), (0.85, 0.4)) == {"swapped": 2, "internal": 0}


def test_an_epoch_at_which_the_network_fails_is_not_chosen_over_one_that_is_misled():
    assert chosen((1.0, 0.02), (0.5, 0.5), (1.0, 0.05)) == {"swapped": 2, "internal": 0}


def test_a_network_that_gives_up_the_mark_and_learns_the_object_is_chosen():
    assert chosen((1.0, 0.0), (1.0, 0.05), (0.8, 0.8), (0.65, 0.66)) == {"swapped": 2, "internal": 0}


def test_a_warm_up_of_a_single_step_is_no_error(tmp_path):
    _, log = fitted(tmp_path, "standard", epochs=1, batch_size=8)  # five steps, 0.2 of them to warm up
    assert len(log) == 1


def test_a_lost_log_is_written_again(tmp_path):
    fitted(tmp_path, "standard")
    before = (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").unlink()
    fitted(tmp_path, "standard")
    assert (tmp_path / "log.csv").read_bytes() == before


def test_load_chosen_gives_the_weights_of_the_chosen_epoch(tmp_path):
    made, log = fitted(tmp_path)
    epochs = train.chosen_epochs(log, "accuracy")
    fresh = build("isnet_stochastic", "small_resnet", 10)
    for rule in train.RULES:
        assert train.load_chosen(fresh, tmp_path, rule) == epochs[rule]


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    (tmp_path / "checkpoints").mkdir()
    torch.save({"method": Trap()}, tmp_path / "checkpoints" / "swapped.pt")
    with pytest.raises(ValueError, match="swapped.pt is not a checkpoint of tensors"):
        train.load_chosen(build("standard", "small_resnet", 10), tmp_path)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(FileNotFoundError, match="train the run first"):
        train.load_chosen(build("standard", "small_resnet", 10), tmp_path, "internal")


def test_the_foreground_range_is_calibrated_once_and_kept(tmp_path):
    digits = tiny()
    ranges = []
    for _ in range(2):  # the second call goes on from the first's checkpoint
        with train.seeded(0):
            made = build("isnet_selective", "small_resnet", 10, range="auto", plain_epochs=1)
        train.fit(
            made, digits.train, digits.validation, tmp_path, epochs=2, batch_size=16, seed=0, report=lambda line: None
        )
        ranges.append(made.range.tolist())
    assert 0 < ranges[0][0] < ranges[0][1] and ranges[0] == ranges[1]


def test_swapped_validation_is_the_same_each_time_and_keeps_the_foreground():
    digits = tiny().validation
    a, b = train.swapped_set(digits), train.swapped_set(digits)
    assert torch.equal(a.x, b.x)
    x, _, mask, _ = digits[list(range(len(digits)))]
    inside = mask.expand_as(x) > 0
    assert torch.equal(a.x[inside], x[inside]) and not torch.equal(a.x, x)


@pytest.mark.parametrize(
    "options, message",
    [({"name": "standart"}, "unknown method 'standart'"), ({"heatmap_wait": 0.5}, "no option 'heatmap_wait'")],
)
def test_a_misspelt_method_or_option_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**({"name": "isnet_selective", "backbone": "small_resnet", "classes": 10} | options))


@pytest.mark.parametrize("multilabel", [False, True])
def test_labels_and_method_must_agree_on_how_many_an_image_has(tmp_path, multilabel):
    images = tiny() if multilabel else data.load("faces_sim", size=32, train_size=4, validation_size=4, test_size=4)
    made = build("standard", "small_resnet", len(images.train.classes), 32, multilabel=multilabel)
    with pytest.raises(ValueError, match=f"need multilabel={not multilabel}"):
        train.fit(made, images.train, images.validation, tmp_path, epochs=1, report=lambda line: None)


def test_scores_that_are_no_numbers_stop_the_run(tmp_path):
    images = tiny()
    made = build("standard", "small_resnet", 10, 40)
    made.predict = lambda x: torch.full((len(x), 10), torch.nan)
    with pytest.raises(train.TrainingStopped, match="scores"):
        train.fit(made, images.train, images.validation, tmp_path, epochs=1, report=lambda line: None)
