"""One run at scale: several processes, a GPU, and maps a few at a time."""

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
from isnetlib.networks import build_model

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


@pytest.fixture(scope="module")
def digits():
    """x (24, 3, 40, 40), y, mask in float64: sums in another order then tell apart from sums of another kind."""
    x, y, mask, _ = data.load("digits").train[list(range(24))]
    return x.double(), y, mask.double()


def gradients(method, *batch):
    return torch.autograd.grad(method.loss(*batch)[0], list(method.parameters()))


def waiting(method, *batch):
    """How many numbers a loss keeps for backward."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        method.loss(*batch)
    return sum(sizes)


def test_two_processes_learn_what_one_learns_from_the_joined_batch(digits, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(LOOPS)
    from plain import train

    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()  # without BatchNorm, whose
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)).double()  # statistics are
    images = TensorDataset(*digits)  # those of a process's own images
    methods = {variant: ISNet(copy.deepcopy(model), variant) for variant in ("original", "selective")}
    torch.save({"methods": methods, "images": images}, tmp_path / "given.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": f"{LOOPS}:{LOOPS.parent.parent}", "OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, tmp_path / "worker.py", tmp_path], env=environment, check=True)
    for variant, method in methods.items():
        first, second = (torch.load(tmp_path / f"{variant}{rank}.pt", weights_only=True) for rank in (0, 1))
        joined = DataLoader(images, 8, sampler=DistributedSampler(images, num_replicas=1, rank=0))
        terms = train(method, torch.optim.SGD(method.parameters(), 0.05), joined, epochs=1)
        assert len(terms) == len(first["terms"]) == 3
        for mine, one, other in zip(terms, first["terms"], second["terms"], strict=True):
            assert mine == pytest.approx({name: (one[name] + other[name]) / 2 for name in mine}, rel=1e-8)
            assert one["background"] != other["background"]  # each saw images of its own
        assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
        torch.testing.assert_close(method.state_dict(), dict(first["weights"]), rtol=1e-8, atol=1e-10)
        assert not torch.equal(method.model[0].weight, model[0].weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_same_loss_and_gradient(digits):
    torch.manual_seed(0)
    method, (x, y, mask) = ISNet(build_model("small_resnet", 10, width=4), "original"), digits
    digits = (x.float(), y, mask.float())
    here, there = gradients(method, *digits), gradients(method.cuda(), *(field.cuda() for field in digits))
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-2, atol=1e-2 * one.abs().max().item())
    assert method.predict(digits[0].cuda()).device.type == "cuda"


@pytest.mark.parametrize("maps_at_once", [1, 3])
@pytest.mark.parametrize("backbone", ["small_resnet", "squeezenet1_1"])  # sums; concatenation, overlapping maxima
def test_maps_a_few_at_a_time_give_the_same_gradient(digits, backbone, maps_at_once):
    torch.manual_seed(0)
    model, batch = build_model(backbone, 5).double(), [digits[0][:2], digits[1][:2] % 5, digits[2][:2]]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # drawn again for each gradient
    whole, parts = (ISNet(model, "original", maps_at_once=n) for n in (None, maps_at_once))
    for one, other in zip(gradients(whole, *batch), gradients(parts, *batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert waiting(parts, *batch) < 0.6 * waiting(whole, *batch)
    with pytest.raises(ValueError, match="maps_at_once is a number of maps, 1 or more, or None for all; got 0"):
        ISNet(model, "original", maps_at_once=0)
