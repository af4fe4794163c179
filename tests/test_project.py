"""The two commands, the one list of dependencies, and what CI calls."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_conda_users_get_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, rest = environment["dependencies"]
    assert python == "python=3.11" and pip == "pip"
    assert rest == {"pip": ["-e .[test]"]}


def test_dependencies_are_ranges_and_torch_is_no_pin():
    every = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    assert all(">=" in one and "==" not in one for one in every)
    assert any(one.startswith("torch>=") for one in every)


def test_ci_is_make_test():
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines[-1] == "make test"
    assert os.name == "nt" or os.access(script, os.X_OK)


def test_workflow_runs_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    full = workflow["jobs"]["full"]
    tested = {row["python"] for row in full["strategy"]["matrix"]["include"]}
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert {f"3.{low}", f"3.{int(high) - 1}"} <= tested
    assert {row["os"] for row in full["strategy"]["matrix"]["include"]} >= {
        "ubuntu-24.04-arm",
        "macos-latest",
    }
    assert any(step.get("run") == ".ci/run" for step in full["steps"])
    caches = [step["with"]["key"] for step in full["steps"] if "actions/cache@" in step.get("uses", "")]
    assert caches == ["packages-${{ hashFiles('data_prep/packages.py') }}"]


def test_the_oldest_releases_are_tested_too():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    command = "\n".join(step.get("run", "") for step in workflow["jobs"]["oldest"]["steps"])
    for package in ("transformers", "torch"):
        oldest = next(
            re.search(r">=([\d.]+)", one)[1] for one in PROJECT["dependencies"] if one.startswith(package)
        )
        assert f'"{package}=={oldest}.*"' in command


def test_readme_names_the_commands_behind_both_targets():
    readme, makefile = (ROOT / "README.md").read_text("utf-8"), (ROOT / "Makefile").read_text("utf-8")
    for command in re.findall(
        r"\$\(PYTHON\) (notebooks/run\.py .*|-m (?:data_prep|cma\.report)[^\n]*)", makefile
    ):
        if "--commit" not in command and "--keep" not in command:
            assert f"python {command}" in readme, command


def test_nothing_fetched_or_generated_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = listed.splitlines()
    assert not [name for name in files if re.match(r"(data|runs|\.venv)/", name)]
    assert not [name for name in files if name.endswith((".mp4", ".webp", ".tgz", ".pyc"))]
