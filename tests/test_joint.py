"""The joint report: the claim from known tables, the way from a number to its line, states of runs, the command."""

import re
import shutil
from pathlib import Path

import fabricated
import numpy as np
import pandas as pd
import pytest
from test_report import EVIL, Page

from isnetlib import beside_claims, claims, findings, joint, names, rebuild, study, tables, wording
from isnetlib.__main__ import main
from isnetlib.comparison_figures import claim_figure

RIGHT = {"standard": (0.99, 0.2), "pipeline": (0.95, 0.95), "isnet_selective": (0.96, 0.95), EVIL: (0.9, 0.3)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """`full`: digits and simulated faces with two rivals of five; `ablations`: none of them."""
    place, common = tmp_path_factory.mktemp("results"), {"seeds": (0, 1), "cases": 40, "classes": ["a", "b"]}
    fabricated.study(place, "full", "digits", RIGHT, test_sets=("biased", "deceiving"), **common)
    one = {method: (right[1],) for method, right in RIGHT.items()}
    fabricated.study(place, "full", "tuberculosis_sim", one, test_sets=("external",), **common)
    ablated = {"isnet_selective": (0.9,), "isnet_selective_no_zb": (0.5,)}
    fabricated.study(place, "ablations", "digits", ablated, test_sets=("deceiving",), **common)
    for name in ("full", "ablations"):
        tables.write(place / name)
    (place / "full" / "report.html").write_text("")
    return place


@pytest.fixture(scope="module")
def states(results):
    """Every run done but one, and two that are missing."""
    runs = [
        tables.read(results / name)["runs"][["study", "experiment", "method", "seed"]] for name in ("full", "ablations")
    ]
    frame = pd.concat(runs, ignore_index=True).assign(state="done", reason="")
    frame.loc[0, ["state", "reason"]] = ["stale", "the sources <changed>"]
    more = [("full", "faces", method, 0, "missing", "") for method in ("isnet_selective", "standard")]
    return pd.concat([frame, pd.DataFrame(more, columns=list(frame))], ignore_index=True)


@pytest.fixture(scope="module")
def page(results, states):
    return Page(joint.write(results, states).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(results):
    return claims.claim({name: tables.read(results / name) for name in ("full", "ablations")})


# ---- the claim ----


def test_the_claim_has_a_row_a_rival_where_the_background_misleads_and_nothing_else(rows):
    keys = rows[["study", "experiment", "test_set"]].drop_duplicates().to_numpy().tolist()
    assert keys == [["full", "digits", "deceiving"], ["full", "tuberculosis_sim", "external"]]
    assert set(rows["b"]) == set(names.RIVALS) and len(rows) == 2 * len(names.RIVALS)
    assert set(rows.loc[rows["verdict"] == claims.NOT_RUN, "b"]) == {"multitask", "attention_gate", "gain_ext"}
    assert rows.groupby("experiment")["kind"].first().to_dict() == {
        "digits": "real, bias planted",
        "tuberculosis_sim": "simulated",
    }


def test_every_row_of_the_claim_is_the_line_that_it_names(results, rows):
    lines = (results / "full" / "tables" / "comparisons.csv").read_text(encoding="utf-8").splitlines()
    for row in claims.made(rows).itertuples():
        cells = dict(zip(lines[0].split(","), lines[int(row.line) - 1].split(","), strict=True))
        assert (cells["experiment"], cells["test_set"], cells["b"]) == (row.experiment, row.test_set, row.b)
        assert float(cells["difference"]) == row.difference and float(cells["p_holm"]) == row.p_holm
        assert cells["test"] in findings.MAIN_TESTS and cells["primary"] == "True"


def table(**verdicts):
    """Rows of the claim with given verdicts."""
    found = [
        {"study": "full", "experiment": "covid", "test_set": "external", "kind": "real", "b": b, "verdict": verdict,
         "difference": -0.01, "detectable": 0.05}
        for b, verdict in verdicts.items()
    ]  # fmt: skip
    return pd.DataFrame(found).reindex(columns=claims.COLUMNS)


def test_sentences_count_what_the_table_says():
    told = list(claims.claim_sentences(table(standard="ahead", pipeline=findings.NOT_SHOWN, multitask="behind",
                                             gain_ext=claims.NOT_RUN)))  # fmt: skip
    assert told[0].startswith("Of 3 planned comparisons")
    assert "ISNet selective is ahead in 1, behind in 1, and in 1 no difference is shown" in told[0]
    assert ", all on real images:" in told[0]
    assert told[1].startswith(
        "By rival: Standard classifier ahead in 1, behind in 0 of 1; U-Net + classifier ahead in 0, "
    )
    assert told[2] == "ISNet selective is behind on covid external (Multi-task U-Net)."
    assert told[3].startswith("Where no difference is shown, the smallest detectable difference is 0.050:")
    assert told[4].startswith("1 more are planned") and len(told) == 5
    assert len(list(claims.claim_sentences(table(standard="ahead")))) == 2
    assert list(claims.claim_sentences(table(standard=claims.NOT_RUN))) == [
        "No planned comparison with ISNet selective was made yet."
    ]


def test_digits_are_not_called_real_images_and_kinds_are_told_apart():
    several = pd.concat([table(standard="ahead"), table(standard="behind").assign(experiment="digits")])
    told = list(claims.claim_sentences(several))
    assert "all on" not in told[0]
    assert told[1] == (
        "By kind of images: on real images ahead in 1, behind in 0 of 1; on handwritten digits with a planted mark "
        "ahead in 0, behind in 1 of 1."
    )
    same = pd.concat([table(standard="ahead"), table(standard="behind").assign(experiment="faces"), several])
    told = list(claims.claim_sentences(same))[1]
    assert "on real images ahead in 2, behind in 1 of 3 (" in told and "faces ahead in 0, behind in 1 of 1)" in told


def comparisons(*rows):
    """comparisons.csv with (test set, b, difference, p, p of equivalence, whether planned)."""
    frame = pd.DataFrame(rows, columns=["test_set", "b", "difference", "p", "p_equivalent", "family"])
    frame = frame.assign(experiment="digits", metric="accuracy", primary=True, test="two-level t", margin=0.02)
    frame = frame.assign(seeds_a=5, seeds_b=5)
    return frame.assign(p_holm=frame["p"], family=frame["family"].map({True: "planned", False: np.nan}))


def test_planned_comparisons_at_home_are_told_with_whom_the_method_is_behind():
    rows = [("biased", "standard", -0.03, 0.001, 0.9, True), ("unbiased", "standard", 0.3, 0.001, 0.9, True)]
    rows += [("biased", "pipeline", 0.0, 0.5, 0.9, True), ("biased", "gain", -0.5, 0.001, 0.9, False)]
    rows += [("deceiving", "standard", 0.3, 0.001, 0.9, True)]
    told = list(beside_claims.home_sentences({"full": {"comparisons": comparisons(*rows)}}))
    assert told == [
        "On the other test sets (biased, unbiased), which are no part of the claim: of 3 more planned comparisons "
        "ISNet selective is ahead in 1, behind in 1, and in 1 no difference is shown.",
        "Of these, ISNet selective is behind on digits biased (Standard classifier).",
    ]
    more = [(name, rival, -0.1, 0.001, 0.9, True) for name in ("internal", "random") for rival in names.RIVALS]
    (_, told) = beside_claims.home_sentences({"full": {"comparisons": comparisons(*rows, *more)}})
    assert told.endswith("on digits biased (Standard classifier); digits internal, digits random mark (all five).")
    assert list(beside_claims.home_sentences({"full": {"comparisons": comparisons(*rows[-1:])}})) == []


def test_who_reads_the_mark_in_reverse_is_told():
    def seeds(method, **means):
        frame = pd.DataFrame(means.items(), columns=["test_set", "mean"])
        frame = frame.assign(experiment="digits", method=method, metric="auc", primary=True, selection="swapped")
        return frame.assign(n=1, unit="seeds", sd=0.25)

    rows = [seeds("gain", biased=0.01, deceiving=0.99, gap=-0.98), seeds("rrr", biased=0.8, deceiving=0.85, gap=-0.05)]
    (told,) = beside_claims.reverse_sentences({"full": {"seeds": pd.concat(rows)}})
    assert told == (
        "On digits (full), GAIN reads the background in reverse (AUC 0.010 on biased and 0.990 on deceiving cases), "
        "which is no resistance."
    )
    (told,) = beside_claims.reverse_sentences({"full": {"seeds": pd.concat(rows).assign(n=3)}})
    assert "on deceiving cases; standard deviation over 3 trainings 0.250, so not all of them do), which" in told
    (told,) = beside_claims.reverse_sentences({"full": {"seeds": pd.concat(rows).assign(n=3, sd=0.01)}})
    assert "standard deviation over 3 trainings 0.010), which" in told
    films = pd.concat([seeds("gain", internal=0.0, deceiving=1.0), seeds("rrr", internal=0.8, deceiving=0.85)])
    (told,) = beside_claims.reverse_sentences({"full": {"seeds": films}})
    assert "GAIN reads the background in reverse (AUC 0.000 on internal and 1.000 on deceiving cases)" in told


def test_methods_outside_the_five_that_match_or_are_ahead_are_told():
    rows = [("deceiving", "rrr", 0.001, 0.5, 0.001, False), ("deceiving", "background_random", 0.0, 0.9, 0.01, False)]
    rows += [("deceiving", "gain", 0.3, 0.001, 0.9, False), ("deceiving", "grad_input", -0.05, 0.001, 0.9, False)]
    rows += [("deceiving", name, 0.0, 0.9, 0.001, False) for name in ("isnet_original", "pipeline")]
    rows += [("biased", "vit", -0.1, 0.001, 0.9, False)]
    gaps = pd.DataFrame({"experiment": "digits", "test_set": "gap", "primary": True, "method": ["rrr"], "mean": [0.0]})
    told = list(beside_claims.outside_sentences({"full": {"comparisons": comparisons(*rows), "seeds": gaps}}))
    head = "Methods outside the five (not planned, p not adjusted for their number)"
    assert told == [
        f"{head} ahead of ISNet selective: digits deceiving (ISNet on gradient x input).",
        f"{head} matching ISNet selective to within 0.02: digits deceiving (Right for the right reasons, "
        "Random backgrounds).",
    ]
    assert list(beside_claims.outside_sentences({"full": {"comparisons": comparisons(*rows[4:]), "seeds": gaps}})) == []
    gaps["mean"] = -0.5  # who reads the mark in reverse is no match
    (_, told) = beside_claims.outside_sentences({"full": {"comparisons": comparisons(*rows), "seeds": gaps}})
    assert told.endswith("digits deceiving (Random backgrounds).")
    one = comparisons(*rows).assign(seeds_b=1)
    (told, _) = beside_claims.outside_sentences({"full": {"comparisons": one, "seeds": gaps}})
    assert told.endswith("(ISNet on gradient x input (one training)).")


def test_single_trainings_and_missing_external_tests_are_told(rows):
    own = claims.made(rows)
    none = "No test set of a new source is among them"
    told = " ".join(claims.claim_sentences(own.assign(test=findings.OVER_CASES, test_set="deceiving")))
    assert f"{len(own)} of the {len(own)} have intervals over cases alone" in told and none in told
    told = list(claims.claim_sentences(own.assign(test_set="external", test="two-level t")))
    assert not any("over cases alone" in sentence or none in sentence for sentence in told)


def test_an_experiment_that_shows_a_limit_is_no_part_of_the_claim(results):
    frames = tables.read(results / "full")
    limit = frames["comparisons"].replace({"experiment": {"digits": "faces_outside"}})
    rows = claims.claim({"full": frames | {"comparisons": limit}})
    assert set(rows["experiment"]) == {"tuberculosis_sim"}
    planned = pd.DataFrame({"study": "full", "experiment": "faces_outside", "method": ["isnet_selective", "standard"]})
    assert claims.absent(rows, planned) == []


def test_what_is_planned_and_not_there_is_named(rows, states):
    assert claims.absent(rows, states) == [("full", "faces")]


def test_the_figure_draws_the_comparisons_that_were_made(rows):
    figure = claim_figure(rows)
    ax = figure.axes[0]
    points = sorted(line.get_xdata()[0] for line in ax.lines if len(np.atleast_1d(line.get_xdata())) == 1)
    assert points == pytest.approx(sorted(claims.made(rows)["difference"]))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [
        "digits, deceiving\n(real, bias planted; accuracy)",
        "tuberculosis_sim, external\n(simulated; AUC)",
    ]
    assert f"of {len(points)} planned" in figure.get_suptitle()
    with pytest.raises(ValueError, match="nothing to draw"):
        claim_figure(rows[rows["verdict"] == claims.NOT_RUN])


# ---- the page ----


def test_the_page_shows_every_comparison_with_its_verdict(page, rows):
    for row in claims.made(rows).itertuples():
        numbers = f"{findings.signed(row.difference)} {findings.span(row.low, row.high)} {findings.p_value(row.p_holm)}"
        assert f"{numbers} {findings.number(row.detectable)} {row.words} {row.line:.0f}" in page.text
    assert page.text.count("not compared: not run") == 6
    assert "Planned, but without a comparison so far: faces (full)." in page.text
    assert "No results yet" not in page.text


def test_a_rival_that_does_as_well_is_told_with_its_reason(page):
    assert re.search(r"U-Net \+ classifier (has a higher mean than|comes within 0.01 of) ISNet selective", page.text)
    assert wording.WHY["pipeline"] in page.text and wording.WHY["standard"] not in page.text


def test_the_state_of_the_runs_is_that_of_the_files(page):
    assert "full digits 4 8 7 1 0 0 8" in page.text  # methods, planned, done, stale, ..., in tables
    assert "full faces 2 2 0 0 0 2 0" in page.text
    assert "Stale: 1 because the sources <changed>." in page.text


def test_the_page_is_the_same_twice_and_links_to_files_that_are_there(results, states, page):
    before = (results / "report.html").read_bytes(), (results / "figures" / "claim.png").read_bytes()
    joint.write(results, states)
    assert before == ((results / "report.html").read_bytes(), (results / "figures" / "claim.png").read_bytes())
    links = [a["href"] for a in page.all("a")]
    inner = {link for link in links if link.startswith("#")}
    assert inner == {f"#{section['id']}" for section in page.all("section")} and len(inner) == len(joint.CONTENTS)
    files = {link for link in links if not link.startswith(("#", "http"))}
    assert "full/report.html" in files and "ablations/report.html" not in files
    own = Path(__file__).parents[1] / "results"  # the project's: from there notebooks are seen
    assert all(((own if link.startswith("../") else results) / link).exists() for link in files), files


def test_names_are_escaped_and_the_page_needs_no_other_file(results, page):
    text = (results / "report.html").read_text(encoding="utf-8")
    assert EVIL in page.text and "<script" not in text
    assert [image["src"][:22] for image in page.all("img")] == ["data:image/png;base64,"]
    assert not page.all("link") and "url(" not in text and "prefers-color-scheme: dark" in text


def test_the_tour_leads_to_the_lines_of_one_number(results, rows):
    tour = joint.tour({"full": tables.read(results / "full")}, rows)
    seeds = pd.read_csv(results / "full" / "tables" / "seeds.csv")
    means = {method: seeds.loc[lines[0] - 2, "mean"] for method, lines in tour["seeds"]}
    assert means["isnet_selective"] - means[tour["b"]] == pytest.approx(tour["difference"], abs=2e-6)
    metrics = pd.read_csv(results / "full" / "tables" / "metrics.csv")
    for method, lines in tour["metrics"]:
        own = metrics.loc[[line - 2 for line in lines]]
        assert own["value"].mean() == pytest.approx(means[method], abs=2e-6) and set(own["method"]) == {method}
    assert len(tour["folders"]) == 4 and all((results / "full" / folder).is_dir() for folder in tour["folders"])
    assert tour["run"] == "digits/isnet_selective/seed0"


def test_where_nothing_was_compared_the_page_says_so(results, states, tmp_path):
    shutil.copytree(results / "ablations" / "tables", tmp_path / "ablations" / "tables")
    text = Page(joint.write(tmp_path, states[states["study"] == "ablations"]).read_text(encoding="utf-8")).text
    assert "No planned comparison with ISNet selective was made yet." in text and "ISNet selective, no z^B" in text
    assert "Figure claim is not there; isnet report makes it." in text
    with pytest.raises(FileNotFoundError, match="no study has tables; make them by: isnet report"):
        joint.write(tmp_path / "none", states)


# ---- the command ----

STUDIES = """
experiments: {digits: {data: {}, train: {}}}
methods: {standard: {}, isnet_selective: {}}
studies:
  quick: {budget_minutes: 1, runs: {digits: {methods: [standard], seeds: [0]}}}
  full:
    budget_minutes: 1
    runs: {digits: {methods: [standard, isnet_selective], seeds: [0]}}
    notebooks: {30_heatmaps: {}, 40_compare: {}, 60_cost: {}, 50_report: {}}
  ablations:
    budget_minutes: 1
    runs: {digits: {methods: [isnet_selective], seeds: [0, 1, 2]}}
    notebooks: {40_compare: {}, 50_report: {}}
  backbones: {budget_minutes: 1, runs: {digits: {methods: [standard], seeds: [0]}}}
"""


@pytest.fixture
def place(results, tmp_path, monkeypatch):
    """Options of the command; the notebooks that make a study's tables are replaced by a note of their study."""
    notebooks, real = tmp_path / "notebooks", Path(__file__).parents[1] / "notebooks"
    notebooks.mkdir()
    (notebooks / "study.yaml").write_text(STUDIES)
    for name in ("10_train", "20_external_test", "30_heatmaps", "40_compare", "50_report", "60_cost"):
        shutil.copy(real / f"{name}.ipynb", notebooks)
    copied = shutil.copytree(results, tmp_path / "results", ignore=shutil.ignore_patterns("report.html"))
    for folder in copied.glob("*/runs/*/*/seed*"):
        (folder / "manifest.json").write_text('{"parameters": {}, "made_by": "", "data": {}}')
    asked = []
    monkeypatch.setattr(rebuild, "execute_own", lambda name, study, *rest: asked.append((study, name)) or [])
    return ["--notebooks", str(notebooks), "--results", str(copied)], copied, asked


def test_without_a_study_the_command_makes_every_report_and_then_the_joint_one(place, capsys):
    options, results, asked = place
    assert main(["report", *options]) == 0
    made = [("ablations", "40_compare"), ("ablations", "50_report"), ("full", "30_heatmaps"), ("full", "40_compare")]
    assert sorted(asked) == [*made, ("full", "50_report")]  # quick is not published, backbones has no run
    printed = capsys.readouterr().out
    assert f"{results / 'report.html'}" in printed and "note: of the 2 runs of study full 2 stale" in printed
    text = Page((results / "report.html").read_text(encoding="utf-8")).text
    assert (
        "backbones digits 1 1 0 0 0 1 0" in text and "No report yet." in text and "No results yet: backbones." in text
    )
    assert "quick" not in re.sub(r"isnet run --study quick", "", text)


def test_what_takes_longest_comes_first_and_a_report_after_its_parts(place, monkeypatch):
    options, results, asked = place
    shutil.rmtree(results / "full" / "runs" / "digits" / "standard")
    monkeypatch.setattr(rebuild, "cores", lambda: 1)
    assert main(["report", *options]) == 0
    assert asked == [
        ("ablations", "40_compare"),  # two runs, of full one
        ("full", "40_compare"),
        ("full", "30_heatmaps"),
        ("ablations", "50_report"),
        ("full", "50_report"),
    ]


def test_one_study_alone_leaves_the_joint_report(place):
    options, results, asked = place
    assert main(["report", "--study", "ablations", *options]) == 0
    assert asked == [("ablations", "40_compare"), ("ablations", "50_report")] and not (results / "report.html").exists()


def test_where_a_study_fails_the_joint_report_is_not_made(place, monkeypatch, capsys):
    options, results, asked = place
    fails = lambda name, study, *rest: asked.append((study, name)) or ["40_compare: no"] * (study == "full")  # noqa: E731
    monkeypatch.setattr(rebuild, "execute_own", fails)
    assert main(["report", *options]) == 1
    printed = capsys.readouterr().out
    assert "FAILED 40_compare: no" in printed and "report.html is not made" in printed
    assert ("ablations", "50_report") in asked and ("full", "50_report") not in asked
    assert not (results / "report.html").exists()


def test_without_any_run_the_command_says_so_in_one_line(place, capsys):
    options, results, _ = place
    shutil.rmtree(results)
    assert main(["report", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("isnet: none of the published studies (full, ablations, backbones) has a finished run")
    assert error.count("\n") == 1


def test_studies_that_are_not_published_are_those_that_git_ignores():
    lines = (Path(__file__).parents[1] / ".gitignore").read_text().splitlines()
    ignored = {line.split("/")[1] for line in lines if re.fullmatch(r"results/\w+/", line)}
    assert ignored == {"quick", "smoke"} < set(names.LOCAL_STUDIES)
    known = study.read_studies(Path(__file__).parents[1] / "notebooks")["studies"]
    assert set(known) == set(names.STUDY_SENTENCES)  # each is explained in the report


def test_the_one_label_that_the_background_tells_is_told_by_itself():
    rows = pd.DataFrame({"method": ["isnet_selective", "standard", "standard"], "value": [0.5, 0.0, 0.9]})
    rows = rows.assign(experiment="faces_planted", test_set="deceiving", metric="auc", label="Mouth_Open")
    rows.loc[2, "label"] = "Eyeglasses"
    (told,) = beside_claims.label_sentences({"real": {"labels": rows}, "full": {}})
    assert told == (
        "The background of faces_planted tells one label of several, Mouth_Open. By its AUC on deceiving cases wholly "
        "misled (below 0.05): Standard classifier; not wholly (0.5 is guessing; means over trainings or folds, of "
        "which some may be misled and others have learnt little): ISNet selective 0.500."
    )
    (told,) = beside_claims.label_sentences({"real": {"labels": rows.assign(value=0.0)}})
    assert "Standard classifier and ISNet selective. Where two are wholly misled, their mean AUCs differ" in told
    assert list(beside_claims.label_sentences({"real": {"labels": rows[1:]}})) == []
