"""The page without a server is asked by a picture, which the browser prepares and embeds."""

import base64
import json

import pytest
from PIL import Image

from tests.explorer.browser.explorer_page import ExplorerPage

pytestmark = [pytest.mark.browser, pytest.mark.minis]

NAME = "mini-flickr30k"
# cosines differ by less, because the browser does not resize as Pillow does; measured: 0.0093
NEAR = 0.015
ASK = """async ([name, file, content, text, adapter, strength]) => {
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
def opened(browser, address):
    """The page. It may not ask other hosts, nor write errors to its console."""
    shown = ExplorerPage(browser.new_page(service_workers="block"))
    shown.open(address)
    yield shown
    assert not shown.outside and not shown.errors
    shown.page.close()


@pytest.fixture
def pictures(media_galleries, tmp_path):
    """Ten of the pictures that are searched, and two made of the first: one that its EXIF data turn
    and a half transparent one.
    """
    index = media_galleries[NAME].first()
    paths = [index.path(file) for file in index.files[:10]]
    picture = Image.open(paths[0]).convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.rotate(90, expand=True).save(tmp_path / "turned.png", exif=turned)
    picture.putalpha(128)
    picture.save(tmp_path / "glass.png")
    return [*paths, tmp_path / "turned.png", tmp_path / "glass.png"]


@pytest.mark.parametrize(
    ("adapter", "strength", "text"),
    [(None, 1.0, ""), (NAME, 0.5, ""), (NAME, 1.0, ""), (NAME, 1.0, "a red bird -cat")],
)
def test_a_picture_finds_itself_and_what_the_index_finds(
    opened, media_galleries, pictures, adapter, strength, text
):
    index = media_galleries[NAME].index(adapter, strength)
    found = {}
    differences = []
    for path in pictures:
        content = base64.b64encode(path.read_bytes()).decode()
        asked = [NAME, path.name, content, text, adapter, strength]
        sent, hits = opened.page.evaluate(ASK, asked)
        assert sent == 1, "the picture that asks"
        items, cosines = index.ranking_media(path)
        if text:
            items, cosines = index.ranking("a red bird", like=path, without="cat")
        expected = dict(zip(items.tolist(), cosines.tolist(), strict=True))
        differences += [abs(expected[item] - score) for item, score in hits]
        found[path] = hits[0][0]
    assert max(differences) < NEAR, f"the largest of {len(differences)} differences of cosines"
    assert text or [*found.values()][:11] == [*range(10), 0]


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
