"""The commands of the Makefile and of the pages, and the one list of dependencies."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from data_prep.benchmarks import BENCHMARKS
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PAGES = README + (ROOT / "docs" / "explorer.md").read_text("utf-8")
TEXTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))
COMMANDS = (ROOT / "CONTRIBUTING.md").read_text("utf-8") + "".join(
    path.read_text("utf-8") for path in (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
)


def test_all_and_test_bring_every_extra_and_conda_users_get_the_same():
    extras = PROJECT["optional-dependencies"]
    (every,) = extras["all"]
    apart = {"all", "book", "hub", "site", "test"}
    assert set(re.search(r"\[(.*)\]", every)[1].split(",")) == set(extras) - apart
    assert f"{PROJECT['name']}[all,book]" in extras["test"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"] == ["python>=3.11", "pip", {"pip": ["-e .[all]"]}]
    assert PROJECT["requires-python"] == ">=3.11"  # no cap: a new Python is tried, not refused


def test_the_constraints_are_those_of_the_records():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    records = [
        json.loads(path.read_text("utf-8")) for path in (ROOT / "results").glob("mini-*.json")
    ]
    assert len(records) == 5
    for record in records:
        for name in ("torch", "transformers"):
            assert record["versions"][name].partition("+")[0] == pinned[name]


def test_the_citation_names_the_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == PROJECT["version"] and cited["license"] == PROJECT["license"]
    assert f"\n## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    paper = cited["preferred-citation"]
    entry = README[README.index("@article") :]
    assert paper["title"] in entry and f"{{{paper['volume']}}}" in entry
    names = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert f"{{{' and '.join(names)}}}" in entry
    # what the format requires (citation-file-format.github.io, 1.2.0)
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert {"type", "title", "authors"} <= paper.keys()


def test_the_form_for_a_run_offers_every_benchmark():
    form = ROOT / ".github" / "ISSUE_TEMPLATE" / "real-benchmark.yml"
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    subprocess.run([*check, "vendor.github-issue-forms", str(form)], check=True)
    fields = {one.get("id"): one for one in yaml.safe_load(form.read_text("utf-8"))["body"]}
    real = set(BENCHMARKS) - {"folder"}
    assert set(fields["benchmark"]["attributes"]["options"]) == real, "list the new one there"
    assert "run.json" in fields["record"]["attributes"]["label"]


def test_what_is_cleaned_holds_no_training_and_an_environment_of_others_is_left_alone():
    recipe = re.search(r"^clean: .*\n\t(.*)\n", MAKEFILE, flags=re.MULTILINE)[1]
    assert recipe == "rm -rf .venv docs/_build"
    for conda, place in (("base", ".venv"), ("cma", "/opt/cma")):
        environment = os.environ | {"CONDA_DEFAULT_ENV": conda, "CONDA_PREFIX": f"/opt/{conda}"}
        asked = ["make", "--dry-run", "--assume-old", f"{place}/.cma-test", "fast"]
        said = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert f"{place}/bin/python tests/stages.py fast" in said.stdout, said.stderr


def test_the_pages_show_pictures_that_are_here_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGES)
    assert "notebooks/figures/architecture.png" in shown
    shown = {(ROOT / name.removeprefix("../")).resolve() for name in shown}
    assert all(path.stat().st_size <= 150_000 for path in shown)
    assert len(shown) == len(list((ROOT / "notebooks" / "figures").glob("*.[jp][pn]g")))


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "data_prep/README.md",
        "notebooks/README.md",
        "results/README.md",
        *TEXTS,
    ],
)
def test_links_of_a_page_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text("utf-8"))
    assert len(targets) > 2 or page in ("CHANGELOG.md", "CONTRIBUTING.md", *TEXTS)
    for target in targets:
        path = (ROOT / page).parent / target
        assert target.startswith(("https://", "http://")) or path.exists(), target


def test_the_results_of_the_cheat_sheet_are_those_of_readme():
    """Readme's are made from the records, so the sheet has no number that nobody measured."""
    sheet = (ROOT / "docs" / "cheatsheet.md").read_text("utf-8")
    results = re.search(r"\n## Five results\n(.*?)\n## ", sheet, flags=re.DOTALL)[1]
    number = r"(?<![\w@/])\d+(?:,\d{3})*(?:\.\d+)?"
    said = set(re.findall(number, re.sub(r"^\d\.", "", results, flags=re.MULTILINE)))
    assert len(said) > 20 and said <= set(re.findall(number, README))
    assert "cheatsheet.md" in (ROOT / "notebooks" / "02_adapter_anatomy.ipynb").read_text("utf-8")


def test_the_files_of_a_clone_weigh_at_most_52_mb():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("no clone")
    names = listed.stdout.decode().rstrip("\0").split("\0")
    there = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert sum(path.stat().st_size for path in there) <= 52_000_000
