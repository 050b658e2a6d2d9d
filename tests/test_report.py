"""The report: numbers from the tables, sentences from conditions on them, names escaped, one file alone."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import fabricated
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from isnetlib import (
    architectures,
    comparison_findings,
    cost_figures,
    coverage_findings,
    figures,
    findings,
    frozen,
    names,
    report,
    report_parts,
    search_findings,
    selection_findings,
    tables,
    train,
    wording,
)
from isnetlib.data import digits

ROOT = Path(__file__).parents[1]
EVIL = "<script>alert(1)<"  # "/" cannot be part of a folder's name


def make(results, methods, **options):
    """A fabricated study with tables and figures, as the notebooks leave it."""
    study = fabricated.study(results, right={m: fabricated.RIGHT.get(m, (0.9,) * 4)[::3] for m in methods}, **options)
    tables.write(study)
    for kind in report.FIGURES:  # empty ones: what they show is tested where they are made
        figures.save(Figure(figsize=(2, 1)), study / "figures" / f"{kind}_digits")
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results, options = tmp_path_factory.mktemp("results"), {"cases": 30, "test_sets": ("biased", "deceiving")}
    methods = ("standard", "isnet_original", "isnet_selective", EVIL)
    return make(results, methods, classes=[EVIL, "cat", 'quo"te'], **options)


@pytest.fixture
def copy(study, tmp_path):
    """Tables and figures of the study, to be changed."""
    return shutil.copytree(study, tmp_path / study.name, ignore=shutil.ignore_patterns("runs"))


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def change(study, name, **columns):
    path = study / "tables" / f"{name}.csv"
    pd.read_csv(path, keep_default_na=False).assign(**columns).to_csv(path, index=False)


def test_report_needs_tables_and_figures_alone(study, copy):
    assert report.build(copy) == report.build(study)
    path = report.write(copy)
    assert path.name == "report.html" and path.read_bytes() == report.build(study).encode()


def test_names_are_escaped(study):
    text = report.build(study)
    page = Page(text)
    assert "<script" not in text and not page.all("script")
    assert EVIL in page.text  # as method, and as class
    assert f"{EVIL}: 10" in page.text and 'quo"te: 10' in page.text
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_every_mean_and_interval_is_there(study):
    page, frames = Page(report.build(study)), tables.read(study)
    for _, row in frames["seeds"].query("metric == 'accuracy'").iterrows():
        seeds, cases = findings.span(row["low"], row["high"]), findings.span(row["cases_low"], row["cases_high"])
        assert f"{findings.number(row['mean'])} seeds {seeds} cases {cases}" in page.text
    for _, row in findings.main_comparisons(frames["comparisons"], "digits").iterrows():
        span, p = findings.span(row["low"], row["high"]), findings.p_value(row["p"])
        assert f"{findings.signed(row['difference'])} {span} {p}" in page.text


def test_sentences_turn_with_the_numbers(copy):
    before = Page(report.build(copy)).text
    assert "ISNet selective does better than Standard classifier" in before
    seeds = pd.read_csv(copy / "tables" / "seeds.csv", keep_default_na=False)
    low = (seeds["method"] == "isnet_selective") & (seeds["test_set"] == "deceiving")
    change(copy, "seeds", mean=seeds["mean"].where(~low, 0.2))
    change(copy, "comparisons", difference=-0.3, p=0.001, p_holm=0.001)
    after = Page(report.build(copy)).text
    assert re.search(r"ISNet original \(exploratory\) and .* do better than ISNet selective on deceiving cases", after)
    assert "accuracy on deceiving cases 0.200 (at least 0.95 asked, missed by 0.750)" in after
    assert (
        "Deceiving: ISNet selective is not shown to do better than any other method; ISNet selective does worse"
        in after
    )


@pytest.mark.parametrize(
    ("value", "number", "signed"),
    [
        (0.9725, "0.973", "+0.973"),
        (0.9724999999999999, "0.973", "+0.973"),  # the same number after a mean of floats
        (0.0005, "0.001", "+0.001"),
        (-0.0075, "-0.008", "-0.008"),
        (0.972499, "0.972", "+0.972"),
        (-0.0004, "0.000", "+0.000"),
        (1.0, "1.000", "+1.000"),
        (np.nan, "n/a", "n/a"),
    ],
)
def test_numbers_are_rounded_half_away_from_zero_whatever_floats_do(value, number, signed):
    assert (findings.number(value), findings.signed(value)) == (number, signed)
    assert findings.number(1.005, 2) == "1.01" and findings.number(2.1345, 2) == "2.13"


def test_lists_are_told_apart():
    assert [findings.listed(list(items)) for items in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert findings.listed(["a, b", "c", "d"]) == "a, b; c and d"


@pytest.mark.parametrize(
    ("metric", "difference", "p", "p_holm", "family", "verdict"),
    [
        ("accuracy", 0.1, 0.01, 0.04, "planned", "ahead"),
        ("accuracy", -0.1, 0.01, 0.04, "planned", "behind"),
        ("accuracy", 0.1, 0.01, 0.06, "planned", findings.NOT_SHOWN),  # the adjusted p counts in a family
        ("accuracy", 0.1, 0.01, np.nan, "", "ahead"),  # and the plain one outside
        ("accuracy", 0.1, 0.05, np.nan, np.nan, findings.NOT_SHOWN),
        ("accuracy", 0.1, np.nan, np.nan, "", findings.NOT_SHOWN),
        ("background_share", 0.1, 0.01, 0.04, "planned", "behind"),  # less is better
        ("background_share", -0.1, 0.01, 0.04, "planned", "ahead"),
    ],
)
def test_verdicts(metric, difference, p, p_holm, family, verdict):
    row = {"metric": metric, "difference": difference, "p": p, "p_holm": p_holm, "family": family}
    assert findings.verdict(pd.Series(row)) == verdict


def test_captions_name_the_rivals_that_do_as_well(copy):
    told = "Rivals whose mean comes near that of the primary method, or is higher:"
    assert Page(report.build(copy)).text.count(f"{told} none.") == 2  # of the scores, and of the differences
    seeds = pd.read_csv(copy / "tables" / "seeds.csv", keep_default_na=False)
    at = (seeds["method"] == "standard") & (seeds["test_set"] == "deceiving") & (seeds["metric"] == "accuracy")
    change(copy, "seeds", mean=seeds["mean"].where(~at, 0.999))
    assert Page(report.build(copy)).text.count(f"{told} Standard classifier.") == 2


def test_no_difference_is_not_called_one(copy):
    change(copy, "comparisons", p=0.2, p_holm=0.3)
    text = Page(report.build(copy)).text
    assert "ISNet selective does better" not in text and "no difference is shown to Standard classifier" in text


def test_page_is_self_contained_and_accessible(study):
    text = report.build(study)
    page = Page(text)
    images = page.all("img")
    assert len(images) == 6 and all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(len(image["alt"]) > 20 for image in images)
    assert not page.all("link") and "url(" not in text and "@import" not in text
    outer = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert {"https://arxiv.org/abs/2202.00232", "tables/seeds.csv"} <= set(outer)
    assert [href for href in outer if not (study / href).exists() and not href.startswith(("../", "https://"))] == []
    ids = [section["id"] for section in page.all("section")]
    inner = [a["href"] for a in page.all("a") if a["href"].startswith("#")]
    assert inner[: len(ids)] == [f"#{one}" for one in ids] and set(inner) == {f"#{one}" for one in ids}
    assert page.all("html") == [{"lang": "en"}] and "prefers-color-scheme: dark" in text and "@media print" in text
    boxes = [div for div in page.all("div") if "scroll" in div.get("class", "")]
    assert len(boxes) == len(page.all("table")) + len(images)


def test_real_and_planted_data_are_told_apart(study):
    text = Page(report.build(study)).text
    assert "5,000 real MNIST digits" in text and "planted" in text
    assert "LRP is patented for commercial use in some countries" in text and "MIT" in text


def test_every_method_of_the_studies_has_a_name_and_a_sentence():
    methods = yaml.safe_load((ROOT / "notebooks" / "study.yaml").read_text(encoding="utf-8"))["methods"]
    told = {name: (names.method_name(name), wording.method_sentence(name)) for name in methods}
    assert not [name for name, (shown, sentence) in told.items() if shown == name or "your own" in sentence]
    assert len({shown for shown, _ in told.values()}) == len(methods)
    assert wording.method_sentence("mine") == "a method of your own"
    assert told["standard_se"] == (
        "Standard classifier, squeeze-excitation",
        "Standard classifier on another network: squeeze-excitation",
    )


def test_the_commit_that_fixed_an_experiment_is_named(copy):
    assert "was fixed before" not in Page(report.build(copy)).text
    rows = [
        ("digits", "0123456789abcdef", "2026-01-02T03:04:05+00:00", "aa", "before any run was evaluated"),
        ("digits", "", "", "bb", "changed after 3 evaluated runs: epochs 2 -> 3"),
        ("covid", "fedcba9876543210", "2026-01-02T03:04:05+00:00", "cc", "before any run was evaluated"),
    ]
    pd.DataFrame(rows, columns=frozen.COLUMNS).to_csv(copy / "frozen.csv", index=False)
    text = Page(report.build(copy)).text
    assert "commit 0123456789ab of 2026-01-02, before any run was evaluated." in text
    assert "outside a clone, so in no commit, changed after 3 evaluated runs: epochs 2 -> 3." in text
    assert "fedcba" not in text  # an experiment that is not in the report


def test_missing_figures_and_tables_are_named(copy):
    (copy / "figures" / "curves_digits.png").unlink()
    assert "Figure curves_digits is not there; notebook 40_compare makes it." in Page(report.build(copy)).text
    (copy / "tables" / "seeds.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no seeds; make them by notebook 40_compare"):
        report.build(copy)
    shutil.rmtree(copy / "tables")
    with pytest.raises(FileNotFoundError, match="no tables; make them by: isnet report --study fabricated"):
        report.build(copy)


def test_cost_and_architectures_are_shown_where_measured(copy):
    assert "was not measured" in Page(report.build(copy)).text
    rows = [("isnet_selective", "training", 2.4, np.nan, 950.0), ("isnet_selective", "inference", np.nan, 1.01, np.nan)]
    columns = ["variant", "phase", "ratio_to_plain_step", "ratio_to_plain_inference", "peak_mib"]
    cost = pd.DataFrame(rows, columns=columns).assign(network="resnet18", size=224, batch=8, maps=1, seconds=0.5)
    cost.to_csv(copy / "tables" / "cost.csv", index=False)
    figures.save(cost_figures.cost_figure(cost), copy / "figures" / "cost")
    steps = pd.DataFrame([("isnet_selective", k, 1, 2.5, 1.02) for k in (2, 10, 100)])
    steps.columns = ["variant", "class_count", "maps", "ratio_to_plain_step", "ratio_to_fewest_classes"]
    steps = steps.assign(network="resnet18", size=96, batch=4, seconds=[0.5, 0.52, 0.51])
    steps.to_csv(copy / "tables" / "classes.csv", index=False)
    figures.save(cost_figures.classes_figure(steps), copy / "figures" / "cost_classes")
    rows = [("swin_t<", True, "", 1e-7, 2e-6, 2.5), ("odd", False, "layer: erf", np.nan, np.nan, np.nan)]
    networks = pd.DataFrame(rows, columns=architectures.COLUMNS)
    networks.to_csv(copy / "tables" / "architectures.csv", index=False)
    rows = [("forward", 1.0, ""), ("zennit", np.nan, "RuntimeError: The size of tensor a (32) must match")]
    tools = pd.DataFrame(rows, columns=["tool", "ratio_to_forward", "note"]).assign(network="vgg11", size=224)
    tools.to_csv(copy / "tables" / "explain.csv", index=False)
    page = Page(report.build(copy))
    assert (
        "ISNet selective training 2.40 0.500 950" in page.text and "ISNet selective inference 1.01 0.500" in page.text
    )
    assert "swin_t< yes 1e-07 2e-06 2.50 odd no: layer: erf" in page.text and "True" not in page.text
    assert "vgg11, 224 px zennit fails (RuntimeError)" in page.text and len(page.all("img")) == 8
    assert "ISNet selective 0.500 with 2 classes, 0.510 with 100 (1.02 times as long)." in page.text


def test_a_study_without_isnet_and_with_one_seed_has_a_report(tmp_path):
    options = {"right": {"standard": (0.7,)}, "seeds": (0,), "cases": 20, "test_sets": ("internal",)}
    study = fabricated.study(tmp_path, experiment="pets", classes=["a", "b"], **options)
    tables.write(study)
    text = Page(report.build(study)).text
    assert "there is nothing to compare" in text and "no interval" in text and "data set folder" in text


def test_folds_are_explained_and_each_label_has_its_numbers(tmp_path):
    study = fabricated.by_folds(tmp_path, {"standard": (0, 1), "isnet_selective": (0, 1)}, cases=60)
    frames, text = tables.write(study), Page(report.build(study)).text
    assert "each part is tested by a network that learnt from the others" in text
    for row in frames["labels"].query("metric == 'auc'").itertuples():
        assert f"{findings.number(row.value)} {findings.span(row.low, row.high)}" in text
    row = frames["seeds"].query("metric == 'auc'").iloc[0]
    assert f"{findings.number(row['mean'])} cases {findings.span(row['cases_low'], row['cases_high'])}" in text


# ---- parts of the report ----


def test_the_least_and_the_most_seeds_of_a_method_are_told(study):
    assert "with 3 seeds each." in Page(report.build(study)).text
    rows = pd.DataFrame(
        {"experiment": "e", "method": ["a", "b", "b"], "primary": True, "unit": "seeds", "n": [2, 5, 4]}
    )
    assert report_parts.seeds_each(rows) == "2 to 5 seeds" and report_parts.seeds_each(rows[:1]) == "2 seeds"
    assert report_parts.seeds_each(rows.assign(unit=["folds", "seeds", "seeds"])) == "2 to 5 seeds or folds"
    assert report_parts.seeds_each(rows.assign(n=1)) == "1 seed"
    assert report_parts.seeds_each(rows.assign(n=1, unit=["folds", "seeds", "seeds"])) == "1 seed or fold"


def test_every_score_table_has_the_number_of_seeds(study):
    grid = report.grid(findings.primary(tables.read(study)["seeds"], "digits"))
    assert grid["unit"] == "Seeds" and {count for _, count, _ in grid["lines"]} == {3}
    assert "Method Seeds biased deceiving gap Standard classifier 3 " in Page(report.build(study)).text


def test_the_recipe_names_the_methods_that_differ():
    runs = pd.DataFrame({"experiment": "digits", "method": ["standard", "gain", "vit"], "epochs": 24, "batch_size": 32})
    assert report_parts.recipe(runs, "digits") == ""
    runs = runs.assign(backbone=["small_resnet", "small_resnet", "small_vit"], learning_rate=0.003)
    told = report_parts.recipe(runs, "digits")
    assert told == (
        "Trained: backbone small_resnet (Vision transformer: small_vit), 24 epochs, 32 images a step, "
        "peak learning rate 0.003."
    )
    assert report_parts.recipe(runs.assign(epochs=[24, 24, np.nan]), "digits") == ""


def test_the_sizes_of_the_digits_are_those_of_the_loader():
    train_size, validation, test = (f"{10 * size:,}" for size in digits.SIZES.values())
    assert f"{train_size} to train, {validation} to validate and {test} to test" in wording.data_sentence("digits")


def test_who_wrote_a_digit_is_not_known(study):
    text = Page(report.build(study)).text
    assert "not known; cases taken as independent" in text and "Which digits share a writer is not known" in text
    assert [wording.patients_words(name) for name in ("faces_sim", "tuberculosis")] == ["one case each"] * 2


def searched():
    rows = [("gain", "alpha", value, value == 10.0, "") for value in (1.0, 3.0, 10.0)]
    rows += [("rrr", "penalty_weight", value, value == 3.0, "") for value in (1.0, 3.0, 10.0)]
    rows += [("multitask", "segmentation_weight", value, value == 0.1, "") for value in (0.1, 0.3)]
    frame = pd.DataFrame(rows, columns=["method", "option", "value", "chosen", "note"])
    return frame.assign(
        experiment="digits", epochs=6, metric="accuracy", swapped=0.5, internal=0.75, epoch=1, swapped_loss=1.0
    )


def test_a_loss_weight_at_an_end_of_what_was_tried_is_told(copy):
    frame = searched()
    assert list(search_findings.edge_sentences(frame)) == [
        "On digits the loss weight chosen is the largest that was tried for GAIN (alpha 10), the smallest that was "
        "tried for Multi-task U-Net (segmentation_weight 0.1): one beyond might serve better."
    ]
    assert list(search_findings.edge_sentences(frame[frame["method"] == "rrr"])) == []
    told = search_findings.effort_sentence([frame])
    assert "2 to 3 values of it were tried" in told and "(3 methods; digits)" in told
    assert search_findings.effort_sentence([]) == ""
    ranges = pd.DataFrame({"experiment": "digits", "method": ["gain", "rrr", "rrr"], "range_low": 1.0})
    ranges["range_high"] = [25.0, 25.0, 150.0]
    assert search_findings.range_sentence([ranges]) == (
        "Right for the right reasons had up to 2 trials: on digits every value was tried with several ranges that the "
        "relevance inside the mask is kept within (1 to 25, 1 to 150)."
    )
    assert search_findings.range_sentence([ranges[:2]]) == search_findings.range_sentence([]) == ""
    assert "Loss weights" not in Page(report.build(copy)).text
    frame.to_csv(copy / "tables" / "search.csv", index=False)
    text = Page(report.build(copy)).text
    assert "GAIN alpha 10 0.500 0.750 chosen" in text and "GAIN alpha 3 0.500 0.750 Right" not in text
    assert text.count("the largest that was tried for GAIN (alpha 10)") == 2  # there, and among the limits


def test_methods_that_were_cut_at_the_first_epoch_are_named(study):
    frames = tables.read(study)
    rules = frames["metrics"], frames["selection"], frames["seeds"], "digits"
    runs = frames["runs"].assign(epoch_first=5.0)
    runs = runs.assign(epoch_swapped=np.where(runs["method"] == "standard", 5, 5 + runs["seed"]))
    (told,) = selection_findings.first_epoch_sentences(runs, *rules)
    table = selection_findings.selection_table(*rules[:2], "digits").set_index(["method", "test_set"])
    row, best = (table.loc[("standard", name)] for name in ("deceiving", "biased"))
    ours, other = (f"{findings.number(row[rule])}" for rule in ("swapped", "internal"))
    assert told == (
        f"In at least half of their runs the rule kept the first epoch that counts: Standard classifier, {ours} on "
        f"deceiving cases and {findings.number(best['swapped'])} on biased cases (by in-distribution selection {other} "
        f"and {findings.number(best['internal'])})."
    )
    better = rules[1].assign(value=rules[1]["value"] + 0.5)  # what in-distribution selection has
    *_, warned = selection_findings.first_epoch_sentences(runs, rules[0], better, *rules[2:])
    assert warned == "It left Standard classifier hardly trained, by the scores on cases like the training images."
    assert list(selection_findings.first_epoch_sentences(runs.assign(epoch_first=np.nan), *rules)) == []
    assert list(selection_findings.first_epoch_sentences(runs.drop(columns="epoch_first"), *rules)) == []


def test_the_rule_of_selection_is_told_as_it_is(study):
    text = Page(report.build(study)).text
    assert "score is the lower of the two" in text and f"less than {train.WORKS} of the run" in text
    row = {"val_accuracy": 0.5, "swapped_accuracy": 0.75}
    assert train.selection_score(row, "swapped", "accuracy") == 0.5


def test_coverage_is_told_of_the_intervals_in_use():
    rows = [("macro_f1", "score, jackknife", True), ("macro_f1", "score, jackknife", False), ("macro_f1", "t", False)]
    rows += [("macro_f1", "posterior, shortest", True)]
    simulated = pd.DataFrame(rows, columns=["measure", "name", "holds"]).assign(what="coverage", seeds=1)
    seeds = pd.DataFrame({"metric": ["macro_f1", "accuracy"], "cases_interval": ["score, jackknife", "wilson"]})
    seeds = seeds.assign(test_set="biased")
    made = pd.DataFrame({"measure": ["macro_f1"], "interval": ["posterior, shortest"]})
    told = list(coverage_findings.coverage_sentences(simulated.assign(share=0.95), seeds, made))
    assert "macro F1 is \u201cscore, jackknife\u201d: it holds in 1 of 2 settings." in told[0]
    assert "in intervals.csv is \u201cposterior, shortest\u201d: it holds in 1 of 1 settings." in told[1]
    assert "Not simulated: the intervals over cases of accuracy (\u201cwilson\u201d)." in told
    assert any("over seeds were not simulated" in sentence for sentence in told)
    wilson = simulated.assign(measure="accuracy", name="wilson", seeds=3)
    told = list(coverage_findings.coverage_sentences(pd.concat([simulated, wilson]), seeds, None))
    assert not any("wilson" in sentence and "Not simulated" in sentence for sentence in told)
    assert not any("over seeds" in sentence or "intervals.csv" in sentence for sentence in told)
    errors = wilson.assign(
        what="false positives", name=["two-level t"] * 3 + ["McNemar"], share=[0.0, 0.01, 0.026, 0.05]
    )
    told = list(coverage_findings.coverage_sentences(pd.concat([simulated, errors]), seeds, None))
    (cautious,) = (sentence for sentence in told if "cautious" in sentence)
    assert "two-level t" in cautious and "more than 0.026" in cautious


def test_detectable_is_of_the_planned_comparisons(study):
    rows = tables.read(study)["comparisons"]
    main = rows["primary"] & rows["test"].isin(findings.MAIN_TESTS)
    planned = main & rows["family"].notna()
    rows = rows.assign(detectable=np.where(planned, 0.25, 0.75))
    told = comparison_findings.claims(rows, "digits")
    assert told["detectable"].endswith("four of five repetitions would show, lies from 0.250 to 0.250.")
    assert "of the planned comparisons" in told["detectable"] and told["planned"].endswith("show no difference.")
    alone = comparison_findings.claims(rows.assign(family=np.nan), "digits")
    assert alone["detectable"].endswith("0.250 to 0.750.") and "planned" not in alone["detectable"]
