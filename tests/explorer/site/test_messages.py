"""The messages of MESSAGES.md: both partners answer all of them, and in the same form."""

import io
import re
import time

import pytest

from explorer.session import Session
from tests import ROOT
from tests.toy_media import halves

pytestmark = [pytest.mark.browser, pytest.mark.minis]

NAME = "mini-msrvtt"
VIEW = {"adapters": [None, NAME], "strength": 1.0, "kind": "", "folder": ""}
SEARCH = VIEW | {"text": "a star", "like": "", "file": "", "year": "", "order": "", "names": False}
ONE = {"column": NAME, "item": 1}
# in an order in which each can be answered, with what a front end sends
QUESTIONS = {
    "media": {},
    "search": SEARCH,
    "more": {"start": 5},
    "missed": VIEW,
    "thumbs": {"items": [[NAME, 1], ["zero-shot", 2]]},
    "open": ONE,
    "moments": ONE,
    "why": ONE,
    "clip": ONE | {"at": 1.0, "form": "webm"},
    "stop": {},
    "copy": {"items": [[NAME, 1]], "folder": ""},
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
    return {"do": do, "id": 1, "media": NAME} | QUESTIONS[do]


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
