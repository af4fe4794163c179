"""The example folder holds what a person's folder holds, and its captions can be trained on."""

import csv

import pytest

import cma
from data_prep.__main__ import main
from data_prep.example import write_example
from data_prep.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tests.toy_data import write_images
from tests.toy_media import write_videos


@pytest.fixture
def minis(tmp_path):
    write_images(tmp_path / "mini-flickr30k", {"train": 2, "test": 20})
    write_videos(tmp_path / "mini-msrvtt", {"train": 1, "test": 6})
    return tmp_path


def test_a_folder_of_everything(minis, tmp_path):
    table = write_example(tmp_path / "mine", minis)
    _, files, _ = cma.search.listing.find(tmp_path / "mine")
    names = [file.file_name for file in files]
    assert sum(name.startswith("pictures/") for name in names) == 20
    assert sum(name.endswith(".mp4") for name in names) == 6 and "pictures/a red cat.png" in names
    assert {"clips/moving.gif", "empty.jpg", "not a picture.png"} < set(names)
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40 and {row["file_name"] for row in rows} < set(names)
    assert all(row["file_name"].startswith(f"pictures/{row['caption']}") for row in rows[::2])


def test_its_captions_become_a_dataset(minis, tmp_path):
    table = write_example(tmp_path / "mine", minis, items=10)
    arguments = ["folder", "--source", str(tmp_path / "mine"), "--captions", str(table), "--kind", "image"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--allow-missing"]) == 0
    found = {split: cma.data.load(tmp_path / "out", split) for split in ("train", "val", "test")}
    counts = {split: sum(bool(item.captions) for item in one.items) for split, one in found.items()}
    assert counts == {"train": 5, "val": 1, "test": 4}


def test_written_again_only_over_itself(minis, tmp_path):
    write_example(tmp_path / "mine", minis)
    write_example(tmp_path / "mine", minis, items=3)
    assert len(list((tmp_path / "mine" / "pictures").iterdir())) == 3
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="holiday: there already, and no example"):
        write_example(tmp_path / "holiday", minis)
    assert (tmp_path / "holiday" / "a.jpg").read_bytes() == b"precious"


def test_a_folder_is_searched_for_the_media_that_it_is_prepared_from():
    assert (
        set(cma.search.listing.PICTURES) - {".apng"} == IMAGE_SUFFIXES
    )  # which moves, and is searched as a clip
    assert set(cma.search.listing.CLIPS) == VIDEO_SUFFIXES
