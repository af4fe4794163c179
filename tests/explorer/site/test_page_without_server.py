"""The page without a server in a real browser, which reaches nothing but a plain file server."""

import base64
import io
import json
import re
import time

import pytest
from PIL import Image

from explorer.session import Session
from tests import ROOT
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.site.conftest import CLIPS, COUNTS, PICTURES, served
from tests.toy_media import halves

pytestmark = [pytest.mark.browser, pytest.mark.minis]

STRENGTHS = (0.0, 0.5, 1.0)
CAPTIONS = {PICTURES: 60, CLIPS: 12}
NEAR = 1e-3  # cosines that differ by less may change places
RANKED = """async ([name, captions, adapter, strength]) => {
  const { begin } = await import("./partner.js"), partner = await begin(), answers = [];
  const whole = { like: "", kind: "", folder: "" }, models = { adapters: [adapter], strength };
  const setup = { do: "search", media: name, ...whole, ...models };
  partner.on("msg:custom", (one) => answers.push(one));
  for (const text of captions) await partner.send({ ...setup, id: answers.length, text });
  const wrong = answers.find((one) => one.is === "error");
  if (wrong) throw new Error(wrong.text);
  return answers.filter((one) => one.is === "hits").map(({ columns: [{ hits }] }) =>
    hits.slice(0, 10).map(({ item, score }) => [item, score]));
}"""

# of two copies, the better one is of another year and name
NARROWED = """async (changes) => {
  const { Partner } = await import("./partner.js"), answers = [];
  const all = { kind: "image", captions: [], start: null, end: null, moment: false };
  const items = ["2014 a.jpg", "2020 holiday.jpg", "2014 c.jpg"].map((one) => one.split(" "));
  const vectors = { data: Float32Array.of(1, 0, 0.999, 0.01, 0, 1), shape: [3, 2] };
  const lengths = { data: Int32Array.of(1, 1, 1) };
  const hashes = { data: Uint32Array.of(7, 7, 7, 7, -1, 9) };
  const files = { once: (name, make) => make(), tensors: async () => ({ vectors, lengths, hashes }),
    json: async () => items.map(([date, path]) => ({ ...all, date, path })) };
  const config = { similarity: "mean_pooled" }, m = { folder: "m", labels: ["zero-shot"], config };
  const partner = new Partner(files, { setup: {}, media: { m }, adapters: [] });
  partner.towers.embed = async () => ({ vector: Float32Array.of(1, 0), cut: false });
  partner.on("msg:custom", (one) => answers.push(one));
  const models = { adapters: [null], strength: 1 };
  const whole = { like: "", file: "", kind: "", folder: "", year: "", order: "", names: false };
  const search = { do: "search", id: 1, media: "m", text: "holiday", ...models, ...whole };
  await partner.send({ ...search, ...changes });
  const [{ columns: [{ hits }] }] = answers;
  return hits.map(({ path, copies, named }) => [path, ...copies, named].join(" "));
}"""


@pytest.fixture
def opened(browser, address):
    """The page, wide and light. It may not ask other hosts, nor write errors to its console."""
    size = {"width": 1300, "height": 900}
    # the tests answer in the host's place
    page = browser.new_page(viewport=size, color_scheme="light", service_workers="block")
    shown = ExplorerPage(page)
    shown.open(address)
    yield shown
    assert not shown.outside and not shown.errors
    page.close()


@pytest.mark.parametrize("name", CAPTIONS)
def test_the_top_ten_are_those_of_the_index(opened, media_galleries, name):
    gallery = media_galleries[name]
    captions = gallery.first().captions[: CAPTIONS[name]]
    for strength in STRENGTHS:
        index = gallery.index(name, strength)
        asked = [name, captions, name, strength]
        found = opened.page.evaluate(RANKED, asked)
        assert len(found) == len(captions)
        for caption, scores, hits in zip(captions, index.scores(captions), found, strict=True):
            order = scores.argsort(descending=True, stable=True).tolist()
            best = [*index.copies(order, index.right(caption))][:10]
            assert len(hits) == len(best)
            for (item, score), other in zip(hits, best, strict=True):
                assert abs(scores[item] - scores[other]) < NEAR, "another item has this place"
                assert abs(scores[item] - score) < NEAR


def test_a_copy_of_another_year_or_name_hides_nothing(opened):
    assert opened.page.evaluate(NARROWED, {"year": "2020"}) == ["holiday.jpg false"]
    joined = ["a.jpg holiday.jpg false", "c.jpg false"]
    assert opened.page.evaluate(NARROWED, {"names": True}) == ["holiday.jpg true", *joined]


def test_a_query_can_be_linked_to_and_asked_on(opened, browser):
    page = opened.page
    opened.root.get_by_label("names first (texts beside files are not searched here)").check()
    results = opened.ask("a red bird")
    assert list(results) == ["zero-shot", PICTURES] and len(results["zero-shot"]) > 40
    with opened.searching():
        opened.set_strength(2)
    assert list(opened.results()) == ["zero-shot", f"{PICTURES} × 0.5"]
    linked = page.url
    assert "q=a+red+bird" in linked and "strength=0.5" in linked
    opened.tiles.first.click()
    opened.wait_in_viewer("This page does not compute why a result matches")
    opened.viewer.get_by_role("img", name="the part that the model saw").wait_for()
    with opened.searching():
        opened.viewer.get_by_role("button", name="more like this").click()
    like = opened.results()["zero-shot"]
    assert "like=" in page.url and like[0] == results["zero-shot"][0]
    opened.compare()
    opened.button("what CLIP misses").click()
    opened.wait_for_text(f"rank their picture or clip better with {PICTURES}:")
    again = ExplorerPage(browser.new_page())
    again.open(linked)
    again.wait_for_text("Results for “a red bird”")
    assert list(again.results()) == ["zero-shot", f"{PICTURES} × 0.5"]
    again.page.close()


def test_a_clip_plays_from_its_best_moment(opened):
    with opened.searching():
        opened.control("media").select_option(CLIPS)
    opened.ask("a star comes from the right")
    assert opened.previews() >= 10
    opened.tiles.first.click()
    opened.viewer.get_by_role("button", name="play from ").first.wait_for()
    opened.until("document.querySelector('video').videoWidth > 0")


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1300, "dark")])
def test_narrow_and_wide_light_and_dark_and_names_are_text(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    shown = ExplorerPage(page)
    shown.open(address)
    shown.ask("a cat")
    assert not shown.axe() and not shown.too_wide()
    if width == 390:
        shown.button("filters").click()
    with shown.searching():
        shown.control("media").select_option("<i>hostile</i>")
    if width == 390:
        shown.button("filters").click()
    shown.tiles.first.click()
    shown.wait_in_viewer("a'b\"c<i>&d.png")
    assert not shown.axe() and not shown.too_wide()
    assert shown.root.locator("i").count() == 1, "the one of the slider"
    assert not shown.errors and not shown.outside
    page.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("site.json", "the host has no such file (404); upload the whole folder again"),
        ("media0/items.json", "the host has no such file (404); upload the whole folder again"),
        ("0.safetensors", "the host has no such file (404); upload the whole folder again"),
        ("tokenizers.min.mjs", "cannot be loaded; upload the whole folder again"),
        ("ort-wasm-simd-threaded.mjs", "cannot be run by this browser"),
    ],
)
def test_a_file_that_is_missing_is_one_line(browser, address, name, said):
    lines = what_is_said(browser, address, name, {"status": 404})
    assert len(lines) == 1 and said in lines[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("site.json", "its end is missing; upload the whole folder again"),
        ("media0/0.safetensors", "bytes; upload the whole folder again"),
        ("tower.onnx", "bytes; upload the whole folder again"),
    ],
)
def test_a_file_that_is_cut_is_one_line(browser, address, site, name, said):
    lines = what_is_said(browser, address, name, {"body": (site / name).read_bytes()[:100]})
    assert len(lines) == 1 and said in lines[0]


def what_is_said(browser, address, name, answer) -> list[str]:
    """The lines about a file, where the host gives an answer of its own for it."""
    page = browser.new_page(service_workers="block")
    page.route(f"{address}{name}*", lambda route: route.fulfill(**answer))
    page.goto(f"{address}#q=a+cat")
    line = page.get_by_text("tower.onnx: " if name.endswith("threaded.mjs") else f"{name}: ")
    line.first.wait_for(timeout=120_000)
    lines = line.first.inner_text().splitlines()
    page.close()
    return lines


def test_a_preview_that_is_missing_is_said_on_its_tile(opened, address):
    opened.page.route(f"{address}media0/*-small.jpg*", lambda route: route.fulfill(status=404))
    opened.page.reload()
    opened.ready()
    opened.root.get_by_text("the host has no such file (404)").first.wait_for()
    opened.errors.clear()  # the browser notes the missing files


def test_the_page_says_what_is_wrong_where_it_cannot_begin(browser, address, site):
    page = browser.new_page()
    page.route(f"{address}partner.js", lambda route: route.fulfill(status=404))
    page.goto(address)
    assert "a file of the page is missing" in page.locator("body").inner_text()
    page.close()


KEPT = """async ([scope, names]) => {
  const cache = await caches.open(`cma-site ${scope}`);
  const kept = await Promise.all(names.map((name) => cache.match(name, { ignoreSearch: true })));
  return kept.every(Boolean);
}"""


def test_it_works_offline_after_the_first_visit(browser, site, kept):
    page = browser.new_page()
    shown = ExplorerPage(page)
    listed = json.loads((site / "site.json").read_text("utf-8"))["bytes"]
    shown_later = ("-large.jpg", "-seen.jpg", ".webm")
    names = ["./", "site.json", *(name for name in listed if not name.endswith(shown_later))]
    with served(site) as address:
        shown.open(address)
        before = shown.ask("a red bird")
        shown.until(KEPT, [address, names])
    page.reload()
    shown.ready()
    shown.tiles.first.wait_for()
    assert shown.results() == before
    shown.ask("a star comes from the right")
    assert shown.previews() > 10, "those that were never shown, too"
    shown.tiles.first.click()
    shown.viewer.get_by_role("img", name="the part that the model saw").wait_for()
    page.screenshot(path=kept / "offline.png")
    page.close()


def test_every_file_is_listed_with_its_bytes(site):
    listed = json.loads((site / "site.json").read_text("utf-8"))["bytes"]
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert listed.keys() == files - {"site.json"} and sum(COUNTS.values()) * 3 < len(files)


# ---- asked by a picture, which the browser prepares and embeds

# cosines differ by less, because the browser does not resize as Pillow does; measured: 0.0093
RESIZED = 0.015
ASK_BY = """async ([name, file, content, text, adapter, strength]) => {
  const { begin } = await import("./partner.js"), partner = await begin(), answers = [];
  partner.on("msg:custom", (one, buffers) => answers.push({ ...one, sent: buffers.length }));
  const models = { adapters: [adapter], strength, kind: "", folder: "" };
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const half = bytes.length >> 1, sent = { do: "file", id: 1, name: file, parts: 2 };
  await partner.send({ ...sent, part: 0 }, undefined, [bytes.slice(0, half)]);
  await partner.send({ ...sent, part: 1 }, undefined, [bytes.slice(half)]);
  await partner.send({ do: "search", id: 2, media: name, text, like: "", file, ...models });
  const wrong = answers.find((one) => one.is === "error");
  if (wrong) throw new Error(wrong.text);
  const { columns: [{ hits }], sent: pictured } = answers.find((one) => one.is === "hits");
  return [pictured, hits.map(({ item, score }) => [item, score])];
}"""


@pytest.fixture
def pictures(media_galleries, tmp_path):
    """Four of the pictures that are searched, and two made of the first: one that its EXIF data
    turn and a half transparent one.
    """
    index = media_galleries[PICTURES].first()
    paths = [index.path(file) for file in index.files[:4]]
    picture = Image.open(paths[0]).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.rotate(90, expand=True).save(tmp_path / "turned.png", exif=turned)
    picture.putalpha(128)
    picture.save(tmp_path / "glass.png")
    return [*paths, tmp_path / "turned.png", tmp_path / "glass.png"]


@pytest.mark.parametrize(
    ("adapter", "strength", "text"),
    [(None, 1.0, ""), (PICTURES, 0.5, ""), (PICTURES, 1.0, ""), (PICTURES, 1.0, "a red bird -cat")],
)
def test_a_picture_finds_itself_and_what_the_index_finds(
    opened, media_galleries, pictures, adapter, strength, text
):
    index = media_galleries[PICTURES].index(adapter, strength)
    found = {}
    differences = []
    for path in pictures:
        content = base64.b64encode(path.read_bytes()).decode()
        asked = [PICTURES, path.name, content, text, adapter, strength]
        sent, hits = opened.page.evaluate(ASK_BY, asked)
        assert sent == 1, "the picture that asks"
        items, cosines = index.ranking_media(path)
        if text:
            items, cosines = index.ranking("a red bird", like=path, without="cat")
        expected = dict(zip(items.tolist(), cosines.tolist(), strict=True))
        differences += [abs(expected[item] - score) for item, score in hits]
        found[path] = hits[0][0]
    assert max(differences) < RESIZED, f"the largest of {len(differences)} differences of cosines"
    assert text or [*found.values()][:5] == [*range(4), 0]


def test_a_picture_is_dropped_and_asks_with_a_sentence_and_clips_are_refused(
    opened, pictures, tmp_path
):
    with opened.searching():
        opened.drop(pictures[0])
    alone = opened.results()
    assert len(alone) == 2 and len({files[0] for files in alone.values()}) == 1
    opened.root.get_by_role("img", name=f"what asks: {pictures[0].name}").wait_for()
    with opened.searching():
        opened.box.fill("a red bird")
        opened.box.press("Enter")
    assert opened.control("chips").is_visible() and opened.results() != alone
    (tmp_path / "film.mp4").write_bytes(b"....ftypisom")
    opened.drop(tmp_path / "film.mp4")
    said = "film.mp4: no picture that this browser reads (a clip is not taken here)"
    opened.wait_for_text(said)


def test_without_the_vision_tower_no_file_is_asked_for(opened, site, address, pictures):
    about = json.loads((site / "site.json").read_text("utf-8"))
    about["setup"]["suffixes"] = []
    opened.page.route(f"{address}site.json", lambda route: route.fulfill(json=about))
    del about["bytes"]
    opened.page.reload()
    opened.ready()
    assert not opened.control("chosen").is_visible()
    opened.drop(pictures[0])
    opened.wait_for_text("This page is not asked by files: `python -m explorer`")


# ---- the messages of MESSAGES.md: both partners answer all of them, and in the same form

VIEW = {"adapters": [None, CLIPS], "strength": 1.0, "kind": "", "folder": ""}
SEARCH = VIEW | {"text": "a star", "like": "", "file": "", "year": "", "order": "", "names": False}
ONE = {"column": CLIPS, "item": 1}
# in an order in which each can be answered, with what a front end sends
QUESTIONS = {
    "media": {},
    "search": SEARCH,
    "more": {"start": 5},
    "missed": VIEW,
    "thumbs": {"items": [[CLIPS, 1], ["zero-shot", 2]]},
    "open": ONE,
    "moments": ONE,
    "why": ONE,
    "clip": ONE | {"at": 1.0, "form": "webm"},
    "stop": {},
    "copy": {"items": [[CLIPS, 1]], "folder": ""},
    "reveal": ONE,
    "file": {"name": "a.png", "part": 0, "parts": 1},
    "cancel": {},
    "ping": {},
}
SILENT = {"stop", "cancel"}  # nothing is answered
REFUSED = {"why", "copy", "reveal"}  # by a page without a server, in one line
ASK = """async ([questions, png]) => {
  const { begin } = await import("./partner.js"), partner = await begin(), answers = {};
  for (const [name, question] of questions) {
    const heard = [], sizes = (buffers) => buffers.map((one) => one.length);
    const hear = (one, buffers) => heard.push([one, sizes(buffers)]);
    partner.on("msg:custom", hear);
    await partner.send(question, undefined, [Uint8Array.from(png)]);
    partner.off("msg:custom", hear);
    answers[name] = heard.filter(([one]) => one.is !== "progress");
  }
  return answers;
}"""


def question(do: str) -> dict:
    return {"do": do, "id": 1, "media": CLIPS} | QUESTIONS[do]


def asked_of_python(galleries, png: bytes) -> dict[str, list]:
    """What a session answers to each question: (content, bytes of each buffer)."""
    heard = []
    session = Session(
        galleries, send=lambda one, buffers=(): heard.append([one, [*map(len, buffers or ())]])
    )
    answers = {}
    for do in QUESTIONS:
        heard.clear()
        session.receive(question(do), [memoryview(png)])
        deadline = time.monotonic() + (0.1 if do in SILENT else 120)
        while time.monotonic() < deadline and not (answers.get(do)):
            answers[do] = [one for one in heard if one[0]["is"] not in ("progress", "dates")]
            time.sleep(0.01)
    session.close()
    return answers


def form(value: object) -> object:
    """The keys and types of a message, of a list those of its first entry."""
    if isinstance(value, dict):
        return {key: form(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [form(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_the_list_has_every_message_of_the_page_about_them():
    text = (
        (ROOT / "explorer" / "MESSAGES.md")
        .read_text("utf-8")
        .partition("## Messages that answer")[0]
    )
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == QUESTIONS.keys()


def test_both_partners_answer_every_message_in_one_form(browser, address, media_galleries):
    halves(1).save(written := io.BytesIO(), "PNG")
    png = written.getvalue()
    python = asked_of_python(media_galleries, png)
    page = browser.new_page()
    page.goto(address)
    script = page.evaluate(ASK, [[[do, question(do)] for do in QUESTIONS], [*png]])
    page.close()
    for do in QUESTIONS:
        assert len(script[do]) == len(python[do]) == (do not in SILENT), do
        if do in SILENT:
            continue
        (found, buffers), (expected, others) = script[do][0], python[do][0]
        assert len(buffers) == len(others) or do in REFUSED, do
        if do in REFUSED:
            assert found["is"] == "error" and found["do"] == do and len(found["text"]) < 200
            continue
        assert expected["is"] == found["is"], do
        free = {"facts", "year", "years", "skipped", "copies", "alike", "right", "file"}
        forms = [form({k: v for k, v in one.items() if k not in free}) for one in (found, expected)]
        assert forms[0].keys() == forms[1].keys(), do
        for key in forms[0]:
            assert forms[0][key] == forms[1][key] or key in ("columns", "path"), (do, key)
        for both in zip(found.get("columns", ()), expected.get("columns", ()), strict=True):
            mine, theirs = (dict(one) for one in both)
            assert mine.keys() == theirs.keys()
            assert mine["hits"][0].keys() == theirs["hits"][0].keys()
            names = ("label", "dated", "newest", "items", "ranked", "right", "cut")
            assert [mine[name] for name in names] == [theirs[name] for name in names]
            assert [hit["item"] for hit in mine["hits"]] == [hit["item"] for hit in theirs["hits"]]
