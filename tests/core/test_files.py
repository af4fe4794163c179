"""Files are whole or not there, walks end, and stored JSON is what was asked for or an error in one
line.
"""

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cma import files
from tests.any_json import any_json


@dataclass(frozen=True)
class Stored:
    id: str
    kind: Literal["image", "video"] = "image"
    captions: tuple[str, ...] = ()
    start: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    root: Path | None = None


@pytest.mark.parametrize("content", ["früher\n später", b"\x00\xff\r\n"])
def test_what_is_written_is_there_and_nothing_else(tmp_path, content):
    path = tmp_path / "a" / "b.txt"
    for _ in range(2):
        files.write_whole(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path):
    files.write_whole(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_whole(tmp_path / "a", "\ud800")
    with pytest.raises(KeyError), files.replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


WRITERS = """
import sys, threading
from cma import files
def write():
    for _ in range(100):
        files.write_whole(sys.argv[1], sys.argv[2] * 9000)
for _ in range(2):
    threading.Thread(target=write).start()
"""


def test_a_reader_never_meets_half_a_file_while_threads_and_processes_write_it(tmp_path):
    """Each writer has a name of its own: none moves or deletes another's."""
    path = tmp_path / "a"
    files.write_whole(path, "x" * 9000)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITERS, path, letter], stderr=subprocess.PIPE)
        for letter in "yz"
    ]
    while any(writer.poll() is None for writer in writers):
        assert path.read_text() in ("x" * 9000, "y" * 9000, "z" * 9000)
    assert [(writer.returncode, writer.stderr.read()) for writer in writers] == [(0, b"")] * 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "a", []
    files.write_whole(path, "old")

    def fsync(number: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(number).st_mode), path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_whole(path, "new")
    assert synced == [(False, "old")] + [(True, "new")] * (os.name == "posix")


def test_json_becomes_the_type_that_was_asked_for(tmp_path):
    text = '{"id": "a", "captions": ["b", "c"], "start": 1, "root": "d/e", "more": {}}'
    (tmp_path / "a.json").write_text("\ufeff" + text, encoding="utf-8")
    expected = Stored("a", "image", ("b", "c"), 1.0, Path("d/e"))
    assert files.read_json(tmp_path / "a.json", Stored) == expected
    (tmp_path / "a.jsonl").write_text(f'{text}\n{{"id": "\u2028"}}\n\n', encoding="utf-8")
    assert list(files.read_jsonl(tmp_path / "a.jsonl", Stored)) == [
        (f"{tmp_path / 'a.jsonl'}:1", expected),
        (f"{tmp_path / 'a.jsonl'}:2", Stored("\u2028")),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "broken JSON: EOF while parsing an object at line 1 column 1"),
        ("", "broken JSON: EOF"),
        ("[" * 9999, "broken JSON: recursion limit"),
        ("[]", "expected an object, found []"),
        ("{}", "'id': expected, but missing, found {}"),
        ('{"id": 7}', "'id': expected a valid string, found 7"),
        (
            '{"id": "a", "kind": "audio\\n"}',
            r"'kind': expected 'image' or 'video', found 'audio\n'",
        ),
        (
            '{"id": "a", "captions": ["b", null]}',
            "'captions.1': expected a valid string, found None",
        ),
        ('{"id": "a", "start": "0"}', "'start': expected a valid number, found '0'"),
        ('{"id": "a", "start": true}', "'start': expected a valid number, found True"),
        ('{"id": "a", "start": NaN}', "'start': expected a finite number, found nan"),
        ('{"id": "a", "start": -1}', "'start': expected greater than or equal to 0, found -1"),
    ],
)
def test_what_is_not_as_expected_is_named_with_its_key(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        files.read_json(path, Stored)
    assert str(error.value).startswith(f"{path}: {message}")
    with pytest.raises(ValueError, match=r"^b:1: "):
        files.parse_json(text, Stored, "b:1")


def test_no_file_and_no_text_are_errors_too(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file"):
        files.read_json(tmp_path / "a.json", Stored)
    (tmp_path / "a.json").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(ValueError, match=r"a\.json:1: not UTF-8 text \(invalid start byte\)"):
        files.read_json(tmp_path / "a.json", Stored)


@given(any_json("id", "kind", "captions", "start", "root"), st.booleans())
def test_any_json_is_the_type_or_one_line(value, inside):
    text = json.dumps({"id": "a", "captions": value, "start": value} if inside else value)
    try:
        assert isinstance(files.parse_json(text, Stored, "here\n"), Stored)
    except ValueError as error:
        assert str(error).startswith(r"here\n: ") and len(str(error).splitlines()) == 1


@files.checked_dataclass
class Checked:
    count: Annotated[int, Field(ge=1)]
    kind: Literal["image", "video"] = "image"


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ((), {}, "count: expected, but missing"),
        ((0,), {}, "count=0: expected greater than or equal to 1"),
        ((), {"count": True}, "count=True: expected a valid integer"),
        ((), {"count": 1, "kind": "a\nb"}, r"kind='a\nb': expected 'image' or 'video'"),
        (
            (),
            {"count": 1, "kid": "image"},
            "Checked has no field 'kid': the fields are count, kind = 'image'",
        ),
    ],
)
def test_settings_are_checked_in_one_line(values, named, message):
    assert Checked(3, "video") == Checked(kind="video", count=3)
    with pytest.raises(ValueError) as error:
        Checked(*values, **named)
    assert str(error.value) == message


LONG = "long\n" * 10**5


@pytest.mark.parametrize("values", [{"count": LONG}, {"kind": [LONG] * 2}, {LONG: 1}])
def test_a_message_is_short_whatever_the_value(values):
    for fail in (
        lambda: Checked(**{"count": 0} | values),
        lambda: files.parse_json(json.dumps([values]), list[dict[str, bool]], "here"),
    ):
        with pytest.raises(ValueError) as error:
            fail()
        assert len(str(error.value)) < 400 and len(str(error.value).splitlines()) == 1


def test_a_walk_is_sorted_follows_links_ends_and_tells_what_it_could_not_read(tmp_path):
    for name in ("b/2", "b/1", "a/3", "a/.hidden/4"):
        files.write_whole(tmp_path / "top" / name, "")
    files.write_whole(tmp_path / "elsewhere/5", "")
    for link in ("c", "d"):
        (tmp_path / "top" / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "top")
    (tmp_path / "top/locked").mkdir(mode=0)
    failed, seen = [], []
    for parent, folders, names in files.walk(tmp_path / "top", failed.append):
        folders[:] = [name for name in folders if name != ".hidden"]
        seen += [(parent / name).relative_to(tmp_path / "top").as_posix() for name in names]
    assert seen == ["a/3", "b/1", "b/2", "c/5"]
    may_read = os.name == "nt" or os.geteuid() == 0
    assert [error.filename for error in failed] == (
        [] if may_read else [str(tmp_path / "top/locked")]
    )
    failed.clear()
    assert list(files.walk(tmp_path / "gone", failed.append)) == []
    assert [error.filename for error in failed] == [str(tmp_path / "gone")]


OUT = ["/a", "../a", "a/../../b", "..", "C:/a", "C:\\a", r"a\..\..\b", r"\a", r"\\host\share\a"]
INSIDE = ["a", "media/a.jpg", "a..b/..c", "media/C:/a", "a\\b", "12:30.jpg"]


@pytest.mark.parametrize("name", OUT + INSIDE)
def test_names_that_lead_out_on_any_system(name):
    assert files.escapes_folder(name) == (name in OUT)


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_and_a_plain_one_stays(text):
    line = files.printable(text)
    assert line.encode().count(b"\n") == 0 and files.printable(line) == line
    assert line == text or not text.isprintable()
