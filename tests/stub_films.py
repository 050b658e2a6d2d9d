"""Prepared sources of chest films, tiny: noise, bright boxes for lungs; notebooks run on them without a kernel."""

import contextlib
import json

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 40
SOURCES = ("tbx11k", "nih", "shenzhen", "ieee8023", "hannover", "jsrt")


def lungs():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:32, 8:18] = mask[8:32, 22:32] = 255
    return mask


def write_source(root, source, rows, masked=False):
    """A dataset folder of noise; rows: (label, patient, further columns)."""
    (root / source / "images").mkdir(parents=True)
    table = []
    for i, (label, patient, more) in enumerate(rows):
        noise = np.random.default_rng([len(source), i]).integers(0, 120, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(noise + lungs() // 2).save(root / source / f"images/{i}.png")
        cells = {"image": f"images/{i}.png", "mask": f"masks/{i}.png" if masked else "", "label": label}
        table.append(cells | {"source": f"{source}_hospital", "patient": patient} | more)
        if masked:
            (root / source / "masks").mkdir(exist_ok=True)
            Image.fromarray(lungs()).save(root / source / f"masks/{i}.png")
    pd.DataFrame(table).to_csv(root / source / "index.csv", index=False)


def write_sources(root, times=1):
    """The sources of all three experiments, in `root`; the same patients' names in several. times: as many films."""
    box = json.dumps([["ActiveTuberculosis", 10, 20, 30, 40]])
    write_source(root, "tbx11k", [("tuberculosis", f"p{i}", {"boxes": box}) for i in range(10 * times)])
    nih = [(("no_finding", "pneumonia", "other")[i % 3], f"p{i // 4}", {}) for i in range(30 * times)]
    write_source(root, "nih", nih)
    both = [(("normal", "tuberculosis")[i % 2], f"p{i}", {"sex": "F"}) for i in range(12 * times)]
    write_source(root, "shenzhen", both, masked=True)
    covid = [("covid", f"p{i}", {"hannover": str(int(i < 3))}) for i in range(14 * times)]
    covid += [("pneumonia", f"p{i}", {"hannover": "0"}) for i in (3, 1000, 1001)]
    write_source(root, "ieee8023", covid, masked=True)
    write_source(root, "hannover", [("covid", f"p{i // 3}", {}) for i in range(3 * times)])
    jsrt = [(("normal", "nodule")[i % 2], f"p{i + 1}", {}) for i in range(2 * times)]
    write_source(root, "jsrt", jsrt, masked=True)
    return root


def write_predicted(root, place, mask=None, but=()):
    """Folders of predicted masks, one mask (default: the lungs) for every film, but for the first of sources `but`."""
    for source in SOURCES:
        (place / source).mkdir(parents=True)
        names = pd.read_csv(root / source / "index.csv").image
        Image.fromarray(lungs() if mask is None else mask).save(place / source / "all.png")
        table = pd.DataFrame({"image": names[1:] if source in but else names, "mask": "all.png"})
        table.to_csv(place / source / "index.csv", index=False)
    return place


def all_sets(experiment):
    return {"train": experiment.train, "validation": experiment.validation} | experiment.tests


def run_cells(notebook, parameters):
    """Execute a notebook's cells in this process, in the notebook's folder; the names that they leave."""
    names = {}
    with contextlib.chdir(notebook.parent):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), notebook.name, "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= parameters
    return names
