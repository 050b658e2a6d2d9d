"""README.md says what results/full says, and nothing else."""

import re
from pathlib import Path

import fabricated
import pandas as pd

from isnetlib import claims, findings, frozen, names, readme, stats, tables

ROOT = Path(__file__).parents[1]
SHARES = ("background_share", "chance_share")


def test_the_generated_parts_are_those_of_the_published_study():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme.update(text, "results/full", readme.published(ROOT / "results"))
    assert "| ISNet selective | Standard classifier |" in text and "| digits, deceiving |" in text


def test_every_figure_and_file_that_readme_names_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    files = [link for link in links if not link.startswith("#")]
    pages = [link.partition("#")[::2] for link in files]
    assert files and all((ROOT / page).exists() for page, _ in pages), files
    parts = [(page, part) for page, part in pages if part]
    assert all(f'id="{part}"' in (ROOT / page).read_text(encoding="utf-8") for page, part in parts), parts
    heads = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    assert {link[1:] for link in links if link.startswith("#")} <= heads


def test_who_is_misled_on_faces_and_by_which_path_is_what_the_files_show():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "of *faces_planted* four of five trainings are wholly misled, of *faces_sim* two of three" in text
    for study, experiment, misled in (("real", "faces_planted", 4), ("full", "faces_sim", 2)):
        runs, label = (
            ROOT / "results" / study / "runs" / experiment / "isnet_selective",
            names.PLANTED_LABEL[experiment],
        )
        areas = {
            name: [
                stats.auc(frame[f"y_{label}"].to_numpy(), frame[[f"p_{label}"]].to_numpy() * [-1, 1])
                for frame in map(pd.read_csv, sorted(runs.glob(f"*/predictions/{name}.csv")))
            ]
            for name in ("biased", "deceiving")
        }
        wholly = [area < 0.05 for area in areas["deceiving"]]
        assert sum(wholly) == misled == len(wholly) - 1
        assert areas["biased"][wholly.index(False)] < 0.61  # hardly learnt
    shares = pd.concat(frames["seeds"] for frames in readme.published(ROOT / "results").values())
    shares = shares.query("test_set == 'deceiving' and method == 'isnet_selective'").set_index(["experiment", "metric"])
    near, area = ([f"{100 * shares['mean'][e, m]:.0f} %" for e in ("faces_planted", "faces_sim")] for m in SHARES)
    told = f"{' and '.join(near)}, where the background has {' and '.join(area)} of the area"
    assert told in " ".join(text.split())
    mean = constants_means().xs("isnet_selective", level="method").loc[["faces_planted", "faces_sim"]]
    assert "pixels' part of ISNet's loss is negative on balance" in text
    assert (mean["pixels_inside"] + mean["pixels_outside"] < 0).all()
    assert 0 < mean.loc["faces_planted", "pixels_outside"] < 0.2 * mean.loc["faces_planted", "change"]
    assert (mean["constants_inside"] + mean["constants_outside"] > mean["change"]).all()


def constants_means():
    frames = readme.published(ROOT / "results").values()
    rows = pd.concat(frame["constants"] for frame in frames if "constants" in frame)
    return rows.drop(columns=["study", "from", "to", "label"]).groupby(["method", "experiment"]).mean()


def test_where_isnet_withstands_the_background_is_what_the_tables_show():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    mean = constants_means()
    standard, own = mean.loc["standard"], mean.loc["isnet_selective"]["change"]
    share = (100 * standard["pixels_outside"] / standard["change"]).round().astype(int)
    assert f"where {share['tuberculosis_planted']} % of the standard classifier's loss" in text and len(share) == 6
    assert f"On *covid_sim* ({share['covid_sim']} %) it is partly misled" in text and own["covid_sim"] > 1
    films = ("tuberculosis_sim", "tuberculosis_augmented_sim")
    assert "; on {} and {}".format(*(f"*{name}* ({share[name]} %)" for name in films)) in text
    assert f"on the faces ({share['faces_planted']} % and {share['faces_sim']} %) it is misled" in text
    assert (own[[*films, "tuberculosis_planted"]].abs() < 0.1).all()
    assert (own[["faces_planted", "faces_sim"]] > 3).all()


def test_what_is_confirmatory_is_what_the_files_show():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    rows = claims.claim(readme.published(ROOT / "results"))
    changed = set(frozen.changed(ROOT / "results" / "real", names.PRIMARY_METHOD))
    assert changed == {"tuberculosis", "covid", "faces", "faces_planted", "faces_outside"}
    late = rows["experiment"] == "tuberculosis_augmented_sim"
    rest = rows[~rows["experiment"].isin(changed) & ~late]
    counts = rest["verdict"].value_counts()
    told = f"Of the other {len(rest)} ISNet selective is ahead in {counts['ahead']}, behind in {counts['behind']}"
    assert f"{rows['experiment'].isin(changed).sum()} of the {len(rows)} comparisons" in text and told in text
    assert f"{late.sum()} more, *tuberculosis_augmented_sim*" in text
    page = (ROOT / "results" / "report.html").read_text(encoding="utf-8")
    assert "no file records for covid_sim, digits, faces_sim, tuberculosis_sim" in page
    assert "tuberculosis_augmented_sim was added because of earlier results" in page


def test_in_short_is_what_the_tables_show():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    studies = readme.published(ROOT / "results")
    rows = claims.claim(studies)
    ahead = rows[rows["verdict"] == "ahead"]
    at = {name: set(own["b"]) for name, own in ahead[ahead["test_set"] == "deceiving"].groupby("experiment")}
    assert "loses it. On simulated chest films it is misled less than its rivals, U-Net + classifier apart" in text
    assert all("standard" in at[name] for name in ("digits", "tuberculosis_planted"))
    films = ("tuberculosis_sim", "tuberculosis_augmented_sim", "covid_sim")
    assert all(at[name] == set(names.RIVALS) - {"pipeline"} for name in films)
    means = studies["full"]["seeds"].query("primary and test_set in ('hospital_c', 'hospital_d', 'external')")
    means = means.pivot_table(index=["experiment", "test_set"], columns="method", values="mean")
    everywhere = studies["full"]["seeds"].query(f"primary and test_set != 'gap' and experiment in {films}")
    everywhere = everywhere.pivot_table(index=["experiment", "test_set"], columns="method", values="mean")
    assert (everywhere["isnet_selective"] < everywhere["pipeline"]).all() and "below that one's everywhere" in text
    assert len(everywhere) == 11
    assert "of augmented films it learns next to nothing" in text
    assert means.loc["tuberculosis_augmented_sim", "isnet_selective"].max() < 0.55
    gaps = pd.concat(frames["seeds"] for frames in studies.values()).query(
        "primary and test_set == 'gap' and method == 'isnet_selective'"
    )
    kept = gaps[gaps["experiment"].isin(["digits", "tuberculosis_planted"])]
    assert "ISNet keeps its performance" in text and (kept["mean"].abs() < 0.02).all() and len(kept) >= 2
    assert (
        "pattern it does not help, on faces as they are no gain is shown" in text
        and not ahead["experiment"].str.startswith("faces").any()
    )
    assert "ahead of no rival" in text and "real" not in set(ahead["kind"])
    assert "behind it nowhere" in text and "pipeline" not in set(ahead["b"])
    tests = pd.concat(frames["comparisons"] for frames in studies.values()).query("b == 'background_random'")
    tests = pd.concat(findings.main_comparisons(tests, name) for name in set(tests["experiment"]))
    tests = tests[tests["experiment"].map(names.data_kind) != "real"]
    assert "where a bias is planted or simulated, are random backgrounds" in text
    assert len(tests) >= 15 and "ahead" not in set(tests.apply(findings.verdict, axis=1))
    cost = studies["full"]["cost"].query("variant == 'pipeline'")["ratio_to_plain_inference"].dropna()
    assert "takes longer to predict" in text and (cost > 1).all()


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
    link = readme.figure_link(Path("results"), studies)
    assert link.startswith("![ISNet selective: ahead in ") and link.endswith("](results/figures/claim.png)")
    assert readme.figure_link(Path("results"), {}) == ""
    text = "<!-- generated: conclusion -->\nold\n<!-- end: conclusion -->"
    assert readme.fill(text, "conclusion", told).splitlines()[1:-1] == told.splitlines()
    assert readme.linked("a/x.csv", "a/y.csv").endswith("Numbers: [x.csv](a/x.csv), [y.csv](a/y.csv)")
    assert readme.linked("a/x.csv", "b/x.csv").endswith("Numbers: [a/x.csv](a/x.csv), [b/x.csv](b/x.csv)")


def test_the_table_holds_the_means_and_what_the_comparisons_show(tmp_path):
    right = {"standard": (0.2,), "pipeline": (0.9,), "gain_ext": (1.0,), "isnet_selective": (0.9,)}
    study = fabricated.study(tmp_path, "full", right=right, seeds=(0, 1, 2), cases=200, test_sets=("deceiving",))
    frames = tables.write(study)
    means = frames["seeds"].query("metric == 'accuracy'").set_index("method")["mean"]
    verdicts = claims.claim({"full": frames}).set_index("b")["verdict"]
    marks = {"ahead": " \N{WHITE DOWN-POINTING TRIANGLE}", "behind": " \N{BLACK UP-POINTING TRIANGLE}"}
    cells = {name: f"{means[name]:.3f}{marks.get(verdicts.get(name), '')}" for name in right}
    assert verdicts["standard"] == "ahead" and verdicts["gain_ext"] == "behind"
    head, _, line = readme.claim_table({"full": frames}).splitlines()
    found = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert {name: found[names.method_name(name)] for name in ("isnet_selective", "standard", "pipeline")} == {
        name: cells[name] for name in ("isnet_selective", "standard", "pipeline")
    }
    assert line.startswith("| digits, deceiving | real, bias planted | accuracy | 200 | 3 | ")
    assert line.endswith(f"| {cells['pipeline']} |  |  | {cells['gain_ext']} |")
    assert readme.claim_table({}) == ""


def test_cells_cannot_end_early_or_become_html():
    assert readme._line(["a|<b>&", "two\nlines"]) == "| a\\|&lt;b>&amp; | two lines |"
