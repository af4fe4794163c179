import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cma.data
from cma.media import read_frames
from data_prep import frames
from data_prep.__main__ import main
from data_prep.frames import ClipPart, Extraction
from tests.grey_media import level_of, write_clip, write_picture
from tests.toy_data import write_dataset

LEVELS = {"a": [20] * 10 + [120] * 10 + [220] * 10, "b.": [60] * 5}  # three seconds, half a second
PARTS = [
    ("a", {}, "train"),
    ("b.", {}, "val"),
    ("a", {"start": 1.0, "end": 2.0}, "test"),
    ("a", {"start": 2.0}, "test"),
]


def dataset_of(folder, kind="video"):
    for name, levels in LEVELS.items():
        write_clip(folder / "media" / "deep" / f"{name}mp4", levels)
    lines = []
    for n, (name, part, split) in enumerate(PARTS):
        item = {
            "file_name": f"media/deep/{name}mp4",
            "id": f"i{n}",
            "captions": [f"cat {n}"],
            "split": split,
        }
        lines.append(item | part)
    protocol = {"query": "paragraph", "visual_to_text": "captions"}
    counts = {"test": {"found": 2, "expected": 9, "captions": {"found": 2, "expected": 9}}}
    about = {
        "name": "toy",
        "kind": kind,
        "protocol": protocol,
        "recipe": "didemo",
        "counts": counts,
    }
    return write_dataset(folder, lines, about)


def run(*arguments):
    return main(["frames", *map(str, arguments), "--workers", "1"])


def test_the_new_folder_is_the_same_dataset_in_frames(tmp_path, toy_processor, capsys):
    dataset = dataset_of(tmp_path / "toy")
    assert run("--dataset", dataset, "--fps", 5, "--short-side", 64, "--quality", 100) == 0
    out = tmp_path / "toy-frames"
    pixels = cma.training.Pixels(toy_processor, cma.TrainConfig(max_frames=4, fps=5.0))
    for split in ("train", "val", "test"):
        before, after = cma.data.load(dataset, split), cma.data.load(out, split)
        assert (after.name, after.kind, after.recipe) == ("toy", "video", "didemo")
        assert (after.protocol, after.expected) == (before.protocol, before.expected)
        assert [(one.id, one.captions) for one in after.items] == [
            (i.id, i.captions) for i in before.items
        ]
        assert all((item.start, item.end) == (None, None) for item in after.items)
        every = range(len(before))
        for one, other in zip(pixels(before, every), pixels(after, every), strict=True):
            np.testing.assert_allclose(one, other, atol=0.1)  # JPEG
    assert "test 2 / 9 2 / 9 2 / 2" in " ".join(capsys.readouterr().out.split())


def test_nothing_is_decoded_twice_and_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    dataset, out, decoded = dataset_of(tmp_path / "toy"), tmp_path / "out", []

    def stop_at_third(clip, extraction, decode=frames.decode):
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(clip)
        return decode(clip, extraction)

    with monkeypatch.context() as patch:
        patch.setattr(frames, "decode", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            frames.extract(dataset, out, Extraction())
    assert not (out / "dataset.json").exists()
    capsys.readouterr()
    replaced = dataset / "media" / "deep" / "b.mp4"
    for left, rate, time in ((2, 1.0, None), (0, 1.0, 1), (1, 1.0, None), (4, 2.0, None)):
        frames.extract(dataset, out, Extraction(fps=rate))
        assert f"4 clips, {left} to decode" in capsys.readouterr().out
        if time:
            os.utime(replaced, (time, time))  # older, as `cp -p` leaves it


def test_frames_are_written_all_or_none(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", LEVELS["a"])
    clip, save = ClipPart(path, None, None, tmp_path / "frames" / "a.mp4"), Image.Image.save
    (tmp_path / "frames" / "a.mp4.partial").mkdir(parents=True)
    (tmp_path / "frames" / "a.mp4.partial" / "000009.jpg").write_bytes(b"left by a killed run")

    def full_disk(picture, target, **options):
        if target.name == "000002.jpg":
            raise OSError("disk full")
        save(picture, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full_disk)
        with pytest.raises(OSError, match="disk full"):
            frames.decode(clip, Extraction())
    assert not clip.target.exists() and not frames.is_done(clip)
    assert frames.decode(clip, Extraction()) is None and frames.is_done(clip)
    assert [frame.name for frame in sorted(clip.target.glob("*.jpg"))] == [
        f"{n:06}.jpg" for n in range(3)
    ]
    assert [path.name for path in (tmp_path / "frames").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 360), (398, 224)), ((360, 640), (224, 398)), ((100, 80), (100, 80))],
)
def test_the_short_side_shrinks_and_proportions_stay(tmp_path, size, expected):
    path = write_clip(tmp_path / "a.mp4", [40], size=size)
    assert frames.decode(ClipPart(path, None, None, tmp_path / "frames"), Extraction()) is None
    assert Image.open(tmp_path / "frames" / "000000.jpg").size == expected


@given(
    fps=st.none() | st.floats(0.5, 12),
    kept=st.none() | st.integers(1, 40),
    max_frames=st.integers(1, 12),
    start=st.none() | st.floats(0, 2.5),
)
def test_the_frames_are_those_that_the_clip_itself_would_give(
    tmp_path_factory, fps, kept, max_frames, start
):
    folder = tmp_path_factory.mktemp("clip")
    path = write_clip(folder / "a.mp4", [8 * n for n in range(30)])
    clip = ClipPart(path, start, None, folder / "frames")
    assert frames.decode(clip, Extraction(fps, 32, kept, 100)) is None
    here = read_frames(path, kept or 1000, fps, start)
    assert len(list(clip.target.glob("*.jpg"))) == len(here)
    if kept is None or kept == max_frames:
        here = read_frames(path, max_frames, fps, start)
        found = read_frames(clip.target, max_frames)
        np.testing.assert_allclose(
            [level_of(f) for f in found], [level_of(f) for f in here], atol=2
        )


def test_clips_that_cannot_be_decoded_are_listed(tmp_path, capsys):
    dataset, out = dataset_of(tmp_path / "toy"), tmp_path / "out"
    (dataset / "media" / "deep" / "b.mp4").write_bytes(b"no clip")
    assert run("--dataset", dataset, "--out", out) == 1
    error = capsys.readouterr().err
    assert "1 of 4 clips cannot be decoded, the first is i1 (cannot be decoded" in error
    assert not (out / "dataset.json").exists()
    assert run("--dataset", dataset, "--out", out, "--allow-missing") == 0
    assert cma.data.splits(out) == ["train", "test"]
    assert (out / "missing.txt").read_text().startswith("i1\t")
    write_clip(dataset / "media" / "deep" / "b.mp4", LEVELS["b."])
    assert run("--dataset", dataset, "--out", out) == 0
    assert cma.data.splits(out) == ["train", "val", "test"] and not (out / "missing.txt").exists()


def test_what_cannot_be_made_into_frames_is_one_line(tmp_path, capsys):
    dataset = dataset_of(tmp_path / "toy")
    stills = dataset_of(tmp_path / "stills", kind="image")
    other = write_picture(tmp_path / "other" / "a.jpg").parent
    dataset_of(tmp_path / "broken")
    (tmp_path / "broken" / "metadata.jsonl").write_text("{")
    for arguments, message in [
        ((dataset, "--out", dataset), "is the dataset itself"),
        ((dataset, "--out", other), "holds a.jpg, which is not part of a dataset;"),
        ((stills,), "holds pictures, which need no decoding"),
        ((other,), "no dataset.json in it"),
        ((tmp_path / "broken",), "metadata.jsonl:1: broken JSON: EOF"),
    ]:
        assert run("--dataset", *arguments) == 1
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1 and message in error[0]
    for option in (("--fps", "0"), ("--fps", "nan"), ("--short-side", "0"), ("--quality", "101")):
        assert run("--dataset", dataset, *option) == 1
        name = option[0].strip("-").replace("-", "_")
        assert re.match(rf"error: {name}=\S+: expected .*\n$", capsys.readouterr().err)
