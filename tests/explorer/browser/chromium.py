"""The Chromium that the browser tests drive: found, or installed.

    python tests/explorer/browser/chromium.py     # Debian's where that may be installed, else
    Playwright's own

Nothing is installed where a Chromium or Chrome is there already.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPLICATIONS = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # a page that needs the network fails
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def of_the_system() -> Path | None:
    """The Chromium or Chrome that is installed on this computer."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    found = found or next((name for name in APPLICATIONS if Path(name).exists()), None)
    return found and Path(found)


def of_playwright() -> Path | None:
    """The one that `playwright install chromium` has brought."""
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def find() -> Path | None:
    """The Chromium to drive, None where there is none."""
    return of_the_system() or of_playwright()


@contextmanager
def launched(executable: Path) -> Iterator[Browser]:
    """A headless browser, in its sandbox unless root runs it or it is Playwright's own build.

    Chromium has no sandbox for root, and Ubuntu grants one only to browsers that it knows.
    """
    sandbox = not ROOT_USER and executable == of_the_system()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=QUIET, chromium_sandbox=sandbox
        )
        try:
            yield browser
        finally:
            browser.close()


def install() -> None:
    """Install a Chromium; raises CalledProcessError if that fails."""
    if ROOT_USER and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update"], check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", "chromium"], check=True
        )
    else:  # on a CI machine with the system's libraries, for which it asks sudo
        libraries = ["--with-deps"] if "CI" in os.environ else []
        command = [sys.executable, "-m", "playwright", "install", *libraries, "chromium"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    if not find():
        install()
    if not (found := find()):
        sys.exit("no Chromium found, though one was installed; is it on the PATH?")
    print(f"the browser tests drive {found}")
