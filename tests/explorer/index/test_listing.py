"""Which files a folder holds for the search: those of a dataset, or its pictures and clips."""

import json
import os
from dataclasses import replace

import pytest
from PIL import Image

from cma.media import MediaError, read_media
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


def test_what_is_not_read_is_counted_by_kind(tmp_path):
    for name in (
        "a.png",
        "b.jfif",
        "deep/c.JPG",
        "d.psd",
        "e.PSD",
        "deep/f.svg",
        "notes.txt",
        ".g.psd",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "jpeg")
    _, files, problems = listing.find(tmp_path)
    assert [(file.file_name, file.kind) for file in files] == [
        (name, "image") for name in ("a.png", "b.jfif", "deep/c.JPG")
    ]
    ((kinds, why),) = problems
    assert kinds == "2 .psd, 1 .svg" and why.startswith("not read") and "3 / 6" in why
    for file in files:
        (tmp_path / file.media).unlink()
    with pytest.raises(ValueError, match="no pictures or clips in it; 2 .psd, 1 .svg: not read"):
        listing.find(tmp_path)


def test_a_path_that_may_not_be_looked_at_is_listed_and_says_so_when_it_is_read(
    tmp_path, monkeypatch
):
    def stat(path, *rest, really=os.stat, **options):
        if str(path).endswith("shut.jpg"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *rest, **options)

    for name in ("a.jpg", "shut.jpg"):
        write_picture(tmp_path / name, 1)
    monkeypatch.setattr(os, "stat", stat)
    root, files, _ = listing.find(tmp_path)
    assert [(file.media, file.kind) for file in files] == [
        ("a.jpg", "image"),
        ("shut.jpg", "image"),
    ]
    with pytest.raises(MediaError, match=r"shut\.jpg: cannot be opened \(.*Permission denied"):
        read_media(root / "shut.jpg", "image", 1, None)


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
