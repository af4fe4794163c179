"""A rehearsal's files are read by the benchmark's own reader, with every count; its stages are
watched.
"""

import json
import os
import signal
import time
from dataclasses import replace

import pytest

from cma.media import read_frames, read_image, seconds
from data_prep.prepare import prepare
from tests.rehearsal.__main__ import KILLED, STAGES, main
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.media import SECONDS
from tests.rehearsal.source import lay_out, make_source, read_source
from tests.rehearsal.watch import run_stage

ITEMS = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKENESSES)
def test_its_own_reader_finds_every_item_caption_and_medium(name, tmp_path, monkeypatch):
    like = LIKENESSES[name]
    width, height = (side // 8 * 2 for side in like.size)  # a quarter: that takes little time
    like = replace(like, size=(width, height), lengths=like.lengths and (4, 8, 20, 0.5))
    monkeypatch.setitem(LIKENESSES, name, like)
    out = tmp_path / "out"
    make_source(name, ITEMS, out, workers=1)
    prepare(
        read_source(name, ITEMS, out / "source"), out / "source", tmp_path / "dataset", workers=1
    )
    counts = json.loads((tmp_path / "dataset" / "dataset.json").read_text("utf-8"))["counts"]
    wanted = like.scaled(ITEMS)
    for split, (items, captions) in wanted.items():
        assert counts[split]["found"] == counts[split]["media"]["found"] == items
        assert counts[split]["captions"]["found"] == captions

    made = lay_out(name, ITEMS)
    media = [out / "source" / item.file for item in made]
    if like.lengths:
        length = SECONDS * len(made[0].shots)
        assert seconds(media[0]) == pytest.approx(length, abs=0.01)
        frames = read_frames(media[0], 1000, fps=1.0)
        assert len(frames) == length
    assert (frames[0] if like.lengths else read_image(media[0])).size == (width, height)

    content, before = media[4].read_bytes(), media[5].stat().st_mtime_ns
    media[4].unlink()
    make_source(name, ITEMS, out, workers=1)  # goes on where it was
    assert media[4].read_bytes() == content and media[5].stat().st_mtime_ns == before


def test_the_counts_are_the_published_ones_or_in_proportion(capsys):
    for like in LIKENESSES.values():
        assert like.scaled(like.total) == like.counts
        for items in (2 * len(like.counts), like.total // 2 + 1):
            scaled = [counts.items for counts in like.scaled(items).values()]
            assert sum(scaled) == items and min(scaled) > 0
    with pytest.raises(SystemExit):
        main(["--like", "msrvtt", "--items", "3"])
    assert "error: --items 3: expected 4 to 10,000, the published number" in capsys.readouterr().err


def use_memory() -> dict:
    """A stage that holds 200 MB for a second."""
    held = bytearray(200 * 2**20)
    time.sleep(1)
    return {"said": len(held)}


def be_killed() -> dict:
    """A stage that ends by a signal."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.night
def test_a_stage_is_measured_and_one_that_ends_otherwise_than_expected_is_named(tmp_path):
    done = run_stage("use", use_memory, tmp_path / "use.json", killed=False)
    assert done["said"] == 200 * 2**20 and done["cost"]["seconds"] > 1
    assert 0.2 < done["cost"]["peak_gib"] < 2 and done["cost"]["open_files"] > 2
    assert (
        run_stage("stop", be_killed, tmp_path / "stop.json", killed=True)["cost"]["workers_left"]
        == 0
    )
    for stage, killed in ((be_killed, False), (use_memory, True)):
        with pytest.raises(RuntimeError, match="odd: the stage ended with"):
            run_stage("odd", stage, tmp_path / "odd.json", killed=killed)


@pytest.mark.night
def test_the_whole_way_of_msrvtt_in_small(tmp_path, capsys):
    """Through the kill and the resumption, with the bundled CLIP."""
    words = "--like msrvtt --items 20 --backbone mini --recipe float32 "
    words += "--frames 2 --batch-size 2 --workers 1"
    main([*words.split(), "--out", str(tmp_path / "out")])
    stages = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["stages"]
    assert list(stages) == list(STAGES)
    assert stages[KILLED]["said"] == "ended by SIGKILL" and len(stages["resume"]["history"]) == 2
    assert stages["prepare"]["counts"]["test"]["media"] == {"found": 2, "expected": 2}
    assert stages["explore"]["best"][0][0].endswith(".mp4")
    assert "went on after epoch 1 of 2" in capsys.readouterr().out
