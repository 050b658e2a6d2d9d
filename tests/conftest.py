"""Tests that run beside each other keep to one core each; the tiny study and data sets that several of them use."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also for the processes that tests start


@pytest.fixture
def place(tmp_path):
    """notebooks, results and package, all tiny."""
    from tiny_study import write_all  # imports isnetlib, so after the setting above

    return write_all(tmp_path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """published(name): the publisher's folder of a source, its card changed so that the tiny tree is all there is."""
    from trees import TREES

    from isnetlib.data.sources import SOURCES

    monkeypatch.setattr("isnetlib.data.sources.convert.JSRT_SIDE", 64)

    def build(name):
        root, source = tmp_path / "published", SOURCES[name]
        images, masks, _ = TREES[name](root)
        card = source.CARD._replace(images=(images,), labels={}, masks=masks)
        monkeypatch.setattr(source, "CARD", card)
        return source, root, tmp_path / "out"

    return build
