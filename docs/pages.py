"""Copy or make the pages of the book in one folder, from which Sphinx reads them."""

import importlib
import inspect
import pkgutil
import re
import shutil
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType

import nbformat

ROOT = Path(__file__).resolve().parents[1]
TEXTS = (
    "README.md",
    "CHANGELOG.md",
    "docs/try_it.md",
    "docs/quickstart.md",
    "docs/cheatsheet.md",
    "docs/own-captions.md",
    "docs/library.md",
    "docs/explorer.md",
    "docs/backbones.md",
    "docs/reproduce.md",
    "docs/sentence-transformers.md",
    "docs/several-gpus.md",
    "CONTRIBUTING.md",
    "data_prep/README.md",
)
TEXTS += ("results/README.md", "notebooks/README.md", "cma/mini_clip/README.md")
TRY_IT = "try"  # the folder of the page without a server, in the built book
ONE_FILE = "examples/cross_modal_adapter"  # a page that shows this file
PACKAGES = ("cma", "explorer", "data_prep", "experiments")
SETUP = "setup"  # the tag of the first cell, see `with_setup`
HIDE = "hide-input"  # the tag of a cell whose code the book folds
ANSWER = "<details><summary>Answer</summary>"  # how an output of `folded` starts


def repository() -> str:
    """Return the repository's address, `Repository` of [project.urls] in pyproject.toml; "" if
    there is none.

    Raises ValueError for an address that is not https://github.com/OWNER/NAME: Colab opens no
    other.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "").removesuffix("/").removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(
            f"pyproject.toml: Repository {address!r}: expected https://github.com/OWNER/NAME"
        )
    return address


def setup_code(address: str) -> str:
    """Return the code of a notebook's first cell: it clones and installs, and does nothing in a
    clone.
    """
    return f'''\
# For Colab: clone, install, build the offline benchmarks. In a clone this does nothing.
import os
import subprocess
import sys
from pathlib import Path

here = Path.cwd()
if not any((folder / "notebooks" / "run.py").exists() for folder in (here, *here.parents)):
    clone = here / "cross-modal-adapter"
    if not clone.exists():
        subprocess.run(["git", "clone", "--depth", "1", "{address}", clone], check=True)
    os.chdir(clone)
    sys.path[:0] = [str(clone), str(clone / "notebooks")]
    for words in ("pip install -q -e .[explorer,prep,methods]", "data_prep mini"):
        subprocess.run([sys.executable, "-m", *words.split()], check=True)'''


def with_setup(notebook: nbformat.NotebookNode, address: str) -> nbformat.NotebookNode:
    """Return the notebook with `setup_code` as its first code cell, or without it if `address` is
    "".
    """
    notebook.cells = [cell for cell in notebook.cells if SETUP not in cell.metadata.get("tags", [])]
    if address:
        cell = nbformat.v4.new_code_cell(
            setup_code(address), id="setup", metadata={"tags": [SETUP]}
        )
        notebook.cells.insert(1, cell)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def for_the_book(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Tag cells so that the book folds the code that holds an answer, as it folds that of cells
    that are tagged already, and leaves out the setup cell.
    """
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        tags = cell.metadata.setdefault("tags", [])
        texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
        if any(text.startswith(ANSWER) for text in texts) and HIDE not in tags:
            tags.append(HIDE)
        if SETUP in tags:
            tags.append("remove-cell")
    return notebook


def public_modules(package: str) -> Iterator[str]:
    """Yield a package, its folders, and the modules of its `__all__`, or all if it has none."""
    module = importlib.import_module(package)
    yield package
    for found in sorted(pkgutil.iter_modules(module.__path__), key=lambda found: found.name):
        public = getattr(module, "__all__", [found.name])
        if found.name[0] != "_" and (found.ispkg or found.name in public):
            yield f"{package}.{found.name}"


def reference(module: str, shown: Collection[str]) -> str:
    """Return the page of one module: its docstring, its public names, and links to those on other
    pages.
    """
    found, here, elsewhere = importlib.import_module(module), [], []
    for name in getattr(found, "__all__", ()):
        value = getattr(found, name)
        home = getattr(value, "__module__", module)
        home = next((one for one in (home, home.rpartition(".")[0]) if one in shown), module)
        if home != module:
            what = (inspect.getdoc(value) or "").partition("\n")[0]
            elsewhere.append(f"- :py:obj:`{module}.{name} <{home}.{name}>`: {what}")
        elif not isinstance(value, ModuleType):
            here.append(name)
    members = f" {', '.join(here)}" if hasattr(found, "__all__") else ""
    lines = [module, "=" * len(module), "", f".. automodule:: {module}"]
    lines += [f"   :members:{members}"] if members != " " else []
    return "\n".join([*lines, "", *elsewhere, ""])


def one_file() -> str:
    """Return the page that shows the paper in one file."""
    code = (ROOT / f"{ONE_FILE}.py").read_text("utf-8")
    about = "All else in the library is an addition to the paper; a test checks that losses and "
    about += "recalls match the library's."
    return f"# The paper in one file\n\n`{ONE_FILE}.py`. {about}\n\n```python\n{code}```\n"


def lay_out(target: Path, address: str) -> None:
    """Write all pages into the folder `target`, which must not be there yet.

    Raises ValueError if a notebook's first cell does not fit the address.
    """
    shutil.copytree(ROOT / "notebooks" / "figures", target / "notebooks" / "figures")
    for name in TEXTS:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text("utf-8")
        notebook = nbformat.reads(text, as_version=4)
        if nbformat.writes(with_setup(notebook, address)).strip() != text.strip():
            raise ValueError(
                f"{path.name}: its first cell is not that of the address in pyproject.toml; "
                "run `python docs/build.py --setup-cells`"
            )
        nbformat.write(for_the_book(notebook), target / "notebooks" / path.name)
    (target / ONE_FILE).parent.mkdir()
    (target / f"{ONE_FILE}.md").write_text(one_file(), "utf-8")
    (target / "api").mkdir()
    every = {package: list(public_modules(package)) for package in PACKAGES}
    shown = set(sum(every.values(), []))
    for module in shown:
        (target / "api" / f"{module}.rst").write_text(reference(module, shown), "utf-8")
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    # the start page leaves docs/, so its links do
    index = re.sub(r"\]\((\.\./)?", lambda found: "](" if found[1] else "](docs/", index)
    for package, modules in every.items():
        index = index.replace(
            f"{{{{{package}}}}}", "\n".join(f"api/{module}" for module in modules)
        )
    (target / "index.md").write_text(index, "utf-8")
