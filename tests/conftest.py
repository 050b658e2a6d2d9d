"""Tests that run beside each other keep to one core each."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also for the processes that tests start
