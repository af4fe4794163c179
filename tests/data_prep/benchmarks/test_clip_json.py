"""Captions by clip in one JSON a split, as the repositories of several video benchmarks have them
alike.
"""

import pytest

import cma.data
from tests.data_prep.fuzz_sources import as_json, run

IDS = {
    "msrvtt": "video{}",
    "didemo": "{}@N01_2_ab",
    "activitynet": "v_abcdefghij{}",
    "vatex": "abcdefghij{}_000001_000011",
}


@pytest.mark.parametrize(
    ("name", "file", "split"),
    [
        ("msrvtt", "retrieval_train.json", "train"),
        ("msrvtt", "retrieval_test.json", "test"),
        ("msvd", "msvd_ret_val.json", "val"),
        ("msvd", "retrieval_test.json", "test"),
        ("didemo", "retrieval_val.json", "val"),
        ("activitynet", "anet_ret_val.json", "test"),
        ("activitynet", "activitynet_captions_val1.json", "test"),
        ("activitynet", "activitynet_captions_train.json", "train"),
    ],
)
def test_files_of_other_repositories_are_read_with_folders_in_ids(folder, name, file, split):
    id = (IDS | {"msvd": "abcdefghij{}_1_9"})[name].format(1)
    files = {file: as_json([{"video": f"all/{id}.mp4", "caption": ["a cat", "sits"]}])}
    assert run(name, files, folder, "--allow-missing")[0] == 0
    (item,) = cma.data.load(folder / "out", split).items
    assert item.id == (f"{id}.mp4" if name == "didemo" else id)
    files[file] = as_json([{"video": f"{n}/{id}.mp4", "caption": "a cat"} for n in "ab"])
    errors = run(name, files, folder, "--allow-missing")[2]
    assert f"the clip {id}.mp4 is there in two folders; keep one of them" in errors
