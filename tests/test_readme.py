"""README.md says what results/full says, and nothing else."""

import re
from pathlib import Path

import fabricated

from isnetlib import readme, tables

ROOT = Path(__file__).parents[1]


def test_the_generated_parts_are_those_of_the_published_study():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    studies = readme.published(ROOT / "results")
    assert text == readme.update(text, "results/full", tables.read(ROOT / "results" / "full"), studies)
    assert "| Standard classifier |" in text and "| ISNet selective |" in text


def test_every_figure_and_file_that_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    files = [link for link in links if not link.startswith("#")]
    assert files and all((ROOT / link).exists() for link in files), files
    heads = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert {link[1:] for link in links if link.startswith("#")} <= heads


def test_readme_names_the_two_commands_of_the_makefile():
    text, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    for target in ("study", "test", "lab", "report", "clean"):
        assert f"make {target}" in text and re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_conclusion_is_that_of_all_published_studies(tmp_path):
    right = {"standard": (0.2,), "isnet_selective": (0.9,)}
    for name in ("full", "quick"):
        study = fabricated.study(tmp_path, name, right=right, seeds=(0, 1), cases=30, test_sets=("deceiving",))
        tables.write(study)
    studies = readme.published(tmp_path)
    assert list(studies) == ["full"]  # the quick one is everyone's own
    told = readme.conclusion(studies)
    assert told.startswith("- Of 1 planned comparisons") and "4 more are planned" in told
    link = readme.figure_links("results/full", studies["full"]["seeds"], studies)
    assert link.startswith("![ISNet selective: ahead in ") and link.endswith("](results/figures/claim.png)")
    assert readme.figure_links("results/full", studies["full"]["seeds"], {}).endswith("figures/scores_digits.png)")
    text = "<!-- generated: conclusion -->\nold\n<!-- end: conclusion -->"
    assert readme.fill(text, "conclusion", told).splitlines()[1:-1] == told.splitlines()
    assert readme.linked("a/x.csv", "a/y.csv").endswith("Numbers: [x.csv](a/x.csv), [y.csv](a/y.csv)")
    assert readme.linked("a/x.csv", "b/x.csv").endswith("Numbers: [a/x.csv](a/x.csv), [b/x.csv](b/x.csv)")


def test_where_cases_are_tested_by_folds_the_interval_is_over_cases(tmp_path):
    frames = tables.write(fabricated.by_folds(tmp_path, {"isnet_selective": (0, 1)}, cases=60, test_sets=("internal",)))
    table = readme.readme_table(frames["seeds"])
    assert table.startswith("faces (real): AUC, over all folds [95 % interval over cases]")
    row = frames["seeds"].query("metric == 'auc'").iloc[0]
    assert f"| 2 | {row['mean']:.3f} [{row['cases_low']:.3f}, {row['cases_high']:.3f}] |" in table
