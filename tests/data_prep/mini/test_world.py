"""The small world: its records, its files as the readers of the real formats read them, and its
twins.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

import cma.data
from cma.media import read_frames
from data_prep.__main__ import main
from data_prep.mini import build, events, other_hand, pictures, world
from data_prep.mini.caption_styles import CAPTION_STYLES
from data_prep.mini.things import STYLES, read_things

BENCHMARKS = list(build.READERS)
# Digests of all records, and of the pixels of some, before they are encoded.
RECORDS = "fc8780918691dd0e7cda272e05ff66cd4456310931cb0acd8ab9e9b7c6b23749"
PIXELS = "078302484ac154a859bdc0a8925d35e95d25e2c3f5dc1278ce6e4b4f46b96417"


@pytest.fixture(scope="module")
def lexicon():
    return read_things()


@pytest.fixture(scope="module")
def drawn(lexicon):
    return pictures.draw_pictures(lexicon) | events.draw_clips(lexicon)


def of_split(records, split):
    return [record for record in records if record.split == split]


def spoken(records):
    return {
        getattr(caption, "text", caption) for record in records for caption in captions_of(record)
    }


def captions_of(record):
    return record.captions


def codes_of(record):
    return {
        one.code for one in (record.scene.groups if hasattr(record, "scene") else record.events)
    }


def test_the_records_are_the_same_everywhere(drawn):
    lines = [
        json.dumps(asdict(record), ensure_ascii=False, default=sorted, sort_keys=True)
        for records in drawn.values()
        for record in records
    ]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == RECORDS


@pytest.mark.parametrize("name", ["mini-flickr30k", "mini-msrvtt"])
def test_what_is_tested_did_not_train(drawn, lexicon, name):
    train, rest = (
        of_split(drawn[name], "train"),
        [one for one in drawn[name] if one.split != "train"],
    )
    rest += drawn[f"{name}-twins"] + drawn.get(f"{name}-new", [])
    assert spoken(train).isdisjoint(spoken(rest))
    pairs = [
        {frozenset((a, b)) for one in part for a in codes_of(one) for b in codes_of(one) if a < b}
        for part in (train, rest)
    ]
    assert pairs[0].isdisjoint(pairs[1])
    assert not any(lexicon[code].is_new for one in train for code in codes_of(one))
    styles = [set(), set()]
    for at, part in enumerate(
        (train, of_split(drawn[name], "val") + of_split(drawn[name], "test"))
    ):
        for record in part:
            shown = record.scene.groups if name == "mini-flickr30k" else record.events
            styles[at] |= {(one.code, one.style) for one in shown}
    assert styles[0].isdisjoint(styles[1])
    assert {style for _, style in styles[0]} == {style for _, style in styles[1]} == set(STYLES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A world of few scenes and clips, of squares instead of drawings."""
    out = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        for module, sizes in ((pictures, "TRAIN VAL TEST NEW"), (events, "TRAIN VAL TEST")):
            for number, name in enumerate(sizes.split(), start=2):
                patch.setattr(module, name, number)
            patch.setattr(module, "PAIRS", 1)
        patch.setattr(other_hand, "OTHER", 7)
        square = Image.new("RGBA", (128, 128), (200, 30, 30, 255))
        patch.setattr(world, "drawing", lambda *_: square)
        patch.setattr(world, "animations", dict)
        build.build_minis(out, workers=1)
    return out


def test_the_readers_of_the_real_formats_prepare_it(built, capsys):
    found = {
        name: json.loads((built / name / "dataset.json").read_text())["counts"]
        for name in BENCHMARKS
    }
    sizes = {
        name: {split: count["found"] for split, count in counts.items()}
        for name, counts in found.items()
    }
    assert sizes["mini-flickr30k"] == {"train": 2, "val": 3, "test": 4}
    assert sizes["mini-msrvtt"] == {"train": 2, "val": 3, "test": 4}
    assert sizes["mini-msrvtt-whole"] == sizes["mini-msrvtt-moments"] == {"test": 4}
    further = [sizes[f"mini-flickr30k-{kind}"] for kind in ("new", "words", "scenes", "twins")]
    assert further == [{"test": 5}, {"test": 7}, {"test": 7}, {"test": 6}]
    assert all(
        count["found"] == count["expected"]
        and count["captions"]["found"] == count["captions"]["expected"]
        for counts in found.values()
        for count in counts.values()
    )
    item = cma.data.load(built / "mini-flickr30k", "test").items[0]
    assert len(item.captions) == len(CAPTION_STYLES)
    clips = [
        cma.data.load(built / name, "test").items
        for name in BENCHMARKS
        if name.startswith("mini-msrvtt")
    ]
    assert all(len(clip.captions) == 1 for part in clips for clip in part)
    frames = read_frames(built / "mini-msrvtt" / clips[0][0].file_name, 6, None)
    assert [frame.size for frame in frames] == [(world.CLIP_SIZE, world.CLIP_SIZE)] * 6
    assert (built / "sources" / "mini-flickr30k" / world.RECORDS).read_text().count("\n") == 9


def test_what_is_there_is_not_built_again(built, capsys, monkeypatch):
    monkeypatch.setattr(build, "draw_pictures", None)
    build.build_minis(built, workers=1)
    assert capsys.readouterr().out.count("already in") == len(BENCHMARKS)


@pytest.mark.parametrize(
    ("line", "folder"),
    [("", "data"), ("--seed 7", "data/seed-7"), ("--seed 7 --out here", "here")],
)
def test_another_world_does_not_replace_the_usual_one(line, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(build, "build_minis", lambda out, *_: asked.append(out))
    assert main(["mini", *line.split()]) == 0
    assert asked == [Path(folder)]


def test_a_half_built_benchmark_is_built_again(built, monkeypatch, capsys):
    (built / "mini-flickr30k-new" / "dataset.json").unlink()
    monkeypatch.setattr(build, "draw_pictures", None)  # its source is there
    build.build_minis(built, workers=1)
    assert capsys.readouterr().out.count("already in") == len(BENCHMARKS) - 1


@pytest.mark.minis
def test_the_composed_pixels_are_the_same_everywhere(lexicon, drawn, tmp_path):
    """The first pictures and clips of the real packages, before they are encoded."""
    digests = [
        world.save_picture((picture, tmp_path / "x.jpg"))
        for picture in drawn["mini-flickr30k"][:40]
    ]
    assert hashlib.sha256("".join(digests).encode()).hexdigest() == PIXELS
