"""A trained classifier as a program of PyTorch's and as ONNX: the same answers, without isnetlib."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from isnetlib import deploy, own
from isnetlib.__main__ import main
from isnetlib.training.checkpoints import write_tensors

SIZE = 64
HERE = all(importlib.util.find_spec(name) for name in deploy.ONNX)


def run_of(folder, method, backbone, weights=None):
    """A run folder as `own.train` leaves it, of weights drawn at random."""
    about = {"method": method, "options": {}, "backbone": backbone, "weights": weights, "size": SIZE}
    about |= {"classes": ["ill", "well", "ünsure"], "multilabel": False, "grey": False, "equalise": False}
    torch.manual_seed(0)
    made = own.make(about | {"weights": weights and "random"})  # nothing is downloaded, then or later
    for module in made.modules():  # as if trained, so that BatchNorm and thresholds matter
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1), torch.nn.init.uniform_(module.running_var, 0.5, 2)
    own.begin(folder, about)
    write_tensors(folder / "model.pt", own.bare(made).state_dict())
    return folder


CASES = [("isnet_selective", "small_resnet"), ("standard", "small_se"), ("standard", "small_vit")]
CASES += [("pipeline", "small_resnet"), ("attention_gate", "small_resnet"), ("multitask", "resnet18")]

ALONE = """
import sys
sys.modules["isnetlib"] = None
import torch
x = torch.rand(2, 3, 64, 64)
y = torch.export.load("model.pt2").module()(x)
if "onnx" in sys.argv:
    import onnxruntime
    (found,) = onnxruntime.InferenceSession("model.onnx").run(["logits"], {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), y.detach(), rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_exported_classifiers_give_the_same_logits_for_any_number_of_images(tmp_path, method, backbone):
    run = run_of(tmp_path / "run", method, backbone, "default" if backbone == "resnet18" else None)
    assert deploy.export(run, HERE) == [run / "model.pt2", run / "model.onnx"][: 1 + HERE]
    model, extra = own.load(run), {"run.json": ""}
    exported = [torch.export.load(run / "model.pt2", extra_files=extra).module()]
    assert json.loads(extra["run.json"]) == own.read(run)
    if HERE:
        import onnxruntime

        session = onnxruntime.InferenceSession(run / "model.onnx")
        assert json.loads(session.get_modelmeta().custom_metadata_map["run.json"]) == own.read(run)
        exported.append(lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0]))
    for count in (1, 3, 8):
        x = torch.rand(count, 3, SIZE, SIZE)
        with torch.no_grad():
            for program in exported:
                torch.testing.assert_close(program(x), model(x), rtol=1e-5, atol=1e-5)
    if backbone == "resnet18":
        subprocess.run([sys.executable, "-c", ALONE, *["onnx"] * HERE], cwd=run, check=True)


@pytest.mark.skipif(not HERE, reason="the extra onnx is not installed")
def test_what_is_missing_or_differs_is_told_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    run = run_of(tmp_path / "run", "standard", "small_resnet")
    with monkeypatch.context() as patch:
        patch.setattr(deploy, "_session", lambda data: lambda x: torch.zeros(len(x), 3))
        with pytest.raises(ValueError, match="model.onnx would give other answers than the classifier: .* apart"):
            deploy.export(run)
        patch.setattr(deploy, "ONNX", ("onnx", "no_such_package"))
        with pytest.raises(ImportError, match=r"the packages no_such_package: pip install 'isnetlib\[onnx\]'"):
            deploy.export(run)
        assert not (run / "model.pt2").exists()
        assert main(["export", str(run), "--no-onnx"]) == 0
        assert capsys.readouterr().out == f"{run / 'model.pt2'}\n"
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        deploy.export(tmp_path)
