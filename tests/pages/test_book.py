"""The book as a reader meets it: pages, links, figures, answers; and a notebook without a clone."""

import html
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

import cma
import experiments
from explorer.demo import PARTS
from tests import ROOT

pytestmark = pytest.mark.book
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = "https://github.com/owner/cross-modal-adapter"


@pytest.fixture(scope="module")
def made():
    """The modules `pages` and `hook` of the book, by name."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return {name: importlib.import_module(name) for name in ("pages", "hook")}
    finally:
        sys.path.remove(str(ROOT / "docs"))


def test_it_has_every_notebook_every_page_and_every_public_module(pages):
    texts = {
        "README",
        "docs/cheatsheet",
        "docs/library",
        "docs/reproduce",
        "docs/several-gpus",
        "docs/try_it",
        "data_prep/README",
        "results/README",
        "notebooks/README",
    }
    texts |= {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    modules = {f"cma.{name}" for name in cma.__all__ if (ROOT / "cma" / name).is_dir()}
    modules |= {f"cma.{path.stem}" for path in (ROOT / "cma").glob("[a-z]*.py")}
    modules |= {f"experiments.{name}" for name in experiments.__all__ if name.islower()}
    wanted = texts | {
        f"api/{name}"
        for name in modules | {"cma", "explorer", "explorer.index", "data_prep", "experiments"}
    }
    assert {f"{name}.html" for name in wanted} <= pages.keys() and len(modules) > 20


def test_the_paper_in_one_file_is_a_page_that_shows_all_of_it(pages):
    page = pages["examples/cross_modal_adapter.html"].path.read_text("utf-8")
    file = (ROOT / "examples" / "cross_modal_adapter.py").read_text("utf-8")
    assert file.strip() in html.unescape(re.sub(r"<[^>]+>", "", page))


def test_the_reference_has_every_name_of_every_public_api(pages):
    modules = ("adapter", "media", "methods", "model", "training")
    for package in ("explorer", "explorer.index", *(f"cma.{name}" for name in modules)):
        module = importlib.import_module(package)
        names = getattr(
            module, "__all__", ["RetrievalModel"] if package == "cma.model" else ["AdapterConfig"]
        )
        documented = [name for name in names if getattr(getattr(module, name), "__doc__", None)]
        callables = [name for name in documented if callable(getattr(module, name))]
        page = pages[f"api/{package}.html"]
        missing = {f"{package}.{name}" for name in callables} - page.anchors
        text = page.path.read_text("utf-8")
        assert callables and not {name for name in missing if name not in text}
    assert "api/cma.training.html#cma.training.train" in " ".join(
        f"api/{link}" for link in pages["api/cma.html"].every("a", "href")
    )


def test_every_internal_link_leads_to_a_page_that_is_there_and_to_a_place_in_it(pages, site):
    followed = 0
    for name, page in pages.items():
        for link in page.every("a", "href"):
            parts = urlsplit(link)
            if parts.scheme in ("https", "http", "mailto"):
                continue
            assert not parts.scheme, f"{name}: {link}"
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            assert target.exists(), f"{name}: {link}"
            if parts.fragment and target.suffix == ".html":
                anchors = pages[target.relative_to(site.resolve()).as_posix()].anchors
                assert unquote(parts.fragment) in anchors, f"{name}: {link}"
            followed += 1
    assert followed > 1000


def test_no_page_asks_another_host_for_anything(pages, site):
    asking = [
        ("script", "src"),
        ("link", "href"),
        ("img", "src"),
        ("iframe", "src"),
        ("source", "src"),
    ]
    for name, page in pages.items():
        wanted = [value for tag, attribute in asking for value in page.every(tag, attribute)]
        assert wanted and not [value for value in wanted if re.match(r"(https?:)?//", value)], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text("utf-8")), (
            sheet
        )
    assert "_static/tex-svg.js" in " ".join(
        pages["notebooks/02_adapter_anatomy.html"].every("script", "src")
    )


def test_every_figure_has_a_text(pages):
    for name, page in pages.items():
        for found in (found for tag, found in page.elements if tag == "img"):
            text = found.get("alt", "")
            # without one, Sphinx writes the path
            own = text and Path(found["src"]).name not in text
            assert own, f"{name}: {text!r} for {found['src'][:80]}"
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        texts = [cell.metadata.mystnb.image.alt for cell in cells if "mystnb" in cell.metadata]
        assert len(texts) == len(set(texts)), path


def test_an_answer_is_folded_and_so_is_the_code_that_holds_it_or_is_tagged(pages):
    folded, hidden, count, wanted = 0, 0, 0, 0
    for path in NOTEBOOKS:
        html = pages[f"notebooks/{path.stem}.html"].path.read_text("utf-8")
        for cell in html.split('<div class="cell ')[1:]:
            code, _, output = cell.partition("cell_output")
            hides = bool(re.search('<details class="[^"]*hide above-input', code))
            hidden += hides
            folded += hides and "<details><summary>Answer</summary>" in output
        cells = nbformat.read(path, as_version=4).cells
        answers = [
            bool(re.search(r"(^|\()\s*folded\(", cell.source, re.MULTILINE)) for cell in cells
        ]
        tags = ["hide-input" in cell.metadata.get("tags", []) for cell in cells]
        count += sum(answers)
        wanted += sum(answer or tag for answer, tag in zip(answers, tags, strict=True))
    assert count and folded == count
    assert hidden == wanted > count


def test_tables_that_code_prints_are_tables(pages):
    for path in NOTEBOOKS:
        html = pages[f"notebooks/{path.stem}.html"].path.read_text("utf-8")
        assert not re.search(r"<p>\|", html) and "\x1b[" not in html, path
    assert pages["notebooks/a2_quirks.html"].every("table", "class")


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_a_link_to_a_file_that_is_no_page_goes_to_the_repository_or_is_text(made, address):
    link = made["hook"].repository_link
    assert link(address, "README", "tests/media") == (
        address and f"{address}/tree/main/tests/media"
    )
    assert link(address, "results/README", "published.csv") == (
        address and f"{address}/blob/main/results/published.csv"
    )
    assert link(address, "notebooks/01_data_prep", "../cma/adapter.py#L1") == (
        address and f"{address}/blob/main/cma/adapter.py"
    )
    assert (
        link(address, "README", "tests/no_such_file.py") is link(address, "README", "../x") is None
    )


def test_without_an_address_there_are_no_buttons_for_colab_and_no_first_cell(made, pages):
    if not (address := made["pages"].repository()):
        assert not [
            name for name, page in pages.items() if "colab.research" in page.path.read_text("utf-8")
        ]
    for path in NOTEBOOKS:
        cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        assert [c.source for c in cells if made["pages"].SETUP in c.metadata.get("tags", [])] == (
            [made["pages"].setup_code(address)] if address else []
        )


def run_first_cell(made, address: str, folder: Path) -> tuple[list[str], str, str]:
    """Run the first cell in `folder`, in a new process: (what it starts but git, its folder, its
    `cma`).
    """
    watched = f"""
import subprocess
real, started = subprocess.run, []
def run(command, **options):
    if command[0] == "git":
        return real(command, **options)
    started.append(" ".join(map(str, command[1:])))
subprocess.run = run
{made["pages"].setup_code(address)}
import cma, os
print(repr((started, os.getcwd(), cma.__file__)))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", watched]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.splitlines()[-1])


def test_the_first_cell_clones_installs_and_builds_in_an_empty_folder_and_does_nothing_in_a_clone(
    made, tmp_path
):
    origin = tmp_path / "origin"
    files = subprocess.run(
        ["git", "ls-files", "cma", "notebooks/run.py"], cwd=ROOT, capture_output=True
    )
    for name in files.stdout.decode().splitlines():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_bytes((ROOT / name).read_bytes())
    user = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*user, "commit", "-q", "-m", "a clone"]):
        subprocess.run(["git", *words], cwd=origin, check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    clone = (empty / "cross-modal-adapter").resolve()
    started, folder, package = run_first_cell(made, origin.as_uri(), empty)
    assert started == ["-m pip install -q -e .[explorer,prep,methods]", "-m data_prep mini"]
    assert Path(folder) == clone and Path(package) == clone / "cma" / "__init__.py"
    for here in (clone, clone / "notebooks"):
        started, folder, _ = run_first_cell(made, origin.as_uri(), here)
        assert started == [] and Path(folder) == here


def test_the_page_without_a_server_is_the_demo(made, site):
    said = (site / "docs" / "try_it.html").read_text("utf-8")
    page = site / made["pages"].TRY_IT
    assert "../try/index.html" in said
    counts = json.loads((page / "site.json").read_text("utf-8"))["media"]
    items = {name: (page / one["folder"] / "items.json") for name, one in counts.items()}
    found = {name: len(json.loads(path.read_text("utf-8"))) for name, path in items.items()}
    assert found == {name: count for name, (_, count) in PARTS.items()}
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) <= 40e6
