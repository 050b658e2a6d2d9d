"""A trained classifier for where there is no isnetlib: as a program of PyTorch's, and as ONNX.

Both take images, float32 (B, 3, size, size) from 0 to 1 of any number B, and give logits (B, K): what `isnetlib.load`
gives, standardisation and, of a pipeline, its U-Net included. They hold run.json, whose `classes` are in the order of
the logits, and whose `size`, `grey` and `equalise` tell how images were read (`isnetlib.own.read_image`).

    torch.export.load("model.pt2").module()(images)                                  # needs torch alone
    onnxruntime.InferenceSession("model.onnx").run(["logits"], {"images": images})   # needs onnxruntime alone
"""

import importlib.util
import io
import warnings
from pathlib import Path

import torch
from torch import nn

from isnetlib.own import load
from isnetlib.training.files import write_atomically

ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages of the extra `onnx`
CLOSE = 1e-5  # of the largest logit, or of 1: how much may differ


def export(run: str | Path, onnx: bool = True) -> list[Path]:
    """Write model.pt2 and, if wanted, model.onnx into a run folder, once their answers on random images are those of
    the classifier; the paths. ImportError: the extra `onnx` is missing; ValueError: other answers. Errors as of `load`.
    """
    if onnx and (missing := [name for name in ONNX if importlib.util.find_spec(name) is None]):
        raise ImportError(f"ONNX needs the packages {', '.join(missing)}: pip install 'isnetlib[onnx]'")
    run, model, buffer = Path(run), load(run), io.BytesIO()
    about = (run / "run.json").read_text(encoding="utf-8")
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of the exporters, on their own insides
        x = (torch.zeros(2, 3, model.size, model.size),)
        program = torch.export.export(model, x, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        _check("model.pt2", model, program.module())
        torch.export.save(program, buffer, extra_files={"run.json": about})
        made = {"model.pt2": buffer.getvalue()}
        if onnx:
            named = {"input_names": ["images"], "output_names": ["logits"]}
            proto = torch.onnx.export(program, dynamo=True, verbose=False, **named).model_proto
            proto.metadata_props.add(key="run.json", value=about)
            made["model.onnx"] = proto.SerializeToString()
            _check("model.onnx", model, _session(made["model.onnx"]))
    for name, data in made.items():
        write_atomically(run / name, data)
    return [run / name for name in made]


def _session(data: bytes):
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def _check(name: str, model: nn.Module, exported) -> None:
    for count in (1, 5):
        x = torch.rand(count, 3, model.size, model.size, generator=torch.Generator().manual_seed(count))
        expected = model(x)
        apart = (exported(x) - expected).abs().max() / expected.abs().max().clamp(min=1)
        if not apart <= CLOSE:
            raise ValueError(f"{name} would give other answers than the classifier: {apart:.2g} apart")
