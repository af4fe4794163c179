"""The one command line, and what a notebook says where `experiments` is absent."""

import json
import sys

import pytest

from experiments.__main__ import main
from tests import ROOT


def test_one_help_lists_every_command_and_each_has_its_own(capsys):
    commands = ("study", "ablations", "report", "forgetting", "pretrain")
    for words in ([], *([name] for name in commands)):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0 and said.startswith(" ".join(["usage: python -m experiments", *words]))
        assert words or all(f"\n    {name}" in said for name in commands)


@pytest.mark.parametrize("number", ["03", "04", "06", "a1"])
def test_a_notebook_says_what_to_do_where_experiments_is_absent(number, monkeypatch):
    (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    imports = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    monkeypatch.setitem(sys.modules, "experiments", None)
    with pytest.raises(
        ImportError, match=r"^`experiments` comes with a clone alone: run `pip install -e \.` "
    ):
        exec(imports[imports.index("try:") :], {})
