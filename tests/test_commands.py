"""Each command that a page names: every program says its help, and `make` knows each target."""

import re
import runpy
import sys

import pytest

from cma import plots
from tests import ROOT

PAGES = ("README.md", "LIBRARY.md", "REPRODUCE.md", "CONTRIBUTING.md", "SEVERAL_GPUS.md")
TEXT = "\n".join((ROOT / page).read_text("utf-8") for page in PAGES)
OURS = "cma|data_prep|experiments|explorer|tests"
MODULES = set(re.findall(rf"(?:python|launch) -m ((?:{OURS})\b[\w.]*\w)", TEXT))
MODULES |= set(re.findall(rf"(?:python|launch) -m ({OURS})\b(?!\.)", TEXT))
SCRIPTS = set(re.findall(r"python ((?:\w+/)+\w+\.py)", TEXT))
# these take no words; the tests of the book and of the browser run the first and the last of them
WITHOUT_WORDS = {
    "book/build.py",
    "notebooks/figures/gains.py",
    "tests/explorer/browser/chromium.py",
}


@pytest.mark.parametrize("command", sorted(MODULES | SCRIPTS - WITHOUT_WORDS))
def test_it_says_its_help(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        if command in SCRIPTS:
            runpy.run_path(str(ROOT / command), run_name="__main__")
        else:
            runpy.run_module(command, run_name="__main__")
    assert not ended.value.code and "usage:" in capsys.readouterr().out.lower()


def test_the_pages_name_programs_and_targets_that_are_there():
    assert len(MODULES) >= 8 and WITHOUT_WORDS <= SCRIPTS
    assert all((ROOT / script).is_file() for script in SCRIPTS)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE)) <= set(targets)


def test_readmes_figure_is_drawn_from_the_results(monkeypatch):
    if not list(ROOT.glob("results/methods/*.json")):
        pytest.skip("nothing is measured on this backbone yet")
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append((figure, path)))
    runpy.run_path(str(ROOT / "notebooks" / "figures" / "gains.py"), run_name="__main__")
    ((figure, path),) = drawn
    assert path == ROOT / "notebooks" / "figures" / "gains.png" and figure.axes
