"""Captions by clip in one JSON a split, as the repositories of several video benchmarks have them alike."""

import json

import pytest

import cma.data
from data_prep.__main__ import main

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


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def repository(tmp_path):
    """The annotations of a repository that trains on all of them, and on captioning and questions too."""
    for name in IDS:
        folder = tmp_path / "annotations" / name
        write(folder / "descs_ret_train.json", rows(name, "12"))
        write(folder / "descs_ret_test.json", rows(name, "3"))
        write(folder / "descs_cap_test.json", rows(name, "234"))
        question = {"video_id": IDS[name].format(4), "question": "?", "answer": "1"}
        write(folder / "descs_qa_test.json", [question])
        annotations = [{"video_id": IDS[name].format(n), "caption": f"{name} one"} for n in "123"]
        write(folder / "caption_annotation.json", {"annotations": annotations})
    write(tmp_path / "annotations" / "audio" / "descs_ret_test.json", [{"video_id": "a", "caption": ["b"]}])
    return tmp_path


def run(name, source, out):
    return main([name, "--source", str(source), "--out", str(out), "--annotations-only", "--allow-missing"])


@pytest.mark.parametrize("name", IDS)
def test_each_benchmark_reads_its_own_retrieval_files(tmp_path, repository, name):
    assert run(name, repository, tmp_path / "out") == 0
    train, test = (cma.data.load(tmp_path / "out", split) for split in ("train", "test"))
    assert [item.id for item in train.items] == [IDS[name].format(n) for n in "12"]
    assert [item.id for item in test.items] == [IDS[name].format(3)]
    paragraph = name in ("didemo", "activitynet")
    assert test.captions == ([f"{name} one two"] if paragraph else [f"{name} one", "two"])


@pytest.mark.parametrize(
    ("name", "files", "options"),
    [
        ("msrvtt", ("msrvtt_ret_train9k.json", "msrvtt_ret_test1k.json"), ()),
        ("msrvtt", ("msrvtt_ret_train7k.json", "msrvtt_ret_test1k.json"), ("--split", "7k")),
        ("didemo", ("didemo_ret_train.json", "didemo_ret_test.json"), ()),
        ("activitynet", ("anet_ret_train.json", "anet_ret_val_1.json"), ()),
    ],
)
def test_files_of_other_names_hold_file_names_and_lists_of_captions(tmp_path, name, files, options):
    source, out = tmp_path / "source", tmp_path / "out"
    for file, number in zip(files, "12", strict=True):
        write(source / file, [{"video": f"{IDS[name].format(number)}.mp4", "caption": ["one", "two"]}])
    words = [name, "--source", str(source), "--out", str(out), "--annotations-only", "--allow-missing"]
    assert main([*words, *options]) == 0
    test = cma.data.load(out, "test")
    assert [item.id for item in test.items] == [IDS[name].format(2) + ".mp4" * (name == "didemo")]
    assert test.captions == (["one", "two"] if name == "msrvtt" else ["one two"])
