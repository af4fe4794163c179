"""JupyterLab and the explorer's own page, served on this computer for a while and with no one's
settings.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT

STARTS, STOPS = 180, 20  # seconds that a server may take
SETTINGS = {  # no news, and every cell is on the page, also those that are scrolled away
    "config/labconfig/page_config.json": {
        "disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}
    },
    "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {
        "windowingMode": "none"
    },
}


@contextmanager
def lab(folder: Path, state: Path) -> Iterator[str]:
    """JupyterLab over `folder`; yields its address, token included. Settings and log lie in
    `state`.
    """
    for name, settings in SETTINGS.items():
        (state / name).parent.mkdir(parents=True)
        (state / name).write_text(json.dumps(settings))
    options = ["--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    options += [f"--ServerApp.root_dir={folder}", "--LabApp.extension_manager=readonly"]
    options += ["--LabApp.expose_app_in_browser=True"]  # its commands, for the tests
    with _server(["jupyterlab", *options], ROOT, state) as address:
        yield address


@contextmanager
def app(arguments: Sequence[str], folder: Path, state: Path) -> Iterator[str]:
    """The page served in `folder` with these arguments; yields its address. The log lies in
    `state`.
    """
    options = ["--no-browser", "--port", "0"]  # the last port counts
    with _server(["explorer", *options, *arguments], folder, state) as address:
        yield address


@contextmanager
def _server(module: list[str], cwd: Path, state: Path) -> Iterator[str]:
    """`python -m module` until the end of the block, once it has printed an address of this
    computer.
    """
    state.mkdir(parents=True, exist_ok=True)
    log = state / "server.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=cwd,
            env=_apart(state),
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + STARTS
        while not (
            found := re.search(r"http://127\.0\.0\.1:\d+/\S*", log.read_text("utf-8", "replace"))
        ):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{module[0]} is not ready:\n{log.read_text('utf-8', 'replace')}"
                )
            time.sleep(0.1)
        yield found[0]
    finally:
        process.terminate()
        try:
            process.wait(STOPS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _apart(state: Path) -> dict[str, str]:
    """The environment, but with Jupyter's and IPython's folders in `state`, and this `cma` before
    others.
    """
    folders = {f"JUPYTER_{name}_DIR": name.lower() for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"JUPYTERLAB_{name}_DIR": name.lower() for name in ("SETTINGS", "WORKSPACES")}
    own = {
        name: str(state / folder) for name, folder in (folders | {"IPYTHONDIR": "ipython"}).items()
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **own, "PYTHONPATH": path}
