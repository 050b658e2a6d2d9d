"""NIH ChestX-ray14: films of one US hospital; the labels were mined from reports and are noisy."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, below, find, locate, read_csv

CARD = Card(
    title="NIH ChestX-ray14",
    origin="NIH Clinical Center, Bethesda, USA; https://nihcc.app.box.com/v/ChestXray-NIHCC",
    licence="no restriction; the publisher asks for its name, a link and the citation",
    citation="Wang et al., ChestX-ray8, CVPR 2017",
    patient="column Patient ID of Data_Entry_2017.csv, here the first eight digits of the file's name",
    layout="documented in README_CHESTXRAY.pdf of the publisher's folder",
    remedy="unpack images_001.tar.gz to images_012.tar.gz beside Data_Entry_2017.csv (or Data_Entry_2017_v2020.csv)",
    images=(112120,),
)


def read(folder: Path) -> list[Item]:
    """Data_Entry_2017*.csv names the films, in any folder: no_finding, pneumonia (alone or with others), or other."""
    path = locate(folder, CARD, "Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
    columns = ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
    table, files = read_csv(path, columns), find(folder, "*_[0-9][0-9][0-9].png")
    return [
        Item(
            name=Path(row["Image Index"]).stem,
            image=files.get(Path(row["Image Index"]).stem, below(folder, path, "images", row["Image Index"])),
            label=label_of(row["Finding Labels"]),
            patient=row["Patient ID"].zfill(8),
            meta={
                "findings": row["Finding Labels"],
                "sex": row["Patient Gender"],
                "age": row["Patient Age"].rstrip("Y").lstrip("0"),
                "view": row["View Position"],
            },
        )
        for row in table.to_dict("records")
    ]


def label_of(findings: str) -> str:
    """Of findings as "Effusion|Pneumonia"."""
    parts = findings.split("|")
    return "no_finding" if parts == ["No Finding"] else "pneumonia" if "Pneumonia" in parts else "other"
