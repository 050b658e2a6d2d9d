"""The table of every method and the sentences about rivals, on made-up tables with known answers."""

import fabricated
import numpy as np
import pandas as pd
import pytest

from isnetlib import (
    claims,
    comparison_findings,
    findings,
    goal_findings,
    heatmaps,
    joint,
    names,
    overview,
    relevance_findings,
    report,
    runs,
    tables,
    titles,
    wording,
)

RIGHT = {
    "standard": (0.99, 0.1),
    "background_random": (0.97, 0.96),
    "pipeline": (0.9, 0.9),
    "isnet_selective": (0.97, 0.96),
    "oracle": (0.99, 0.99),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return fabricated.study(results, right=RIGHT, seeds=(0, 1), cases=60, test_sets=("biased", "deceiving"))


@pytest.fixture(scope="module")
def frames(study):
    return tables.write(study)


def with_means(seeds, **means):
    """seeds.csv with these means on deceiving cases."""
    at = (seeds["test_set"] == "deceiving") & (seeds["metric"] == "accuracy")
    return seeds.assign(mean=seeds["mean"].where(~at, seeds["method"].map(means)))


def told(frames, p=0.5, difference=0.0, **means):
    comparisons = frames["comparisons"].assign(p=p, p_holm=p, difference=difference)
    return list(overview.rival_sentences(with_means(frames["seeds"], **means), comparisons, "digits"))


def test_a_rival_that_beats_or_matches_is_told_with_its_reason(frames):
    means = {"standard": 0.1, "background_random": 0.98, "pipeline": 0.955, "isnet_selective": 0.96, "oracle": 0.99}
    sentences = told(frames, **means)
    assert sentences == [
        "U-Net + classifier comes within 0.01 of ISNet selective on deceiving cases (accuracy 0.955 against "
        f"0.960; the comparison shows no difference). Why it might: {wording.WHY['pipeline']}.",
        "Random backgrounds has a higher mean than ISNet selective on deceiving cases (accuracy 0.980 against 0.960; "
        f"the comparison shows no difference). Why it might: {wording.WHY['background_random']}.",
    ]
    assert "removes the correlation itself" in sentences[1] and "removes the background" in sentences[0]
    shown = told(frames, p=0.001, difference=-0.02, **means)
    assert "U-Net + classifier comes within" not in shown[0] and "U-Net + classifier beats ISNet selective" in shown[0]
    assert "Random backgrounds has a higher mean than ISNet selective" in shown[1]  # not planned: a hint, no proof
    assert "the comparison shows it; exploratory, p = 0.001, not adjusted" in shown[1]
    ahead = told(frames, p=0.001, difference=0.005, **means)
    assert "comes within 0.01 of" in ahead[0] and "the comparison shows ISNet selective ahead" in ahead[0]
    level = told(frames, **means | {"pipeline": 0.96004})  # above, but not in the digits that are printed
    assert "U-Net + classifier comes within 0.01 of ISNet selective" in level[0] and "0.960 against 0.960" in level[0]


def test_every_test_set_of_the_claim_is_looked_at(frames):
    """The rival that is level on an external source is told, though another test set is harder."""
    rows = frames["seeds"].query("metric == 'accuracy' and test_set == 'deceiving'").assign(test_set="elsewhere")
    rows = rows.assign(mean=rows["method"].map({"pipeline": 0.97, "isnet_selective": 0.96}).fillna(0.5))
    seeds = pd.concat([with_means(frames["seeds"], isnet_selective=0.9, standard=0.1), rows])
    sentences = list(overview.rival_sentences(seeds, frames["comparisons"], "digits"))
    assert len(sentences) == 2 and sentences[0].startswith("No rival reaches ISNet selective on deceiving cases")
    assert sentences[1].startswith("U-Net + classifier has a higher mean than ISNet selective on elsewhere cases")


def test_where_none_comes_near_that_is_told(frames):
    means = {"standard": 0.1, "background_random": 0.949, "pipeline": 0.9, "isnet_selective": 0.96, "oracle": 0.99}
    assert told(frames, **means) == [
        "No rival reaches ISNet selective on deceiving cases, or comes within 0.01 of it (accuracy 0.960; the "
        "comparisons show it ahead of 0 of 3)."
    ]
    (shown,) = told(frames, p=0.001, difference=0.2, **means)
    assert shown.endswith("the comparisons show it ahead of 3 of 3).")
    assert "Upper bound" not in "".join(told(frames, **means | {"isnet_selective": 0.5}))


def test_a_higher_mean_is_called_better_only_where_the_comparison_shows_it(frames):
    means = {"standard": 0.1, "background_random": 0.98, "pipeline": 0.97, "isnet_selective": 0.96, "oracle": 0.99}
    seeds, rows = with_means(frames["seeds"], **means), frames["comparisons"]

    def last(p):
        worse = rows.assign(p=p, p_holm=p, difference=-0.02)
        return list(findings.result_sentences(seeds, worse, "digits"))[5:]

    two, other = "U-Net + classifier and Random backgrounds", "than ISNet selective on deceiving cases"
    assert last(0.5) == [f"{two} have a higher mean {other}; no difference is shown."]
    assert last(0.001) == [f"{two} (exploratory) do better {other}."]
    seeds = with_means(frames["seeds"], **means | {"pipeline": 0.96004, "background_random": 0.95})
    assert last(0.5) == ["No other method has a higher mean than ISNet selective on deceiving cases."]
    seeds = with_means(frames["seeds"], **means)
    p = rows["b"].map({"pipeline": 0.001}).fillna(0.5)
    assert last(p) == [
        f"U-Net + classifier does better {other}.",
        f"Random backgrounds has a higher mean {other}; no difference is shown.",
    ]


def test_a_large_share_of_relevance_beside_a_good_score_is_told(frames):
    shares = {"standard": 0.7, "background_random": 0.3, "pipeline": 0.001, "isnet_selective": 0.002, "oracle": 0.4}
    means = {"standard": 0.1, "background_random": 0.96, "pipeline": 0.97, "isnet_selective": 0.96, "oracle": 0.99}

    def told(**changed):
        seeds = with_means(frames["seeds"], **means | changed)
        at = seeds["metric"] == "background_share"
        seeds = seeds.assign(mean=seeds["mean"].where(~at, seeds["method"].map(shares)))
        return list(relevance_findings.background_sentences(seeds, "digits"))

    first, *rest = told()
    assert first.startswith("On deceiving cases the background has 0.800 of the area.")
    assert "Standard classifier 0.700; U-Net + classifier 0.001; Random backgrounds 0.300;" in first
    assert first.count("0.800") == 1 and rest == [
        "Random backgrounds has 0.300 of its relevance in the background, and reaches accuracy 0.960 on deceiving "
        "cases all the same (ISNet selective: 0.960)."
    ]
    assert told(background_random=0.9)[1:] == []  # no example where the score is lower
    shares["standard"] = 0.85
    assert told()[1] == "No less than its share of the area: Standard classifier."


def test_a_clean_map_that_hides_an_influence_is_told(frames):
    seeds = frames["seeds"]
    at = (seeds["metric"] == "background_share") & (seeds["method"] == "isnet_selective")
    clean = seeds.assign(mean=seeds["mean"].mask(at, 0.003))
    assert list(relevance_findings.hole_sentences(clean, "digits")) == []
    low = (clean["metric"] == "accuracy") & (clean["method"] == "isnet_selective") & (clean["test_set"] == "deceiving")
    (told,) = relevance_findings.hole_sentences(clean.assign(mean=clean["mean"].mask(low, 0.5)), "digits")
    assert "has only 0.003 of its relevance" in told and "to 0.500 all the same" in told


def test_hits_of_boxes_are_told_beside_chance(frames):
    rows = pd.DataFrame({"experiment": "x", "test_set": "internal", "method": ["standard", "isnet_selective"] * 2})
    rows = rows.assign(metric=["box_hit"] * 2 + ["box_chance"] * 2, mean=[0.068, 0.466, 0.097, 0.097], cases=74)
    rows = rows.assign(cases_low=rows["mean"] - 0.02, cases_high=rows["mean"] + 0.02)
    (told,) = relevance_findings.box_sentences(rows, "x")
    assert told.endswith("ISNet selective 0.466 [0.446, 0.486]; Standard classifier 0.068 [0.048, 0.088].")
    assert "(74 films; a pixel drawn at random would in 0.097)" in told
    share = rows.iloc[:1].assign(metric="chance_share", mean=0.75, cases=120)
    (told,) = relevance_findings.box_sentences(pd.concat([rows, share]), "x")
    assert "one drawn inside the mask in at most some 0.39)" in told
    assert list(relevance_findings.box_sentences(frames["seeds"], "digits")) == []


def test_a_swap_changes_nothing_only_where_the_table_says_so():
    rows = pd.DataFrame({"experiment": "digits", "test_set": "unbiased", "metric": "logit_change", "mean": [0.0, 0.0]})
    assert "a swap changes nothing" in relevance_findings.unmarked_sentence(rows, "digits")
    assert relevance_findings.unmarked_sentence(rows.assign(mean=[0.0, 0.1]), "digits") == ""
    assert relevance_findings.unmarked_sentence(rows.assign(test_set="biased"), "digits") == ""


def test_the_upper_bound_is_shown_and_compared_with_nothing(frames, study):
    assert "oracle" not in set(frames["comparisons"]["b"]) and "oracle" in set(frames["seeds"]["method"])
    assert "Upper bound" not in titles.scores_title(frames["seeds"], "digits")
    best = with_means(frames["seeds"], **dict.fromkeys(RIGHT, 0.5) | {"oracle": 0.99})
    assert (
        "No other method has a higher mean"
        in list(findings.result_sentences(best, frames["comparisons"], "digits"))[-1]
    )
    assert "no ceiling" in wording.METHOD_SENTENCES["oracle"]
    assert "Upper bound: true mask at test *" in report.build(study) and "* An upper bound" in report.build(study)
    maps = runs.read_heatmaps(study, "digits")
    assert "Upper bound" not in heatmaps.heatmap_title(maps, [("deceiving", 0)])


def test_every_method_has_its_numbers(frames):
    sizes = {"standard": 11_000_000, "pipeline": 300, "oracle": 100}
    rows = [
        {"network": network, "variant": v, "phase": phase, "parameters": sizes[v] - (phase == "inference"),
         "ratio_to_plain_step": 1.5 if phase == "training" else np.nan,
         "ratio_to_plain_inference": 2.5 if phase == "inference" else np.nan}
        for network, variants in (("resnet18", ["standard"]), ("small_resnet", list(sizes)))
        for v in variants
        for phase in ("training", "inference")
    ]  # fmt: skip
    table = overview.overview(frames | {"cost": pd.DataFrame(rows)}, "digits").set_index("method")
    means = frames["seeds"].query("metric == 'accuracy' and test_set == 'deceiving'").set_index("method")["mean"]
    assert table["deceiving"].to_dict() == pytest.approx(means.to_dict())
    assert table.loc["pipeline", ["run_time_parameters", "training", "inference"]].tolist() == [299, 1.5, 2.5]
    assert table.loc["standard", "parameters"] == 11_000_000 and np.isnan(table.loc["isnet_selective", "training"])
    assert table.index[table["upper_bound"]].tolist() == ["oracle"] and table["dice"].isna().all()
    other = frames["runs"].assign(parameters=5.0)  # another network than the one whose cost was measured
    table = overview.overview(frames | {"cost": pd.DataFrame(rows), "runs": other}, "digits")
    assert table["training"].isna().all()


def test_ablations_have_names_and_no_goals_of_their_own(frames):
    assert names.method_name("isnet_selective_no_zb") == "ISNet selective, no z^B"
    renamed = frames["seeds"].replace({"method": {"isnet_selective": "isnet_selective_no_zb"}})
    assert "isnet_selective_no_zb" not in set(goal_findings.goals(renamed, "digits")["method"])


def test_attention_stands_beside_the_relevance_of_its_method(study):
    maps = runs.read_heatmaps(study, "digits")
    attention = {key.replace("x_", "attention_"): x for key, x in maps["pipeline"].items() if key.startswith("x_")}
    fig = heatmaps.heatmap_figure(maps | {"pipeline": maps["pipeline"] | attention}, [str(k) for k in range(10)])
    panels = [ax for ax in fig.axes if ax.images]
    assert len(panels) == 2 * (len(RIGHT) + 2)
    heads = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert heads[heads.index("its mask") - 1].startswith("U-Net")


def test_a_fall_on_other_cases_is_not_laid_to_the_background():
    means = {("isnet_selective", "internal"): 0.97, ("isnet_selective", "shenzhen"): 0.7}
    means |= {("pipeline", "internal"): 0.98, ("pipeline", "shenzhen"): 0.75}
    rows = [{"method": m, "test_set": t, "metric": "auc", "primary": True, "mean": v} for (m, t), v in means.items()]
    shares = {"background_share": 0.01, "chance_share": 0.7}
    rows += [
        {"method": "isnet_selective", "test_set": "shenzhen", "metric": k, "primary": False, "mean": v}
        for k, v in shares.items()
    ]
    (told,) = relevance_findings.hole_sentences(pd.DataFrame(rows).assign(experiment="tuberculosis"), "tuberculosis")
    assert told.endswith(
        "falls from AUC 0.970 on internal cases to 0.700 all the same: these are other cases, and why is not shown "
        "(U-Net + classifier, which sees little of the background, goes from 0.980 to 0.750)."
    )
    frame = pd.DataFrame(rows).assign(experiment="digits").replace({"shenzhen": "deceiving", "internal": "biased"})
    (told,) = relevance_findings.hole_sentences(frame, "digits")
    assert "to 0.700 all the same: either relevances in the mask cancel, so that a small share" in told


def test_methods_with_other_folds_are_compared_on_the_cases_that_both_have(tmp_path):
    folds = {"standard": (0, 1, 2), "gain_ext": (0,), "isnet_selective": (0, 1, 2)}
    skills = {"standard": 0.2, "gain_ext": 1.5}
    study = fabricated.by_folds(tmp_path, folds, name="real", cases=200, test_sets=("swapped",), skills=skills)
    frames = tables.write(study)
    seeds, rows = frames["seeds"], frames["comparisons"]
    test = findings.cell(findings.main_comparisons(rows, "faces"), b="gain_ext", test_set="swapped")
    (told,) = (one for one in overview.rival_sentences(seeds, rows, "faces", reasons=False) if "Extended" in one)
    assert test["n"] == 40 and f"(AUC {findings.signed(-test['difference'])} on the 40 cases that both were" in told
    leads = findings.leads(findings.primary(seeds, "faces").query("test_set == 'swapped'"), rows.iloc[:0])
    assert set(leads.index) == {"standard", "isnet_selective"}  # without a comparison nothing is said of other cases
    assert "Extended GAIN" not in titles.scores_title(seeds, "faces")
    found = claims.scores(claims.claim({"real": frames}), {"real": frames})
    marked = {method: cells[0].endswith(claims.FEWER) for method, cells in found["lines"]}
    assert marked == {"standard": False, "gain_ext": True, "isnet_selective": False} and found["partial"]
    assert joint.trained(claims.claim({"real": frames})) == "40 to 120 cases, each tested by one training of a method"


def test_what_single_changes_do_is_told_where_nothing_was_planned(frames):
    rows = frames["comparisons"].query("b in ('standard', 'pipeline')").assign(family=np.nan, p_equivalent=0.5)
    rows = rows.replace({"b": {"standard": "isnet_selective_no_zb", "pipeline": "isnet_selective_block"}})
    worse = rows["b"] == "isnet_selective_no_zb"
    rows = rows.assign(p=np.where(worse, 0.001, 0.4), difference=np.where(worse, 0.3, 0.001))
    told = list(comparison_findings.difference_sentences(rows, "digits", "deceiving"))
    assert [one.split(" on deceiving")[0] for one in told] == [
        "Shown to do worse than ISNet selective", "Neither is shown of these beside ISNet selective"
    ]  # fmt: skip
    assert told[0].endswith("ISNet selective, no z^B (-0.300).")
    (_, told) = comparison_findings.difference_sentences(rows.assign(p_equivalent=0.01), "digits", "deceiving")
    assert told.startswith("Shown to match ISNet selective")


def test_what_another_metric_shows_and_the_primary_one_does_not_is_told(frames):
    rows = findings.main_comparisons(frames["comparisons"], "digits").query("test_set == 'deceiving'")
    rows = rows.assign(family=np.nan, p=0.4, difference=0.001)
    other = rows.assign(metric="auc", primary=False, difference=-0.2, p=np.where(rows["b"] == "standard", 0.01, 0.4))
    told = list(comparison_findings.contrary_sentences(pd.concat([rows, other]), "digits"))
    assert told == ["By AUC, ISNet selective is behind: -0.200 to Standard classifier on deceiving cases."]
    same = rows.assign(difference=-0.2, p=other["p"])
    assert list(comparison_findings.contrary_sentences(pd.concat([same, other]), "digits")) == []


def test_in_short_only_what_is_shown_has_numbers(frames):
    means = {"standard": 0.1, "background_random": 0.98, "pipeline": 0.97, "isnet_selective": 0.96, "oracle": 0.99}
    seeds, rows = with_means(frames["seeds"], **means), frames["comparisons"]
    p = rows["b"].map({"pipeline": 0.001}).fillna(0.5)
    told = list(overview.better_sentences(seeds, rows.assign(p=p, p_holm=p, difference=-0.01), "digits"))
    assert told == [
        "Shown to do better than ISNet selective on deceiving cases: U-Net + classifier (+0.010).",
        "Rivals that come near it or have a higher mean on some test set, without a difference shown: Random "
        "backgrounds.",
    ]
    hints = list(overview.better_sentences(seeds, rows.assign(p=0.001, p_holm=0.5, difference=-0.01), "digits"))
    assert hints[0].endswith("on deceiving cases: Random backgrounds (+0.010; exploratory).")
