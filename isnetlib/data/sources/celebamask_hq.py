"""CelebAMask-HQ: faces with human parsing masks; attributes from the parts, and CelebA's where its files are there."""

from pathlib import Path

from isnetlib.data.sources.layout import Card, Item, SourceError, find

CARD = Card(
    title="CelebAMask-HQ",
    origin="https://github.com/switchablenorms/CelebAMask-HQ, from CelebA, https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    licence="research use, non-commercial",
    citation="Lee et al., MaskGAN, CVPR 2020; Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
    patient="CelebA's identity where identity_CelebA.txt and CelebA-HQ-to-CelebA-mapping.txt are there, else unknown: "
    "each image counts as a person",
    layout="documented in the read-me file of the archive and at https://github.com/switchablenorms/CelebAMask-HQ",
    remedy="unpack CelebAMask-HQ.zip: CelebA-HQ-img/, CelebAMask-HQ-mask-anno/{0..14}/",
    images=(30000,),
    masks=30000,
    colour=True,
)
# In the publisher's order of painting: what comes later covers what came before. Value = position, from 1.
PARTS = ("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip")
PARTS += ("hair", "hat", "ear_r", "neck_l", "neck", "cloth")
FACE = tuple(range(1, 13))  # skin to lower lip
SEEN = {  # attributes that follow from the parts an image has
    "Eyeglasses": {"eye_g"},
    "Wearing_Hat": {"hat"},
    "Wearing_Earrings": {"ear_r"},
    "Wearing_Necklace": {"neck_l"},
    "Mouth_Open": {"mouth"},
    "Ears_Visible": {"l_ear", "r_ear"},
}


def read(folder: Path) -> list[Item]:
    """CelebA-HQ-img/<n>.jpg with parts <n, five digits>_<part>.png; CelebA's attributes get the prefix celeba_."""
    images, parts = find(folder, "CelebA-HQ-img/*.jpg"), find(folder, "CelebAMask-HQ-mask-anno/*/*.png")
    celeba = read_mapping(folder)
    attributes, identity = read_attributes(folder, celeba), read_pairs(folder, "identity_CelebA.txt")
    items = []
    for name in sorted((name for name in images if name.isdigit()), key=int):
        files = {part: parts[f"{int(name):05d}_{part}"] for part in PARTS if f"{int(name):05d}_{part}" in parts}
        person = identity.get(celeba.get(name, ""))
        items.append(
            Item(
                name=f"face_{int(name):05d}",
                image=images[name],
                label="",
                patient=f"celeba_{person}" if person else f"face_{int(name):05d}",
                parts=tuple((PARTS.index(part) + 1, file) for part, file in files.items()),
                foreground=FACE,
                meta={key: str(int(bool(of & set(files)))) for key, of in SEEN.items()} | attributes.get(name, {}),
            )
        )
    return items


def read_mapping(folder: Path) -> dict[str, str]:
    """Number in CelebA-HQ -> file name in CelebA; empty if CelebA-HQ-to-CelebA-mapping.txt is not there."""
    lines = _lines(folder, "CelebA-HQ-to-CelebA-mapping.txt")[1:]  # idx orig_idx orig_file
    return {words[0]: words[-1] for words in lines if len(words) == 3}


def read_pairs(folder: Path, name: str) -> dict[str, str]:
    """First -> second word of each line; empty if there is no such file."""
    return {words[0]: words[1] for words in _lines(folder, name) if len(words) == 2}


def read_attributes(folder: Path, celeba: dict[str, str]) -> dict[str, dict[str, str]]:
    """Number in CelebA-HQ -> {celeba_<attribute>: 0 or 1}; CelebAMask-HQ-attribute-anno.txt or list_attr_celeba.txt.

    Both hold a count, the names, and lines of a file name with -1 or 1 for each; the latter needs the mapping.
    """
    for name in ("CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.txt"):
        lines = _lines(folder, name)
        if lines:
            break
    else:
        return {}
    names, rows = lines[1], {words[0]: words[1:] for words in lines[2:]}
    if wrong := [file for file, cells in rows.items() if len(cells) != len(names) or set(cells) - {"1", "-1"}]:
        raise SourceError(f"{name}: {wrong[0]} has other than {len(names)} cells of -1 or 1; download it again")
    files = celeba if name.startswith("list") else {Path(file).stem: file for file in rows}
    return {
        number: {f"celeba_{key}": "1" if cell == "1" else "0" for key, cell in zip(names, rows[file], strict=True)}
        for number, file in files.items()
        if file in rows
    }


def _lines(folder, name):
    """The words of every line of a text file below the folder; [] if there is none."""
    paths = sorted(Path(folder).rglob(name))
    return (
        [words for line in paths[0].read_text(encoding="utf-8").splitlines() if (words := line.split())]
        if paths
        else []
    )
