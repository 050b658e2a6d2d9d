"""Golden numbers: every part of the recipe on tiny inputs, held by digest under the part's declared version.

golden.json has, for each part of `isnetlib.study.runs.RECIPE`, its version, its cases, digests of every bit for the
versions of torch and the processors that it was made on, and five rounded numbers a case, which are compared elsewhere,
to `NEAR`. What two processors have alike to the bit, as most data, is held so on every one with the same vector
instructions. Where a number is meant to change: raise the version of its part, and make the file anew by
`python tests/test_golden.py --write`; a case is added as a key of `numbers`, its value empty.
"""

import copy
import hashlib
import inspect
import json
import re
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import DenseNet

from isnetlib import data
from isnetlib.baselines import METHODS, build
from isnetlib.data.images import Images
from isnetlib.method.course import Weight
from isnetlib.method.isnet import ISNet
from isnetlib.method.loss import heatmap_loss
from isnetlib.method.lrp import LRP, explain, start_for
from isnetlib.networks import build_model
from isnetlib.study.runs import RECIPE, versions
from isnetlib.training import evaluate, segmenter
from isnetlib.training.fit import chosen_epoch, fit, seeded

GOLDEN, CPU = Path(__file__).parent / "golden.json", Path("/proc/cpuinfo")
NEAR = 5e-4  # of the largest of a case's five numbers
SIDE = 32
NETWORKS = {  # beside those of build_model
    "densenet": lambda: DenseNet(8, (2, 2), 8, num_classes=3),
    "pooled_first": lambda: nn.Sequential(nn.AvgPool2d(2), build_model("small_resnet", 3, width=4)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 8), nn.LeakyReLU(), nn.Linear(8, 3)),
    "one_logit": lambda: build_model("small_resnet", 1, width=4),
}


# --- inputs, which are of no part of the recipe
def images(n, multilabel=False, seed=0, channels=3):
    """Noise with a bright box as mask; of seed 0 the last image has no mask."""
    rng, mask, y = np.random.default_rng(seed), torch.zeros(n, 1, SIDE, SIDE), torch.arange(n) % 3
    mask[: n - (seed == 0), :, 8:22, 10:24] = 1
    x = torch.from_numpy(rng.integers(0, 160, (n, channels, SIDE, SIDE))) + 30 * y[:, None, None, None] * mask
    y = torch.stack([y == 0, y > 0, torch.arange(n) % 2 == 0], 1).float() if multilabel else y
    frame = pd.DataFrame({"id": range(n), "patient": range(n), "source": "noise", "y": 0})
    return Images(x.to(torch.uint8), y, mask, frame, "abc")


def network(name):
    """In train mode, vectors and running statistics moved from where they start; and its images."""
    torch.manual_seed(1)
    model, x = NETWORKS.get(name, lambda: build_model(name, 3, size=SIDE))(), torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape) if p.ndim < 2 else 0)
        model.train()(torch.rand(8, 3, SIDE, SIDE))
    return model, x


def write_sources(root):
    """Every source that an experiment reads: noise, lungs as masks of all images, and as predicted masks."""
    faces = {"Eyeglasses": 4, "Mouth_Open": 2, "Ears_Visible": 3, "Wearing_Hat": 4, "Wearing_Earrings": 3}
    box, lungs = json.dumps([["ActiveTuberculosis", 10, 20, 30, 40]]), np.zeros((40, 40), np.uint8)
    lungs[10:30, 11:19] = lungs[10:30, 21:29] = 255
    for source, n, row in (
        ("tbx11k", 20, lambda i: {"label": "tuberculosis", "boxes": box}),
        ("nih", 60, lambda i: {"label": ("no_finding", "pneumonia", "other")[i % 3], "patient": f"p{i // 2}"}),
        ("shenzhen", 30, lambda i: {"label": ("normal", "tuberculosis")[i % 2], "source": f"s{i // 24}"}),
        ("ieee8023", 24, lambda i: {"label": "pneumonia" if i > 20 else "covid", "hannover": int(i < 3)}),
        ("hannover", 3, lambda i: {"label": "covid"}),
        ("jsrt", 2, lambda i: {"label": ("normal", "nodule")[i]}),
        ("celebamask_hq", 60, lambda i: {name: int((7 * i + i // 5) % k == 0) for name, k in faces.items()}),
    ):
        rng, rows = np.random.default_rng(len(source)), []
        for folder in (root / source, root / "predicted" / source):
            folder.mkdir(parents=True)
            Image.fromarray(lungs).save(folder / "mask.png")
        for i in range(n):
            noise = rng.integers(0, 200, (40, 40, 3) if source == "celebamask_hq" else (40, 40), dtype=np.uint8)
            Image.fromarray(noise).save(root / source / f"{i}.png")
            own = {"image": f"{i}.png", "mask": "mask.png", "source": source, "patient": f"{source}{i}"}
            rows.append(own | row(i))
        pd.DataFrame(rows).to_csv(root / source / "index.csv", index=False)
        pd.DataFrame(rows)[["image", "mask"]].to_csv(root / "predicted" / source / "index.csv", index=False)


# columns of a log that say what a step was like, besides its losses
BESIDE = "seconds peak_mib P net_share range_low range_high gradient_classification gradient_heatmap".split()


# --- the parts: each gives the numbers of a case, {name: array or text}; of the last array are the five numbers
def relevance(network_of, call):
    """Maps for every target and box in both modes, or the gradient of a heatmap loss, or maps with other options."""
    model, x = network(network_of)
    if call == {"maps": "all"}:
        boxes = (None, ((-0.1, 0.0, -0.2), (1.1, 1.0, 1.3)), (0.0, 1.0))
        calls = [(True, target, 1e-2, (0.0, 1.0)) for target in (None, "all", torch.tensor([0, 0]))]
        calls += product((True, False), ("selective",), (0.0, 1e-2), boxes)
        return {str(call): explain(model.train(call[0]), x, *call[1:]) for call in calls}
    with LRP(**call.get("LRP", {})) as lrp:
        logits = model(x)
    R = lrp.relevance(start_for(logits, "selective"), logits)
    loss = heatmap_loss(R, images(2).mask, **call.get("loss", {}))
    loss.total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"R": R.detach()} | gradients | {"loss": torch.stack(loss[:3]).detach()}


def trained(name, backbone="small_resnet", epochs=2, **options):
    """A method after 10 steps an epoch, and its numbers; those of the start do not drift apart between processors."""
    train, validation = (images(n, "multilabel" in options, seed) for n, seed in ((41, 0), (12, 1)))
    with tempfile.TemporaryDirectory() as folder, seeded(3):
        method = build(name, backbone, 3, size=SIDE, **options)
        first = copy.deepcopy(method).train()
        with torch.random.fork_rng():
            loss, _ = first.loss(*train[range(8)][:3])
            loss.backward()
        log = fit(method, train, validation, folder, epochs=epochs, batch_size=4, seed=5, report=lambda line: None)
    start = torch.stack([loss.detach(), *(p.grad.norm() for p in first.parameters() if p.grad is not None)])
    numbers = {"chosen": str(chosen_epoch(log, "accuracy")), "p": evaluate.scores(method, validation)[1]}
    numbers["log"] = log.drop(columns=[name for name in log if name in BESIDE]).astype(float).to_numpy()
    state = method.state_dict()
    for path, weight in method.named_modules():
        for name in weight.state_dict() if isinstance(weight, Weight) else ():  # the course of a loss weight
            del state[f"{path}.{name}"]
    steps = {"steps": method.heatmap_weight.steps} if isinstance(method, ISNet) else {}
    return method, steps | state | numbers | {"start": start}


def training(name, options):
    """What is kept of tests, with and without boxes, and the epoch chosen."""
    method, numbers = trained(name, **options)
    sets = {"boxed": images(9, bool(options), 2), "plain": images(12, bool(options), 1)}
    sets["boxed"].frame["boxes"] = json.dumps([["lesion", 0.3, 0.4, 0.6, 0.7]])
    for kind, one in evaluate.test_all(method, data.Experiment(*sets.values(), sets, "auc", {}, True)).items():
        numbers |= {f"{kind} {key}": value for key, value in sorted(one.maps.items())}
        numbers[kind] = one.predictions.to_csv(float_format="%.6g")
    steady = "p" if name in ("standard", "attention_gate") else "start"
    return numbers | {"steady": numbers[steady]}


def masks_of_films(convention, options):
    films = images(13, seed=1, channels=1)
    films.y = torch.arange(13) % 2
    net = segmenter.fit(films, epochs=2, batch_size=4, seed=3, **options)
    weights = torch.cat([value.flatten() for value in net.state_dict().values()])
    return {"masks": segmenter.predict(net, films, convention), "weights": weights}


def experiment(name, options):
    """All that a loader gives; options are those of the case, folders in a tree of tiny sources."""
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        places = {key: f"{folder}/{options[key]}" for key in ("folder", "masks") if options.get(key)}
        loaded = data.load(name, **options | places)
    sizes = {key: p.default for key, p in inspect.signature(data.EXPERIMENTS[name]).parameters.items() if "size" in key}
    sets = {"train": loaded.train, "validation": loaded.validation} | loaded.tests
    numbers = {"metric": loaded.metric, "sizes": str(sizes), "classes": str([part.classes for part in sets.values()])}
    for kind, part in sets.items():
        numbers |= {f"{kind} frame": part.frame[["id", "patient", "source", "y"]].to_csv(), f"{kind} y": part.y}
        numbers |= {f"{kind} mask": part.mask.byte(), f"{kind} x": part.x}
    torch.manual_seed(0)
    return numbers | {"seen in training": loaded.train[[1, 0, 1]][0]}


MAKERS = {"relevance": relevance, "training": training, "segmenter": masks_of_films, "data": experiment}
MAKERS |= {"methods": lambda name, options: trained(name, epochs=1 if options else 2, **options)[1]}
PARTS = ["relevance", "training", "segmenter", *(f"methods.{name}" for name in METHODS)]
PARTS += [f"data.{name}" for name in data.EXPERIMENTS]


# --- digests
def here():
    """What the last bits depend on: torch, processor, vector instructions."""
    text = CPU.read_text() if CPU.exists() else ""
    cpu = [re.search(rf"^{key}\s*: (.+)$", text, re.M) for key in ("vendor_id", "cpu family", "model", "stepping")]
    words = ["torch", torch.__version__.split("+")[0], *(match[1] for match in cpu if match)]
    return " ".join([*words, torch.backends.cpu.get_cpu_capability()])


def digest(numbers):
    total = hashlib.sha256()
    for name, value in numbers.items():
        array = np.ascontiguousarray(value) if not isinstance(value, str) else np.frombuffer(value.encode(), np.uint8)
        total.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return total.hexdigest()[:16]


def five(numbers):
    """Least, largest, mean, root mean square and a mean that tells the order, of the last array."""
    v = np.asarray(list(numbers.values())[-1], dtype=float).ravel()
    return np.array([v.min(), v.max(), v.mean(), np.sqrt((v * v).mean()), (v * np.linspace(-1, 1, len(v))).mean()])


def measured(part, cases):
    """{case: (digest, five numbers)} by one thread; a case: JSON of options, of some parts after a name."""
    (kind, _, name), found, threads = part.partition("."), {}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            for case in cases:
                own, _, options = ("", "", case) if name else case.partition(" ")
                numbers = MAKERS[kind](name or own, json.loads(options))
                found[case] = digest(numbers), five(numbers)
    finally:
        torch.set_num_threads(threads)
    return found


def version(part):
    kind, _, name = part.partition(".")
    return RECIPE[kind][name] if name else RECIPE[kind]


def changed(golden, now):
    """The cases of a part whose numbers are not those of golden.json, to the bit where bits are known."""
    found = []
    for case, (bits, own) in now.items():
        then, known = np.array(golden["numbers"][case].split(), dtype=float), known_bits(golden["digests"], case)
        if bits != known if known else abs(then - own).max() > NEAR * abs(then).max():
            found.append(case)
    return found


def known_bits(digests, case):
    """The digest of a case on this processor, or on any with its vector instructions, of which NumPy's functions depend
    in the last bits, where two or more agree. None: not known.
    """
    alike = here().split()[-1]
    found = {cpu: own[case] for cpu, own in digests.items() if case in own and cpu.split()[-1] == alike}
    agreed = set(found.values()) if len(found) > 1 else ()
    return found.get(here()) or (agreed.pop() if len(agreed) == 1 else None)


@pytest.mark.parametrize("part", PARTS)
def test_numbers_change_with_their_version_alone(part):
    golden = json.loads(GOLDEN.read_text())[part]
    remedy = "raise its version in isnetlib/study/recipe.yaml and run `python tests/test_golden.py --write`"
    assert golden["version"] == version(part), f"golden.json holds another version of {part}; {remedy}"
    cases = changed(golden, measured(part, golden["numbers"]))
    assert not cases, f"the numbers of {part} changed ({'; '.join(cases)}): a mistake, or {remedy}"


def test_every_method_and_experiment_has_a_version():
    assert RECIPE["methods"].keys() == METHODS.keys() and RECIPE["data"].keys() == data.EXPERIMENTS.keys()
    parts = ("relevance", "training", "method", "data")
    assert [*versions({"experiment": "digits", "method": "vit"})] == [f"{part}_version" for part in parts]
    with pytest.raises(ValueError, match="'unknown' has no version"):
        versions({"experiment": "digits", "method": "unknown"})


def write():
    """Make golden.json anew; refuses numbers that changed under the version they had."""
    golden = json.loads(GOLDEN.read_text())
    for part in PARTS:
        golden.setdefault(part, {"version": 0, "numbers": {"{}": ""}, "digests": {}})
    raised = {part for part in PARTS if golden[part]["version"] != version(part)}
    for part in PARTS:
        own, now = golden[part], measured(part, golden[part]["numbers"])
        if part in raised or (raised & {"relevance", "training"} and not part.startswith("data.")):  # which use neither
            own |= {"digests": {}, "numbers": dict.fromkeys(now, "")}
        elif cases := changed(own, {case: found for case, found in now.items() if own["numbers"][case]}):
            sys.exit(f"the numbers of {part} changed ({'; '.join(cases)}): raise its version first")
        own["version"], own["digests"][here()] = version(part), {case: bits for case, (bits, _) in now.items()}
        numbers = {case: " ".join(f"{v:.5g}" for v in found) for case, (_, found) in now.items()}
        own["numbers"] = {case: text or numbers[case] for case, text in own["numbers"].items()}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
