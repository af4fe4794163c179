"""A long clip of a folder is cut into moments, which are embedded once and found apart."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import media
from explorer.index import IndexConfig, MediaFile, MediaIndex, embed, frames_of, moments
from tests.grey_media import full_size_frames
from tests.toy_index import same
from tests.toy_media import write_clip, write_picture

CONFIG = IndexConfig(rate=1.0, window=4.0)


@pytest.fixture
def folder(tmp_path):
    """A film of 41 seconds whose colours change each second, a clip of a window, a picture."""
    write_clip(tmp_path / "media" / "film.mp4", 0, frames=82, rate=2)
    write_clip(tmp_path / "media" / "short.mp4", 5, frames=8, rate=2)
    write_picture(tmp_path / "media" / "p.png", 3)
    return tmp_path / "media"


@given(seconds=st.floats(0.1, 900), window=st.floats(0.5, 200), rate=st.floats(0.05, 30))
def test_windows_overlap_by_half_and_leave_nothing_out(seconds, window, rate):
    config = IndexConfig(window=window, rate=rate)
    clip = MediaFile("c", "c.mp4", "video", seconds=seconds)
    parts = moments.cut(clip, config)
    if seconds <= window:
        assert parts == []
    if parts:
        assert parts[0].start == 0 and parts[-1].end == seconds
        for one, after in zip(parts, parts[1:], strict=False):
            assert after.start == pytest.approx(one.start + config.step / rate)
            assert one.start < after.start < one.end < after.end
        assert {part.seconds for part in parts} == {seconds} and parts[0].is_moment


def test_moments_are_items_with_the_frames_of_their_time(model, folder):
    index = MediaIndex.build(model, folder, CONFIG)
    film = [file for file in index.files if file.media == "film.mp4"]
    assert [(file.start, file.end) for file in film][:2] == [(0, 4), (2, 6)]
    assert film[-1].end == 41 and len(film) == 20 > moments.TOGETHER
    assert [file.start for file in index.files[len(film) :]] == [None, None]
    assert set(index.lengths[: len(film) - 1].tolist()) == {4}
    everything = media.read_frames(folder / "film.mp4", 999, 1.0)
    for file in film:
        first = int(file.start)
        assert frames_of(file, folder / "film.mp4", CONFIG) == everything[first : first + 4]
        pixels = embed.read_pixels(file, folder / "film.mp4", model, CONFIG)[1]
        expected = model.encode_images(pixels)
        torch.testing.assert_close(index.frames(index.files.index(file)), expected)
    # one result for the film, at its best moment, with the others behind it
    items = index.ranking("a dog")[0].tolist()
    best = next(item for item in items if item < len(film))
    folded = index.moments(items)
    assert folded[best] == [item for item in items if item < len(film)] and len(folded) == 3
    assert list(folded) == [item for item in items if item == best or item >= len(film)]
    assert sorted(name for name, _ in index.query("a dog", 9)) == [
        "film.mp4",
        "p.png",
        "short.mp4",
    ]
    # the film's name asks with the whole film
    assert index.query_media("film.mp4") == index.query_media(folder / "film.mp4")
    few = MediaIndex.build(model, folder, replace(CONFIG, max_frames=2))
    assert set(few.lengths[:19].tolist()) == {2}


def test_a_clip_of_fewer_frames_than_the_rate_has_moments_of_the_right_time(folder):
    path, config = folder / "film.mp4", replace(CONFIG, rate=4.0)  # it has 2 frames a second
    every = media.read_frames(path, 99, None)
    found = moments.cut(MediaFile("", "", "video", seconds=media.seconds(path)), config)
    assert len(found) == 20
    for one in found:
        expected = every[int(2 * one.start) : int(2 * one.end)]
        assert frames_of(one, path, config) == expected


@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_film_is_decoded_once_and_not_again_if_unchanged(
    model, folder, tmp_path, monkeypatch, where
):
    read, really = [], moments.media.read_frames
    monkeypatch.setattr(
        moments.media, "read_frames", lambda path, *rest: read.append(rest) or really(path, *rest)
    )
    kept = {where: tmp_path / "index"}
    with full_size_frames(48) as most:
        index = MediaIndex.build(model, folder, CONFIG, **kept)
    assert most[0] < 10  # a group has 18, and two groups are read at once
    assert len(read) == 3  # of 7, 7 and 6 moments
    again = MediaIndex.build(model, folder, CONFIG, **kept)
    assert len(read) == 3
    same(index, again)
    (folder / "film.mp4").unlink()
    less = MediaIndex.build(model, folder, CONFIG, **kept)
    assert [file.media for file in less.files] == ["p.png", "short.mp4"]
    (folder / "film.mp4").write_bytes(b"damaged")
    assert [name for name, _ in MediaIndex.build(model, folder, CONFIG).skipped] == ["film.mp4"]
