"""JSRT: digitised films with and without a lung nodule; lung masks of the SCR database, without the heart."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, find

CARD = Card(
    title="JSRT database with the masks of the SCR database",
    origin="Japanese Society of Radiological Technology, http://db.jsrt.or.jp/eng.php; masks: Image Sciences "
    "Institute, Utrecht, https://zenodo.org/records/7056076",
    licence="films: research use, after registration with JSRT; masks: see their page",
    citation="Shiraishi et al., AJR 174, 2000; van Ginneken, Stegmann, Loog, Medical Image Analysis 10, 2006",
    patient="one film a patient, named by the file",
    layout="films (2048 x 2048, 16 bit big-endian, no header) documented at http://db.jsrt.or.jp/eng.php; masks "
    "(fold1 and fold2/masks/<left lung, right lung>/<name>.gif) documented in the read-me file of the SCR archive",
    remedy="unpack All247images.zip (JPCLN*.IMG, JPCNN*.IMG) and, in the same folder, the SCR archive (fold1, fold2)",
    images=(247,),
    labels={"nodule": 154, "normal": 93},
    masks=247,
)


def read(folder: Path) -> list[Item]:
    """JPCLN<number>.IMG with a nodule, JPCNN<number>.IMG without."""
    films = find(folder, "JPC[LN]N*.[Ii][Mm][Gg]")
    left, right = find(folder, "left lung/JPC*.gif"), find(folder, "right lung/JPC*.gif")
    return [
        Item(
            name=name,
            image=file,
            label="nodule" if name.startswith("JPCLN") else "normal",
            patient=name,
            masks=(left[name], right[name]) if name in left and name in right else (),
        )
        for name, file in films.items()
    ]
