"""The command for the page: what it serves, and what is said if something is missing."""

import functools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

import explorer.__main__ as command
from explorer import site
from tests import ROOT
from tests.toy_media import write_picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--media", "nowhere"], r"nowhere: no such folder"),
        (["--media", "empty"], r"empty: no pictures or clips in it"),
        (["--media", "pictures", "--adapter", "empty"], r"no adapter_config.json there"),
        (["--media", "pictures", "--backbone", "./none"], r"none: no model there; expected 'mini'"),
    ],
)
def test_what_is_missing_is_named(
    arguments, message, media, backbone, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(command, "serve", lambda *_: pytest.fail("nothing to serve"))
    (tmp_path / "empty").mkdir()
    assert command.main(["--backbone", backbone, "--port", "0", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and re.search(message, said), said


@pytest.mark.parametrize("code", ["sys.exit(main(['--port', '0']))", "explorer.ask"])
def test_missing_packages_are_one_line(code):
    missing = "import sys; sys.modules.update(ipywidgets=None, anywidget=None); "
    program = f"{missing}import explorer; from explorer.__main__ import main; {code}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    said = "ipywidgets, anywidget: not installed; run `pip install 'cross-modal-adapter[explorer]'`"
    assert run.returncode == 1 and run.stderr.splitlines()[-1].partition(": ")[2] == said
    assert (run.stderr.count("\n") == 1) == ("main" in code)


def test_a_port_in_use_is_an_error_before_anything_is_embedded(media, monkeypatch, capsys):
    monkeypatch.setattr("explorer.open_galleries", lambda **_: pytest.fail("the port comes first"))
    for port in ("99999", "-1"):
        assert command.main(["--media", "pictures", "--port", port]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: port {port}: ") and said.count("\n") == 1
    with socket.socket() as taken:
        taken.bind((command.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.main(["--media", "pictures", "--port", str(port)]) == 1
        assert f"error: port {port}: " in capsys.readouterr().err
        monkeypatch.setattr("explorer.open_galleries", lambda **_: {})
        monkeypatch.setattr(command, "serve", lambda *_: taken.bind((command.HOST, port)))
        assert command.main(["--port", "0"]) == 1  # another program took it meanwhile
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("main", "more", "stopped"),
    [
        (command.main, ["--port", "0"], "explorer.index.listing.find"),
        (site.main, [], "explorer.index.embed.embed"),
    ],
)
def test_ctrl_c_is_one_line_that_says_where_the_work_is(
    main, more, stopped, media, backbone, monkeypatch, capsys
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, stop)
    given = ["--media", "pictures", "--backbone", backbone, "--index", "kept"]
    assert main([*given, *more]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stopped; run the same command again to continue from kept")


@pytest.mark.skipif(os.name != "posix", reason="there is no such signal")
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_while_the_page_embeds_ends_it_and_keeps_what_is_done(backbone, tmp_path):
    for number in range(2000):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
    given = ["--media", "pictures", "--backbone", backbone, "--index", "kept", "--port", "0"]
    own = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "private"), "PYTHONPATH": str(ROOT)}

    def interrupted(sign: str, until: Callable[[], object]) -> str:
        """What the page prints that is stopped once a line holds a sign, and something is true."""
        command = [sys.executable, "-m", "explorer", "--no-browser", *given]
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # a shell's background job ignores Ctrl-C, and so would all that it starts
        piped["preexec_fn"] = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, cwd=tmp_path, env=os.environ | own, **piped) as run:
            said = next(line for line in run.stdout if sign in line)
            while not until():
                time.sleep(0.01)
            run.send_signal(signal.SIGINT)
            try:
                rest, _ = run.communicate(timeout=60)
            finally:
                run.kill()
        assert run.returncode == 0 and "Traceback" not in rest
        return said

    interrupted("Ctrl-C ends it", lambda: list((tmp_path / "kept").rglob("data/*.lance")))
    said = interrupted("indexed ", lambda: True)
    assert 0 < int(re.search(r"([\d,]+) of them embedded now", said)[1].replace(",", "")) < 2000


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_explore_takes_a_folder_with_a_blank_in_its_name():
    # make test calls this
    given = ["make", "--no-print-directory", "-n", "explore", "MEDIA=my pictures"]
    run = subprocess.run(given, capture_output=True, text=True, cwd=ROOT)
    assert shlex.split(run.stdout.splitlines()[-1])[-2:] == ["--media", "my pictures"]


def test_a_browser_opens_a_private_file_that_goes_with_the_server(tmp_path, monkeypatch):
    opened = []

    def run(galleries, port, token, ready):
        ready()
        raise KeyboardInterrupt

    def open_file(address):
        opened.append(url2pathname(urlsplit(address).path))
        assert command.kept_token() in Path(opened[0]).read_text()

    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "private"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("explorer.server.run", run)
    monkeypatch.setattr("webbrowser.open", open_file)
    command.serve({}, 1, browser=True)
    assert Path(opened[0]).parent == tmp_path / "private"
    assert [path.name for path in (tmp_path / "private").iterdir()] == ["cma-explorer-token"]
    assert not list((tmp_path / "temporary").iterdir())


def test_without_a_browser_the_address_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    command.show("http://127.0.0.1:1/", 1)
    said = capsys.readouterr().out
    assert said.startswith("found no browser: open the address") and said.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")
def test_the_token_is_kept_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "new"))
    token = command.kept_token()
    (path,) = (tmp_path / "new").iterdir()
    assert (
        len(token) == 48 and path.stat().st_mode & 0o777 == 0o600 and command.kept_token() == token
    )
    path.chmod(0o644)  # others may have read it
    assert command.kept_token() != token and path.stat().st_mode & 0o777 == 0o600
    path.write_text("")  # the disk was full: a token of no letters is none
    assert len(command.kept_token()) == 48
