"""One run at scale: several processes, accumulated gradients, other devices, and maps a few at a time."""

import copy
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from isnetlib import ISNet, data
from isnetlib.models import build_model

LOOPS = Path(__file__).parent.parent / "notebooks" / "loops"
torch.set_num_threads(1)

# Each process trains three steps on its half of every batch and leaves its terms and weights.
WORKER = textwrap.dedent("""
    import sys, torch
    import torch.distributed as dist
    from distributed import train
    torch.set_num_threads(1)
    folder = sys.argv[1]
    given = torch.load(f"{folder}/given.pt", weights_only=False)
    dist.init_process_group("gloo")
    for variant, method in given["methods"].items():
        if dist.get_rank():  # process 0's weights are those that count
            torch.nn.init.zeros_(next(method.parameters()))
        optimizer = torch.optim.SGD(method.parameters(), 0.05)
        terms = train(method, optimizer, given["images"], batch_size=4, epochs=1)
        torch.save({"terms": terms, "weights": method.state_dict()}, f"{folder}/{variant}{dist.get_rank()}.pt")
    dist.destroy_process_group()
""")


def without_batch_norm(classes=10):
    """BatchNorm's statistics are those of a process's or a step's own images."""
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes)).double()


@pytest.fixture(scope="module")
def digits():
    """x (24, 3, 40, 40), y, mask in float64: sums in another order then tell apart from sums of another kind."""
    x, y, mask, _ = data.load("digits").train[list(range(24))]
    return x.double(), y, mask.double()


def gradients(method, *batch):
    loss, _ = method.loss(*batch)
    return torch.autograd.grad(loss, list(method.parameters()))


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------ several processes
def test_two_processes_learn_what_one_learns_from_the_joined_batch(digits, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(LOOPS)
    from plain import train

    torch.manual_seed(0)
    model, images = without_batch_norm(), TensorDataset(*digits)
    methods = {variant: ISNet(copy.deepcopy(model), variant) for variant in ("original", "selective")}
    torch.save({"methods": methods, "images": images}, tmp_path / "given.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = f"{LOOPS}:{LOOPS.parent.parent}"
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, tmp_path / "worker.py", tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for variant, method in methods.items():
        first, second = (torch.load(tmp_path / f"{variant}{rank}.pt", weights_only=True) for rank in (0, 1))
        joined = DataLoader(images, 8, sampler=DistributedSampler(images, num_replicas=1, rank=0))
        terms = train(method, torch.optim.SGD(method.parameters(), 0.05), joined, epochs=1)
        assert len(terms) == len(first["terms"]) == 3
        for mine, one, other in zip(terms, first["terms"], second["terms"], strict=True):
            assert mine == pytest.approx({name: (one[name] + other[name]) / 2 for name in mine}, rel=1e-8)
            assert one["background"] != other["background"]  # each saw images of its own
        assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
        assert_same(method.state_dict().values(), first["weights"].values())
        assert not torch.equal(method.model[0].weight, model[0].weight)


def test_called_as_a_module_it_is_its_loss(digits):
    torch.manual_seed(0)
    method = ISNet(without_batch_norm())
    loss, parts = method(*digits)
    assert loss.item() == method.loss(*digits)[0].item() and set(parts) == {
        "classification",
        "background",
        "foreground",
    }


# ----------------------------------------------------------------------------------- accumulated steps
@pytest.mark.parametrize("variant", ["original", "selective"])
def test_accumulated_gradients_are_those_of_the_joined_batch(digits, variant):
    torch.manual_seed(0)
    method = ISNet(without_batch_norm(), variant)
    for part in zip(*(field.split(8) for field in digits), strict=True):
        loss, _ = method.loss(*part)
        (loss / 3).backward()
    assert_same([p.grad for p in method.parameters()], gradients(method, *digits))


def test_parts_with_unequal_masks_weigh_by_their_number(digits):
    torch.manual_seed(0)
    method, (x, y, mask) = ISNet(without_batch_norm(), heatmap_weight=1.0), digits
    mask = mask.clone()
    mask[:9] = 0  # none known: 3 masks in the first half, 12 in the second
    halves = [method.loss(*(field[rows] for field in (x, y, mask)))[0] for rows in (slice(12), slice(12, None))]
    joined, _ = method.loss(x, y, mask)
    torch.testing.assert_close((3 * halves[0] + 12 * halves[1]) / 15, joined)
    assert (sum(halves) / 2 - joined).abs() > 1e-3 * joined


# --------------------------------------------------------------------------------------- other devices
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_give_the_same_loss_and_gradient(digits, device):
    if not (torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()):
        pytest.skip(f"no {device} device here")
    torch.manual_seed(0)
    method, (x, y, mask) = ISNet(build_model("small_resnet", 10, width=4), "original"), digits
    digits = (x.float(), y, mask.float())
    here, there = gradients(method, *digits), gradients(method.to(device), *(field.to(device) for field in digits))
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-2, atol=1e-2 * one.abs().max().item())
    assert method.predict(digits[0].to(device)).device.type == device


# ------------------------------------------------------------------------------------ maps a few at a time
@pytest.mark.parametrize("maps_at_once", [1, 3, 10])
@pytest.mark.parametrize("backbone", ["small_resnet", "squeezenet1_1"])  # sums; concatenation, overlapping maxima
def test_maps_a_few_at_a_time_give_the_same_gradient(digits, backbone, maps_at_once):
    torch.manual_seed(0)
    model, batch = build_model(backbone, 10).double(), [field[:3] for field in digits]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # drawn again for each gradient
    whole, parts = (ISNet(model, "original", maps_at_once=n) for n in (None, maps_at_once))
    for one, other in zip(gradients(whole, *batch), gradients(parts, *batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_maps_a_few_at_a_time_need_less_memory():
    script = textwrap.dedent("""
        import torch
        from isnetlib import ISNet
        from isnetlib.models import build_model
        from isnetlib.train import peak_mib
        torch.set_num_threads(1)
        x, y, mask = torch.rand(4, 3, 96, 96), torch.arange(4), torch.zeros(4, 1, 96, 96)
        mask[..., 20:60, 20:60] = 1
        model, peaks = build_model("small_resnet", 20), [peak_mib()]
        for maps_at_once in (2, None):
            loss, _ = ISNet(model, "original", maps_at_once=maps_at_once).loss(x, y, mask)
            loss.backward()
            peaks.append(peak_mib())
        print(*peaks)
    """)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    before, few, all_at_once = map(float, done.stdout.split())
    assert few - before < 0.8 * (all_at_once - before)


def test_a_number_of_maps_below_one_is_refused():
    with pytest.raises(ValueError, match="maps_at_once is a number of maps, 1 or more, or None for all; got 0"):
        ISNet(without_batch_norm(), "original", maps_at_once=0)
