"""The book, built once as `make book` builds it."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

from tests import ROOT


@dataclass(eq=False)
class Page(HTMLParser):
    """What the tests ask of a page: its elements with their attributes."""

    path: Path
    elements: list[tuple[str, dict]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def every(self, tag: str, attribute: str) -> list[str]:
        """The values of an attribute in all elements of this kind."""
        return [
            found[attribute] for kind, found in self.elements if kind == tag and attribute in found
        ]

    @property
    def anchors(self) -> set[str]:
        return {found["id"] for _, found in self.elements if "id" in found}


@pytest.fixture(scope="session")
def site(testrun_uid: str) -> Path:
    """The folder of the built book. Any warning of Sphinx is a failure.

    Of several workers the first builds it, and the others wait.
    """
    done = Path(tempfile.gettempdir()) / f"cma-book-{testrun_uid}"
    with FileLock(f"{done}.lock"):
        if not done.exists():
            command = [sys.executable, "docs/build.py"]
            built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert built.returncode == 0, built.stderr
            done.touch()
    return ROOT / "docs" / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    """Every page by its path in the site, such as notebooks/01_data_prep.html."""
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}
