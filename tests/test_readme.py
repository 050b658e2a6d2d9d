"""README.md: short, its links lead somewhere, its code runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
OWN, LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150 and len(TEXT.split()) <= 1500


@pytest.mark.parametrize("page", ["README.md", "results/README.md", "notebooks/loops/README.md", "CHANGELOG.md"])
def test_every_file_that_a_page_links_is_there(page):
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if not link.startswith("http") and not ((ROOT / page).parent / link).exists()]
    assert not missing


def test_the_loop_trains():
    torch.manual_seed(0)
    x, y, mask = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.zeros(4, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    names = {"batches": [(x, y, mask)] * 2}
    with torch.random.fork_rng():
        before = torchvision.models.resnet18(num_classes=3)
    exec(LOOP, names)
    assert set(names["parts"]) == {"classification", "background", "foreground"}
    assert names["R"].shape == (4, 1, 3, 32, 32)
    assert not any(map(torch.equal, before.parameters(), names["model"].parameters()))


def test_your_own_images_are_trained_on(tmp_path, monkeypatch):
    folder, rng = tmp_path / "my_xrays", np.random.default_rng(0)
    folder.mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    for k in range(40):
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(folder / f"{k}.png")
    rows = [(f"{k}.png", "mask.png", "ab"[k % 2], "s", k) for k in range(40)]
    pd.DataFrame(rows, columns=["image", "mask", "label", "source", "patient"]).to_csv(
        folder / "index.csv", index=False
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    code = OWN.replace("densenet121", "small_resnet").replace("size=128", "size=32").replace("epochs=30", "epochs=1")
    exec(code, names)
    assert (tmp_path / "runs" / "first" / "checkpoints" / "swapped.pt").exists()
    assert len(names["y"]) == len(names["p"]) > 0
