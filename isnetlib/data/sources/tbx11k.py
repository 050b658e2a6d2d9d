"""TBX11K: tuberculosis with radiologists' boxes around the lesions, other illness, and health."""

import json
from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, SourceError, find, locate

CARD = Card(
    title="TBX11K",
    origin="hospitals in China; Nankai University, https://mmcheng.net/tb/",
    licence="CC BY-NC-SA 2.0; films stretched to 512 x 512 by the publisher",
    citation="Liu et al., Rethinking Computer-aided Tuberculosis Diagnosis, CVPR 2020",
    patient="unknown: each film counts as a patient",
    layout="documented in the read-me file of the archive and at https://github.com/yun-liu/Tuberculosis",
    remedy="unpack TBX11K.zip: TBX11K/imgs/{health,sick,tb} and TBX11K/annotations/json",
    images=(8400,),
    labels={"normal": 3800, "sick": 3800, "tuberculosis": 800},
)
FOLDERS = {"health": "normal", "sick": "sick", "tb": "tuberculosis"}


def read(folder: Path) -> list[Item]:
    """The labelled films (training and validation) with their boxes; test and extra films are left out."""
    boxes = {}
    for name in ("TBX11K_train.json", "TBX11K_val.json"):
        boxes |= read_boxes(locate(folder, CARD, name))
    return [
        Item(
            name=name,
            image=file,
            label=label,
            patient=name,
            boxes=boxes.get(name, ()) if label == "tuberculosis" else None,
            meta={"tb_kind": "+".join(sorted({kind for kind, *_ in boxes.get(name, ())}))},
        )
        for directory, label in FOLDERS.items()
        for name, file in find(folder, f"imgs/{directory}/*.png").items()
    ]


def read_boxes(path: Path) -> dict[str, tuple]:
    """Stem of the image -> its boxes (kind, left, top, right, bottom), from a file in COCO's format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        kinds = {category["id"]: category["name"] for category in content["categories"]}
        found = {}
        for one in content["annotations"]:
            left, top, width, height = one["bbox"]
            box = (kinds[one["category_id"]], left, top, left + width, top + height)
            found[names[one["image_id"]]] = (*found.get(names[one["image_id"]], ()), box)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not in COCO's format ({error!r}); unpack it again") from error
    return found
