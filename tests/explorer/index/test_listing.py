"""Which files a folder holds for the search: those of a dataset, or its pictures and clips."""

import json
import os
from dataclasses import replace

import pytest

from explorer.index import listing
from tests.toy_media import dated, write_picture


def found(folder):
    """(name, captions) of its files, or why it is refused."""
    try:
        root, files, problems = listing.find(folder)
    except ValueError as error:
        return str(error)
    assert root == folder and problems == []
    return [(file.file_name, file.captions) for file in files]


@pytest.mark.parametrize(
    "name, content",
    [
        # as Hugging Face's image folders
        ("metadata.jsonl", {"file_name": "0001.png", "text": "a dog"}),
        ("metadata.jsonl", {"file_name": "0001.png", "id": 1}),
        # as Karpathy's files
        ("dataset.json", {"images": [{"filename": "0001.png"}], "dataset": "coco"}),
    ],
)
def test_the_file_of_another_program_does_not_make_a_dataset(tmp_path, name, content):
    write_picture(tmp_path / "0001.png", 1)
    write_picture(tmp_path / "deep" / "0002.png", 2)
    (tmp_path / name).write_text(json.dumps(content) + "\n")
    assert found(tmp_path) == [("0001.png", ()), ("deep/0002.png", ())]


@pytest.mark.parametrize(
    ("written", "date"),
    [
        ("2014:07:01 12:30:00", "2014-07-01T12:30:00"),
        (" 2014:07:01 12:30:00\0", "2014-07-01T12:30:00"),
        ("2014:13:45 99:00:00", None),
        ("\0 <b>", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["p.jpg", "p.png"])
def test_a_date_is_the_camera_s_or_that_of_the_file(tmp_path, name, written, date):
    path = dated(write_picture(tmp_path / name, 3), written)
    os.utime(path, (929_000_000, 929_000_000))
    file = listing.MediaFile(name, name, "image")
    found = listing.stamp(file, path)
    assert found.date == (date or "1999-06-10T07:33:20")
    path.write_bytes(b"no picture")
    assert listing.taken(path) is None
    # what is known is not read again, unless an earlier version did not keep it
    known = replace(found, size=path.stat().st_size, modified=listing.stamp(file, path).modified)
    assert listing.stamp(file, path, known).date == found.date
    assert listing.stamp(file, path, replace(known, date="")).date[:2] == "20"
