"""Hannover Medical School: films of patients with COVID-19, several a patient."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, below, locate, read_csv

CARD = Card(
    title="COVID-19 image repository, Hannover Medical School",
    origin="Hannover Medical School, Germany; https://github.com/ml-workgroup/covid-19-image-repository",
    licence="CC BY 3.0",
    citation="Winther et al., COVID-19 image repository, 2020, doi:10.6084/m9.figshare.12275009",
    patient="column patient_id of data.csv",
    layout="documented at https://github.com/ml-workgroup/covid-19-image-repository (data.csv, png/<image_id>.png)",
    remedy="clone the repository (data.csv, png/)",
    images=(243,),
    labels={"covid": 243},
)


def read(folder: Path) -> list[Item]:
    """data.csv names the films png/<image_id>.png."""
    path = locate(folder, CARD, "data.csv")
    table = read_csv(path, ["patient_id", "image_id", "projection", "sex"])
    return [
        Item(
            name=row["image_id"],
            image=below(folder, path, "png", f"{row['image_id']}.png"),
            label="covid",
            patient=row["patient_id"],
            meta={"view": row["projection"], "sex": row["sex"].upper()},
        )
        for row in table.to_dict("records")
    ]
