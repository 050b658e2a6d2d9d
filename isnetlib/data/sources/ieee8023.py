"""COVID-19 image data collection: films from papers and hospitals of many countries; lung masks by V7 Labs."""

import re
from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, below, find, locate, read_csv

CARD = Card(
    title="COVID-19 image data collection, with the lung masks of V7 Labs",
    origin="many hospitals; https://github.com/ieee8023/covid-chestxray-dataset; masks: V7 Labs, "
    "https://github.com/v7labs/covid-19-xray-dataset, from semantic_masks_v7labs_lungs.zip of torchxrayvision",
    licence="each image its own, in the column license; masks CC BY 4.0",
    citation="Cohen et al., COVID-19 Image Data Collection, arXiv:2003.11597 and 2006.11988, 2020",
    patient="column patientid of metadata.csv",
    layout="images and metadata.csv documented at https://github.com/ieee8023/covid-chestxray-dataset (SCHEMA.md); "
    "masks as torchxrayvision reads them (a file of the image's name); V7's own export, numbered, is not read",
    remedy="clone the repository (metadata.csv, images/) and unpack semantic_masks_v7labs_lungs.zip into it",
)
FRONTAL = ("PA", "AP", "AP Supine", "APS", "AP erect")
PNEUMONIA = {"ARDS", "Bacterial", "Chlamydophila", "E.Coli", "Influenza", "Klebsiella", "Legionella", "Lipoid"}
PNEUMONIA |= {"Mycoplasma Bacterial Pneumonia", "Pneumocystis", "Pneumonia", "SARS", "Streptococcus", "Varicella"}
META = ["finding", "view", "sex", "age", "location", "license"]


def read(folder: Path) -> list[Item]:
    """Frontal X-rays with COVID-19, another pneumonia or no finding; other views, CT and findings are left out.

    `hannover` is 1 where the film may show a patient of the source hannover: never train on the one, test on the other.
    """
    path = locate(folder, CARD, "metadata.csv")
    table = read_csv(path, ["patientid", "modality", "filename", *META])
    masks = find(folder, "semantic_masks_v7labs_lungs/*.*")
    items = []
    for row in table.to_dict("records"):
        label = label_of(row["finding"])
        if row["modality"] == "X-ray" and row["view"] in FRONTAL and label:
            name = Path(row["filename"]).stem
            items.append(
                Item(
                    name=name,
                    image=below(folder, path, "images", row["filename"]),
                    label=label,
                    patient=f"ieee_{row['patientid']}",
                    masks=(masks[name],) if name in masks else (),
                    meta={key: row[key] for key in META} | {"hannover": str(int("Hannover" in row["location"]))},
                )
            )
    return items


def label_of(finding: str) -> str:
    """covid, pneumonia, no_finding or "" of a finding as "Pneumonia/Viral/COVID-19" or, in older versions, "SARS"."""
    parts = set(re.split(r"[/,] *", finding))
    if "COVID-19" in parts:
        return "covid"
    return "pneumonia" if parts & PNEUMONIA else "no_finding" if "No Finding" in parts else ""
