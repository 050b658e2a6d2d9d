"""README.md: short, its links lead somewhere, its code runs."""

import re
from pathlib import Path

import pytest
import shapes
import torch
import torchvision

from isnetlib import __main__

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = "", "results/", *(f"notebooks/{name}/" for name in ("loops", "lessons", "cluster", "pipeline"))
OWN, LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("page", ["CHANGELOG.md", *(f"{folder}README.md" for folder in FOLDERS)])
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
    assert set(names["parts"]) >= {"classification", "background", "foreground"}
    assert names["R"].shape == (4, 1, 3, 32, 32)
    assert not any(map(torch.equal, before.parameters(), names["model"].parameters()))


def test_your_own_images_are_trained_on_and_shown(tmp_path, monkeypatch):
    shapes.write(tmp_path / "my_xrays")
    monkeypatch.chdir(tmp_path)
    exec(OWN.replace("resnet18", "small_resnet").replace("size=128", "size=32").replace("epochs=30", "epochs=1"), {})
    assert (tmp_path / "runs" / "first" / "report.html").exists() and (tmp_path / "heatmap.png").exists()


def test_it_is_short_and_its_commands_are_understood():
    assert len(TEXT.splitlines()) <= 150 and len(TEXT.split()) <= 1500
    for line in re.findall(r"(?:^|`)isnet\s([a-z-]+ [^`#]+?)(?=`|\n[^-]|#)", TEXT, re.MULTILINE):
        __main__._parser().parse_args(line.split())
