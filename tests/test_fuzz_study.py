"""Hostile input: study.yaml and the files of runs, damaged at random but the same at every call."""

import copy
import shutil

import numpy as np
import pytest
import yaml
from tiny_study import MORE, PARAMETERS, WHOLE, make_run, write_notebook

from isnetlib.report import store
from isnetlib.study import runner, runs, search
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.pack import pack

HOSTILE = [
    *(None, True, "", "x", " a\nb", "../x", "a\0b", "\ud800", "é" * 300, "[" * 200, 0, -1, 2, 1.0, 1.5, 1e300, 10**400),
    *(float("nan"), float("inf"), [], {}, [[]], [None], {"a": {}}, {1: 2}, {"": 0}, ["standard", "standard"]),
    *("standard", "digits", "gain", "base", {"base": "rrr"}, [0], [0, 0], [1.0], [0.5, 5.0], [10**400]),
]
TOKENS = [*"{}[]:,'\t\x00\n", "&a ", "*a", "<<: ", "!!set ", "!!binary ", "? ", "- ", "1e999"]


def pick(rng, values):
    return values[rng.integers(len(values))]


def mutated(rng) -> bytes:
    """The text of a study.yaml with one to three faults in its content or in its characters."""
    if rng.random() < 0.7:
        content = copy.deepcopy(yaml.safe_load(WHOLE))
        for _ in range(rng.integers(1, 4)):
            change(rng, content)
        return yaml.safe_dump(content, sort_keys=False).encode()
    text = bytearray(WHOLE.encode())
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(len(text)) if text else 0
        kind = rng.integers(4)
        if kind == 0:
            text[at:at] = pick(rng, TOKENS).encode()
        elif kind == 1:
            del text[at : at + rng.integers(1, 40)]
        elif kind == 2 and text:
            text[at] ^= 1 << rng.integers(8)
        else:
            text[at:at] = text[at : at + rng.integers(1, 60)]
    return bytes(text)


def change(rng, content):
    """Put something hostile at a random place of nested mappings and lists, rename a key, or take one away."""
    keys = list(content) if isinstance(content, dict) else range(len(content))
    if not keys:
        return
    key = pick(rng, keys)
    if isinstance(content[key], dict | list) and content[key] and rng.random() < 0.8:
        change(rng, content[key])
        return
    kind, value = rng.integers(4), copy.deepcopy(pick(rng, HOSTILE))
    if kind == 0:
        del content[key]
    elif kind == 1 and isinstance(content, dict):
        content[pick(rng, ["x", "", 1, None, "a/b", "..", "seed", "base", "values", "digits"])] = content.pop(key)
    else:
        content[key] = value


def test_any_study_yaml_is_a_plan_or_a_line(place):
    write_notebook(place[0] / "05_search.ipynb", PARAMETERS + MORE + "option = ''\nvalue = 0.5\n")
    planned = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        (place[0] / "study.yaml").write_bytes(mutated(rng))
        try:
            known = read_studies(place[0])["studies"]
            plans = [part(name, *place) for name in known for part in (runs.resolve, search.trials)]
        except StudyError as error:
            assert "\n" not in str(error) and str(error), seed
            continue
        planned += 1
        for plan in plans:
            assert len({run.name for run in plan}) == len(plan), seed
            for run in plan:
                assert run.folder.resolve().is_relative_to(place[1].resolve()), seed
                yaml.safe_dump(run.parameters, allow_unicode=True).encode()
    assert 20 < planned < 280


# --- run files


FOREIGN = [
    *(b"", b"\0" * 64, b"letters", b"null", b"3", b"[]", b"{}", b'{"a": 1}', b'{"settings": 3}', b'{"thresholds": 3}'),
    *(b'{"thresholds": ["a"]}', b'{"thresholds": [0.5]}', b'{"epoch": "x"}', b'{"time": 5}', b"[" * 5000, b"NaN"),
    *(b'{"settings": {"data_options": [1]}}', b'{"settings": {"data_options": {"fold": 1}}}', b'{"versions": []}'),
    *(b"id,y,p_a,p_b\n", b"id,y,p_a,p_b\na,0,1.5,-0.5\nb,1,0.2,0.8\n", b"id,y,p_a\na,0,1,2\n"),
    *(b"id,y,p_a,p_b\na,0.5,1,0\n", b"id,patient,y,p_a,p_b\na,0,0.9,0.1,x\n", b"PK\x03\x04", b"\x80\x04K\x01."),
    *(b"id,y,p_a,p_b\na,0,0.9,0.1\na,1,0.2,0.8\n", b"epoch,loss\n0,x\n", b"method,seed\na,b\n"),
]


FILES = [
    *("manifest.json", "metrics.json", "predictions/biased.csv", "log.csv", "heatmaps.npz"),
    *("notebooks/10_train.ipynb", "checkpoints/last.pt"),
]


def damaged(rng, data):
    """A file that is cut short, lacks a line, has flipped bits or something more in it, or is another."""
    kind, at, lines, found = rng.integers(6), rng.integers(len(data)), data.splitlines(keepends=True), bytearray(data)
    if kind == 0:
        return data[:at]
    if kind == 1:
        del lines[rng.integers(len(lines))]
        return b"".join(lines)
    if kind == 2:
        for _ in range(rng.integers(1, 4)):
            found[rng.integers(len(found))] ^= 1 << rng.integers(8)
        return bytes(found)
    if kind == 3:
        return data[:at] + pick(rng, [b"\0", b"\xff", b"abc", b'"', b",", b"\n", b"9", b"\0" * 500]) + data[at:]
    return pick(rng, FOREIGN)


@pytest.fixture
def made(place):
    """The tiny study, all runs done."""
    for method, seed in (("standard", 0), ("standard", 1), ("rrr", 0), ("gain", 0)):
        folder = make_run(place, "mixed", method, seed)
        np.savez_compressed(folder / "heatmaps.npz", relevance_biased=np.full((2, 3, 3), seed, np.float16))
        for name in FILES[-2:]:
            (folder / name).parent.mkdir()
            (folder / name).write_bytes(b'{"cells": []}')
    return place


def test_a_damaged_file_is_of_one_run_and_told_in_a_line(made):
    study = made[1] / "mixed"
    folder, others = study / "runs/digits/standard/seed1", {("standard", 0), ("rrr", 0), ("gain", 0)}
    before = {name: (folder / name).read_bytes() for name in FILES}
    named = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 0])
        name = pick(rng, FILES)
        (folder / name).write_bytes(damaged(rng, before[name]))
        case = (seed, name)

        states = runner.status("mixed", *made).set_index(["method", "seed"])
        assert set(states["state"].drop(("standard", 1))) == {"done"}, case
        state, reason = states.loc[("standard", 1), ["state", "reason"]]
        assert state in ("done", "stale") and "\n" not in reason, case
        assert state == "done" or str(folder) in reason or " was " in reason, case
        shutil.rmtree(study / "digits", ignore_errors=True)
        failures = pack(study)
        found = {(run.method, run.seed): store.read_frame(run, "biased") for run in store.find_runs(study)}
        if failures:
            named += 1
            assert len(failures) == 1 and "\n" not in failures[0], case
            assert str(folder) in failures[0] or "digits: " in failures[0], case
        assert found.keys() >= others or "digits: " in failures[0], case
        for path, data in before.items():
            (folder / path).write_bytes(data)
    assert named > 25
