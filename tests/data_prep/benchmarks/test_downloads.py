import os
import re
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.benchmarks.downloads import Downloads, split_word
from data_prep.readers import BadInput
from tests.data_prep.fuzz_sources import FIXED, SOURCES
from tests.data_prep.image_sources import write


@pytest.mark.parametrize("name", SOURCES)
def test_the_folder_is_listed_once_for_annotations_and_media(tmp_path, monkeypatch, name):
    source, walks = SOURCES[name], []
    for file, content in source.write(source.fit(FIXED)).items():
        (tmp_path / file).write_bytes(content)
    walk = os.walk
    monkeypatch.setattr("os.walk", lambda path, **options: walks.append(path) or walk(path, **options))
    words = [source.benchmark, "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--no-check"]
    assert main([*words, *source.options]) == 1  # there is no media
    assert (tmp_path / "out" / "missing.txt").is_file() and walks == [tmp_path]


@pytest.mark.parametrize(
    ("stem", "split"),
    [("coco_karpathy_train", "train"), ("cocoVal", "val"), ("x-validation", "val"),
     ("Flickr.testImages", "test"), ("flickr30k_test1k", "test"),
     ("train_val", None), ("constrain", None), ("", None)],
)  # fmt: skip
def test_the_split_is_a_word_of_the_name(stem, split):
    assert split_word(stem) == split


def test_a_file_that_does_not_fit_is_no_split(tmp_path):
    write(tmp_path / "a_val.json", "")
    assert Downloads(tmp_path).splits("coco", (".json",), lambda path: path.stat().st_size > 0) == {}


@pytest.mark.parametrize(
    "look",
    [
        lambda downloads: downloads.find("val.txt"),
        lambda downloads: downloads.require("b.txt", "val.txt"),
        lambda downloads: downloads.known(("val.txt",), Path.read_text)[0],
        lambda downloads: downloads.id_list(("val.txt",), {"1"}).path,
        lambda downloads: downloads.splits("coco", (".txt",))["val"],
    ],
)
def test_copies_are_one_file_and_two_files_that_differ_are_refused(tmp_path, look):
    first, second = write(tmp_path / "c" / "val.txt", "1"), write(tmp_path / "d" / "val.txt", "1")
    assert look(Downloads(tmp_path)) == first
    write(second, "1\n2")
    with pytest.raises(BadInput, match=re.escape(f"{first} and {second} differ; keep only the one")):
        look(Downloads(tmp_path))
    write(second, "version https://git-lfs.github.com/spec/v1")  # in place of the file
    assert look(Downloads(tmp_path)) == first


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(BadInput, match=r"gone: no such folder"):
        Downloads(tmp_path / "gone")
    with pytest.raises(BadInput, match=r"found no a\.txt and no b\.txt in this folder"):
        Downloads(tmp_path).require("a.txt", "b.txt")
