"""`explorer.js` alone in a real browser: the test answers in the kernel's place, when and as it
likes.
"""

import base64
import io
import json

import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from explorer.widget import STATIC
from tests.explorer.browser.explorer_page import PATIENCE, ExplorerPage

pytestmark = [pytest.mark.browser, pytest.mark.minis]  # it runs with the other tests in a browser
expect.set_options(timeout=PATIENCE)

PHOTO = (  # of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
ANSWER = """([message, photo, count]) => {
  window.photo = Uint8Array.from(atob(photo), (c) => c.charCodeAt(0));
  const view = () => new DataView(window.photo.buffer.slice(0));
  window.answer(message, Array.from({ length: count }, view));
}"""
ADDRESS = "http://127.0.0.1:9/"  # nothing is there: the pages are given below
PAGE = """<!doctype html><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="explorer.css"><body>
<script type="module">
  import explorer from "./explorer.js";
  const limits = { suffixes: [".png"], megabytes: 1, strengths: [0, 0.5, 1] };
  const setup = { media: ["A", "B"], query: "", page: true, tab: "t", ...limits };
  if (!location.search.includes("notebook")) document.body.dataset.page = 1;
  window.sent = [];
  const hear = {};
  hear["msg:custom"] = (l) => { window.answer = (message, views = []) => l(message, views); };
  hear.gone = (listener) => { window.lost = listener; };
  hear.unsent = (listener) => { window.unsent = listener; };
  const on = (kind, listener) => hear[kind](listener);
  const model = { get: () => setup, send: (message) => sent.push(message), on, off() {} };
  explorer.render({ model, el: document.body });
</script>"""


class FrontEnd(ExplorerPage):
    """The page, what it asked for last, and the kernel's answers to that."""

    def load(self, search: str = "") -> None:
        """Load the page, until it asks for the first media."""
        self.page.goto(ADDRESS + search)
        self.loaded()

    def reload(self) -> None:
        """Load the page again."""
        self.page.reload()
        self.loaded()

    def loaded(self) -> None:
        """Wait until it asks for the first media."""
        self.page.wait_for_function("window.sent?.length")

    @property
    def listed(self) -> Locator:
        """The suggestions under the query."""
        return self.root.get_by_label("suggestions").get_by_role("button")

    def last(self, do: str) -> dict | None:
        """The last message of a kind, None if there was none."""
        return self.page.evaluate("(name) => sent.findLast((one) => one.do === name) ?? null", do)

    def wait_for(self, do: str, after: int = -1) -> None:
        """Wait for a message of a kind with a later id; previews may be asked for meanwhile."""
        message = "([name, id]) => sent.some((one) => one.do === name && one.id > id)"
        self.page.wait_for_function(message, arg=[do, after])

    def answer(self, to: str | dict, kind: str = "error", photos: int = 0, **content) -> None:
        """Answer a message, or the last one of a kind, as `widget.Explorer` does."""
        to = self.last(to) if isinstance(to, str) else to
        self.page.evaluate(ANSWER, [to | {"is": kind} | content, PHOTO, photos])

    def answer_open(self, **known) -> None:
        """Say what is known about the result that was opened."""
        about = {"captions": [], "path": "", "facts": {}, "at": None, "file": None}
        self.answer("open", "open", photos=2, **about | known)

    def offer(self, newest: bool = True, **changes) -> None:
        """Open the media; with `newest`, they are listed, and there are none."""
        empty = {"folders": [], "examples": [], "skipped": [], "unread": 0, "kinds": ["image"]}
        shown = {"items": 9, "about": "CLIP", "adapter": "a", "adapters": ["a"], "years": []}
        self.answer("media", "media", **empty | shown | changes)
        if newest:
            self.find([], newest=True)

    def find(
        self, *columns: list[dict], newest: bool = False, dated: bool = False, photos: int = 0
    ) -> None:
        """Answer the last search by columns of hits, of which the keys are given."""
        about = {"items": 9, "seconds": 0.1, "cut": False, "foreign": False}
        about |= {"right": None, "newest": newest, "dated": newest or dated}
        shown = {"title": "", "file": "", "path": "", "kind": "image", "ratio": 1, "copies": []}
        shown |= {"score": 0.5, "alike": [], "right": False, "named": False, "ranks": []}
        answered = []
        for number, column in enumerate(columns):
            hits = [
                shown | {"rank": item + 1, "item": item} | hit for item, hit in enumerate(column)
            ]
            answered.append(about | {"label": f"model {number}", "hits": hits, "ranked": len(hits)})
        self.answer("search", "hits", photos, start=0, columns=answered)

    def type(self, text: str) -> None:
        """Type a query and press Enter."""
        self.box.fill(text)
        self.box.press("Enter")

    def begin(self, *columns: list[dict]) -> None:
        """Open the media, and find these for a first query."""
        self.offer()
        self.type("a cat")
        self.find(*columns)

    def heading(self, text: str) -> None:
        """Wait for what is said above the results."""
        expect(self.root.locator("[data-part=heading]")).to_have_text(text)


@pytest.fixture
def front(browser, request):
    """The page while the first media are being opened; its options can be given."""
    size = {"width": 1000, "height": 800}
    page = browser.new_page(**{"viewport": size} | getattr(request, "param", {}))

    def serve(route):
        name = route.request.url.removeprefix(ADDRESS).partition("?")[0]
        if name in ("explorer.js", "explorer.css"):
            route.fulfill(path=STATIC / name)
        else:  # the page, and whether the kernel lives
            route.fulfill(body=PAGE, content_type="text/html")

    page.route("**/*", serve)
    front = FrontEnd(page)
    front.load()
    yield front
    assert not front.errors
    page.close()


def test_a_query_is_asked_of_the_media_that_are_chosen_before_its_answer_comes(front):
    for query, media in (("a cat", "B"), ("a dog", "A")):
        front.type(query)
        front.control("media").select_option(media)
        front.offer(newest=False)
        asked = front.last("search")
        assert (asked["text"], asked["media"]) == (query, media)
        front.find([{"key": f"{query} of {media}"}])
    front.heading("Results for “a dog”")


def test_back_to_no_query_forgets_it_and_what_is_being_typed_stays(front):
    front.begin([{"key": "cat"}])
    opened = front.last("media")["id"]
    front.page.go_back()
    front.wait_for("media", opened)
    front.offer()
    front.set_strength(1)
    assert front.last("search")["text"] == "" and front.box.input_value() == ""
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


def test_a_result_is_found_under_its_copy_in_another_column(front):
    front.begin(
        [{"key": "a", "alike": ["b"]}, {"key": "c"}],
        [{"key": "c"}, {"key": "b", "alike": ["a"]}],
        [{"key": "c"}],
    )
    assert front.root.get_by_text("+1 alike").count() == 2
    front.tiles.first.click()
    places = front.viewer.locator("li").all_inner_texts()
    assert places == [
        "model 0: rank 1, match 0.50",
        "model 1: rank 2 by a copy of it, match 0.50",
        "model 2: beyond rank 1",
    ]


def test_what_goes_wrong_with_one_result_is_said_beside_it(front):
    front.begin([{"key": "a"}, {"key": "b"}])
    front.tiles.first.click()
    front.answer("open", text="a.png: no such file")
    front.answer("why", text="a.png: changed")
    expect(front.viewer.get_by_role("alert")).to_have_text("a.png: no such file")
    expect(front.viewer.get_by_text("a.png: changed")).to_be_visible()
    late = front.last("open")
    front.press("ArrowRight")
    front.answer(late, text="of the one before")
    assert front.viewer.get_by_text("of the one before").count() == 0
    assert front.root.locator("[data-part=alert]").inner_text() == ""


def test_one_result_is_closed_when_other_results_or_media_come(front):
    front.begin([{"key": "cat"}])
    front.type("a dog")
    front.tiles.first.click()
    expect(front.viewer).to_be_visible()
    front.find([{"key": "dog"}])
    expect(front.viewer).to_be_hidden()
    front.tiles.first.click()
    expect(front.viewer).to_be_visible()
    front.page.go_back()
    expect(front.viewer).to_be_hidden()
    assert front.last("open")["item"] == 0 and front.tiles.count() == 1
    opened = front.last("media")["id"]
    front.page.go_back()
    front.wait_for("media", opened)
    assert front.tiles.count() == 0


def test_previews_go_on_after_an_error(front):
    front.begin([{"key": str(number)} for number in range(60)])
    front.page.wait_for_function("sent.filter((one) => one.do === 'thumbs').length === 3")
    front.answer("thumbs", text="no memory")
    front.page.wait_for_function("sent.filter((one) => one.do === 'thumbs').length === 4")
    assert front.root.locator(".cma-broken").first.inner_text().endswith("no memory\nmatch 0.50")


def test_an_upload_is_cancelled_and_no_other_view_searches_by_it(front, tmp_path):
    front.offer()
    (tmp_path / "small.png").write_bytes(b"1")
    front.drop(tmp_path / "small.png")
    front.wait_for("file")
    sent, before = front.last("file"), front.last("search")
    # of another view of the widget
    front.answer(sent | {"id": sent["id"] + 7}, "file", name="small.png")
    assert front.last("search") == before
    front.page.evaluate("document.querySelector('[data-part=stop]').click()")
    front.answer(sent, "file", name="small.png")
    assert front.last("search") == before


def test_what_is_being_typed_or_composed_is_left_alone(front):
    front.offer()
    front.type("a dog")
    front.box.fill("a cat in the")
    front.find([{"key": "dog"}])
    assert front.box.input_value() == "a cat in the"
    asked = front.last("search")["id"]
    front.box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})  # it confirms 猫
    assert front.last("search")["id"] == asked


def test_an_answer_that_comes_twice_is_shown_once(front):
    front.begin([{"key": "a"}])
    front.tiles.first.click()
    for _ in range(2):
        front.answer_open(captions=["a cat"])
    expect(front.viewer.get_by_role("heading", name="What the model saw")).to_have_count(1)


def test_a_late_answer_leaves_a_list_that_was_opened_meanwhile(front):
    front.offer(examples=["a cat"])
    front.compare()
    front.button("what CLIP misses").click()
    front.button("examples and history").click()
    front.answer("missed", "missed", adapter="a", count=1, of=9, changes=[["a dog", 9, 1]])
    expect(front.listed).to_have_text(["a cat", "keys"])
    front.button("what CLIP misses").click()
    front.answer("missed", "missed", adapter="a", count=1, of=9, changes=[["a dog", 9, 1]])
    expect(front.listed).to_have_text(["a dog (rank 9 → 1)"])


def test_letters_that_are_typed_anywhere_reach_the_query(front):
    expect(front.box).to_be_focused()
    front.page.evaluate("document.activeElement.blur()")
    front.page.keyboard.type("a c")
    front.offer()
    front.type(front.box.input_value() + "at")
    front.find([{"key": "cat"}])
    front.tiles.first.focus()
    front.page.keyboard.type("s")
    assert front.box.input_value() == "a cats"


def test_a_cancelled_change_of_the_strength_is_put_back(front):
    front.begin([{"key": "cat"}])
    front.set_strength(1)
    wanted = front.last("search")
    assert wanted["strength"] == 0.5
    front.answer("search", "progress", done=96, total=1048, waits=False)
    expect(front.control("doing")).to_have_text("96 of about 1,048 frames …")
    front.button("cancel").click()
    assert front.last("cancel")["id"] == wanted["id"]
    assert front.control("strength").input_value() == "2", "the results are those of strength 1"


def test_the_slider_says_what_a_strength_means(front):
    front.offer(adapters=["a", "b"], keeps={"a": 0.5})
    amount = front.root.locator("[data-part=amount]")
    expect(amount).to_have_text("1 as trained")
    front.set_strength(1)
    expect(amount).to_have_text("0.5 keeps more")
    front.set_strength(0)
    expect(amount).to_have_text("0")
    slider = front.control("strength")
    assert slider.evaluate("(one) => [...one.list.options].map((mark) => mark.value)") == ["2", "1"]
    front.set_strength(1)
    front.root.get_by_role("checkbox", name="a", exact=True).uncheck()
    expect(amount).to_have_text("0.5")
    front.reload()
    front.offer(adapters=[])
    expect(front.button("Compare")).to_be_hidden()


def test_the_address_holds_all_that_decides_the_results(front):
    offer = {"folders": ["in"], "kinds": ["image", "video"], "years": [2024, 2020]}
    front.offer(**offer)
    front.type("a cat")
    front.find([{"key": "cat"}])
    for name, value in (("kind", "image"), ("folder", "in"), ("year", "2020"), ("order", "date")):
        front.control(name).select_option(value)
    front.control("names").check()
    front.compare()
    front.root.get_by_label("a", exact=True).uncheck()
    wanted = front.last("search")
    front.find([{"key": "cat"}])
    front.reload()
    front.offer(newest=False, **offer)
    again = front.last("search")
    assert again | {"id": 0} == wanted | {"id": 0}
    chosen = {"adapters": [None], "kind": "image", "folder": "in", "year": "2020", "names": True}
    assert wanted | chosen | {"order": "date", "strength": 1, "text": "a cat"} == wanted


def test_history_and_saved_searches_outlive_the_page_until_they_are_cleared(front):
    front.offer()
    for text in ("a cat", "a dog"):
        front.type(text)
        front.find([{"key": text}])
    front.button("examples and history").click()
    front.button("save this search").click()
    front.load()
    front.offer()
    front.button("examples and history").click()
    expect(front.listed).to_have_text(["★ “a dog”", "“a cat”", "clear", "keys"])
    front.button("clear").click()
    expect(front.listed).to_have_text(["keys"])
    front.reload()
    front.offer()
    front.button("examples and history").click()
    expect(front.listed).to_have_text(["keys"])


def test_results_are_chosen_by_click_and_key_and_copied(front):
    front.begin([{"key": str(item), "path": f"/{item}.png"} for item in range(8)])
    tiles, picked = front.tiles, front.control("picked")
    tiles.nth(1).click(modifiers=["Control"])
    tiles.nth(4).click(modifiers=["Shift"])
    tiles.nth(2).click(modifiers=["Control"])
    expect(front.control("message")).to_have_text("3 results chosen")
    tiles.nth(6).focus()
    front.press("x")
    chosen = front.root.locator(".cma-tile[aria-pressed=true]")
    expect(chosen).to_have_count(4)
    assert not front.viewer.is_visible() and not front.axe(".cma-explorer")
    with front.page.expect_download() as told:
        picked.get_by_role("button", name="CSV").click()
    rows = told.value.path().read_text("utf-8").splitlines()
    assert rows[0] == '"model","rank","cosine","path","title"'
    assert rows[1] == '"model 0","2","0.5","/1.png",""' and len(rows) == 5
    picked.get_by_label("folder to copy into").fill("~/chosen")
    picked.get_by_role("button", name="copy files into it").click()
    wanted = front.last("copy")
    assert wanted["folder"] == "~/chosen"
    assert wanted["items"] == [["model 0", item] for item in (1, 3, 4, 6)]
    front.answer("copy", "copy", count=4, into="/home/me/chosen")
    expect(front.control("message")).to_have_text("4 files copied into /home/me/chosen")
    tiles.first.focus()
    front.press("End")
    front.press("Home")
    expect(tiles.first).to_be_focused()
    front.press("Escape")
    expect(chosen).to_have_count(0)


def test_the_keys_are_listed(front):
    front.offer()
    front.button("examples and history").click()
    front.button("keys").click()
    expect(front.root.get_by_role("dialog", name="keys")).to_contain_text("Space: play or pause")
    assert not front.axe(".cma-keys")
    front.press("Escape")
    front.tiles.first.wait_for(state="detached")
    front.control("results").focus()
    front.press("?")
    expect(front.root.get_by_role("dialog", name="keys")).to_be_visible()


def test_a_kernel_that_does_not_answer_is_said_within_five_seconds(front):
    front.page.clock.install()
    front.load("?notebook")
    gone = front.root.locator("[data-part=gone]")
    pings = "sent.filter((one) => one.do === 'ping').length"
    assert front.page.evaluate(pings) == 1
    front.page.evaluate("sent.splice(0, sent.length, sent.findLast((o) => o.do === 'media'))")
    front.page.evaluate("window.answer({ is: 'pong', id: 0 })")
    front.page.clock.run_for(10_000)
    assert front.page.evaluate("sent.length") == 1, "nothing is sent while nothing is asked"
    front.offer()
    front.type("a dog")
    front.page.wait_for_function("sent.some((one) => one.do === 'ping')")
    expect(gone).to_have_text("")
    front.page.clock.run_for(5000)
    expect(gone).to_contain_text("No answer: the notebook's kernel is busy, was restarted")
    front.page.evaluate("window.answer({ is: 'pong', id: 0 })")
    expect(gone).to_have_text("")
    assert front.page.evaluate(pings) == 1, "one question at a time"


def test_a_sentence_and_a_picture_ask_together_until_the_picture_is_taken_away(front, kept):
    front.begin([{"key": "cat", "file": "in/cat.png"}])
    front.tiles.first.click()
    front.button("more like this").click()
    assert (front.last("search")["like"], front.last("search")["text"]) == ("in/cat.png", "")
    front.find([{"key": "cat", "file": "in/cat.png"}], photos=1)
    asks = front.root.get_by_role("img", name="what asks: in/cat.png")
    expect(asks).to_have_js_property("naturalWidth", 1)
    front.type("at night -snow")
    wanted = front.last("search")
    assert (wanted["like"], wanted["text"]) == ("in/cat.png", "at night -snow")
    front.find([{"key": "cat"}], photos=1)
    front.heading("Results for “at night -snow” and more like in/cat.png")
    assert "like=in%2Fcat.png" in front.page.url and "q=at+night+-snow" in front.page.url
    for scheme in ("light", "dark"):
        for width in (1300, 390):
            front.page.emulate_media(color_scheme=scheme)
            front.page.set_viewport_size({"width": width, "height": 800})
            expect(asks).to_be_visible()
            assert not front.too_wide() and not front.axe(".cma-explorer")
            front.page.screenshot(path=kept / f"asks-{scheme}-{width}.png")
    front.control("chips").get_by_role("button").click()
    assert (front.last("search")["like"], front.last("search")["text"]) == ("", "at night -snow")
    front.find([{"key": "cat"}])
    expect(asks).to_have_count(0)


def test_a_picture_that_is_pasted_asks(front):
    front.offer()
    front.root.evaluate("""(root) => { const clipboardData = new DataTransfer();
      clipboardData.items.add(new File(["1"], "pasted.png", { type: "image/png" }));
      root.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true })); }""")
    front.wait_for("file")
    assert front.last("file")["name"] == "pasted.png"


def test_a_clip_shows_how_well_its_moments_match_and_plays_from_them(front, kept):
    front.begin([{"key": "cat", "kind": "video", "title": "a cat"}])
    front.tiles.first.click()
    front.answer_open(at=12.0)
    strip = [[at, 0.2 + at / 10000] for at in (0.0, 12.0, 1000.0, 3700.5)]
    moments = [strip[3], strip[1]]
    front.answer("moments", "moments", photos=2, strip=strip, moments=moments)
    assert front.last("clip")["at"] == 12.0
    front.viewer.get_by_role("button", name="play from 1:01:40.5, match 0.57").click()
    assert front.last("clip")["at"] == 3700.5
    line = front.viewer.get_by_role("img", name="how well each moment matches")
    line.click(position={"x": 1 / 2 * line.bounding_box()["width"] - 2, "y": 40})
    assert front.last("clip")["at"] == 12.0
    assert not front.axe(".cma-viewer")
    front.page.screenshot(path=kept / "moments.png")


def test_results_by_date_stand_below_their_months(front, kept):
    days = ["2024-08-05", "2024-08-01", "2024-07-30", "2023-07-30", ""]
    front.begin([{"key": "cat"}])
    front.control("order").select_option("date")
    assert front.last("search")["order"] == "date"
    hits = [{"key": str(at), "date": day} for at, day in enumerate(days)]
    front.find(hits, dated=True)
    front.heading("5 that match “a cat”, newest first")
    months = front.root.locator(".cma-grid h2")
    expect(months).to_have_text(["August 2024", "July 2024", "July 2023", "date unknown"])
    assert front.root.locator(".cma-rank").count() == 0
    front.tiles.first.focus()
    front.press("ArrowDown")
    expect(front.tiles.nth(2)).to_be_focused()
    front.page.set_viewport_size({"width": 700, "height": 800})
    expect(months).to_have_text(["August 2024", "July 2024", "July 2023", "date unknown"])
    front.page.screenshot(path=kept / "months.png")


def test_the_tab_has_the_query_as_its_title_and_a_fast_answer_does_not_dim(front):
    front.begin([{"key": "cat"}])
    assert front.page.title() == "“a cat”"
    front.type("a dog")
    opacity = "() => getComputedStyle(document.querySelector('.cma-results')).opacity"
    assert front.root.locator("[aria-busy]").count() == 1 and front.page.evaluate(opacity) == "1"
    front.until(f"() => ({opacity})() === '0.4'")


def test_long_names_are_cut_in_the_middle(front):
    name = f"holiday {'x' * 80} beach.jpg"
    front.begin([{"key": "0", "title": name}])
    shown = front.tiles.first.locator("b").text_content()
    assert len(shown) == 61 and shown.startswith("holiday ") and shown.endswith(" beach.jpg")
    assert front.tiles.first.get_attribute("aria-label").startswith(f"1. {name}")


def test_a_result_that_a_text_found_shows_which_words(front):
    front.begin([{"key": "cat", "quote": ["then the <b>", "fox", " sleeps", 5.5]}, {"key": "dog"}])
    said = "in its text: then the <b>fox sleeps"
    assert said in front.tiles.first.get_attribute("aria-label")
    assert "text" not in front.tiles.nth(1).get_attribute("aria-label")
    front.tiles.first.click()
    front.answer_open()
    expect(front.viewer.get_by_role("heading", name="In its text")).to_be_visible()
    expect(front.viewer.locator("mark")).to_have_text("fox")
    expect(front.viewer.locator("p", has=front.page.locator("mark"))).to_have_text(
        "then the <b>fox sleeps"
    )


PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("front", [PHONE], indirect=True)
def test_a_telephone_has_a_sheet_of_choices_and_a_tab_for_each_model(front, kept):
    front.offer(kinds=["image", "video"], folders=["in"], years=[2024, 2020])
    front.type("a cat")
    front.find([{"key": "0"}], [{"key": "1"}, {"key": "2"}])
    expect(front.root.locator(".cma-tile:visible")).to_have_count(1)
    front.button("model 1").tap()
    expect(front.root.locator(".cma-tile:visible")).to_have_count(2)
    assert front.tiles.last.bounding_box()["width"] > 60, "laid out"
    assert front.root.locator(".cma-ask").bounding_box()["height"] == 44
    front.button("filters").tap()
    for control in ("kind", "folder", "year", "order", "compare"):
        box = front.control(control).bounding_box()
        assert box["height"] >= 44 and box["width"] > 300, control
    assert not front.too_wide() and not front.axe(".cma-explorer")
    front.page.screenshot(path=kept / "sheet.png")
    front.control("order").focus()
    front.button("filters").tap()
    expect(front.control("order")).to_be_hidden()


@pytest.mark.parametrize("front", [PHONE], indirect=True)
def test_a_finger_goes_to_the_next_result_but_not_in_one_that_is_enlarged(front):
    front.begin([{"key": str(item)} for item in range(3)])
    front.tiles.nth(1).tap()
    front.answer_open()
    stage = front.viewer.locator(".cma-stage").bounding_box()
    middle = stage["y"] + stage["height"] / 3
    touch = front.page.context.new_cdp_session(front.page)

    def swipe(way):
        for kind, x in (("Start", 195), ("Move", 195 + way / 2), ("Move", 195 + way)):
            points = [{"x": x, "y": middle}]
            touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return front.last("open")["item"]

    assert swipe(-20) == 1
    for way, item in ((-120, 2), (120, 1), (120, 0)):
        swipe(way)
        front.until(f"() => sent.findLast((one) => one.do === 'open').item === {item}")
    front.answer_open()
    front.until("() => document.querySelector('.cma-stage img').clientWidth === 2")  # it is loaded
    front.viewer.locator(".cma-stage img").click()  # of two pixels, too small for a tap
    expect(front.viewer.locator(".cma-zoomed")).to_have_count(1)
    assert swipe(-120) == 0, "one looks around in it"


def test_a_result_is_enlarged_and_fills_the_screen(front):
    front.begin([{"key": "0"}, {"key": "1"}])
    front.tiles.first.click()
    front.answer_open()
    large = front.viewer.locator(".cma-stage img")
    before = large.bounding_box()["width"]
    assert before == 2, "a picture of one pixel is shown at most twice as large as it is"
    large.click()
    assert large.bounding_box()["width"] >= 2 * before
    large.click()
    assert large.bounding_box()["width"] == before
    full = front.viewer.get_by_role("button", name="full screen")
    for filled in (True, False, True):
        full.click()
        front.until("(filled) => Boolean(document.fullscreenElement) === filled", filled)
    front.viewer.get_by_role("button", name="close").click()
    front.until("() => !document.fullscreenElement")


def picture(width: int, height: int) -> bytes:
    """A picture as the bytes of a PNG."""
    Image.new("RGB", (width, height), "teal").save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_a_click_enlarges_the_file_itself_where_one_clicks(front):
    front.begin([{"key": "0"}, {"key": "1"}])
    front.page.route("**/file/t/7*", lambda route: route.fulfill(body=picture(4000, 3000)))
    front.tiles.first.click()
    copy = base64.b64encode(picture(1024, 768)).decode()
    about = {"captions": [], "path": "", "facts": {}, "at": None, "file": "7"}
    opened = front.last("open") | {"is": "open"} | about
    front.page.evaluate(ANSWER, [opened, copy, 2])
    stage = front.viewer.locator(".cma-stage")
    large, box = stage.locator("img"), stage.bounding_box()
    front.until("() => document.querySelector('.cma-stage img').naturalWidth === 1024")
    front.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    front.until("() => document.querySelector('.cma-stage img').naturalWidth === 4000")
    shown = large.bounding_box()
    assert shown["width"] > 3 * box["width"], "a pixel of the file is one of the screen"
    clicked = (box["width"] * 0.75 + box["x"] - shown["x"]) / shown["width"]
    assert abs(clicked - 0.75) < 0.01, "what was clicked is still under the pointer"
    front.page.mouse.down()
    front.page.mouse.move(box["x"] + box["width"] * 0.75 - 50, box["y"] + box["height"] / 2)
    front.page.mouse.up()
    moved = large.bounding_box()
    assert abs(shown["x"] - 50 - moved["x"]) < 1 and moved["width"] == shown["width"]
    front.press("ArrowRight")
    expect(front.viewer.locator(".cma-zoomed")).to_have_count(0)


def test_a_query_that_cannot_be_sent_is_kept_in_the_address(front):
    front.offer()
    front.type("a cat")
    front.page.evaluate("unsent()")
    expect(front.control("gone")).to_contain_text("Your query is kept")
    assert "q=a+cat" in front.page.url


def test_a_result_says_its_rank_in_the_other_model_and_lights_it_up(front):
    first = [{"key": "0", "ranks": [1, 17]}, {"key": "1", "ranks": [2, 1]}]
    second = [{"key": "1", "ranks": [2, 1]}, {"key": "5", "ranks": [None, 2]}]
    front.begin(first, second)
    assert front.root.locator(".cma-rank").all_inner_texts() == ["1 ▲17", "2 ▼1", "1 ▲2", "2"]
    front.tiles.nth(1).hover()
    expect(front.root.locator(".cma-same")).to_have_count(2)
    front.tiles.first.click()
    front.answer_open()
    assert "model 1: rank 17" in front.viewer.inner_text()


@pytest.mark.parametrize("front", [{"has_touch": True}], indirect=True)
def test_a_finger_chooses_results_and_nothing_moves(front):
    front.begin([{"key": str(item)} for item in range(8)])
    before = front.tiles.nth(3).bounding_box()
    front.tiles.nth(2).locator(".cma-tick").tap()
    expect(front.control("message")).to_have_text("1 result chosen")
    assert front.tiles.nth(3).bounding_box() == before and not front.viewer.is_visible()
    bar = front.root.locator(".cma-bar").bounding_box()
    assert bar["y"] + bar["height"] == 800, "at the bottom"


def test_who_comes_back_is_where_they_were(front):
    front.begin([{"key": str(item)} for item in range(400)])
    front.root.locator(".cma-results").evaluate("(all) => { all.scrollTop = 700; }")
    front.type("a dog")
    front.find([{"key": "0"}])
    front.page.go_back()
    front.wait_for("media", front.last("search")["id"])
    front.offer(newest=False)
    front.find([{"key": str(item)} for item in range(400)])
    front.until("() => document.querySelector('.cma-results').scrollTop === 700")


def test_a_page_that_is_loaded_again_while_a_result_is_large_goes_back_by_one_step(front):
    front.begin([{"key": "0"}])
    front.tiles.first.click()
    address = front.page.url
    front.page.reload()
    front.until("() => window.sent?.length && !history.state?.large")
    assert front.page.url == address
    front.page.go_back()
    front.until("() => !location.hash.includes('q=')")


HEAR = """() => {  // a status has to be there before it speaks, an alert has not
  window.heard = [];
  new MutationObserver((changes) => changes.forEach(({ target, addedNodes }) => {
    const alerts = [...addedNodes].filter((one) => one.matches?.("[role=alert]"));
    for (const one of [target.closest("[role=status], [role=alert]"), ...alerts]) {
      const text = one?.innerText.trim();
      if (text && text !== window.heard.at(-1)) window.heard.push(text);
    }
  })).observe(document.body, { subtree: true, childList: true });
}"""


def test_changes_of_the_view_are_said_aloud_and_what_is_large_is_a_dialog(front):
    front.page.evaluate(HEAR)
    front.offer(items=9)
    front.type("a cat")
    front.find([{"key": "0", "title": "one cat"}, {"key": "1", "title": "two cats"}])
    front.tiles.first.click(modifiers=["Control"])
    front.type("a dog")
    front.answer("search", text="the storage does not answer")
    front.tiles.nth(1).click()
    front.answer("open", text="the file is gone")
    heard = front.page.evaluate("heard")
    expected = ["9 items", "0 items, newest first", "Results for “a cat”", "1 result chosen"]
    expected += ["the storage does not answer", "the file is gone"]
    assert [text for text in heard if text in expected] == expected
    shown = front.viewer.aria_snapshot()
    assert shown.startswith('- dialog "one result"')
    for name in ("previous result", "next result", "close", "full screen", "more like this"):
        assert f'- button "{name}"' in shown
    assert '- heading "two cats" [level=2]' in shown and "- alert: the file is gone" in shown
    front.press("Escape")
    expect(front.tiles.nth(1)).to_be_focused()
    columns = front.root.aria_snapshot()
    assert '- region "model 0"' in columns and 'button "2. two cats, match 0.50"' in columns


PARTNER = """([shown, total]) => {
  const hits = (start, count) => Array.from({ length: count }, (_, at) => ({ ...shown,
    rank: start + at + 1, item: start + at, key: String(start + at), file: `${start + at}.png` }));
  const columns = (start) => [{ label: "model 0", items: total, ranked: total, dated: false,
    newest: false, right: null, seconds: 0.1, cut: false, hits: hits(start, 1000) }];
  const answers = {
    more: ({ id, start }) => [{ is: "hits", id, start, columns: columns(start) }],
    search: ({ id }) => [{ is: "hits", id, start: 0, columns: columns(0) }],
    thumbs: (asked) => [{ ...asked, is: "thumbs", problems: asked.items.map(() => "") },
      asked.items.map(() => new Uint8Array(window.photo))],
  };
  sent.push = (message) => {
    sent[sent.length] = message;
    const answer = answers[message.do];
    if (answer) setTimeout(() => window.answer(...answer(message)));
    return sent.length;
  };
}"""
SCROLL = """async (total) => {
  const results = document.querySelector(".cma-results"), times = [];
  const count = () => document.querySelectorAll(".cma-tile").length;
  let last = performance.now();
  for (let step = 1; step <= 4; step++) {
    while (count() < step * total / 4) {
      results.scrollTop = results.scrollHeight;
      await new Promise(requestAnimationFrame);
    }
    times.push(performance.now() - last);
    last = performance.now();
  }
  return times;
}"""


@pytest.mark.night
def test_fifty_thousand_tiles_are_scrolled_in_little_memory(front, kept):
    total = 50_000
    front.offer()
    shown = {"title": "a cat", "path": "", "kind": "image", "ratio": 1.3, "copies": [], "alike": []}
    shown |= {"score": 0.5, "right": False, "named": False, "ranks": [], "date": ""}
    front.page.evaluate(PARTNER, [shown, total])
    front.type("a cat")
    front.tiles.first.wait_for()
    front.previews()
    times = front.page.evaluate(SCROLL, total)
    assert front.tiles.count() == total
    front.previews()
    held = front.page.context.new_cdp_session(front.page)
    held.send("HeapProfiler.collectGarbage")
    heap = held.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    with_picture = front.root.locator(".cma-tile img[src]").count()
    figures = {"heap (MB)": heap, "pictures": with_picture, "quarters (ms)": times}
    (kept / "tiles.json").write_text(json.dumps(figures))
    assert with_picture < 400 and heap < 200, figures
    assert times[-1] < 3 * times[1] + 1000, figures
    front.tiles.last.focus()
    front.press("Home")
    expect(front.tiles.first).to_be_focused()
