"""The page of its own: what it is built from, and what is said if something is missing."""

import re
import shlex
import shutil
import socket
import subprocess
import sys

import hypothesis
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cma.explore import app
from tests import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--media", "nowhere"], r"nowhere: no such folder"),
        (["--media", "empty"], r"empty: no pictures or clips in it"),
        (["--media", "pictures", "--adapter", "empty"], r"adapter_config.json: no such file"),
        (["--media", "pictures", "-k", "0"], r"k=0: expected at least one"),
        (["--media", "pictures", "--backbone", "./none"], r"none: no such folder; expected 'mini'"),
    ],
)
def test_what_is_missing_is_named(arguments, message, media, backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(app, "serve", lambda *_: pytest.fail("nothing to serve"))
    (tmp_path / "empty").mkdir()
    assert app.main(["--backbone", backbone, "--port", "0", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and re.search(message, said), said


@pytest.mark.parametrize("code", ["app.main(['--port', '0'])", "cma.explore.ask"])
def test_missing_packages_are_one_line(code):
    missing = "import sys; sys.modules.update(ipywidgets=None, anywidget=None); "
    program = f"{missing}import cma.explore; from cma.explore import app; sys.exit({code})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    said = "ipywidgets, anywidget: not installed; run `pip install 'cross-modal-adapter[explore]'`"
    assert run.returncode == 1 and run.stderr.splitlines()[-1].partition(": ")[2] == said
    assert (run.stderr.count("\n") == 1) == ("main" in code)


def test_a_port_in_use_is_an_error_before_anything_is_embedded(media, monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda **_: pytest.fail("the port comes first"))
    with socket.socket() as taken:
        taken.bind((app.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.main(["--media", "pictures", "--port", str(port)]) == 1
        assert f"error: port {port}: " in capsys.readouterr().err
    assert app.free_port(0) > 0
    for port in ("99999", "-1"):
        assert app.main(["--media", "pictures", "--port", port]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: port {port}: ") and said.count("\n") == 1


def test_ctrl_c_while_embedding_is_one_line_that_says_where_the_work_is(media, backbone, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cma.search.build.embed", stop)
    assert app.main(["--media", "pictures", "--backbone", backbone, "--port", "0", "--index", "kept"]) == 130
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("stopped; the same command goes on from what kept")
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_explore_takes_a_folder_with_a_blank_in_its_name():
    command = ["make", "--no-print-directory", "-n", "explore", "MEDIA=my pictures"]  # make test calls this
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert shlex.split(run.stdout.splitlines()[-1])[-2:] == ["--media", "my pictures"]


def test_the_page_is_built_where_the_command_was_given(media, backbone, tmp_path, monkeypatch):
    served = {}
    monkeypatch.setattr(app, "serve", lambda notebook, port, browser: served.update(
        cells=nbformat.read(notebook, as_version=4).cells, port=port, browser=browser))  # fmt: skip
    assert app.main(["--media", "pictures", "--backbone", backbone, "--port", "0", "--no-browser"]) == 0
    assert served["port"] and not served["browser"]
    code = [cell.source for cell in served["cells"] if cell.cell_type == "code"]
    monkeypatch.chdir(tmp_path.parent)  # the kernel starts elsewhere
    kept, last = {}, code[0].splitlines()[-1]
    exec(code[0].replace(last, f"shown = {last}"), kept)
    assert list(kept["shown"].galleries) == ["pictures"]


@hypothesis.settings(max_examples=25)
@given(where=st.text(), settings=st.dictionaries(st.text(), st.text() | st.lists(st.text()) | st.integers()))
def test_settings_reach_the_page_as_they_are(where, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("notebook") / "explorer.ipynb"
    app.write_notebook(path, where, settings)
    nbformat.validate(nbformat.read(path, as_version=4))
    (code,) = (c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    got = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "page_widget", lambda *arguments: got.append(arguments))
        exec(code, {})
    assert got == [(where, settings)]
