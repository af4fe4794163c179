"""The preview of a film is a key frame, found by seeking; that of a clip is the very frame."""

import subprocess
import sys

import pytest

from cma.media import frame_at
from explorer import films
from explorer.films import glimpse
from tests import ROOT
from tests.grey_media import level_of, write_clip, write_picture
from tests.toy_media import write_animation

LEVELS = list(range(0, 240, 2))


def near(level: int):
    return pytest.approx(level, abs=3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_gives_one_key_frame_and_a_clip_the_very_frame(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"film.{suffix}"
    write_clip(path, LEVELS, file_format=None, g="10", sc_threshold="0")
    assert level_of(glimpse(path, 5.6, None, None)) == near(LEVELS[56])
    assert level_of(glimpse(path, None, None, None)) == near(LEVELS[60])
    assert level_of(frame_at(path, 5.6)) == near(LEVELS[56])
    monkeypatch.setattr(films, "DECODED", 0)
    for part, level in (
        ((5.6, None, None), 60),
        ((5.2, None, None), 50),
        ((99.0, None, None), 110),
        ((None, 2.0, 4.1), 30),
    ):
        assert level_of(glimpse(path, *part)) == near(LEVELS[level])


def test_a_broadcast_gives_a_key_frame_that_follows(tmp_path):
    path = write_clip(tmp_path / "c.mts", LEVELS, file_format=None, g="10", sc_threshold="0")
    assert level_of(glimpse(path, 5.2, None, None)) == near(LEVELS[60])
    assert level_of(frame_at(path, 5.2)) == near(LEVELS[52])


def test_what_is_no_video_gives_none(tmp_path):
    (tmp_path / "c.mp4").write_bytes(b"no clip")
    write_picture(tmp_path / "frames" / "0.png", 90)
    write_animation(tmp_path / "a.gif", [1, 2])
    for name in ("c.mp4", "frames", "a.gif", "gone.mp4"):
        assert glimpse(tmp_path / name, None, None, None) is None


FORKED = """
import multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from explorer.films import glimpse
from explorer.index import MediaFile
from explorer.playing import part

path = Path(sys.argv[1])
clip = MediaFile(path.name, path.name, "video")
pool = ThreadPoolExecutor(1)
assert pool.submit(glimpse, path, None, None, None).result()
assert pool.submit(part, path, clip, 0.0, "webm", lambda: True).result()
worker = multiprocessing.get_context("fork").Process(target=int)
worker.start()
worker.join(20)
worker.kill()
sys.exit(worker.exitcode != 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="workers of a training are forked on Linux")
def test_what_a_thread_has_shown_hangs_no_worker_of_a_later_training(tmp_path):
    path = write_clip(tmp_path / "c.mp4", LEVELS[:20])
    assert subprocess.run([sys.executable, "-c", FORKED, path], cwd=ROOT).returncode == 0
