"""Your own images, from the folder to the answers: what a run tells of itself, what is refused, what is shown."""

import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import shapes
import torch
import torchvision
from PIL import Image
from torch import nn

import isnetlib
from isnetlib import audit, own
from isnetlib.__main__ import main
from isnetlib.networks import build_model
from isnetlib.study.runner import execute

QUICK = ["--backbone", "small_resnet", "--size", "32", "--batch-size", "8", "--device", "cpu"]
HOW = {"backbone": "small_resnet", "size": 32, "epochs": 1, "standard": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of shapes, and the run of it that the command makes."""
    place = tmp_path_factory.mktemp("own")
    shapes.write(place / "my_shapes")
    shapes.write(place / "new_shapes", images=40, patients=20, seed=1)
    told = ["train", "--data", place / "my_shapes", "--out", place / "run", "--test", place / "new_shapes"]
    assert main([*map(str, told), "--epochs", "2", *QUICK]) == 0
    return place


@pytest.fixture
def run(place, tmp_path):
    return shutil.copytree(place / "run", tmp_path / "run")


def test_a_run_tells_what_it_is_and_its_page_compares_both_classifiers(place):
    about = own.read(place / "run")
    assert about["method"] == "isnet_selective" and about["options"] == {"heatmap_weight": "auto", "range": "auto"}
    assert about["classes"] == list(shapes.CLASSES) and about["size"] == 32 and not about["grey"]
    assert about["data"].startswith("my_shapes ") and set(about["versions"]) == {"isnetlib", "torch", "torchvision"}
    assert own.read(place / "run" / "standard")["method"] == "standard"
    page = (place / "run" / "report.html").read_text()
    for part in ("Use isnet_selective? ", "<code>internal</code>: ", "new_shapes</code>: ", "base64", *shapes.CLASSES):
        assert part in page
    assert all(page.count(f"<td>{name}</td>") >= 4 for name in ("removed", "blurred", "swapped", "standard"))


@pytest.mark.parametrize("method", ["isnet_selective", "pipeline"])
def test_the_classifier_alone_answers_as_the_trained_method_bit_for_bit(place, tmp_path, method):
    made = []
    fitted = own.fit.load_chosen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own.fit, "load_chosen", lambda one, folder: made.append(one) or fitted(one, folder))
        how = HOW | {"options": {"segmenter_epochs": 1} if method == "pipeline" else {}, "report": lambda line: None}
        images = own.train(place / "my_shapes", tmp_path, method, **how)["internal"]
    x, model = images[[0, 1, 2]][0], isnetlib.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(x).softmax(1), made[0].predict(x)) and not model.training
    assert model.classes == list(shapes.CLASSES) and model.size == 32
    assert isnetlib.show(model, x[0]).axes
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    plain = build_model("small_resnet", 2)  # what an ISNet's weights fit
    assert weights.keys() == plain.state_dict().keys() or method == "pipeline"


def test_trained_again_nothing_is_and_of_another_configuration_it_is_refused(place, run, capsys):
    before = (run / "checkpoints" / "last.pt").read_bytes()
    told = ["train", "--data", str(place / "my_shapes"), "--out", str(run), "--epochs", "2", *QUICK]
    assert main(told) == 0
    assert "epoch" not in capsys.readouterr().out and (run / "checkpoints" / "last.pt").read_bytes() == before
    for more, message in [
        (["--epochs", "3"], "epochs was 2, is 3"),
        (["--size", "64", "--batch-size", "4"], "size was 32, is 64, batch_size was 8, is 4"),
        (["--method", "isnet_original"], "method was isnet_selective, is isnet_original"),
        (["--data", str(place / "new_shapes")], "data was my_shapes "),
    ]:
        assert main([*told, *more]) == 2
        assert f"{run} holds another training: {message}" in capsys.readouterr().err


MISTAKES = {
    "--method isnet": "unknown method 'isnet'; known: standard",
    "--method oracle": "Oracle needs the mask of every image",
    "--backbone resnet0": "unknown backbone 'resnet0'",
    "--backbone alexnet": "alexnet takes no images of 32 pixels",
    "--weights default": "small_resnet has no weights",
    "--device nowhere": "device nowhere is not there",
    "--label kind": "column 'kind' is missing",
    "--test gone": "gone: 1 problem",
    "--learning-rate 0": "learning_rate is 0.0",
}


@pytest.mark.parametrize("more", MISTAKES)
def test_mistakes_are_told_before_anything_is_trained(place, tmp_path, capsys, more):
    told = ["train", "--data", str(place / "my_shapes"), "--out", str(tmp_path / "run"), *QUICK, *more.split()]
    assert main(told) == 2
    error = capsys.readouterr().err
    assert error.startswith("isnet: ") and MISTAKES[more] in error and error.count("\n") <= 2, error
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_no_run_folder_is_told(run):
    with pytest.raises(FileNotFoundError, match="standard.* is no run folder: it has no run.json"):
        isnetlib.load(run / "standard" / "checkpoints")
    torch.save(nn.Linear(1, 1).state_dict(), run / "model.pt")
    with pytest.raises(ValueError, match="model.pt does not hold the weights that run.json tells of"):
        isnetlib.load(run)
    (run / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match="model.pt is missing: the training is not finished"):
        isnetlib.load(run)
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged"):
        isnetlib.load(run)


def test_the_notebook_does_the_same_and_draws(place, tmp_path):
    path = Path(__file__).parents[1] / "notebooks" / "own_data.ipynb"
    given = {"data": str(place / "my_shapes"), "run": str(tmp_path / "run"), "backbone": "small_resnet", "size": 32}
    assert execute(path, tmp_path / "out.ipynb", given | {"epochs": 1, "batch_size": 8}, threads=1) is None
    outputs = [item for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for item in cell.get("outputs", [])]
    assert not [item for item in outputs if item.get("name") == "stderr"]
    assert "image/png" in outputs[-1]["data"] and (tmp_path / "run" / "report.html").exists()


def test_doubts_are_told_first_and_a_refused_training_leaves_the_folder_free(place, tmp_path, monkeypatch):
    told = []
    data = shutil.copytree(place / "my_shapes", tmp_path / "internal")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="internal is the name of a test set of"):
        own.train(data, "run", tests=["internal"], **HOW)
    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    table.assign(mask=table["mask"].where(table["label"] == "cold", "")).to_csv(data / "index.csv", index=False)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        own.train(data, tmp_path / "run", learning_rate=0, report=told.append, **HOW)
    own.train(data, tmp_path / "run", tests=[place / "my_shapes"], report=told.append, **HOW)
    assert any(line.startswith("internal: no warm with a mask") for line in told)
    assert any("of its patients are in training, too" in line for line in told)


def test_settings_are_the_same_however_they_are_told_and_a_finished_model_outlives_its_checkpoints(place, run, capsys):
    again = {"epochs": 2, "batch_size": 8, "device": "cpu", "report": print, "backbone": "small_resnet", "size": 32}
    own.train(place / "my_shapes", run, tests=[place / "new_shapes"], cache=run.parent / "cache", **again)
    assert "epoch" not in capsys.readouterr().out  # as the command trained it, its defaults left out
    for folder in (run, run / "standard"):
        shutil.rmtree(folder / "checkpoints")
    model = (run / "model.pt").read_bytes()
    with pytest.raises(ValueError, match="holds another training: epochs was 2, is 3"):
        own.train(place / "my_shapes", run, **again | {"epochs": 3})
    own.train(place / "my_shapes", run, **again)
    assert "epoch" not in capsys.readouterr().out and (run / "model.pt").read_bytes() == model
    (run / "standard" / "model.pt").unlink()  # its training was stopped: the other one is judged alone
    images = own.masked_images(place / "new_shapes", list(shapes.CLASSES), 32)
    assert audit.compare(run, {"new": images})["new"] in ("depends", "undecided", "look closer", "not shown")


def test_answers_that_could_not_be_written_are_not_computed_and_none_replace_older_ones(place, run, tmp_path, capsys):
    out, seen = tmp_path / "new" / "answers.csv", tmp_path / "seen.png"
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 4), dtype=np.uint8)
    Image.fromarray(image).save(seen)
    assert main(["predict", str(run), str(seen), "--out", str(out), "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "is transparent in parts" in told and "none of 1 images could be read" in told and not out.exists()
    Image.fromarray(image[..., :3]).save(seen)
    assert main(["predict", str(run), str(seen), "--out", str(out), "--device", "cpu"]) == 0
    before = out.read_bytes()
    assert main(["predict", str(run), str(tmp_path / "gone.png"), "--out", str(out)]) == 2
    assert out.read_bytes() == before and not [*out.parent.glob(".*")]
    for command in (["predict", run, seen, "--out", tmp_path], ["audit", run, "--data", "gone", "--out", tmp_path]):
        assert main([*map(str, command)]) == 2
        assert f"Is a directory: '{tmp_path}'" in capsys.readouterr().err
    assert main(["predict", str(run), str(seen), "--out", str(out), "--heatmaps", str(seen)]) == 2
    assert "File exists" in capsys.readouterr().err


def test_predictions_are_those_of_the_test_and_a_broken_image_is_one_line(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, new = str(place / "run"), place / "new_shapes"
    assert main(["predict", run, str(new)]) == main(["predict", run, str(new / "index.csv"), "--out", "a.csv"]) == 0
    table = pd.read_csv("predictions.csv")
    assert list(table) == ["image", "answer", "p_cold", "p_warm"] and table.equals(pd.read_csv("a.csv"))
    model = isnetlib.load(run)
    x = own.masked_images(new, model.classes, 32)[list(range(40))][0]
    with torch.no_grad():
        np.testing.assert_allclose(table[["p_cold", "p_warm"]], model(x).softmax(1), rtol=1e-5)
    assert (table["answer"] == np.where(table["p_warm"] > 0.5, "warm", "cold")).all()
    some = shutil.copytree(new / "images", tmp_path / "some")
    (some / "001.png").write_bytes(b"broken")
    capsys.readouterr()
    assert main(["predict", run, str(some), str(some / "gone.png"), "--out", "b.csv"]) == 1
    broken, gone = capsys.readouterr().err.splitlines()
    assert "001.png: cannot be read as an image" in broken and "gone.png: file is missing" in gone
    assert len(pd.read_csv("b.csv")) == 39
    assert main(["predict", run, str(some / "000.png"), "--heatmaps", "maps"]) == 0
    with Image.open("maps/000.png.png") as picture:
        assert picture.size == (700, 340)
    assert len(pd.read_csv("predictions.csv")) == 1
    other = shutil.copytree(some, tmp_path / "other")
    (other / "note.txt").touch()
    capsys.readouterr()
    assert main(["predict", run, str(some), str(other), "--out", "c.csv", "--heatmaps", "several"]) == 1
    assert f"{other}: 1 other files left out" in capsys.readouterr().err
    both = pd.read_csv("c.csv")["image"]
    assert both.is_unique and len(both) == 78 and both.iloc[0] == (some / "000.png").as_posix()
    assert len([*Path("several").rglob("*.png")]) == 78
    (tmp_path / "nothing").mkdir()
    assert main(["predict", run, "nothing"]) == main(["predict", "nothing", str(some)]) == 2


def test_a_model_of_grey_images_sees_colour_in_grey_and_16_bit_as_8(place, tmp_path):
    model = isnetlib.load(place / "run")
    model.grey = True
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "x.png")
    x = own.read_image((tmp_path / "x.png").read_bytes(), model)
    assert x.shape == (3, 32, 32) and torch.equal(x[0], x[2])


def test_a_run_is_audited_as_it_is(place, capsys):
    tell = ["--data", str(place / "new_shapes"), "--out", str(place / "audit.html")]
    assert main(["audit", str(place / "run"), *tell]) == 0
    for path, more, message in [
        ("run", ["--size", "64"], "run.json tells the network"),
        ("run/model.pt", [], "give --backbone, or the folder of its run"),
    ]:
        assert main(["audit", str(place / path), *tell, *more]) == 2
        assert message in capsys.readouterr().err


def found(score, n=100):
    """An answer of `measure`, for a classifier that is right in this share of the cases on the worst background."""
    y = np.arange(n) % 2
    right = np.arange(n) < score * n
    p = {name: np.eye(2)[y] for name in ("as_it_is", "removed")} | {"swapped": np.eye(2)[np.where(right, y, 1 - y)]}
    return dict(zip(("table", "draws"), audit.drops(y, p, np.arange(n)), strict=True))


def test_the_choice_is_by_the_worst_background():
    words = {"yes": (0.95, 0.5), "no": (0.5, 0.95), "neither": (0.3, 0.2), "undecided": (0.9, 0.91)}
    for word, (method, standard) in words.items():
        assert audit.choice(found(method), found(standard)) == word


def test_a_test_set_that_cannot_be_measured_is_told_on_the_page(place, run):
    images = own.masked_images(place / "new_shapes", list(shapes.CLASSES), 32)
    words = audit.compare(run, {"one": images.subset(np.flatnonzero(images.y == 0)), "all": images})
    assert "do not hold every class" in words["one"] and words["all"] in ("yes", "no", "neither", "undecided")
    assert "do not hold every class" in (run / "report.html").read_text()


RNG = np.random.default_rng(0)
SHOWN = [RNG.integers(0, 255, (40, 40), np.uint8), RNG.random((40, 40, 3)), torch.rand(3, 32, 32)]
SHOWN += [torch.rand(1, 3, 32, 32, requires_grad=True), torch.randint(255, (1, 32, 32), dtype=torch.uint8)]


@pytest.mark.parametrize("x", SHOWN, ids=lambda x: f"{tuple(x.shape)} {x.dtype}")
def test_an_image_is_shown_beside_its_heatmap_on_one_scale_about_0(place, x):
    mask = np.zeros(x.shape[-2:] if x.shape[-1] != 3 else x.shape[:2])
    mask[8:20, 8:20] = 1
    fig = isnetlib.show(isnetlib.load(place / "run"), x, mask)
    image, heatmap = (ax.images[0] for ax in fig.axes[:2])
    assert image.get_array().shape == (32, 32, 3) and image.get_array().max() > 200
    low, high = heatmap.get_clim()
    assert low == -high and "relevance outside the mask: " in fig.axes[1].get_title() and fig.axes[1].collections
    assert fig.axes[0].get_title().split()[0] in shapes.CLASSES


def test_any_classifier_is_shown_one_in_train_mode_warns_and_what_is_no_image_is_refused():
    model = torchvision.models.resnet18(num_classes=2)
    with pytest.warns(UserWarning, match="the model is in train mode"):
        isnetlib.show(model, torch.rand(3, 64, 64))
    assert isnetlib.show(model.eval(), torch.rand(3, 64, 64)).axes[1].get_title() == ""
    for x in (np.full((32, 32), 7.0), np.zeros((5, 32, 32)), torch.rand(2, 3, 32, 32), np.zeros(3)):
        with pytest.raises(ValueError, match="an image has 1 or 3 channels"):
            isnetlib.show(model, x)
    with pytest.raises(ValueError, match=r"the mask is \(8, 8\), its image \(32, 32\)"):
        isnetlib.show(model, torch.rand(3, 32, 32), np.ones((8, 8)))
