"""Notebook 05 in JupyterLab, driven by a real browser as a person would."""

import subprocess
import sys

import pytest

from browser import servers
from browser.explorer_page import PATIENCE, ExplorerPage
from browser.servers import ROOT
from cma import answers, data, recipes
from cma.gallery import Gallery
from cma.search import IndexConfig

pytestmark = [pytest.mark.browser, pytest.mark.minis]

NOTEBOOK, ITEMS, SEED, K = "05_retrieval_explorer.ipynb", 24, 42, 5  # as notebooks/run.py --tiny runs it
PICTURES, CLIPS = "mini-flickr30k", "mini-msrvtt"
HOSTILE = """<img src=x onerror="window.harmed = true">"""
TRACEBACK = "Traceback (most recent call last)"
RAN_THROUGH = """(traceback) => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
  return texts(".jp-RenderedText").some((text) => text.includes(traceback))
    || texts(".jp-CodeCell .jp-InputArea-prompt").every((prompt) => /[0-9]/.test(prompt)); }"""
CONTROLS = (
    *("dataset", "adapter-1", "adapter-2", "strength"),
    *("query", "search", "examples", "drop", "why", "find", "missed", "play"),
)


def failures(page):
    """The tracebacks in a notebook."""
    return page.locator(".jp-RenderedText", has_text=TRACEBACK).all_inner_texts()


@pytest.fixture(scope="module")
def galleries(model):
    """What the notebook shows, made in this process."""
    found = {}
    for name in (PICTURES, CLIPS):
        test, settings = data.load(ROOT / "data" / name, "test").subset(ITEMS, SEED), recipes.recipe(name)
        config = IndexConfig(settings.similarity, max_frames=settings.max_frames, fps=settings.fps)
        found[name] = Gallery(model, test, config)
    return found


@pytest.fixture(scope="module")
def expected(galleries):
    """The best files of `MediaIndex.query`, a column an adapter, each by its label."""

    def ask(dataset, query, adapters=(), scale=1.0):
        indexes = galleries[dataset].indexes([None, *adapters], scale)
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
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator(".lm-Menu").get_by_text("Run All Cells", exact=True).click()
        page.wait_for_function(RAN_THROUGH, arg=TRACEBACK, timeout=3 * PATIENCE)
        assert not failures(page)
        shown.root.wait_for()
        yield shown


def test_the_first_query_is_answered_by_zero_shot_and_the_adapter(lab, expected):
    found = lab.results()
    assert found == expected(PICTURES, "spouting whale", [PICTURES])
    assert list(found) == ["zero-shot", PICTURES]
    assert found["zero-shot"] != found[PICTURES]  # or nothing below could tell them apart


def test_a_typed_query_changes_the_grid_to_what_the_index_answers(lab, expected, kept):
    before = lab.results()
    found = lab.ask("fire engine")
    assert found == expected(PICTURES, "fire engine", [PICTURES]) != before
    lab.root.scroll_into_view_if_needed()
    lab.page.screenshot(path=kept / "query.png")


def test_an_example_is_asked_and_its_right_answer_marked(lab, galleries):
    with lab.searching():
        lab.control("examples").select_option(index=1)
    text = lab.control("query").input_value()
    right = galleries[PICTURES].index().right(text)
    names = {galleries[PICTURES].index().files[item].file_name for item in right}
    marked = lab.part("results").locator("figure.cma-right").all()
    assert names and {figure.get_attribute("data-file") for figure in marked} <= names
    assert "right answer at rank" in lab.part("results").inner_text()


def test_clips_play(lab, expected, kept, h264):
    lab.ask("dancing woman")
    with lab.searching():
        lab.control("dataset").select_option(CLIPS)
    assert lab.results() == expected(CLIPS, "dancing woman", [CLIPS])
    clip = lab.playing()
    assert clip["width"] > 0 and clip["time"] > 0
    lab.page.screenshot(path=kept / "clips.png")


def test_adapters_are_switched(lab, expected):
    found = lab.ask("a heart that beats")
    assert found == expected(CLIPS, "a heart that beats", [CLIPS])
    with lab.searching():
        lab.control("adapter-2").select_option(PICTURES)
    three = lab.results()
    assert list(three) == ["zero-shot", CLIPS, PICTURES]
    assert three == expected(CLIPS, "a heart that beats", [CLIPS, PICTURES])
    with lab.searching():
        lab.control("adapter-1").select_option(index=0)
    assert lab.results() == expected(CLIPS, "a heart that beats", [PICTURES])
    with lab.searching():
        lab.control("adapter-1").select_option(CLIPS)
    with lab.searching():
        lab.control("adapter-2").select_option(index=0)
    assert "ms" in lab.part("status").inner_text()  # how long a switch takes


def test_ranks_follow_the_strength(lab, expected, kept):
    lab.ask("a smiling face")
    for scale in (0.75, 0.5, 0.25):
        with lab.searching():
            lab.control("strength").press("ArrowLeft")
        assert lab.results() == expected(CLIPS, "a smiling face", [CLIPS], scale)
    with lab.searching():
        lab.control("strength").press("ArrowLeft")
    zero = lab.results()
    assert set(map(tuple, zero.values())) == {tuple(expected(CLIPS, "a smiling face")["zero-shot"])}
    with lab.searching():
        lab.control("strength").press("End")
    assert lab.results() == expected(CLIPS, "a smiling face", [CLIPS])


def test_a_match_is_explained(lab, kept):
    lab.ask("a smiling cat")
    lab.control("why").select_option(index=1)
    frames = lab.part("reason").locator("img")
    frames.first.wait_for()
    assert all("weight" in (one.get_attribute("alt") or "") for one in frames.all())
    assert "smiling" in lab.part("reason").inner_text()
    assert lab.part("reason").locator(".cma-bars").count() == frames.count()
    lab.part("reason").scroll_into_view_if_needed()
    lab.page.screenshot(path=kept / "why.png")
    lab.control("why").select_option(index=0)
    lab.part("reason").locator("img").first.wait_for(state="detached")


def test_what_clip_misses_is_found_and_can_be_asked(lab, galleries):
    changes = answers.rank_changes(*galleries[CLIPS].indexes([None, CLIPS]).values())
    missed = [change for change in changes if change.after < change.before]
    assert missed
    lab.control("find").click()
    lab.wait("(one) => one.options.length > 1", lab.control("missed"))
    assert lab.control("missed").locator("option").count() == len(missed) + 1
    with lab.searching():
        lab.control("missed").select_option(index=1)
    assert lab.control("query").input_value() == missed[0].caption
    assert "right answer at rank" in lab.part("results").inner_text()


def test_a_picture_and_a_dropped_clip_search(lab, galleries):
    picture, clip = (
        next(galleries[name].index().path(file) for file in galleries[name].index().files)
        for name in (PICTURES, CLIPS)
    )
    for path, give in ((picture, lab.control("drop").set_input_files), (clip, lab.drop)):
        with lab.searching():
            give(path)
        for label, index in galleries[CLIPS].indexes([None, CLIPS]).items():
            assert lab.results()[label] == [name for name, _ in index.query_media(path, K)]
        assert path.name in lab.root.inner_text()


def test_a_file_that_is_no_picture_is_refused(lab, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    lab.drop(tmp_path / "notes.txt")
    lab.page.get_by_text("notes.txt: neither picture nor clip").wait_for()
    (tmp_path / "empty.jpg").write_bytes(b"")
    lab.drop(tmp_path / "empty.jpg")
    assert "empty.jpg" in lab.root.get_by_role("alert").first.inner_text(timeout=PATIENCE)


def test_markup_in_a_query_is_text(lab, expected):
    assert lab.ask(HOSTILE) == expected(CLIPS, HOSTILE, [CLIPS])
    assert lab.control("query").input_value() == HOSTILE
    assert lab.root.locator("img[src=x]").count() == 0
    assert lab.page.evaluate("window.harmed") is None


def test_an_error_is_shown_and_the_next_query_answered(lab, expected):
    lab.control("query").fill(" ")
    lab.control("search").click()
    assert "blank" in lab.alert()
    assert lab.ask("a dog") == expected(CLIPS, "a dog", [CLIPS])
    assert lab.root.get_by_role("alert").count() == 0


def test_the_keyboard_is_enough(lab, expected):
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
    assert lab.results() == expected(CLIPS, "a red flag", [CLIPS])
    while passed[-1] != f"cma-{CONTROLS[-1]}" and len(passed) < 200:  # a clip has several stops of its own
        lab.page.keyboard.press("Tab")
        passed.append(lab.focused())
    reached = [name for name in dict.fromkeys(passed) if name.removeprefix("cma-") in CONTROLS]
    assert reached == [f"cma-{name}" for name in CONTROLS]


def test_a_thousand_pixels_are_wide_enough(lab, kept):
    lab.page.set_viewport_size({"width": 1000, "height": 1000})
    with lab.searching():
        lab.control("adapter-2").select_option(PICTURES)
    lab.control("why").select_option(index=1)
    lab.part("reason").locator("img").first.wait_for()
    assert not lab.too_wide()
    lab.root.scroll_into_view_if_needed()
    lab.page.screenshot(path=kept / "narrow.png")


def test_everything_has_a_name_for_those_who_do_not_see_it(lab):
    assert not lab.nameless()


def test_nothing_else_was_loaded_and_nothing_failed(lab):
    assert not lab.outside
    assert not lab.errors
    assert not failures(lab.page)
