"""BrixIA: films of patients with COVID-19 with the Brixia score of severity; DICOM."""

from pathlib import Path

from isnetlib.data.sources.layout import UNVERIFIED, Card, Item, below, locate, read_csv

CARD = Card(
    title="BrixIA COVID-19",
    origin="ASST Spedali Civili, Brescia, Italy; https://brixia.github.io",
    licence="research use, after the publisher's agreement",
    citation="Signoroni et al., BS-Net, Medical Image Analysis 71, 2021",
    patient="column Subject of metadata_global_v2.csv",
    layout=f"{UNVERIFIED}; columns and the folder dicom_clean as others' published code reads them",
    remedy="unpack dicom_clean.zip beside metadata_global_v2.csv (or metadata_global_v1.csv)",
    images=(4695, 4703),
)


def read(folder: Path) -> list[Item]:
    """metadata_global_v*.csv names the films dicom_clean/<Filename>; the score is six digits, one a lung zone."""
    path = locate(folder, CARD, "metadata_global_v2.csv", "metadata_global_v1.csv")
    table = read_csv(path, ["Filename", "Subject", "BrixiaScore", "BrixiaScoreGlobal"])
    return [
        Item(
            name=Path(row["Filename"]).stem,
            image=below(folder, path, "dicom_clean", row["Filename"]),
            label="covid",
            patient=row["Subject"],
            meta={"brixia": row["BrixiaScore"].zfill(6), "brixia_global": row["BrixiaScoreGlobal"]},
        )
        for row in table.to_dict("records")
    ]
