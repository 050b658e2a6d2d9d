"""README.md says what results/full says, and nothing else."""

import re
from pathlib import Path

from isnetlib import readme, tables

ROOT = Path(__file__).parents[1]


def test_the_generated_parts_are_those_of_the_published_study():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme.update(text, "results/full", tables.read(ROOT / "results" / "full"))
    assert "| Standard classifier |" in text and "| ISNet selective |" in text


def test_every_figure_and_file_that_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links and all((ROOT / link).exists() for link in links), links


def test_readme_names_the_two_commands_of_the_makefile():
    text, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    for target in ("study", "test", "lab", "report", "clean"):
        assert f"make {target}" in text and re.search(rf"^{target}:", makefile, re.MULTILINE)
