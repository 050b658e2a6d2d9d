"""Figure 1: films of COVID-19 that clinicians shared."""

import re
from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, below, find, locate, read_csv

CARD = Card(
    title="Figure 1 COVID-19 chest X-ray dataset initiative",
    origin="clinicians of several countries; https://github.com/agchung/Figure1-COVID-chestxray-dataset",
    licence="see the repository",
    citation="Chung, Figure 1 COVID-19 chest X-ray dataset initiative, GitHub, 2020",
    patient="column patientid of metadata.csv without the letter that counts a patient's films (COVID-00003a)",
    layout="documented at https://github.com/agchung/Figure1-COVID-chestxray-dataset (metadata.csv, images/)",
    remedy="clone the repository (metadata.csv, images/)",
)
LABELS = {"COVID-19": "covid", "Pneumonia": "pneumonia", "No finding": "no_finding"}


def read(folder: Path) -> list[Item]:
    """metadata.csv names the films images/<patientid>.jpg or .png; those without a finding are left out."""
    path = locate(folder, CARD, "metadata.csv")
    table = read_csv(path, ["patientid", "finding", "view"])
    files = find(folder, "images/COVID-*.jpg", "images/COVID-*.png")
    return [
        Item(
            name=row["patientid"],
            image=files.get(row["patientid"], below(folder, path, "images", f"{row['patientid']}.jpg")),
            label=LABELS[row["finding"]],
            patient=re.sub("[a-z]$", "", row["patientid"]),
            meta={"view": row["view"]},
        )
        for row in table.to_dict("records")
        if row["finding"] in LABELS
    ]
