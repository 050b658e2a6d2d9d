"""What is timed and how ratios follow: names of variants, a clock that the test holds, tools that are missing."""

from types import SimpleNamespace

import fabricated
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import isnetlib
from isnetlib import architectures, cost, cost_figures, cost_findings, explaining, models, overview, readme, tables

SECONDS = {"standard": 2.0, "isnet_selective": 5.0, "isnet_selective+bf16": 4.0, "pipeline": 3.0}
TINY = ("small_resnet", 16, 2)


@pytest.fixture
def clock(monkeypatch):
    """Time passes only where a fake step is made."""
    now = SimpleNamespace(t=0.0)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now.t))
    return now


def taking(clock, seconds):
    """A function that takes ten times as long the first time, and every third round is disturbed by something else."""
    calls = iter(range(10**6))

    def step():
        k = next(calls)
        clock.t += seconds * (10 if k == 0 else 7 if k % 3 == 0 else 1)

    return step


# ---- variants by name
def test_options_are_read_from_the_name():
    assert cost.options_of("isnet_selective") == ("isnet_selective", {})
    assert cost.options_of("isnet_original+bf16") == ("isnet_original", {"bf16": True})
    assert cost.options_of("isnet_selective+compile+bf16") == ("isnet_selective", {"compile": True, "bf16": True})
    with pytest.raises(ValueError, match=r"'isnet_selective\+fp8': unknown option 'fp8'.*compile, bf16"):
        cost.options_of("isnet_selective+fp8")


def test_options_reach_the_method():
    switches = cost.build_variant("isnet_original+compile+bf16", "small_resnet", 3, 16).switches
    assert switches["compile"] is True and switches["dtype"] is torch.bfloat16
    assert cost.build_variant("isnet_original", "small_resnet", 3, 16).switches["dtype"] is None
    with pytest.raises(ValueError, match="standard has no option 'bf16'"):
        cost.build_variant("standard+bf16", "small_resnet", 3, 16)


def test_maps_by_variant():
    assert [cost.maps(v, 7) for v in ("standard", "isnet_selective+bf16", "isnet_original+compile")] == [0, 1, 7]


def test_compiled_variants_are_left_out_aloud_without_a_compiler(monkeypatch, capsys):
    variants = ["standard", "isnet_selective+compile", "isnet_selective+bf16"]
    monkeypatch.setattr(cost.shutil, "which", lambda name: None)
    assert cost.runnable(variants) == ["standard", "isnet_selective+bf16"]
    assert "isnet_selective+compile; torch.compile needs a C++ compiler" in capsys.readouterr().out
    monkeypatch.setattr(cost.shutil, "which", lambda name: f"/bin/{name}" if name == "clang++" else None)
    assert cost.runnable(variants) == variants and capsys.readouterr().out == ""


# ---- ratios
def test_rounds_take_turns(clock):
    order = []
    functions = {name: (lambda name=name: order.append(name)) for name in "ABC"}
    assert cost.interleaved(functions, rounds=2) == {name: [0.0, 0.0] for name in "ABC"}
    assert "".join(order) == "ABCABCABC"


def test_ratios_are_medians_over_those_of_the_plain_one(clock, monkeypatch):
    def timed(v, *setting):
        return taking(clock, SECONDS[v])

    monkeypatch.setattr(cost, "training_step", timed)
    monkeypatch.setattr(cost, "inference", timed)
    monkeypatch.setattr(cost, "cosine_to_fp32", lambda *setting: 0.75)
    variants = ["standard", "isnet_selective", "isnet_selective+bf16"]
    table = cost.measure(*TINY, 3, variants, rounds=5, memory=False, predicting=["pipeline"])
    assert list(table) == cost.COLUMNS
    rows = table.set_index(["phase", "variant"])
    training = rows.loc["training"]
    assert training["ratio_to_plain_step"].to_dict() == dict(zip(variants, (1.0, 2.5, 2.0), strict=True))
    assert training["seconds"].tolist() == [2.0, 5.0, 4.0]
    assert training["cosine_to_fp32"].fillna(-1).tolist() == [-1, -1, 0.75]
    predicted = rows.loc["inference"]["ratio_to_plain_inference"].to_dict()
    assert predicted == {"standard": 1.0, "isnet_selective": 2.5, "pipeline": 1.5}
    used = rows.loc["inference"]["parameters"]
    assert (
        used["isnet_selective"]
        == used["standard"]
        == sum(p.numel() for p in models.build_model("small_resnet", 3).parameters())
    )
    assert used["pipeline"] > used["standard"]


def test_classes_have_both_ratios(clock, monkeypatch):
    seconds = {"standard": lambda k: 1 + k, "isnet_selective": lambda k: 4.0, "isnet_original": lambda k: 2.0 * k}
    monkeypatch.setattr(cost, "training_step", lambda v, n, s, b, k: taking(clock, seconds[v](k)))
    counts = {"isnet_selective": [3, 7], "isnet_original": [3]}
    table = cost.against_classes(*TINY, counts, rounds=5)
    assert list(table) == cost.CLASSES_COLUMNS
    found = table.set_index(["variant", "class_count"])
    assert sorted(found.index) == [
        ("isnet_original", 3),
        ("isnet_selective", 3),
        ("isnet_selective", 7),
        ("standard", 3),
        ("standard", 7),
    ]
    assert found.loc["isnet_selective"]["ratio_to_plain_step"].tolist() == [1.0, 0.5]
    assert found.loc["isnet_selective"]["ratio_to_fewest_classes"].tolist() == [1.0, 1.0]
    assert found.loc["standard"]["ratio_to_fewest_classes"].tolist() == [1.0, 2.0]
    assert found.loc[("isnet_original", 3), ["maps", "ratio_to_plain_step"]].tolist() == [3, 1.5]


# ---- what is timed
def test_real_steps_train_and_predict():
    table = cost.measure(*TINY, 3, ["standard", "isnet_selective+bf16"], rounds=1, memory=False)
    assert (table["seconds"] > 0).all() and len(table) == 3  # options make no difference to a prediction
    assert 0.99 < table["cosine_to_fp32"].max() <= 1 + 1e-6
    by_classes = cost.against_classes(*TINY, {"isnet_stochastic": [2, 3]}, rounds=1)
    assert (by_classes["seconds"] > 0).all() and set(by_classes["variant"]) == {"standard", "isnet_stochastic"}


def test_cosine_is_that_of_the_worst_map(monkeypatch):
    """Maps made by hand: the same, and at 60 degrees."""
    exact, coarse = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 3**0.5]])
    monkeypatch.setattr(cost, "explain", lambda model, x, target, dtype: exact if dtype is None else coarse)
    assert cost.cosine_to_fp32("small_resnet", 16, 2, 3) == pytest.approx(0.5)


def test_the_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    cost.cosine_to_fp32("small_resnet", 16, 2, 3)
    explaining.rows("small_resnet", 16, 1, tools={"forward": explaining.forward})
    assert torch.equal(torch.random.get_rng_state(), before)


# ---- explaining
def test_a_tool_that_is_missing_or_fails_has_a_reason_and_no_number(clock):
    def missing(model, x):
        import no_such_package_as_this  # noqa: F401

    def failing(model, x):
        def run():
            raise RuntimeError("sizes 32\nand 96")

        return run

    tools = {"forward": lambda model, x: taking(clock, 2.0), "ours": lambda model, x: taking(clock, 5.0)}
    table = explaining.rows("small_resnet", 16, 5, tools=tools | {"a": missing, "b": failing}).set_index("tool")
    assert list(table.reset_index()[explaining.COLUMNS]) == explaining.COLUMNS
    assert table["ratio_to_forward"].fillna(-1).to_dict() == {"forward": 1.0, "ours": 2.5, "a": -1, "b": -1}
    assert table["note"].to_dict() == {
        "forward": "",
        "ours": "",
        "a": "no_such_package_as_this is not installed",
        "b": "RuntimeError: sizes 32 and 96",
    }


def test_zennit_is_set_up_to_explain_as_this_library_does():
    """A network without biases, where the two agree but for the last layer's stabiliser."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    nn.init.zeros_(model[-1].bias)
    model[-1].weight.data.mul_(100)  # logits far above the stabiliser
    x = torch.rand(1, 3, 8, 8)
    before = model(x)
    _, theirs = explaining.by_zennit(model, x)()
    ours = isnetlib.explain(model, x)[:, 0]
    assert (theirs - ours).norm() / ours.norm() < 0.01
    assert model[1].inplace and torch.equal(model(x), before)  # the rules are on a copy


@pytest.mark.parametrize("tool", [explaining.forward, explaining.by_isnetlib])
def test_tools_run_in_eval_mode_without_gradient(tool):
    model = models.build_model("small_resnet", 3).eval()
    assert not tool(model, torch.rand(1, 3, 16, 16))().requires_grad


# ---- figures and sentences
@pytest.fixture
def costs():
    """One network: ISNet predicts as the plain one, the pipeline twice as long with half as many numbers again."""
    rows = [("standard", "training", 1.0, np.nan, 2.0, 2e6), ("isnet_selective", "training", 2.5, np.nan, 5.0, 2e6)]
    rows += [("isnet_selective+bf16", "training", 2.0, np.nan, 4.0, 2e6)]
    rows += [("standard", "inference", np.nan, 1.0, 1.0, 2e6), ("isnet_selective", "inference", np.nan, 1.0, 1.0, 2e6)]
    rows += [("pipeline", "inference", np.nan, 2.0, 2.0, 3e6)]
    columns = ["variant", "phase", "ratio_to_plain_step", "ratio_to_plain_inference", "seconds", "parameters"]
    frame = pd.DataFrame(rows, columns=columns).assign(network="resnet18", size=224, batch=8, peak_mib=np.nan)
    cosine = [0.9997 if "+" in name else np.nan for name in frame["variant"]]
    return frame.assign(cosine_to_fp32=cosine, maps=[int(v.startswith("isnet")) for v in frame["variant"]])


@pytest.fixture
def classes():
    rows = [("standard", k, 0, 1.0, 1.0) for k in (2, 10, 100)]
    rows += [("isnet_selective", k, 1, 2.5, 1.01) for k in (2, 10, 100)]
    rows += [("isnet_original", k, k, 1.0 + k, 1.0) for k in (2, 10)]
    columns = ["variant", "class_count", "maps", "ratio_to_plain_step", "ratio_to_fewest_classes"]
    frame = pd.DataFrame(rows, columns=columns).assign(network="resnet18", size=96, batch=4)
    return frame.assign(seconds=[0.1, 0.09, 0.08, 0.25, 0.25, 0.2525, 0.3, 1.1])


def test_sentences_follow_from_the_tables(costs, classes):
    told = " ".join(cost_findings.sentences({"cost": costs, "classes": classes}))
    assert "ISNet selective 0.250 with 2 classes, 0.253 with 100 (1.01 times as long)" in told
    assert "ISNet original 0.300 with 2 classes, 1.100 with 10 (3.67 times as long)" in told
    assert "beside it, the plain step 0.100 with 2 classes, 0.080 with 100 (0.80 times as long)." in told
    assert "ISNet selective takes 1.00 plain ones with 2.0 million parameters, by U-Net + classifier 2.00" in told
    assert "ISNet selective + bf16 takes 0.80 of the time of fp32; smallest cosine of a heatmap to fp32 0.9997" in told


def test_the_error_of_the_times_is_that_between_predictions_of_one_network(costs):
    rows = [("multitask", 0.9, 2e6), ("gain", 1.0625, 2e6), ("oracle", 1.3, 2e6), ("attention_gate", 1.7, 2.5e6)]
    more = pd.DataFrame(rows, columns=["variant", "ratio_to_plain_inference", "parameters"])
    more = more.assign(network="resnet18", size=224, batch=8, phase="inference")
    (told,) = cost_findings.error_sentences(pd.concat([costs, more]))
    assert "take from 0.90 to 1.06 plain ones" in told
    assert list(cost_findings.error_sentences(costs[costs["variant"].isin(["standard", "pipeline"])])) == []


def test_figures_draw_the_tables(costs, classes):
    ax = cost_figures.classes_figure(classes).axes[0]
    lines = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
    assert lines["ISNet selective"] == [2.5, 2.5, 2.5] and lines["ISNet original"] == [3.0, 11.0]
    fig = cost_figures.run_time_figure(costs)
    time, size = ([bar.get_width() for bar in ax.patches] for ax in fig.axes)
    assert sorted(time) == [1.0, 1.0, 2.0] and sorted(size) == [2.0, 2.0, 3.0]
    told = "U-Net + classifier takes 2.00 plain ones,\nby ISNet selective 1.00"
    error = "(one network under other names: 1.00 to 1.00)"
    assert fig.get_suptitle() == f"resnet18, 224 px, batch 8: a prediction by\n{told} {error}"
    with pytest.raises(ValueError, match="three numbers of classes"):
        cost_figures.classes_figure(classes[classes["class_count"] < 100])
    with pytest.raises(ValueError, match="no prediction of the pipeline"):
        cost_figures.run_time_figure(costs[costs["variant"] != "pipeline"])


def test_tables_for_readme(costs):
    lines = readme.cost_table(costs).splitlines()
    assert "| resnet18, 224 px, batch 8 | ISNet selective | 2.50 | 1.00 |  |" in lines
    assert "| resnet18, 224 px, batch 8 | U-Net + classifier |  | 2.00 |  |" in lines
    assert len(lines) == 2 + 4
    rows = [("swin_t", True, "", 1e-7, 2e-6, 2.25), ("odd", False, "layer: erf|x", np.nan, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=architectures.COLUMNS)
    lines = readme.architectures_table(frame).splitlines()[2:]
    assert lines == ["| swin_t | yes | 1e-07 | 2e-06 | 2.25 |", "| odd | no: layer: erf\\|x |  |  |  |"]
    rows = [("vgg11", 224, "forward", 1.0, np.nan), ("vgg11", 224, "captum", np.nan, "captum is not installed")]
    frame = pd.DataFrame(rows, columns=["network", "size", "tool", "ratio_to_forward", "note"])
    lines = readme.explain_table(frame).splitlines()[2:]
    assert lines[1] == "| vgg11, 224 px | captum |  | captum is not installed |"
    failed = readme.explain_table(frame.assign(note="RuntimeError: The size of tensor a: 32"))
    assert failed.endswith("| vgg11, 224 px | captum |  | fails (RuntimeError) |")


def test_readme_says_which_table_is_missing_and_fills_it_when_it_is_there(tmp_path, costs, classes):
    right = {name: fabricated.RIGHT[name][::3] for name in ("standard", "isnet_selective")}
    study = fabricated.study(tmp_path, right=right, cases=20, classes=["a", "b"], test_sets=("biased", "deceiving"))
    tables.write(study)
    frames = tables.read(study) | {"cost": costs}
    parts = (
        "results",
        "conclusion",
        "figure",
        "methods",
        "cost",
        "cost findings",
        "constants",
        "explain",
        "architectures",
    )
    text = "\n".join(f"<!-- generated: {name} -->\nold\n<!-- end: {name} -->" for name in parts)
    filled = readme.update(text, "results/x", {"x": frames})
    assert "`explain.csv`" in filled and "`architectures.csv`" in filled and "with 100" not in filled
    assert "Numbers: [comparisons.csv](results/x/tables/comparisons.csv)" in filled
    assert filled.count("Numbers: [cost.csv](results/x/tables/cost.csv)\n") == 2 and "classes.csv" not in filled
    assert "`cost.csv`" not in filled and "old" not in filled
    filled = readme.update(text, "results/x", {"x": frames | {"classes": classes}})
    assert "0.253 with 100" in filled
    assert "[cost.csv](results/x/tables/cost.csv), [classes.csv](results/x/tables/classes.csv)" in filled


def test_the_studys_own_network_is_the_one_with_most_methods_not_most_options(costs):
    own = costs[costs["variant"].isin(["standard", "isnet_selective"])].assign(network="small_resnet")
    other = own.assign(variant=own["variant"].replace("isnet_selective", "gain"), ratio_to_plain_step=9.0)
    own = pd.concat([own, other[other["variant"] == "gain"]])
    extra = costs[costs["variant"] == "pipeline"]
    many = pd.concat([costs, *(extra.assign(variant=f"isnet_original+{k}", phase="training") for k in "abcd")])
    found = overview.own_cost(pd.concat([own, many]))
    assert set(found) == {"standard", "isnet_selective", "gain"}
