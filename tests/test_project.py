"""The two commands, the one list of dependencies, and what CI calls."""

import re
import subprocess
import tomllib

import pytest
import yaml

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_conda_users_get_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, rest = environment["dependencies"]
    assert python == "python=3.11" and pip == "pip"
    assert rest == {"pip": ["-e .[test]"]}


def test_all_and_test_bring_every_extra():
    extras = PROJECT["optional-dependencies"]
    (every,) = extras["all"]
    assert set(re.search(r"\[(.*)\]", every)[1].split(",")) == set(extras) - {"all", "test"}
    assert f"{PROJECT['name']}[all]" in extras["test"]


def test_make_targets_that_readme_names_are_there_and_the_others_are_too():
    readme, makefile = (ROOT / "README.md").read_text("utf-8"), (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[1].split())
    assert targets == phony
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", readme, flags=re.MULTILINE))
    assert {"run", "test", "explore", "browser", "pictures"} <= named <= targets


def test_what_is_tested_by_make_is_all_of_the_tests_once():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(r"^test: .*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    chosen = re.findall(r"-m pytest -q -m (\"[^\"]+\"|\S+)", recipe)
    assert chosen == [
        '"not minis and not wheel and not processes and not slow"',
        '"processes or slow"',
        "wheel",
        '"minis and not browser"',
        "browser",
    ]
    browser = ROOT / "tests" / "explore" / "browser"  # or the fast suite would need one
    for path in browser.glob("test_*.py"):
        assert "pytestmark = [pytest.mark.browser, pytest.mark.minis]" in path.read_text("utf-8"), path


def test_readme_shows_pictures_that_are_here_and_small():
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    assert "notebooks/figures/architecture.png" in shown
    assert all((ROOT / name).stat().st_size <= 150_000 for name in shown)
    pictures = (ROOT / "notebooks" / "figures").glob("*.[jp][pn]g")
    assert len(shown) == len(list(pictures))


def test_workflow_runs_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    full = workflow["jobs"]["full"]
    tested = {row["python"] for row in full["strategy"]["matrix"]["include"]}
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert {f"3.{low}", f"3.{int(high) - 1}"} <= tested
    assert any(step.get("run") == ".ci/run" for step in full["steps"])


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
        r"\$\(PYTHON\) ((?:notebooks/run|tests/explore/browser/chromium)\.py.*"
        r"|-m (?:data_prep|experiments|cma\.)[^\n]*)",
        makefile,
    ):
        command = re.sub(r" \$\(if .*", "", command)  # what MEDIA adds
        if "--commit" not in command and "--keep" not in command:
            assert f"python {command}" in readme, command
    for command in re.findall(r"\$\(PYTHON\) -m pytest -q ([^\n]*)", makefile):
        command = command.replace("-p no:cacheprovider ", "")
        assert f"pytest {command}" in readme, command


def test_nothing_fetched_or_generated_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = listed.splitlines()
    assert not [name for name in files if re.match(r"(data|runs|\.venv)/", name)]
    assert not [name for name in files if name.endswith((".mp4", ".webp", ".tgz", ".pyc"))]
