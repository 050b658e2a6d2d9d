"""One thread a test: on several, tensors as small as these take longer. Fixtures that several files use."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also for the processes that tests start


@pytest.fixture
def seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """notebooks and results, all tiny; the data are unchanged."""
    from tiny_study import here, write_all  # imports isnetlib, so after the setting above

    from isnetlib.study import runs

    monkeypatch.setattr(runs, "data_hashes", here)
    return write_all(tmp_path)
