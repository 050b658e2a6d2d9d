"""What a fresh machine is given: one list of packages, told the same in every file that installs them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
PLATFORMS = {
    "x86-64 Linux": {"platform_machine": "x86_64", "sys_platform": "linux"},
    "arm64 Linux": {"platform_machine": "aarch64", "sys_platform": "linux"},
    "arm64 macOS": {"platform_machine": "arm64", "sys_platform": "darwin"},
    "x86-64 Windows": {"platform_machine": "AMD64", "sys_platform": "win32"},
}


def locked(platform):
    """name -> version that requirements.lock allows on a platform."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line]
    wanted = [one for one in wanted if one.marker is None or one.marker.evaluate(PLATFORMS[platform])]
    names = [canonicalize_name(one.name) for one in wanted]
    assert len(names) == len(set(names)), "a package has two versions on one platform"
    return {name: re.fullmatch(r"==(.+)", str(one.specifier))[1] for name, one in zip(names, wanted, strict=True)}


def test_environment_yml_names_the_packages_of_pyproject():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = content["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert pip["pip"][:2] == ["-c requirements.lock", "-e ."]
    assert sorted(pip["pip"][2:]) == sorted(DEPENDENCIES)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_has_one_allowed_version_of_every_dependency(platform):
    versions = locked(platform)
    extras = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    for one in map(Requirement, PROJECT["dependencies"] + extras):
        if one.marker is None or one.marker.evaluate(PLATFORMS[platform]):
            assert versions[canonicalize_name(one.name)] in one.specifier, f"{one} on {platform}"


def test_torch_and_torchvision_are_known_pairs():
    pairs = {platform: (locked(platform)["torch"], locked(platform)["torchvision"]) for platform in PLATFORMS}
    assert set(pairs.values()) == {("2.14.1", "0.29.1"), ("2.9.1", "0.24.1")}
    assert pairs["arm64 Linux"] == ("2.9.1", "0.24.1")


def test_cuda_packages_are_held_only_where_torch_brings_them():
    def cuda(platform):
        return {name for name in locked(platform) if name.startswith(("nvidia-", "cuda-", "triton"))}

    assert len(cuda("x86-64 Linux")) > 10
    assert not cuda("arm64 Linux") | cuda("arm64 macOS") | cuda("x86-64 Windows")


def test_ci_calls_make_test_and_nothing_else():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line.strip() and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail" and commands[-1] == "make test" and len(commands) == 3
    assert (ROOT / ".ci/run").stat().st_mode & 0o111, "not executable"


@pytest.fixture
def fresh(tmp_path):
    """A folder with the Makefile and what it installs from, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments):
    return subprocess.run(["make", "-C", folder, *arguments], capture_output=True, text=True)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_every_target_installs_first_and_help_lists_it(fresh):
    targets = ("study", "test", "lab", "report", "clean")
    help_text = make(fresh).stdout
    for target in targets:
        assert f"make {target}\t" in help_text
        plan = make(fresh, "-n", target, "STUDY=some").stdout
        installs = [plan.find("-m venv .venv"), plan.find("pip install"), plan.find("-c requirements.lock -e '.[dev]'")]
        if target == "clean":
            assert installs == [-1] * 3
        else:
            assert -1 < installs[0] < installs[1] < installs[2]
    assert "isnet run --study some" in make(fresh, "-n", "study", "STUDY=some").stdout
    assert "isnet report --study quick" in make(fresh, "-n", "report").stdout


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_says_so_where_python_is_missing_or_too_old(fresh, tmp_path):
    missing = make(fresh, "study", "PYTHON=no-such-python")
    assert missing.returncode and "There is no no-such-python here. Install Python 3.11 or newer" in missing.stderr
    # A Python that says it is 3.10: it runs the check as an older one would see it.
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info = (3, 10); $2" "$3"\n')
    old.chmod(0o755)
    refused = make(fresh, "study", f"PYTHON={old}")
    assert refused.returncode and "isnetlib needs Python 3.11 or newer" in refused.stderr
    assert not (fresh / ".venv").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_clean_spares_results_and_environment(fresh):
    kept = [".venv/file", "results/full/metrics.json", "results/quick/metrics.json", "notebooks/study.yaml"]
    gone = [
        "results/smoke/file",
        "isnetlib/__pycache__/a.pyc",
        "tests/__pycache__/b.pyc",
        ".ruff_cache/c",
        "x.egg-info/d",
    ]
    for name in kept + gone:
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).write_text("")
    assert make(fresh, "clean").returncode == 0
    assert all((fresh / name).exists() for name in kept)
    assert not any((fresh / name).parent.exists() for name in gone)


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_ignores_weights_and_local_studies_but_no_published_result(tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path / ".gitignore")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    run = "runs/digits/standard/seed0"
    ignored = [
        f"results/smoke/{run}/log.csv",
        f"results/quick/{run}/log.csv",
        f"results/full/{run}/checkpoints/last.pt",
    ]
    ignored += [
        f"results/full/{run}/notebooks/10_train.ipynb",
        "results/full/notebooks/50_report.ipynb",
        ".venv/pyvenv.cfg",
    ]
    kept = ["manifest.json", "log.csv", "metrics.json", "heatmaps.npz", "predictions/biased.csv"]
    kept = [f"results/full/{run}/{name}" for name in kept] + ["results/full/report.html", "notebooks/10_train.ipynb"]
    kept += ["results/full/tables/metrics.csv", "results/full/figures/heatmaps.png"]
    asked = subprocess.run(["git", "-C", tmp_path, "check-ignore", *ignored, *kept], capture_output=True, text=True)
    assert asked.stdout.split() == ignored


def test_python_here_is_one_the_project_allows():
    assert ".".join(map(str, sys.version_info[:3])) in SpecifierSet(PROJECT["requires-python"])


def test_citation_names_the_software_and_both_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["title"].startswith("isnetlib") and citation["version"] == PROJECT["version"]
    assert [paper["url"].rsplit("/")[-1] for paper in citation["references"]] == ["2202.00232", "2401.08409"]
    assert "MIT License" in (ROOT / "LICENSE").read_text() and PROJECT["license"] == citation["license"] == "MIT"
