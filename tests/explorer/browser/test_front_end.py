"""`explorer.js` alone in a real browser: the test answers in the kernel's place, when and as it
likes.
"""

import pytest
from playwright.sync_api import expect

from explorer.widget import STATIC
from tests.explorer.browser.explorer_page import PATIENCE, ExplorerPage

pytestmark = [pytest.mark.browser, pytest.mark.minis]  # it runs with the other tests in a browser
expect.set_options(timeout=PATIENCE)

ADDRESS = "http://127.0.0.1:9/"  # nothing is there: the pages are given below
PAGE = """<!doctype html><link rel="stylesheet" href="explorer.css"><body data-voila="1">
<script id="jupyter-config-data" type="application/json">{"baseUrl": "/", "kernelId": "1"}</script>
<script type="module">
  import explorer from "./explorer.js";
  const setup = { media: ["A", "B"], query: "", suffixes: [".png"], megabytes: 1, strengths: [0, 0.5, 1] };
  window.sent = [];
  const on = (_, listener) => { window.answer = (message, views = []) => listener(message, views); };
  const model = { get: () => setup, send: (message) => sent.push(message), on, off() {} };
  explorer.render({ model, el: document.body });
</script>"""


class FrontEnd(ExplorerPage):
    """The page, what it asked for last, and the kernel's answers to that."""

    def last(self, do: str) -> dict | None:
        """The last message of a kind, None if there was none."""
        return self.page.evaluate("(name) => sent.findLast((one) => one.do === name) ?? null", do)

    def wait_for(self, do: str, after: int = -1) -> None:
        """Wait for a message of a kind with a later id; previews may be asked for meanwhile."""
        message = "([name, id]) => sent.some((one) => one.do === name && one.id > id)"
        self.page.wait_for_function(message, arg=[do, after])

    def answer(self, to: str | dict, kind: str = "error", **content) -> None:
        """Answer a message, or the last one of a kind, as `widget.Explorer` does."""
        to = self.last(to) if isinstance(to, str) else to
        self.page.evaluate("(message) => window.answer(message)", to | {"is": kind} | content)

    def offer(self, **changes) -> None:
        """Open the media."""
        empty = {"folders": [], "examples": [], "skipped": [], "unread": 0, "kinds": ["image"]}
        shown = {"items": 9, "about": "CLIP", "adapter": "a", "adapters": ["a"]}
        self.answer("media", "media", **empty | shown | changes)

    def find(self, *columns: list[dict]) -> None:
        """Answer the last search by columns of hits, of which the keys are given."""
        about = {"items": 9, "zero": False, "seconds": 0.1, "cut": False, "right": None}
        shown = {"title": "", "file": "", "kind": "image", "ratio": 1}
        shown |= {"score": 0.5, "alike": [], "right": False}
        answered = []
        for number, column in enumerate(columns):
            hits = [
                shown | {"rank": item + 1, "item": item} | hit for item, hit in enumerate(column)
            ]
            answered.append(about | {"label": f"model {number}", "hits": hits, "ranked": len(hits)})
        self.answer("search", "hits", start=0, columns=answered)

    def type(self, text: str) -> None:
        """Type a query and press Enter."""
        self.box.fill(text)
        self.box.press("Enter")

    def heading(self, text: str) -> None:
        """Wait for what is said above the results."""
        expect(self.root.locator("[data-part=heading]")).to_have_text(text)


@pytest.fixture
def front(browser):
    """The page while the first media are being opened."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})

    def serve(route):
        name = route.request.url.removeprefix(ADDRESS).partition("?")[0]
        if name in ("explorer.js", "explorer.css"):
            route.fulfill(path=STATIC / name)
        else:  # the page, and whether the kernel lives
            route.fulfill(body=PAGE, content_type="text/html")

    page.route("**/*", serve)
    front = FrontEnd(page)
    page.goto(ADDRESS)
    page.wait_for_function("window.sent?.length")
    yield front
    assert not front.errors
    page.close()


def test_a_query_is_asked_of_the_media_that_are_chosen_before_its_answer_comes(front):
    front.type("a cat")
    front.control("media").select_option("B")
    front.offer()
    assert front.last("search")["text"] == "a cat" and front.last("search")["media"] == "B"
    front.find([{"key": "a cat of B"}])
    front.type("a dog")
    front.control("media").select_option("A")
    front.offer()
    assert front.last("search")["text"] == "a dog" and front.last("search")["media"] == "A"
    front.find([{"key": "a dog of A"}])
    front.heading("Results for “a dog”")


def test_back_to_no_query_forgets_it_and_what_is_being_typed_stays(front):
    front.offer()
    front.type("a cat")
    front.find([{"key": "cat"}])
    opened = front.last("media")["id"]
    front.page.go_back()
    front.wait_for("media", opened)
    front.offer()
    asked = front.last("search")["id"]
    front.set_strength(1)
    assert front.last("search")["id"] == asked and front.box.input_value() == ""
    front.box.fill("a do")
    front.control("media").select_option("B")
    front.offer()
    assert front.box.input_value() == "a do"


def test_a_file_that_cannot_ask_leaves_a_search_alone(front, tmp_path):
    front.offer()
    alert = front.root.locator("[data-part=alert]")
    (tmp_path / "large.png").write_bytes(bytes(1_000_001))
    (tmp_path / "small.png").write_bytes(b"1")
    front.type("a cat")
    front.drop(tmp_path / "large.png")
    expect(alert).to_have_text("large.png: more than 1 MB; choose a smaller file")
    front.drop(tmp_path / "small.png")
    front.wait_for("file")
    front.answer("file", text="small.png: refused")
    expect(alert).to_have_text("small.png: refused")
    assert front.root.locator("[aria-busy]").count() == 1
    front.find([{"key": "cat"}])
    front.heading("Results for “a cat”")


def test_a_folder_that_is_dropped_is_refused(front, tmp_path):
    front.offer()
    # a browser drops no folder for a test: it is made unreadable
    (tmp_path / "folder").write_bytes(b"1")
    front.page.evaluate(
        "File.prototype.slice = () => ({ arrayBuffer: () => Promise.reject(new Error()) })"
    )
    front.drop(tmp_path / "folder")
    said = "folder: cannot be read; choose a picture or clip"
    expect(front.root.locator("[data-part=alert]")).to_have_text(said)
    expect(front.root.locator("[data-part=busy]")).to_be_hidden()
    assert front.last("file") is None
    chosen = front.control("chosen")
    chosen.set_input_files(tmp_path / "folder")
    assert chosen.input_value() == "", "the same one can be chosen again"


def test_a_result_is_found_under_its_copy_in_another_column(front):
    front.offer()
    front.type("a cat")
    front.find(
        [{"key": "a", "alike": ["b"]}, {"key": "c"}],
        [{"key": "c"}, {"key": "b", "alike": ["a"]}],
        [{"key": "c"}],
    )
    assert front.root.get_by_text("+1 alike").count() == 2
    front.tiles.first.click()
    places = front.viewer.locator("li").all_inner_texts()
    assert places == [
        "model 0: rank 1, how alike: 0.500",
        "model 1: rank 2 by a copy of it, how alike: 0.500",
        "model 2: beyond rank 1",
    ]


def test_what_goes_wrong_with_one_result_is_said_beside_it(front):
    front.offer()
    front.type("a cat")
    front.find([{"key": "a"}, {"key": "b"}])
    front.tiles.first.click()
    front.answer("open", text="a.png: no such file")
    front.answer("why", text="a.png: changed")
    expect(front.viewer.get_by_role("alert")).to_have_text("a.png: no such file")
    expect(front.viewer.get_by_text("a.png: changed")).to_be_visible()
    late = front.last("open")
    front.page.keyboard.press("ArrowRight")
    front.answer(late, text="of the one before")
    assert front.viewer.get_by_text("of the one before").count() == 0
    assert front.root.locator("[data-part=alert]").inner_text() == ""


def test_one_result_is_closed_when_other_results_or_media_come(front):
    front.offer()
    front.type("a cat")
    front.find([{"key": "cat"}])
    front.type("a dog")
    front.tiles.first.click()
    expect(front.viewer).to_be_visible()
    front.find([{"key": "dog"}])
    expect(front.viewer).to_be_hidden()
    front.tiles.first.click()
    front.page.go_back()
    expect(front.viewer).to_be_hidden()
    assert front.last("open")["item"] == 0 and front.tiles.count() == 0


def test_previews_go_on_after_an_error(front):
    front.offer()
    front.type("a cat")
    front.find([{"key": str(number)} for number in range(60)])
    front.page.wait_for_function("sent.filter((one) => one.do === 'thumbs').length === 3")
    front.answer("thumbs", text="no memory")
    front.page.wait_for_function("sent.filter((one) => one.do === 'thumbs').length === 4")
    assert front.root.locator(".cma-broken").first.inner_text().endswith("no memory\n0.500")


def test_an_upload_is_cancelled_and_no_other_view_searches_by_it(front, tmp_path):
    front.offer()
    (tmp_path / "small.png").write_bytes(b"1")
    front.drop(tmp_path / "small.png")
    front.wait_for("file")
    sent = front.last("file")
    # of another view of the widget
    front.answer(sent | {"id": sent["id"] + 7}, "file", name="small.png")
    assert front.last("search") is None
    front.page.evaluate("document.querySelector('[data-part=stop]').click()")
    front.answer(sent, "file", name="small.png")
    assert front.last("search") is None


def test_what_is_being_typed_or_composed_is_left_alone(front):
    front.offer()
    front.type("a dog")
    front.box.fill("a cat in the")
    front.find([{"key": "dog"}])
    assert front.box.input_value() == "a cat in the"
    asked = front.last("search")["id"]
    front.box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})  # it confirms 猫
    assert front.last("search")["id"] == asked


def test_an_answer_that_comes_twice_is_shown_once_and_no_path_is_copied_before_it(front):
    front.offer()
    front.type("a cat")
    front.find([{"key": "a"}])
    front.tiles.first.click()
    front.button("copy path").click()
    expect(front.button("copy it below")).to_be_visible()
    photo = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    for _ in range(2):
        front.page.evaluate(
            """([message, photo]) => { const bytes = Uint8Array.from(atob(photo), (c) => c.charCodeAt(0));
              const buffer = () => new DataView(bytes.buffer.slice(0));
              window.answer(message, [buffer(), buffer()]); }""",
            [front.last("open") | {"is": "open", "captions": ["a cat"], "path": "/a.png"}, photo],
        )
    expect(front.viewer.get_by_role("heading", name="What the model saw")).to_have_count(1)


def test_a_late_answer_leaves_a_list_that_was_opened_meanwhile(front):
    front.offer(examples=["a cat"])
    front.button("what CLIP misses").click()
    front.button("examples").click()
    front.answer("missed", "missed", adapter="a", count=1, changes=[["a dog", 9, 1]])
    listed = front.root.get_by_label("suggestions").get_by_role("button")
    expect(listed).to_have_text(["a cat"])
    front.button("what CLIP misses").click()
    front.answer("missed", "missed", adapter="a", count=1, changes=[["a dog", 9, 1]])
    expect(listed).to_have_text(["a dog (rank 9 → 1)"])
