"""What is better than chance: a line that few captions without an answer reach."""

from dataclasses import replace

import numpy as np
import pytest
from torch.nn.functional import normalize

from explorer.index import MediaIndex, chance
from tests.conftest import one_line
from tests.toy_index import drawn, holding


@pytest.fixture
def captioned(model, pictures, asked, tmp_path, monkeypatch):
    """An index in a folder of 120 items; 40 of them have the captions "0", "1", …"""
    monkeypatch.setattr(chance, "ENOUGH", 40)
    files, embeddings = drawn(120)
    embeddings[:20] = asked[:20]  # the captions of these have an answer
    files[:40] = [replace(file, captions=(str(i),)) for i, file in enumerate(files[:40])]
    return holding(MediaIndex.build(model, pictures), files, embeddings, uri=tmp_path / "index")


def test_the_line_is_what_one_caption_in_twenty_reaches_without_its_own_items(captioned, asked):
    cosines = normalize(asked, dim=1) @ normalize(captioned.frames(), dim=1).T
    cosines[range(40), range(40)] = -1
    best = cosines.amax(1)
    assert captioned.line == pytest.approx(np.quantile(best, 0.95, method="higher"), abs=1e-6)
    assert (best > captioned.line - 1e-6).sum() <= 3


def test_likely_gives_what_is_above_the_line_and_nothing_else(captioned):
    for number in range(40):
        every = captioned.query(str(number), 120)
        likely = captioned.query(str(number), 120, likely=True)
        assert likely == [one for one in every if one[1] > captioned.line]
        assert number >= 20 or likely[0] == (f"{number}.png", pytest.approx(1))
    assert any(not captioned.query(str(number), likely=True) for number in range(20, 40))


def test_the_line_is_kept_with_the_index_until_it_has_grown(captioned, monkeypatch):
    drawn_now = []
    really = chance.line
    monkeypatch.setattr(chance, "line", lambda index: drawn_now.append(1) or really(index))
    folder, model = captioned.table.uri, captioned.model
    line = captioned.line
    assert MediaIndex.load(folder, model).line == MediaIndex.load(folder, model).line == line
    assert len(drawn_now) == 1
    files, embeddings = drawn(140, 1)
    captioned.table.add(list(zip(files[120:], embeddings[120:, None], strict=True)))
    assert MediaIndex.load(folder, model).line == captioned.now().line
    assert len(drawn_now) == 2, "17 % more items"


def test_a_line_that_is_damaged_or_cannot_be_kept_is_drawn_again(captioned, monkeypatch):
    line = captioned.line
    captioned.table._newest("line").update(values={"cosine": 0.9})
    again = MediaIndex.load(captioned.table.uri, captioned.model)
    assert again.table.line() is None and again.line == line

    def full(*_, **__):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(type(again.table._database), "create_table", full)
    captioned.table._newest("line").delete("true")
    assert MediaIndex.load(captioned.table.uri, captioned.model).line == line


def test_what_cannot_be_judged_is_said_in_one_line(captioned, model, pictures):
    with one_line(ValueError, "judges a sentence alone"):
        captioned.query("3", like=pictures / "p1.png", likely=True)
    with one_line(ValueError, "judges a sentence alone"):
        captioned.query("3", without="4", likely=True)
    with one_line(ValueError, "0 of its 6 items have captions, expected at least 40"):
        MediaIndex.build(model, pictures).query("3", likely=True)
