"""One run at scale: several processes, a GPU, maps a few at a time, and more images than memory holds."""

import copy
import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import shapes
import torch
from plain import train
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from isnetlib import ISNet, data, own
from isnetlib.baselines import build
from isnetlib.data import folder
from isnetlib.data.images import Stored
from isnetlib.networks import build_model
from isnetlib.training import evaluate
from isnetlib.training.evaluate import Swapped
from isnetlib.training.fit import fit, load_chosen, seeded

LOOPS = Path(__file__).parent.parent / "notebooks" / "loops"
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

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


@pytest.fixture
def images(tmp_path):
    return shapes.write(tmp_path / "shapes", images=40, patients=20)


def gradients(method, *batch):
    return torch.autograd.grad(method.loss(*batch)[0], list(method.parameters()))


def waiting(method, *batch):
    """How many numbers a loss keeps for backward."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        method.loss(*batch)
    return sum(sizes)


def test_two_processes_learn_what_one_learns_from_the_joined_batch(digits, tmp_path):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()  # without BatchNorm, whose
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)).double()  # statistics are
    images = TensorDataset(*digits)  # those of a process's own images
    options = {"heatmap_weight": 0.7, "range": (1.0, 25.0)}  # steered, each process would follow its own first batch
    methods = {variant: ISNet(copy.deepcopy(model), variant, **options) for variant in ("original", "selective")}
    torch.save({"methods": methods, "images": images}, tmp_path / "given.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": f"{LOOPS}:{LOOPS.parent.parent}"}
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


@pytest.mark.cuda
@needs_cuda
def test_a_gpu_gives_the_same_loss_and_gradient(digits):
    torch.manual_seed(0)
    method, (x, y, mask) = ISNet(build_model("small_resnet", 10, width=4), "original"), digits
    digits = (x.float(), y, mask.float())
    here, there = gradients(method, *digits), gradients(method.cuda(), *(field.cuda() for field in digits))
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-2, atol=1e-2 * one.abs().max().item())
    assert method.predict(digits[0].cuda()).device.type == "cuda"


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("name", ["isnet_selective", "pipeline", "background_random", "gain_ext", "grad_input"])
def test_methods_train_on_a_gpu_and_are_used_anywhere(images, tmp_path, name):
    assert own.pick("auto") == "cuda"
    found = data.load("folder", folder=images, size=64, cache=tmp_path / "cache")
    how = {"epochs": 2, "batch_size": 8, "metric": "auc", "device": "cuda"}
    method = build(name, "resnet18", 2, pretrained="random")
    log = fit(method, found.train, found.validation, tmp_path / "run", **how)
    assert log.equals(fit(method, found.train, found.validation, tmp_path / "run", **how))  # of a finished one
    here = build(name, "resnet18", 2, pretrained="random")
    load_chosen(here, tmp_path / "run"), load_chosen(method, tmp_path / "run")
    p, there = (evaluate.scores(m, found.train, device=d)[1] for m, d in ((here, "cpu"), (method, "cuda")))
    assert abs(p - there).max() < 1e-2
    tested = evaluate.test(method, found.tests["internal"], device="cuda").predictions
    assert tested["background_share"].between(0, 1).all()


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
    with pytest.raises(ValueError, match="maps_at_once must be a whole number from 1 on, got 0"):
        ISNet(model, "original", maps_at_once=0)


# --- more images than memory holds
def equal(one, other):
    """Whether two data sets give the same, in batches and one by one."""
    rows = [3, 0, 2, 2]
    same = [torch.equal(a, b) for a, b in zip(one[rows], other[rows], strict=True)]
    same += [torch.equal(one[1][k], other[1][k]) for k in range(3)]
    return all(same) and one.frame.equals(other.frame) and torch.equal(one.area(), other.area())


@pytest.mark.parametrize("equalise", [False, True])
def test_stored_images_are_those_in_memory(images, tmp_path, monkeypatch, equalise):
    how = {"size": (40, 48), "equalise": equalise}
    memory, read = (data.load("folder", folder=images, cache=cache, **how) for cache in (None, tmp_path / "cache"))
    monkeypatch.delattr(folder, "_read_each")  # the second time nothing is decoded
    again = data.load("folder", folder=images, cache=str(tmp_path / "cache"), **how)
    for found in (read, again):
        assert isinstance(found.train.x, Stored) and found.hashes == memory.hashes
        for part in ("train", "validation"):
            assert equal(getattr(found, part), getattr(memory, part))
            assert equal(Swapped(getattr(found, part)), Swapped(getattr(memory, part)))
        assert equal(found.tests["internal"], memory.tests["internal"])
    with pytest.raises(IndexError):
        read.train[len(read.train)]


def test_training_from_the_disk_gives_the_same_weights_and_goes_on_with_them(images, tmp_path):
    def trained(name, cache, report=str):
        found = data.load("folder", folder=images, size=32, cache=cache)
        with seeded(0):
            method = ISNet(build_model("small_resnet", 2, width=4))
        how = {"epochs": 2, "batch_size": 8, "metric": "auc", "report": report}
        log = fit(method, found.train, found.validation, tmp_path / name, **how)
        return method.state_dict(), log.drop(columns=["seconds", "peak_mib"])

    def interrupted(line):
        raise KeyboardInterrupt

    here, log = trained("memory", None)
    with pytest.raises(KeyboardInterrupt):
        trained("disk", tmp_path / "cache", interrupted)
    there, other = trained("disk", tmp_path / "cache")
    assert all(torch.equal(value, there[name]) for name, value in here.items()) and log.equals(other)


def test_files_are_stored_whole_or_not_at_all(images, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    load = partial(data.load, "folder", folder=images, size=32, cache=cache)
    load()
    (first,) = cache.glob("*.u8")
    assert first.stat().st_size == 40 * 4 * 32 * 32 and first.with_suffix(".json").exists()
    os.utime(images / "images/003.png", (0, 0))  # it may be another image: all are read again
    resized, calls = folder.files.resize, iter(range(16))
    with monkeypatch.context() as patch:
        patch.setattr(folder.files, "resize", lambda *given: next(calls, None) is not None and resized(*given))
        with pytest.raises(TypeError):  # as at a kill, after 16 images
            load()
    assert [*cache.glob("*.u8")] == [first] and not [*cache.glob("*.part")]
    load()
    second = max(cache.glob("*.u8"), key=lambda path: path.stat().st_mtime_ns)
    assert second != first
    second.with_suffix(".json").unlink()  # a kill before it was written
    load()
    assert second.with_suffix(".json").exists()
    second.unlink()
    load()
    assert second.exists()
    (images / "images/004.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="images/004.png, row 6: cannot be read"):
        load()
    assert {*cache.glob("*.u8")} == {first, second}


def test_a_copy_under_another_patient_is_told_whoever_stored_the_images_first(images, tmp_path):
    table = pd.read_csv(images / "index.csv", dtype=str, keep_default_na=False)
    (images / table["image"][1]).write_bytes((images / table["image"][0]).read_bytes())
    one = table["patient"].where(table.index != 1, table["patient"][0])
    table.assign(patient=one).to_csv(images / "index.csv", index=False)
    load = partial(data.load, "folder", folder=images, size=32, cache=tmp_path / "cache")
    for _ in range(2):  # made, and read
        with pytest.warns(UserWarning, match="is a copy of"):
            load()
        with pytest.raises(ValueError, match="under another patient: leakage"):
            load(patient=None)


def test_too_many_images_for_memory_are_stored_beside_them_if_the_disk_is_large_enough(images, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY", 40 * 4 * 32 * 32 - 1)
    free = shutil._ntuple_diskusage(10**6, 10**6 - 10, 10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: free)
        with pytest.raises(OSError, match=r"\.isnet: 0.0 GB of images do not fit, 0.0 GB are free"):
            data.load("folder", folder=images, size=32)
    assert isinstance(data.load("folder", folder=images, size=32).train.x, Stored)
    assert [path.suffix for path in sorted((images / ".isnet").iterdir())] == [".json", ".u8"]
    smaller = data.load("folder", folder=images, size=31).train
    assert isinstance(smaller.x, torch.Tensor)
    assert isinstance(own.masked_images(images, smaller.classes, 32).x, Stored)  # to be audited, likewise
    assert folder.verify(images).empty
