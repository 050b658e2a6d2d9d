"""Actualmed: films of patients suspected of COVID-19, with the outcome of the test."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, below, locate, read_csv

CARD = Card(
    title="Actualmed COVID-19 chest X-ray dataset initiative",
    origin="Actualmed and Universitat Jaume I, Spain; https://github.com/agchung/Actualmed-COVID-chestxray-dataset",
    licence="see the repository",
    citation="Chung, Actualmed COVID-19 chest X-ray dataset initiative, GitHub, 2020",
    patient="column patientid of metadata.csv",
    layout="documented at https://github.com/agchung/Actualmed-COVID-chestxray-dataset (metadata.csv, images/)",
    remedy="clone the repository (metadata.csv, images/)",
    images=(238,),
)
LABELS = {"COVID-19": "covid", "No finding": "no_finding", "": "inconclusive"}


def read(folder: Path) -> list[Item]:
    """metadata.csv names the films images/<imagename>; where it names no finding, the test was inconclusive."""
    path = locate(folder, CARD, "metadata.csv")
    table = read_csv(path, ["patientid", "finding", "view", "imagename"])
    return [
        Item(
            name=Path(row["imagename"]).stem,
            image=below(folder, path, "images", row["imagename"]),
            label=LABELS.get(row["finding"], row["finding"]),
            patient=row["patientid"],
            meta={"view": row["view"]},
        )
        for row in table.to_dict("records")
    ]
