"""Build the book, a static website, into docs/_build/html; `make book` calls it.

    python docs/build.py                   # needs the extra `book`
    python docs/build.py --setup-cells     # give each notebook its first cell, for Colab

Its page "Try it" leads to the explorer without a server, made of the demo's files; a network is
needed once, for two packages of npm. Any warning is an error. The
first cell needs the repository's address, which is set in pyproject.toml; without an address the
cell is removed.
"""

import shutil
import sys
from pathlib import Path

import cma
from cma.files import write_whole

try:
    cma.require(
        "book", "myst_nb", "nbformat", "sphinx", "sphinx-mathjax-offline", "sphinx_book_theme"
    )
except ImportError as error:
    sys.exit(f"error: {error}")

import nbformat
from pages import ROOT, lay_out, repository, with_setup
from sphinx.cmd.build import build_main
from try_it import write_page

HERE = Path(__file__).resolve().parent
BUILT = HERE / "_build"


def write_setup_cells(address: str) -> None:
    """Put the first cell into every committed notebook, or remove it if there is no address."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = with_setup(nbformat.read(path, as_version=4), address)
        write_whole(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def main() -> int:
    """Run the command line; return its status. Errors that a user can correct are one line."""
    try:
        address = repository()
        if sys.argv[1:] == ["--setup-cells"]:
            write_setup_cells(address)
            return 0
        shutil.rmtree(BUILT, ignore_errors=True)
        lay_out(BUILT / "pages", address)
    except ValueError as error:
        sys.exit(f"error: {error}")
    cma.log_to_stdout()
    status = build_main(
        [
            "-W",
            "--keep-going",
            "-q",
            "-c",
            str(HERE),
            "-d",
            str(BUILT / "doctrees"),
            str(BUILT / "pages"),
            str(BUILT / "html"),
        ]
    )
    if status == 0:
        write_page(BUILT / "html")
    return status


if __name__ == "__main__":
    sys.exit(main())
