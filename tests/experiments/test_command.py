"""The command line of `experiments`: which errors are one line, and which need their traceback."""

from types import SimpleNamespace

import pytest

from cma.recipes import recipe
from experiments.__main__ import COMMANDS, main


def test_a_bug_keeps_its_traceback_and_an_error_for_users_is_one_line(monkeypatch, capsys):
    for fails, kind in (
        (lambda: len(None), TypeError),
        (lambda: int("many"), ValueError),
        (lambda: recipe("nothing"), None),
    ):

        def run(options, fails=fails):
            """Fail."""
            fails()

        monkeypatch.setitem(COMMANDS, "report", SimpleNamespace(run=run, OPTIONS={}))
        if kind:
            with pytest.raises(kind):
                main(["report"])
            assert capsys.readouterr().err == ""
        else:
            assert main(["report"]) == 1
            assert capsys.readouterr().err.startswith("error: ")
