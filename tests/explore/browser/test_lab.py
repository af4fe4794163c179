"""Notebook 05 in JupyterLab, driven by a real browser as a person would."""

import subprocess
import sys

import pytest
from playwright.sync_api import Page, TimeoutError

from cma import data, recipes
from cma.explore.gallery import ADAPTER, Gallery
from tests.explore.browser import servers
from tests.explore.browser.explorer_page import PATIENCE, ExplorerPage
from tests.explore.browser.servers import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.minis]

NOTEBOOK, ITEMS, SEED, K = "05_retrieval_explorer.ipynb", 24, 42, 5  # as notebooks/run.py --tiny runs it
PICTURES, CLIPS = "mini-flickr30k", "mini-msrvtt"
LABELS = {PICTURES: ADAPTER.format("image"), CLIPS: ADAPTER.format("video")}
TRACEBACK = "Traceback (most recent call last)"
RUN_ALL = """async () => {
  const session = window.jupyterapp.shell.currentWidget.context.sessionContext;
  await session.ready;
  await session.session.kernel.info;
  window.jupyterapp.commands.execute("notebook:run-all-cells"); }"""
PROMPTS = """([how, signs, traceback]) => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
  return texts(".jp-RenderedText").some((text) => text.includes(traceback))
    || texts(".jp-CodeCell .jp-InputArea-prompt")[how]((prompt) => RegExp(signs).test(prompt)); }"""
BEGUN = ["some", r"\*", TRACEBACK]  # [*] is a cell that waits or runs; the others keep their old numbers
RAN_THROUGH = ["every", "[0-9]", TRACEBACK]
BEGINS, TRIES = 20_000, 3  # milliseconds until the first cell runs, and how often that is asked for
CONTROLS = (
    *("dataset", "adapter-1", "adapter-2", "strength"),
    *("query", "search", "examples", "drop", "why", "find", "missed", "play"),
)


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
        indexes = {LABELS.get(label, label): index for label, index in indexes.items()}
        return {label: [name for name, _ in index.query(query, K)] for label, index in indexes.items()}

    return ask


@pytest.fixture(scope="module")
def lab(model, kept, open_page, tmp_path_factory):
    """The page with the notebook, after all of its cells have run."""
    folder = kept / "notebooks"
    command = ["notebooks/run.py", "--tiny", "--prepare-only", "--out", folder, "05"]
    subprocess.run([sys.executable, *command, "-p", "runs_dir", str(kept)], cwd=ROOT, check=True)
    state = tmp_path_factory.mktemp("lab") / "state"
    with servers.lab(folder, state) as address, open_page("lab") as page:
        shown = ExplorerPage(page)
        page.goto(address.replace("/lab?", f"/lab/tree/{NOTEBOOK}?reset&"))
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        run_all_cells(page)
        shown.root.wait_for()
        yield shown


def test_the_notebook_runs_and_answers_as_the_index_does(lab, expected, kept, h264):
    found = lab.results()
    assert found == expected(PICTURES, lab.control("query").input_value())
    assert found["zero-shot"] != found[LABELS[PICTURES]]  # or nothing below could tell them apart
    assert lab.ask("fire engine") == expected(PICTURES, "fire engine") != found
    with lab.searching():
        lab.control("dataset").select_option(CLIPS)
    assert lab.results() == expected(CLIPS, "fire engine")
    clip = lab.playing()
    assert clip["width"] > 0 and clip["time"] > 0
    lab.page.screenshot(path=kept / "clips.png")
    assert not lab.outside and not lab.errors


def test_the_keyboard_is_enough_and_everything_has_a_name(lab, expected, kept):
    lab.page.set_viewport_size({"width": 1000, "height": 1000})
    lab.control("dataset").select_option(CLIPS)
    lab.ask("a smiling cat")
    lab.control(CONTROLS[0]).focus()
    passed = [lab.focused()]
    while passed[-1] != "cma-query":
        lab.page.keyboard.press("Tab")
        passed.append(lab.focused())
        assert len(passed) <= 12, passed
    with lab.searching():
        lab.page.keyboard.press("ControlOrMeta+a")
        lab.page.keyboard.type("a red flag")
        lab.page.keyboard.press("Enter")
    assert lab.results() == expected(CLIPS, "a red flag")
    while passed[-1] != f"cma-{CONTROLS[-1]}" and len(passed) < 200:  # a clip has several stops of its own
        lab.page.keyboard.press("Tab")
        passed.append(lab.focused())
    reached = [name for name in dict.fromkeys(passed) if name.removeprefix("cma-") in CONTROLS]
    assert reached == [f"cma-{name}" for name in CONTROLS]
    lab.control("why").select_option(index=1)
    lab.part("reason").locator("img").first.wait_for()
    lab.part("reason").scroll_into_view_if_needed()
    lab.page.screenshot(path=kept / "why.png")
    assert not lab.too_wide() and not lab.nameless()
