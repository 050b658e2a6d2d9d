"""What a fresh machine is given: one list of packages, told the same in every file; what `import isnetlib` gives."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import isnetlib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINUX, MAC = ("x86_64", "linux"), ("arm64", "darwin")
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


def test_environment_citation_and_licence_say_what_pyproject_says():
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip["pip"][:2] == ["-c requirements.lock", "-e ."]
    assert sorted(pip["pip"][2:]) == sorted(PROJECT["dependencies"] + EXTRAS["dev"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == isnetlib.__version__
    assert [paper["url"].rsplit("/")[-1] for paper in citation["references"]] == ["2202.00232", "2401.08409"]
    assert "MIT License" in (ROOT / "LICENSE").read_text() and PROJECT["license"] == citation["license"] == "MIT"


@pytest.mark.parametrize("machine", [LINUX, MAC])
def test_the_lock_has_one_allowed_version_of_every_dependency(machine):
    def on_it(lines):
        given = dict(zip(("platform_machine", "sys_platform"), machine, strict=True))
        return [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate(given)]

    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    held = on_it(filter(None, lines))
    versions = {canonicalize_name(one.name): re.fullmatch(r"==(.+)", str(one.specifier))[1] for one in held}
    assert len(versions) == len(held), "a package has two versions"
    for one in on_it([*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]):
        assert versions[canonicalize_name(one.name)] in one.specifier, one
    cuda = [name for name in versions if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert len(cuda) > 10 if machine == LINUX else not cuda  # where PyTorch brings them along


@pytest.fixture
def make(tmp_path):
    """make(*arguments) in a folder with the Makefile and what it installs from, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return lambda *arguments: subprocess.run(["make", "-C", tmp_path, *arguments], capture_output=True, text=True)


@needs_make
def test_every_target_installs_first_and_help_lists_it(make):
    targets = {"study": "run --study some", "report": "report --study some", "test": "-m pytest", "lab": "lab"}
    for target, command in targets.items():
        assert f"make {target}\t" in make().stdout
        plan = make("-n", target, "STUDY=some").stdout
        steps = [plan.find("-m venv .venv"), plan.find("-c requirements.lock -e '.[dev]'"), plan.rfind(command)]
        assert -1 < steps[0] < steps[1] < steps[2]
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make test"


@needs_make
def test_make_says_so_where_python_is_missing_or_too_old(make, tmp_path):
    missing = make("study", "PYTHON=no-such-python")
    assert missing.returncode and "There is no no-such-python here. Install Python 3.11 or newer" in missing.stderr
    # A Python that says it is 3.10: it runs the check as an older one would see it.
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info = (3, 10); $2" "$3"\n')
    old.chmod(0o755)
    refused = make("study", f"PYTHON={old}")
    assert refused.returncode and "isnetlib needs Python 3.11 or newer" in refused.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_make_clean_spares_results_and_environment(make, tmp_path):
    kept, caches = [".venv/a", "results/full/b", "results/quick/c"], ("isnetlib", "notebooks", "tests")
    gone = ["results/smoke/x", "build/x", *(f"{name}/__pycache__/x" for name in caches)]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert make("clean").returncode == 0
    assert [name for name in kept + gone if (tmp_path / name).exists()] == kept


def told(command):
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_imported_when_asked_for_and_reports_need_no_torch():
    assert all(callable(getattr(isnetlib, name)) for name in isnetlib.__all__)
    assert told("import isnetlib; print(isnetlib.data.load.__name__)") == "load"
    modules = "isnetlib.stats, isnetlib.__main__, isnetlib.report.tables, isnetlib.report.page"
    assert told(f"import {modules}; import sys; print('torch' in sys.modules)") == "False"
    for name in ("Isnet", "_nothing"):
        with pytest.raises(AttributeError, match=f"module 'isnetlib' has no attribute '{name}'"):
            getattr(isnetlib, name)
