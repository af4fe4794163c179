"""The page without a server in a real browser, which reaches nothing but a plain file server."""

import json

import pytest

from tests.explorer.browser.explorer_page import ExplorerPage
from tests.explorer.site.conftest import COUNTS, served

pytestmark = [pytest.mark.browser, pytest.mark.minis]

STRENGTHS = (0.0, 0.5, 1.0)
CAPTIONS = {"mini-flickr30k": 190, "mini-msrvtt": 12}
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
    assert list(results) == ["zero-shot", "mini-flickr30k"] and len(results["zero-shot"]) > 40
    with opened.searching():
        opened.set_strength(2)
    assert list(opened.results()) == ["zero-shot", "mini-flickr30k × 0.5"]
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
    opened.wait_for_text("rank their picture or clip better with mini-flickr30k:")
    again = ExplorerPage(browser.new_page())
    again.open(linked)
    again.wait_for_text("Results for “a red bird”")
    assert list(again.results()) == ["zero-shot", "mini-flickr30k × 0.5"]
    again.page.close()


def test_a_clip_plays_from_its_best_moment(opened):
    with opened.searching():
        opened.control("media").select_option("mini-msrvtt")
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


KEPT = """async ([scope, total]) => {
  const files = await (await caches.open(`cma-site ${scope}`)).keys();
  return files.filter(({ url }) => url.includes("-small.jpg")).length >= total;
}"""


def test_it_works_offline_after_the_first_visit(browser, site, kept):
    page = browser.new_page()
    shown = ExplorerPage(page)
    total = len(list(site.rglob("*-small.jpg")))
    with served(site) as address:
        shown.open(address)
        before = shown.ask("a red bird")
        shown.until(KEPT, [address, total])
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
