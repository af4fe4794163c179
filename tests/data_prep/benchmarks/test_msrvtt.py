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


def test_a_validation_file_beside_is_read_without_the_clips_of_train(source, run):
    rows = [{"video": f"{id}.mp4", "caption": "a cat"} for id in ("video3", "video4")]
    write(source / "retrieval_val.json", rows)
    said, splits = run("--allow-missing")
    assert splits["val"] == ["video4"] and len(splits["train"]) == 3
    assert "validation clips that are in train too, left there: 1 (video3)" in said
