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


def rows(name, numbers):
    captions = [f"{name} one", "two"]
    desc = " ".join(captions) if name in ("didemo", "activitynet") else captions
    return [
        {"video_id": IDS[name].format(number), "desc": desc, "subtitle": "no"} for number in numbers
    ]


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


@pytest.mark.parametrize("name", IDS)
def test_each_benchmark_reads_its_own_retrieval_files(folder, name):
    """From the annotations of a repository that trains on all of them, on captioning and questions
    too.
    """
    files = {"audio/descs_ret_test.json": as_json([{"video_id": "a", "caption": ["b"]}])}
    for other, id in IDS.items():
        files |= {
            f"{other}/descs_ret_train.json": as_json(rows(other, "12")),
            f"{other}/descs_ret_test.json": as_json(rows(other, "3")),
            f"{other}/descs_cap_test.json": as_json(rows(other, "234")),
            f"{other}/descs_qa_test.json": as_json([{"video_id": id.format(4), "question": "?"}]),
            f"{other}/caption_annotation.json": as_json({"annotations": rows(other, "123")}),
        }
    assert run(name, files, folder, "--allow-missing")[0] == 0
    train, test = (cma.data.load(folder / "out", split) for split in ("train", "test"))
    assert [item.id for item in train.items] == [IDS[name].format(n) for n in "12"]
    assert [item.id for item in test.items] == [IDS[name].format(3)]
    paragraph = name in ("didemo", "activitynet")
    assert test.captions == ([f"{name} one two"] if paragraph else [f"{name} one", "two"])
