"""CheXpert: films of one US hospital; labels were mined from reports, -1 = uncertain."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, SourceError, below, locate, read_csv

CARD = Card(
    title="CheXpert (full or small), frontal films of the training and the validation set",
    origin="Stanford Hospital, USA; https://stanfordmlgroup.github.io/competitions/chexpert/",
    licence="Stanford University Dataset Research Use Agreement",
    citation="Irvin et al., CheXpert, AAAI 2019",
    patient="the folder patient<number>",
    layout="documented at https://stanfordmlgroup.github.io/competitions/chexpert/ (train.csv, valid.csv)",
    remedy="unpack CheXpert-v1.0-small.zip (or CheXpert-v1.0.zip): train.csv, valid.csv, train/, valid/",
    images=(191229,),
)
COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Pneumonia"]


def read(folder: Path) -> list[Item]:
    """no_finding or pneumonia where the publisher says 1, otherwise other; the column split keeps his two parts."""
    items = []
    for part in ("train", "valid"):
        path = locate(folder, CARD, f"{part}.csv")
        for row in read_csv(path, COLUMNS).to_dict("records"):
            if row["Frontal/Lateral"] == "Frontal":
                items.append(_item(row, folder, path, part))
    return items


def _item(row, folder, path, part):
    archive, _, name = row["Path"].partition("/")  # CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
    words = name.split("/")
    if len(words) != 4:
        raise SourceError(f"{path}: unknown form of Path {row['Path']!r}; download the table again")
    positive = [label for label in ("No Finding", "Pneumonia") if row[label] in ("1", "1.0")]
    return Item(
        name="_".join([*words[1:3], Path(words[3]).stem]),
        image=below(folder, path, name),
        label=positive[0].replace(" ", "_").lower() if positive else "other",
        patient=words[1],
        meta={"published_part": part, "view": row["AP/PA"], "sex": row["Sex"][:1], "age": row["Age"]},
    )
