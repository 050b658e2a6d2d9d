"""Montgomery County chest X-rays: tuberculosis screening, with lung masks drawn on every film."""

import re
from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, find

CARD = Card(
    title="Montgomery County X-ray set",
    origin="Montgomery County, Maryland, USA; National Library of Medicine, https://data.lhncbc.nlm.nih.gov/public/"
    "Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set/MontgomerySet/index.html",
    licence="free for research; the publisher asks for the citation",
    citation="Jaeger et al., Quant. Imaging Med. Surg. 4(6), 2014; Candemir et al., IEEE TMI 33, 2014",
    patient="one film a patient, named by the file",
    layout="documented in the read-me file of the archive (NLM-MontgomeryCXRSet-ReadMe.pdf)",
    remedy="unpack NLM-MontgomeryCXRSet.zip: MontgomerySet/{CXR_png,ManualMask/leftMask,ManualMask/rightMask}",
    images=(138,),
    labels={"normal": 80, "tuberculosis": 58},
    masks=138,
)


def read(folder: Path) -> list[Item]:
    """MontgomerySet/CXR_png/MCUCXR_<number>_<0 normal, 1 tuberculosis>.png and a mask for each lung."""
    films, readings = find(folder, "CXR_png/MCUCXR_*.png"), find(folder, "ClinicalReadings/MCUCXR_*.txt")
    left, right = find(folder, "leftMask/MCUCXR_*.png"), find(folder, "rightMask/MCUCXR_*.png")
    return [
        Item(
            name=name,
            image=file,
            label="tuberculosis" if name.endswith("_1") else "normal",
            patient=name.rpartition("_")[0],
            masks=(left[name], right[name]) if name in left and name in right else (),
            meta=clinical(Path(folder) / readings[name]) if name in readings else {},
        )
        for name, file in films.items()
    ]


def clinical(path: Path) -> dict[str, str]:
    """Sex (M, F) and age in years from a reading of Montgomery ("Sex: F", "Age: 027Y") or Shenzhen ("male 45yrs")."""
    text = path.read_text(encoding="utf-8", errors="replace").lower()
    sex = re.search(r"\b(female|male|f|m)\b", text)
    age = re.search(r"\b(\d+) *y", text)
    return {"sex": sex[1][0].upper() if sex else "", "age": str(int(age[1])) if age else ""}
