"""A rehearsal's files are read by the benchmark's own reader, with every count; its stages are
watched.
"""

import json
from dataclasses import replace

import pytest

from cma.media import read_frames, read_image, seconds
from data_prep.prepare import prepare
from tests.rehearsal.__main__ import KILLED, STAGES, main
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.media import SECONDS
from tests.rehearsal.source import lay_out, make_source, read_source

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
