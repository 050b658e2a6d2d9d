"""Tests that run beside each other keep to one core each; the tiny study and data sets that several of them use."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also for the processes that tests start


@pytest.fixture
def place(tmp_path):
    """notebooks and results, all tiny."""
    from tiny_study import write_all  # imports isnetlib, so after the setting above

    return write_all(tmp_path)
