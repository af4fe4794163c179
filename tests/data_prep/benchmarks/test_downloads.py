import json

import pytest
from hypothesis import given, settings

from data_prep.benchmarks import downloads
from data_prep.benchmarks.downloads import Downloads, split_word
from data_prep.readers import read_json
from tests.any_json import any_json
from tests.data_prep.fuzz_sources import FIXED, SOURCES, run
from tests.data_prep.image_sources import write


@pytest.mark.parametrize("name", SOURCES)
def test_the_folder_is_listed_once_however_many_names_are_looked_for(folder, monkeypatch, name):
    source, walks = SOURCES[name], []
    walk = downloads.walk
    monkeypatch.setattr(downloads, "walk", lambda path: walks.append(path) or walk(path))
    status, *_ = run(
        source.benchmark, source.write(source.fit(FIXED)), folder, "--allow-missing", *source.options
    )
    assert status == 0 and walks == [folder / "source"]


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


@settings(max_examples=25)
@given(any_json())
def test_keys_without_use_are_dropped_at_every_depth(tmp_path_factory, value):
    def without(value):
        if isinstance(value, dict):
            return {key: without(inner) for key, inner in value.items() if key != "tokens"}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    content = {"a": [{"tokens": 1, "raw": value}, value], "tokens": {"raw": 2}}
    path = write(tmp_path_factory.mktemp("json") / "a.json", content)
    assert read_json(path, without=("tokens",)) == without(json.loads(path.read_text()))
