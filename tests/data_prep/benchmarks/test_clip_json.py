"""Captions by clip in one JSON a split, as the repositories of several video benchmarks have them alike."""

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
    return [{"video_id": IDS[name].format(number), "desc": desc, "subtitle": "no"} for number in numbers]


@pytest.mark.parametrize("name", IDS)
def test_each_benchmark_reads_its_own_retrieval_files(folder, name):
    """From the annotations of a repository that trains on all of them, on captioning and questions too."""
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


@pytest.mark.parametrize(
    ("name", "train", "test", "options"),
    [
        ("msrvtt", "msrvtt_ret_train9k.json", "msrvtt_ret_test1k.json", ()),
        ("msrvtt", "msrvtt_ret_train7k.json", "msrvtt_ret_test1k.json", ("--split", "7k")),
        ("didemo", "didemo_ret_train.json", "didemo_ret_test.json", ()),
        ("activitynet", "anet_ret_train.json", "anet_ret_val_1.json", ()),
    ],
)
def test_files_of_other_names_hold_file_names_and_lists_of_captions(folder, name, train, test, options):
    videos = [f"{IDS[name].format(number)}.mp4" for number in "12"]
    one, other = (as_json([{"video": video, "caption": ["one", "two"]}]) for video in videos)
    assert run(name, {train: one, test: other}, folder, "--allow-missing", *options)[0] == 0
    read = cma.data.load(folder / "out", "test")
    assert [item.id for item in read.items] == [IDS[name].format(2) + ".mp4" * (name == "didemo")]
    assert read.captions == (["one", "two"] if name == "msrvtt" else ["one two"])
