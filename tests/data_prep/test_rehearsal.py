"""A rehearsal's files are read by the benchmark's own reader, with every count; its steps are watched."""

import json
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw

from cma.media import read_frames, read_image, seconds
from data_prep import __main__ as command_line
from data_prep.prepare import prepare
from data_prep.readers import BadInput
from data_prep.rehearsal import LIKENESSES, STEPS, Figure, expected, make_source, read_source, scaled
from data_prep.rehearsal import source as making
from data_prep.rehearsal.likeness import captions_of
from data_prep.rehearsal.stages import KILL, Rehearsal
from data_prep.rehearsal.watch import run_step
from tests import ROOT
from tests.data_prep import watched_steps

ITEMS = 21
COLOURS = ("red", "green", "blue", "black")


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """Four discs."""
    folder, found = tmp_path_factory.mktemp("figures"), []
    for colour in COLOURS:
        image = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(image).ellipse((4, 4, 60, 60), fill=colour)
        image.save(folder / f"{colour}.png")
        found.append(Figure(f"{colour} disc", folder / f"{colour}.png"))
    return found


@pytest.fixture(scope="module", autouse=True)
def small():
    """Media a quarter as wide and as high, and ActivityNet's as long as DiDeMo's: that takes little time."""
    with pytest.MonkeyPatch.context() as patch:
        short = replace(LIKENESSES["activitynet"], seconds=LIKENESSES["didemo"].seconds)
        patch.setitem(LIKENESSES, "activitynet", short)
        for name, like in LIKENESSES.items():
            width, height = like.size
            patch.setitem(LIKENESSES, name, replace(like, size=(width // 8 * 2, height // 8 * 2)))
        yield


@pytest.fixture(scope="module", params=LIKENESSES)
def rehearsal(request, tmp_path_factory, figures):
    """(name, folder) of a rehearsal of each benchmark."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    make_source(request.param, ITEMS, out, figures, seed=3, workers=1)
    return request.param, out


def test_its_own_reader_finds_every_item_caption_and_medium(rehearsal):
    name, out = rehearsal
    annotations = read_source(name, out / "source")
    prepare(annotations, out / "source", out.parent / "dataset", workers=1)
    counts = json.loads((out.parent / "dataset" / "dataset.json").read_text("utf-8"))["counts"]
    wanted = expected(scaled(LIKENESSES[name].splits, ITEMS))
    assert sum(split.items for split in wanted.values()) == ITEMS
    for split, (items, captions) in wanted.items():
        assert counts[split]["found"] == counts[split]["media"]["found"] == items
        assert counts[split]["captions"]["found"] == captions
    assert not (out.parent / "dataset" / "missing.txt").exists()
    assert all(any(colour in text for colour in COLOURS) for e in annotations.entries for text in e.captions)


def test_media_have_the_size_and_the_length_that_are_noted(rehearsal, figures):
    name, out = rehearsal
    like = LIKENESSES[name]
    made = making.lay_out(name, scaled(like.splits, ITEMS), out / "shots", figures, seed=3)
    for item in made[:2]:
        path = out / "source" / item.file
        if like.kind == "image":
            assert read_image(path).size == like.size
        else:
            assert seconds(path) == pytest.approx(item.seconds, abs=0.01)
            frames = read_frames(path, 1000, fps=1.0)
            assert len(frames) == item.seconds and frames[0].size == like.size
    files = {(out / "source" / item.file).read_bytes() for item in made}
    assert len(files) == ITEMS  # each is another


@pytest.mark.parametrize("name", LIKENESSES)
def test_at_the_published_number_the_counts_are_the_published_ones(name):
    like = LIKENESSES[name]
    assert scaled(like.splits, like.total) == like.splits
    for items in (2 * len(like.splits), 40, 1001):
        found = scaled(like.splits, items)
        assert sum(counts.items for counts in found.values()) == items
        assert all(counts.items > 0 for counts in found.values())
    for wrong in (1, like.total + 1):
        with pytest.raises(BadInput, match=f"--items {wrong:,}: expected"):
            scaled(like.splits, wrong)


def test_clips_of_msvd_have_more_and_fewer_captions():
    like = LIKENESSES["msvd"]
    each = captions_of(making.Random(0), like.splits["train"], like.spread)
    assert sum(each) == like.splits["train"].captions and 18 <= min(each) < 25 and 55 < max(each) <= 81


@pytest.mark.parametrize("name", ["msvd", "rsicd"])
def test_a_rehearsal_that_was_stopped_goes_on(name, tmp_path, figures):
    make_source(name, 10, tmp_path / "out", figures, seed=1, workers=1)
    folders = (tmp_path / "out" / "source").iterdir()
    media = sorted(next(folder for folder in folders if folder.is_dir()).iterdir())
    assert len(media) == 10
    lost, content = media[4], media[4].read_bytes()
    lost.unlink()
    before = [path.stat().st_mtime_ns for path in media if path != lost]
    make_source(name, 10, tmp_path / "out", figures, seed=1, workers=1)
    assert lost.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in media if path != lost] == before


def test_another_rehearsal_or_other_things_in_the_folder_are_refused(tmp_path, figures):
    make_source("rsitmd", 6, tmp_path / "out", figures, seed=1, workers=1)
    with pytest.raises(BadInput, match=r"holds a rehearsal of 6 items like rsitmd \(seed 1\)"):
        make_source("rsitmd", 7, tmp_path / "out", figures, seed=1, workers=1)
    with pytest.raises(BadInput, match="holds other things"):
        make_source("rsitmd", 6, tmp_path, figures, seed=1, workers=1)
    with pytest.raises(BadInput, match="no rehearsal of rsicd"):
        read_source("rsicd", tmp_path / "out" / "source")


def test_a_disk_without_room_is_one_line_before_the_media_are_made(tmp_path, figures, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(making.shutil, "disk_usage", lambda path: usage(1000))
    with pytest.raises(BadInput, match=r"GB of media are to be written, 0.00 GB are free; choose an --out"):
        make_source("msrvtt", 10, tmp_path / "out", figures, seed=1, workers=1)
    assert not list((tmp_path / "out" / "source").rglob("*.mp4"))


def test_a_step_is_measured_and_one_that_ends_otherwise_than_expected_is_named(tmp_path, capfd):
    done = run_step("use", watched_steps.use_memory, tmp_path)
    assert done["said"] == 200 * watched_steps.MEGABYTE and done["cost"]["seconds"] > 0.5
    if sys.platform == "linux":
        assert 0.2 < done["cost"]["peak_gib"] < 2 and done["cost"]["open_files"] > 2
    assert run_step("stop", watched_steps.be_killed, tmp_path, killed=True)["signal"] == KILL
    with pytest.raises(BadInput, match="refuse: the step ended with 1"):
        run_step("refuse", watched_steps.refuse, tmp_path)
    assert capfd.readouterr().err == "error: no such thing\n"


def test_the_command_line_and_the_steps_start_without_torch():
    code = "import sys; from data_prep.__main__ import build_parser; build_parser(); "
    code += "from data_prep.rehearsal import stages, watch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_bad_numbers_are_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, said in ((["--items", "3"], "--items 3: expected 4 to 10,000"), (["--steps", "0"], "--steps")):
        assert command_line.main(["rehearsal", "--like", "msrvtt", *words]) == 1
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.minis
def test_the_whole_way_of_msrvtt_in_small(tmp_path):
    """Through the kill and the resumption, with the bundled CLIP."""
    words = [
        "--like",
        "msrvtt",
        "--items",
        "20",
        "--run",
        "--backbone",
        "mini",
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--frames", "2", "--batch-size", "2", "--micro-batch", "1", "--workers", "1"]
    command = [sys.executable, "-m", "data_prep", "rehearsal", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    steps = report["steps"]
    assert list(steps) == list(STEPS)
    assert steps["train, killed"]["signal"] == KILL and len(steps["resume"]["history"]) == 2
    assert steps["prepare"]["counts"]["test"]["media"] == {"found": 2, "expected": 2}
    assert steps["explore"]["best"][0][0].endswith(".mp4")
    assert "went on after epoch 1 of 2" in done.stdout and "20 / 20 media" in done.stdout


def test_a_rehearsal_takes_the_gpu_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("cma.training.choose_device", lambda: torch.device("meta"))
    model = Rehearsal("msrvtt", 20, tmp_path, backbone="mini").model()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
