"""The two commands, the one list of dependencies, and what CI calls."""

import re
import subprocess
import tomllib

import pytest
import yaml

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README, MAKEFILE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "Makefile"))


def test_all_and_test_bring_every_extra_and_conda_users_get_the_same():
    extras = PROJECT["optional-dependencies"]
    (every,) = extras["all"]
    assert set(re.search(r"\[(.*)\]", every)[1].split(",")) == set(extras) - {"all", "test"}
    assert f"{PROJECT['name']}[all]" in extras["test"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-e .[test]"]}]


def test_what_is_tested_by_make_is_all_of_the_tests_once():
    recipe = re.search(r"^test: .*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)[1]
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
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert "notebooks/figures/architecture.png" in shown
    assert all((ROOT / name).stat().st_size <= 150_000 for name in shown)
    assert len(shown) == len(list((ROOT / "notebooks" / "figures").glob("*.[jp][pn]g")))


def test_workflow_runs_the_oldest_and_the_newest_python_and_the_oldest_releases():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))["jobs"]
    tested = {row["python"] for row in jobs["full"]["strategy"]["matrix"]["include"]}
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert {f"3.{low}", f"3.{int(high) - 1}"} <= tested
    assert any(step.get("run") == ".ci/run" for step in jobs["full"]["steps"])
    command = "\n".join(step.get("run", "") for step in jobs["oldest"]["steps"])
    oldest = dict(
        re.findall(r"^(transformers|torch)\b.*>=([\d.]+)", "\n".join(PROJECT["dependencies"]), re.M)
    )
    assert len(oldest) == 2 and all(f'"{name}=={least}.*"' in command for name, least in oldest.items())


def test_readme_names_targets_that_are_there_and_the_commands_behind_them():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    assert targets == set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE))
    assert {"run", "test", "explore", "browser", "pictures"} <= named <= targets
    command = r"\$\(PYTHON\) ((?:notebooks/run|tests/explore/browser/chromium)\.py.*"
    for words in re.findall(command + r"|-m (?:data_prep|experiments|cma\.)[^\n]*)", MAKEFILE):
        words = re.sub(r" \$\(if .*", "", words)  # what MEDIA adds
        if "--commit" not in words and "--keep" not in words:
            assert f"python {words}" in README, words
    for words in re.findall(r"\$\(PYTHON\) -m pytest -q ([^\n]*)", MAKEFILE):
        assert f"pytest {words.replace('-p no:cacheprovider ', '')}" in README, words


def test_nothing_fetched_or_generated_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = listed.splitlines()
    assert not [name for name in files if re.match(r"(data|runs|\.venv)/", name)]
    assert not [name for name in files if name.endswith((".mp4", ".webp", ".tgz", ".pyc"))]
