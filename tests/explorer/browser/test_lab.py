"""Notebook 05 in JupyterLab, driven by a real browser as a person would."""

import subprocess
import sys

import pytest
from playwright.sync_api import Page, TimeoutError

from cma import data, recipes
from explorer.gallery import ADAPTER, Gallery
from tests.explorer.browser import servers
from tests.explorer.browser.explorer_page import PATIENCE, ExplorerPage
from tests.explorer.browser.servers import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.minis]

NOTEBOOK, ITEMS, SEED = "05_retrieval_explorer.ipynb", 24, 42  # as notebooks/run.py --tiny runs it
PICTURES, CLIPS = "mini-flickr30k", "mini-msrvtt"
LABELS = {PICTURES: ADAPTER.format("image"), CLIPS: ADAPTER.format("video")}
TRACEBACK = "Traceback (most recent call last)"
RUN_ALL = """async () => {
  const session = window.jupyterapp.shell.currentWidget.context.sessionContext;
  await session.ready;
  await session.session.kernel.info;
  window.jupyterapp.commands.execute("notebook:run-all-cells"); }"""
PROMPTS = """([how, signs, traceback]) => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const texts = (selector) => all(selector).map((one) => one.textContent);
  return texts(".jp-RenderedText").some((text) => text.includes(traceback))
    || texts(".jp-CodeCell .jp-InputArea-prompt")[how]((prompt) => RegExp(signs).test(prompt)); }"""
# [*] is a cell that waits or runs; the others keep their old numbers
BEGUN = ["some", r"\*", TRACEBACK]
RAN_THROUGH = ["every", "[0-9]", TRACEBACK]
LISTEN = """() => {
  window.ran = [];
  window.jupyterapp.commands.commandExecuted.connect((_, { id }) => window.ran.push(id)); }"""
BEGINS, TRIES = 20_000, 3  # milliseconds until the first cell runs, and how often that is asked for
THEME = """(name) => window.jupyterapp.commands.execute("apputils:change-theme", { theme: name })"""


def run_all_cells(page: Page) -> None:
    """Run all cells to their end, once the kernel has answered; again where no cell begins."""
    for left in reversed(range(TRIES)):
        page.evaluate(RUN_ALL)
        try:
            page.wait_for_function(PROMPTS, arg=BEGUN, timeout=BEGINS)
            break
        except TimeoutError:
            if not left:
                raise
    page.wait_for_function(PROMPTS, arg=RAN_THROUGH, timeout=3 * PATIENCE)
    assert not page.locator(".jp-RenderedText", has_text=TRACEBACK).all_inner_texts()


@pytest.fixture(scope="module")
def expected(model):
    """The best files of `MediaIndex.query`, by the model's label, as this process finds them."""
    galleries = {}
    for name in (PICTURES, CLIPS):
        test = data.load(ROOT / "data" / name, "test").subset(ITEMS, SEED)
        galleries[name] = Gallery(model, test, recipes.recipe(name).config)

    def ask(dataset, query):
        indexes = galleries[dataset].indexes([None, dataset])
        return {
            LABELS.get(label, label): [name for name, _ in index.query(query, ITEMS)]
            for label, index in indexes.items()
        }

    return ask


@pytest.fixture(scope="module")
def lab(model, kept, open_page, tmp_path_factory):
    """The page with the notebook, after all of its cells have run."""
    folder = kept / "notebooks"
    command = ["notebooks/run.py", "--tiny", "--prepare-only", "--out", folder, "05"]
    given = {name: str(kept / f"{name}-cross-modal") for name in LABELS}
    command += ["-y", f"adapters: {given}"]  # else the recorded ones come first
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    state = tmp_path_factory.mktemp("lab") / "state"
    with servers.lab(folder, state) as address, open_page("lab") as page:
        shown = ExplorerPage(page)
        page.goto(address.replace("/lab?", f"/lab/tree/{NOTEBOOK}?reset&"))
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        run_all_cells(page)
        shown.root.wait_for()
        yield shown


def test_the_notebook_runs_and_answers_as_the_index_does(lab, expected, kept):
    lab.tiles.first.wait_for()
    found = lab.results()
    assert found == expected(PICTURES, lab.box.input_value())
    assert found["zero-shot"] != found[LABELS[PICTURES]]  # or nothing below could tell them apart
    assert lab.ask("fire engine") == expected(PICTURES, "fire engine") != found
    with lab.searching():
        lab.control("media").select_option(CLIPS)
    assert lab.results() == expected(CLIPS, "fire engine")
    lab.root.scroll_into_view_if_needed()
    assert lab.previews() > 5
    lab.page.screenshot(path=kept / "clips.png")
    assert not lab.outside and not lab.errors


def test_keys_are_the_widgets_own_and_cells_go_on(lab, kept):
    cells = lab.page.locator(".jp-Cell").count()
    lab.ask("a smiling cat")
    lab.tiles.first.focus()
    for key in ("ArrowRight", "a", "b", "x", "/"):  # of which JupyterLab would add and cut cells
        lab.press(key)
    assert lab.focused() == "query" and lab.page.locator(".jp-Cell").count() == cells
    lab.tiles.nth(1).focus()
    lab.press("Enter")
    lab.wait_in_viewer("Why it matches")
    lab.page.screenshot(path=kept / "lab-viewer.png")
    lab.press("Escape")
    lab.wait_for_focus("2. ")
    assert not lab.viewer.is_visible()
    lab.page.evaluate(LISTEN)
    lab.press("Control+s")
    lab.page.wait_for_function("window.ran.includes('docmanager:save')")
    lab.box.focus()
    lab.press("Control+a")
    lab.press("Control+s")
    lab.page.wait_for_function("window.ran.filter((id) => id === 'docmanager:save').length === 2")
    assert lab.page.evaluate("window.ran").count("notebook:select-all") == 0


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_it_wears_the_theme_and_has_names_for_everything(lab, theme, kept):
    lab.page.evaluate(THEME, theme)
    dark = theme.endswith("Dark")
    lab.page.wait_for_function(
        "(dark) => document.body.dataset.jpThemeLight === String(!dark)", arg=dark, timeout=PATIENCE
    )
    lab.page.set_viewport_size({"width": 1000, "height": 1000})
    lab.ask("a red flag")
    lab.root.scroll_into_view_if_needed()
    lab.previews()
    red = lab.root.evaluate(
        "(root) => parseInt(getComputedStyle(root).backgroundColor.match(/[0-9]+/)[0])"
    )
    assert (red < 100) == dark
    assert not lab.too_wide() and not lab.axe(".cma-explorer")
    lab.page.screenshot(path=kept / f"lab-{'dark' if dark else 'light'}.png")


def test_a_search_is_no_output_of_a_cell(lab):
    before = lab.page.locator(".jp-OutputArea-output").count()
    with lab.searching():
        lab.set_strength(2)
    assert any(label.endswith(" × 0.5") for label in lab.results())
    assert lab.page.locator(".jp-OutputArea-output").count() == before
