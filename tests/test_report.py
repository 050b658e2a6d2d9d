"""The report: numbers from the tables, sentences from conditions on them, names escaped, one file alone."""

import re
import shutil
from html.parser import HTMLParser

import fabricated
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from isnetlib import cost_figures, figures, findings, report, tables

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
        assert f"{row['mean']:.3f} seeds {seeds} cases {cases}" in page.text
    for _, row in findings.main_comparisons(frames["comparisons"], "digits").iterrows():
        assert (
            f"{row['difference']:+.3f} {findings.span(row['low'], row['high'])} {findings.p_value(row['p'])}"
            in page.text
        )


def test_sentences_turn_with_the_numbers(copy):
    before = Page(report.build(copy)).text
    assert "ISNet selective does better than Standard classifier" in before
    seeds = pd.read_csv(copy / "tables" / "seeds.csv", keep_default_na=False)
    low = (seeds["method"] == "isnet_selective") & (seeds["test_set"] == "deceiving")
    change(copy, "seeds", mean=seeds["mean"].where(~low, 0.2))
    change(copy, "comparisons", difference=-0.3, p=0.001, p_holm=0.001)
    after = Page(report.build(copy)).text
    assert re.search(r"ISNet original and .* do better than ISNet selective on deceiving cases", after)
    assert "accuracy on deceiving cases 0.200 (at least 0.95 asked, missed by 0.750)" in after
    assert (
        "Deceiving: ISNet selective is not shown to do better than any other method; ISNet selective does worse"
        in after
    )


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
    assert [a["href"] for a in page.all("a") if not a["href"].startswith("#")] == ["https://arxiv.org/abs/2202.00232"]
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
    figures.save(figures.cost_figure(cost), copy / "figures" / "cost")
    steps = pd.DataFrame([("isnet_selective", k, 1, 2.5, 1.02) for k in (2, 10, 100)])
    steps.columns = ["variant", "class_count", "maps", "ratio_to_plain_step", "ratio_to_fewest_classes"]
    steps = steps.assign(network="resnet18", size=96, batch=4)
    steps.to_csv(copy / "tables" / "classes.csv", index=False)
    figures.save(cost_figures.classes_figure(steps), copy / "figures" / "cost_classes")
    network = {"network": "swin_t<", "supported": True, "reason": "", "identity_error": 1e-7, "ratio_one_map": 2.5}
    pd.DataFrame([network]).to_csv(copy / "tables" / "architectures.csv", index=False)
    page = Page(report.build(copy))
    assert (
        "ISNet selective training 2.400 0.500 950" in page.text and "ISNet selective inference 1.010 0.500" in page.text
    )
    assert "swin_t<" in page.text and len(page.all("img")) == 8
    assert "a step of ISNet selective with 100 classes takes 1.02 times one with 2" in " ".join(page.text.split())


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
    assert f"{row['mean']:.3f} cases {findings.span(row['cases_low'], row['cases_high'])}" in text
