"""What `import isnetlib` gives: every public name, each imported when it is asked for."""

import subprocess
import sys

import pytest

import isnetlib
from isnetlib import baselines, names, train

REPORTING = "comparison_figures, figures, heatmaps, joint, report, runner, runs, search, search_figure, stats, tables"


def test_every_public_name_is_there():
    assert all(callable(getattr(isnetlib, name)) for name in isnetlib.__all__)
    assert isnetlib.ISNet.__module__ == "isnetlib.isnet"


def test_modules_need_no_import_of_their_own():
    command = "import isnetlib; print(isnetlib.memory.keep_freed_memory.__name__, isnetlib.rules.RULES is not None)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert told == "keep_freed_memory True\n"


@pytest.mark.parametrize("name", ["Isnet", "_nothing", "__wrapped__"])
def test_what_is_not_there_is_refused_by_name(name):
    with pytest.raises(AttributeError, match=f"module 'isnetlib' has no attribute '{name}'"):
        getattr(isnetlib, name)


def test_tables_figures_and_reports_do_without_torch():
    command = f"from isnetlib import {REPORTING}; import sys; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def test_constants_that_reports_share_with_modules_of_torch_are_the_same():
    assert names.BACKBONES == baselines.BACKBONES
    assert names.WORKS == train.WORKS
