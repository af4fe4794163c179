"""Texts beside media are found together with names, and never change a cosine."""

import pytest

from explorer import beside
from explorer.beside import Quote, Texts, decoded, rows, subtitles

SRT = """2
00:00:05,500 --> 00:00:06,000
<i>and then</i> the
fox sleeps

1
00:00:02,000 --> 00:00:03,000
{\\an8}a dog barks
"""


def test_texts_are_found_by_all_words_and_parts_of_words(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "in/b.jpg", "in/c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "all.csv").write_text(
        'file_name,text\nin/b.jpg,"The Harbour,\nin May"\nin/c.mp4,\n'
    )
    (tmp_path / "other.csv").write_text("name,words\na.jpg,harbour\n")
    (tmp_path / "bad.csv").write_text("file_name,text\n../a.jpg,harbour in\n/a.jpg,harbour in\n")
    (tmp_path / "a.txt").write_text("a boat in the harbour")
    (tmp_path / "in" / "c.srt").write_text(SRT)
    texts = Texts(tmp_path)
    assert texts.matching("HARB in") == {
        "a.jpg": Quote("a boat in the ", "harb", "our", None),
        "in/b.jpg": Quote("The ", "Harb", "our, in May", None),
    }
    assert texts.matching("fox then")["in/c.mp4"] == Quote("and then the ", "fox", " sleeps", 5.5)
    assert texts.matching("harbour fox") == texts.matching("") == texts.matching("x" * 10_000) == {}


def test_what_is_added_or_changed_is_read_and_the_rest_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "PAUSE", 0)
    monkeypatch.setattr(beside, "SHARE", 0)
    (tmp_path / "a.jpg").touch()
    (tmp_path / "t.csv").write_text("file_name,text\na.jpg,one\nb.jp")  # while it is written
    texts = Texts(tmp_path)
    assert list(texts.matching("one")) == ["a.jpg"]
    (tmp_path / "t.csv").write_text("file_name,text\na.jpg,one\nb.jpg,one more\n")
    assert list(texts.matching("one")) == ["a.jpg", "b.jpg"]
    (tmp_path / "t.csv").unlink()
    assert texts.matching("one") == {}
    assert Texts(tmp_path / "gone").matching("one") == {}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]
)
def test_texts_in_any_of_these_encodings(encoding):
    assert decoded("Größe, a café by the sea".encode(encoding)) == "Größe, a café by the sea"


def test_right_to_left_and_chinese(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.txt").write_text("一只狐狸在睡觉 שועל ישן")
    for query in ("狐狸", "שועל", "狐 ישן"):
        assert Texts(tmp_path).matching(query)["a.jpg"].second is None
    assert decoded("שועל".encode()[:-1]) == "שוע"  # cut in the middle of a letter


def test_what_is_no_table_or_no_subtitle_is_no_text():
    assert [*rows("")] == [*rows("text\nfile_name")] == [*rows("\0\0\0")] == []
    assert [*rows(f"file_name,text\na,b\nc,{'d' * 200_000}")] == [("a", "b")]
    assert subtitles("no times") == subtitles("") == []
    assert subtitles(SRT.replace("\n", "\r\n")) == subtitles(SRT)
    assert subtitles(SRT) == [(2.0, "a dog barks"), (5.5, "and then the fox sleeps")]
