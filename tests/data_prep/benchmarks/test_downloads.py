import re
from pathlib import Path

import pytest

from data_prep.benchmarks.downloads import Downloads, split_word
from data_prep.readers import BadInput
from tests.data_prep.image_sources import write


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("coco_karpathy_train", "train"),
        ("cocoVal", "val"),
        ("x-validation", "val"),
        ("Flickr.testImages", "test"),
        ("flickr30k_test1k", "test"),
        ("train_val", None),
        ("constrain", None),
        ("", None),
    ],
)
def test_the_split_is_a_word_of_the_name(stem, split):
    assert split_word(stem) == split


@pytest.mark.parametrize(
    "look",
    [
        lambda downloads: downloads.find("b.txt", "val.txt"),
        lambda downloads: downloads.known(("val.txt",), Path.read_text)[0],
        lambda downloads: downloads.id_list(("val.txt",), {"1"}).path,
        lambda downloads: downloads.splits("coco", (".txt",))["val"],
    ],
)
def test_copies_are_one_file_and_two_files_that_differ_are_refused(tmp_path, look):
    first, second = write(tmp_path / "c" / "val.txt", "1"), write(tmp_path / "d" / "val.txt", "1")
    assert look(Downloads(tmp_path)) == first
    write(second, "1\n2")
    with pytest.raises(
        BadInput, match=re.escape(f"{first} and {second} differ; keep only the one")
    ):
        look(Downloads(tmp_path))
    write(second, "version https://git-lfs.github.com/spec/v1")  # in place of the file
    assert look(Downloads(tmp_path)) == first


def test_the_files_of_a_benchmark_that_we_do_not_know_are_named_after_it(tmp_path):
    ours = write(tmp_path / "new.set_val.json", "")
    write(tmp_path / "newset_test.json", "")
    assert Downloads(tmp_path).splits("new.set", (".json",)) == {"val": ours}


def test_what_is_not_there_is_said_and_a_file_that_does_not_fit_is_no_split(tmp_path):
    write(tmp_path / "a_val.json", "")
    assert (
        Downloads(tmp_path).splits("coco", (".json",), lambda path: path.stat().st_size > 0) == {}
    )
    write(tmp_path / "__MACOSX" / "._a_val.json", "written by a Mac into a zip")
    assert Downloads(tmp_path).ending(".json") == [tmp_path / "a_val.json"]
    with pytest.raises(BadInput, match=r"gone: no such folder"):
        Downloads(tmp_path / "gone")
    assert Downloads(tmp_path).find("a.txt", "b.txt") is None
