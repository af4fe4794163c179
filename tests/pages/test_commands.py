"""Each command that a page names: every program says its help, and `make` knows each target."""

import re
import runpy
import sys
from contextlib import nullcontext

import pytest
from matplotlib.figure import Figure

from cma import files
from experiments.__main__ import COMMANDS
from tests import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]
TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)
MODULES = set(re.findall(r"(?:python|launch) -m (\w+(?:\.\w+)*)", TEXT)) - {"http.server"}
SCRIPTS = set(re.findall(r"python ((?:\w+/)+\w+\.py)", TEXT))
# these take no words; the tests of the book and of the browser run the first and the last of them
WITHOUT_WORDS = {
    "docs/build.py",
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
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE))
    assert {"run", "test", "explore", "book", "browser", "pictures"} <= named <= set(targets)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_that_a_page_names_are_those_of_the_command(name):
    for words in re.findall(rf"-m experiments {name}\b([^`\n]*)", TEXT):
        assert set(re.findall(r"--\w[\w-]*", words)) <= set(COMMANDS[name].OPTIONS)


def test_readmes_figure_is_drawn_from_the_results(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    monkeypatch.setattr(files, "replacing", lambda path: nullcontext(drawn.append(path)))
    runpy.run_path(str(ROOT / "notebooks" / "figures" / "gains.py"), run_name="__main__")
    path, figure = drawn
    assert path == ROOT / "notebooks" / "figures" / "gains.png" and figure.axes
