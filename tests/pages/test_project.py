"""The commands of the Makefile and of the pages, and the one list of dependencies."""

import re
import tomllib

import pytest
import yaml

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PAGES = README + (ROOT / "docs" / "library.md").read_text("utf-8")
COMMANDS = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_all_and_test_bring_every_extra_and_conda_users_get_the_same():
    extras = PROJECT["optional-dependencies"]
    (every,) = extras["all"]
    apart = {"all", "book", "hub", "site", "test"}
    assert set(re.search(r"\[(.*)\]", every)[1].split(",")) == set(extras) - apart
    assert f"{PROJECT['name']}[all,book]" in extras["test"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-e .[test]"]}]


def test_what_is_tested_by_make_is_all_of_the_tests_once():
    recipe = re.search(r"^test: .*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)[1]
    chosen = re.findall(r"-m pytest -q -m (\"[^\"]+\"|\S+)", recipe)
    assert chosen == [
        '"not minis and not wheel and not processes and not slow and not book"',
        '"processes or slow"',
        "wheel",
        "book",
        '"minis and not browser"',
        '"browser and not book"',
    ]


def test_the_pages_show_pictures_that_are_here_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGES)
    assert "notebooks/figures/architecture.png" in shown
    shown = {(ROOT / name.removeprefix("../")).resolve() for name in shown}
    assert all(path.stat().st_size <= 150_000 for path in shown)
    assert len(shown) == len(list((ROOT / "notebooks" / "figures").glob("*.[jp][pn]g")))


def test_the_pages_name_targets_that_are_there_and_the_commands_behind_them():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    assert targets == set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    command = r"\$\(PYTHON\) ((?:notebooks/run|docs/build|tests/explorer/browser/chromium)\.py.*"
    for words in re.findall(command + r"|-m (?:data_prep|experiments|cma\.)[^\n]*)", MAKEFILE):
        words = re.sub(r" \$\(if .*", "", words)  # what MEDIA adds
        if "--commit" not in words and "--keep" not in words:
            assert f"python {words}" in COMMANDS, words
    for words in re.findall(r"\$\(PYTHON\) -m pytest -q ([^\n]*)", MAKEFILE):
        assert f"pytest {words.replace('-p no:cacheprovider ', '')}" in COMMANDS, words


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "data_prep/README.md",
        "docs/index.md",
        "docs/library.md",
        "docs/reproduce.md",
        "docs/try_it.md",
        "notebooks/README.md",
        "results/README.md",
    ],
)
def test_links_of_a_page_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text("utf-8"))
    assert len(targets) > 2
    for target in targets:
        path = (ROOT / page).parent / target
        assert target.startswith(("https://", "http://")) or path.exists(), target
