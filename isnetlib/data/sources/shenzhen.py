"""Shenzhen chest X-rays: tuberculosis screening, with the lung masks that others drew on most of the films."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, find
from isnetlib.data.sources.montgomery import clinical

CARD = Card(
    title="Shenzhen Hospital X-ray set, with lung masks",
    origin="Shenzhen No. 3 Hospital, Guangdong, China; National Library of Medicine, https://data.lhncbc.nlm.nih.gov/public/"
    "Tuberculosis-Chest-X-ray-Datasets/Shenzhen-Hospital-CXR-Set/index.html; masks: "
    "https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask",
    licence="films free for research, the publisher asks for the citation; masks: see their page",
    citation="Jaeger et al., Quant. Imaging Med. Surg. 4(6), 2014; masks: Stirenko et al., ELNANO 2018",
    patient="one film a patient, named by the file",
    layout="films documented in the archive's read-me file (NLM-ChinaCXRSet-ReadMe.docx); masks: layout unverified",
    remedy="unpack NLM-ChinaCXRSet.zip (ChinaSet_AllFiles/CXR_png), and beside it the masks (mask/CHNCXR_..._mask.png)",
    images=(662,),
    labels={"normal": 326, "tuberculosis": 336},
    masks=566,
)


def read(folder: Path) -> list[Item]:
    """ChinaSet_AllFiles/CXR_png/CHNCXR_<number>_<0 normal, 1 tuberculosis>.png; masks as <name>_mask.png."""
    films, readings = find(folder, "CXR_png/CHNCXR_*.png"), find(folder, "ClinicalReadings/CHNCXR_*.txt")
    masks = find(folder, "mask/CHNCXR_*_mask.png")
    return [
        Item(
            name=name,
            image=file,
            label="tuberculosis" if name.endswith("_1") else "normal",
            patient=name.rpartition("_")[0],
            masks=(masks[f"{name}_mask"],) if f"{name}_mask" in masks else (),
            meta=clinical(Path(folder) / readings[name]) if name in readings else {},
        )
        for name, file in films.items()
    ]
