import json

import pytest

import cma.data
from data_prep.__main__ import main
from tests.data_prep.image_sources import write

DATA, TRAIN, TEST = "MSRVTT_data.json", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"


@pytest.fixture
def source(tmp_path):
    """Three training clips, the last of them for validation, and two for the test."""
    folder, train = tmp_path / "source", ("video1", "video2", "video3")
    videos = [{"video_id": id, "split": "validate" if id == "video3" else "train"} for id in train]
    sentences = [
        {"video_id": id, "caption": f"{id} is {what}"} for id in train for what in ("here", "there")
    ]
    write(folder / DATA, {"videos": videos, "sentences": sentences})
    write(folder / TRAIN, "\n".join(["video_id", *train]))
    tests = [f"ret0;msr0;{id};see {id}" for id in ("video7", "video9")]
    write(folder / TEST, "\r\n".join(["key;vid_key;video_id;sentence", *tests]))
    return folder


@pytest.fixture
def run(source, tmp_path, capsys):
    """Runs the command; returns (what is said on stdout or, if it fails, on stderr, {split:
    ids}).
    """

    def run(*options, fails=False):
        out = tmp_path / "out"
        words = [
            "msrvtt",
            "--source",
            str(source),
            "--out",
            str(out),
            "--annotations-only",
            *options,
        ]
        assert main(words) == int(fails)
        said = capsys.readouterr()
        names = [] if fails else cma.data.splits(out)
        splits = {name: [item.id for item in cma.data.load(out, name).items] for name in names}
        return said.err if fails else said.out, splits

    return run


def test_lists_decide_and_validation_is_held_out_on_request(source, tmp_path, run):
    _, splits = run("--allow-missing")
    assert splits == {"train": ["video1", "video2", "video3"], "test": ["video7", "video9"]}
    _, splits = run("--val", "--allow-missing")  # the clips that MSR-VTT calls "validate"
    assert splits == {
        "train": ["video1", "video2"],
        "val": ["video3"],
        "test": ["video7", "video9"],
    }
    assert cma.data.load(tmp_path / "out", "val").expected == 497
    assert cma.data.load(tmp_path / "out", "train").expected == 8_503
    (source / TRAIN).write_text("video_id\nvideo1\n")  # nothing to hold out
    assert "validate" in run("--val", fails=True)[0]


def test_what_is_absent_leaves_its_split_out_and_is_named(source, run):
    (source / DATA).unlink()  # only the training captions are in it
    said, splits = run("--allow-missing")
    assert list(splits) == ["test"] and f"no {DATA}, which has the captions of {TRAIN}" in said
    assert f"no {DATA} in this folder or below it; --val needs" in run("--val", fails=True)[0]
    (source / TRAIN).unlink()
    said, splits = run("--allow-missing")
    assert list(splits) == ["test"] and f"no {TRAIN}: the train split is left out" in said
    (source / TEST).unlink()
    assert f"no {TRAIN} and no {TEST} in this folder" in run(fails=True)[0]


def test_if_every_clip_is_called_train_their_numbers_tell_the_splits(source, tmp_path, run):
    numbers = {"train": "video6512", "val": "video6513", "test": "video7010"}
    videos = [{"video_id": id, "split": "train"} for id in numbers.values()]
    sentences = [{"video_id": id, "caption": "a cat"} for id in numbers.values()]
    write(source / DATA, {"videos": videos, "sentences": sentences})
    said, splits = run("--split", "official", "--allow-missing")
    assert splits == {split: [id] for split, id in numbers.items()}
    assert f"{DATA} names no splits: we use the numbers of the clips" in said
    write(source / TRAIN, "\n".join(["video_id", numbers["train"], numbers["val"]]))
    assert run("--val", "--allow-missing")[1]["val"] == [numbers["val"]]


def test_a_validation_file_beside_is_read_without_the_clips_of_train(source, run):
    rows = [{"video": f"{id}.mp4", "caption": "a cat"} for id in ("video3", "video4")]
    write(source / "retrieval_val.json", rows)
    said, splits = run("--allow-missing")
    assert splits["val"] == ["video4"] and len(splits["train"]) == 3
    assert "validation clips that are in train too, left there: 1 (video3)" in said


def test_the_official_splits_have_every_caption_as_a_query(source, tmp_path, run):
    for name in (TRAIN, TEST):
        (source / name).unlink()  # they are not read
    content = json.loads((source / DATA).read_text())
    splits = {"video4": "test", "video5.mp4": "test", "video6": "spare"}
    content["videos"] += [{"video_id": id, "split": split} for id, split in splits.items()]
    content["sentences"] += [
        {"video_id": "video4", "caption": text} for text in ("a cat", "a  cat sits")
    ]
    content["sentences"] += [{"video_id": "video5.mp4", "caption": "a dog"}]
    write(source / DATA, content)
    said, splits = run("--split", "official", "--allow-missing")
    assert splits == {
        "train": ["video1", "video2"],
        "val": ["video3"],
        "test": ["video4", "video5"],
    }
    assert "clips whose split is none of train, validate, test: 1 (video6)" in said
    test = cma.data.load(tmp_path / "out", "test")
    assert test.captions == ["a cat", "a cat sits", "a dog"] and test.expected == 2_990
