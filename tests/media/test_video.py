import subprocess
import sys
from types import SimpleNamespace

import av
import decord
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from cma.media import (
    MediaError,
    frame_at,
    frame_indices,
    read_frames,
    seconds,
    stream_frames,
    video_file,
)
from cma.media.video_file import VideoFile
from data_prep.frames import ClipPart, Extraction, decode
from explorer import playing
from explorer.index.listing import MediaFile
from tests.grey_media import FPS, full_size_frames, level_of, write_clip, write_picture
from tests.toy_media import encode
from tests.toy_media import write_clip as write_coloured

LEVELS = list(range(20, 240, 8))  # 28 frames, 2.8 s


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", LEVELS)


def noise():
    """120 pictures that differ."""
    levels = np.random.default_rng(0).integers(0, 255, (120, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((80, 60)) for one in levels]


def levels_near(pictures, expected):
    # the levels of neighbouring frames are 8 apart
    assert [level_of(picture) for picture in pictures] == pytest.approx(expected, abs=3)


@given(n=st.integers(1, 5000), max_frames=st.integers(1, 80))
def test_frame_indices_are_the_floored_linspace_of_the_paper(n, max_frames):
    indices = frame_indices(n, max_frames)
    assert len(indices) == min(n, max_frames) and indices[0] == 0
    assert all(a < b for a, b in zip(indices, indices[1:], strict=False))
    if len(indices) > 1:
        assert indices[-1] == n - 1
    if n > max_frames:
        assert indices == [int(x) for x in np.linspace(0, n - 1, max_frames)]
    for none in ((0, max_frames), (n, 0)):
        with pytest.raises(ValueError, match="at least 1 frame"):
            frame_indices(*none)


@given(
    n=st.integers(1, 600),
    native=st.sampled_from([10.0, 23.976, 25.0, 30.0]),
    fps=st.none() | st.floats(0.25, 60),
    start=st.floats(0, 5),
    length=st.floats(0, 20),
)
@example(n=150, native=30.0, fps=11.0, start=0.0, length=20.0)  # `np.arange` would end at 150
def test_sampled_keeps_to_the_part_and_to_the_rate(n, native, fps, start, length):
    clip, part = SimpleNamespace(path="c", count=n, fps=native), (fps, start, start + length)
    if start * native >= n:
        with pytest.raises(ValueError, match="expected a part from"):
            VideoFile.sampled(clip, *part)
        return
    frames = VideoFile.sampled(clip, *part)
    assert frames[0] == min(round(start * native), n - 1)
    assert frames[-1] < n and (len(frames) == 1 or frames[-1] <= (start + length) * native)
    gaps = np.diff(frames)
    assert (gaps >= 1).all() and (fps is None or (gaps >= int(native / fps)).all())
    if fps is None or fps >= native:
        assert (gaps == 1).all()


def test_the_frames_of_a_file_are_those_asked_for(clip, tmp_path):
    levels_near(read_frames(clip, 100, fps=None), LEVELS)
    levels_near(read_frames(clip, 4, fps=None), [LEVELS[0], LEVELS[9], LEVELS[18], LEVELS[27]])
    levels_near(read_frames(clip, 100), [LEVELS[0], LEVELS[10], LEVELS[20]])  # 1 fps is the default
    levels_near(read_frames(clip, 100, fps=5), LEVELS[::2])
    levels_near(read_frames(write_clip(tmp_path / "one.mp4", [90]), 12), [90])
    levels_near(read_frames(clip, 100, fps=None, start=0.5, end=1.2), LEVELS[5:12])  # in seconds
    levels_near(read_frames(clip, 100, fps=None, start=2.5), LEVELS[25:])
    of_200 = SimpleNamespace(count=200, fps=30.0)
    assert VideoFile.sampled(of_200, None, 4.1, 4.2) == [123, 124, 125]
    levels_near(read_frames(clip, 100, fps=None, end=99), LEVELS)
    assert seconds(clip) == pytest.approx(2.8)
    with pytest.raises(
        MediaError, match=r"clip\.mp4: expected a part from 2\.8 s on, found 28 frames"
    ):
        read_frames(clip, 4, start=len(LEVELS) / FPS)


def test_a_folder_of_frames_is_sorted_as_text(tmp_path):
    for name, level in {"1": 40, "10": 80, "2": 120, "3": 160}.items():
        write_picture(tmp_path / "video7.mp4" / f"{name}.jpg", level)
    (tmp_path / "video7.mp4" / "Thumbs.db").write_bytes(b"written by Windows")
    (tmp_path / "video7.mp4" / "@eaDir").mkdir()  # by a NAS
    levels_near(read_frames(tmp_path / "video7.mp4", 12), [40, 80, 120, 160])
    levels_near(read_frames(tmp_path / "video7.mp4", 2), [40, 160])
    assert seconds(tmp_path / "video7.mp4") is None
    (tmp_path / "empty").mkdir()
    for name in ("gone.mp4", "empty"):
        with pytest.raises(MediaError, match=name):
            read_frames(tmp_path / name, 12)


@pytest.mark.parametrize("faststart", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_video_is_an_error_that_names_it(tmp_path, faststart, kept):
    path = write_clip(
        tmp_path / "cut.mp4", list(np.random.default_rng(0).integers(0, 255, 60)), faststart
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(MediaError, match=r"cut\.mp4: (empty file|cannot be decoded)"):
        read_frames(path, 12, fps=None)


def test_a_clip_that_claims_more_frames_than_bytes_does_not_end_the_process(tmp_path):
    content = bytearray(write_clip(tmp_path / "c.mp4", [10, 20, 30]).read_bytes())
    count = content.index(b"stts") + 12  # after the version and the number of entries
    content[count : count + 4] = (2**31 - 1).to_bytes(4)
    (tmp_path / "c.mp4").write_bytes(content)
    levels_near(read_frames(tmp_path / "c.mp4", 2, None), [10, 30])  # which are there
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[begin:end] = bytes(end - begin)  # nothing is there
    (tmp_path / "c.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"c\.mp4: cannot be decoded"):
        read_frames(tmp_path / "c.mp4", 2)


def test_a_recording_that_does_not_say_how_long_it_is(tmp_path):
    pictures = [Image.new("RGB", (64, 64), (level,) * 3) for level in range(10, 250, 10)]
    path = tmp_path / "live.mkv"
    encode(path, pictures, FPS, "yuv420p", "matroska", {"live": "1"}, crf="1")
    assert seconds(path) == pytest.approx(2.4)
    levels_near(read_frames(path, 12, 1.0, start=1.0), [110, 210])
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(MediaError, match=r"live\.mkv: cannot be decoded"):
        read_frames(path, 12)


@pytest.mark.parametrize("suffix", ["avi", "mpg", "mts", "wmv"])
def test_containers_whose_packets_are_no_frames(tmp_path, suffix):
    path = write_clip(tmp_path / f"c.{suffix}", LEVELS, file_format=None, g="5")
    levels_near(read_frames(path, 99, 5.0, start=1.0, end=2.0), LEVELS[10:20:2])
    counted = video_file._timetable.cache_info().misses
    levels_near(read_frames(path, 4, None), LEVELS[::9])
    assert video_file._timetable.cache_info().misses == counted  # its frames are listed once
    if suffix == "mts":  # recorded from the middle of a broadcast: some packets give no frame
        content = path.read_bytes()
        path.write_bytes(content[len(content) // 3 :])
        rest = read_frames(path, 99, None)
        levels_near(rest, LEVELS[-len(rest) :])
        assert 10 < len(rest) < 20


def test_a_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    write_clip(tmp_path / "10:30.mp4", [10, 20, 30])
    monkeypatch.chdir(tmp_path)
    assert len(read_frames("10:30.mp4", 3, None)) == 3


@pytest.mark.parametrize("width", [16, 48, 96])
def test_narrow_clips(tmp_path, width):
    path = write_coloured(tmp_path / "narrow.mp4", 1, width=width)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = read_frames(path, 3, None)
    for frame, wanted in zip(found, (expected[0], expected[2], expected[5]), strict=True):
        np.testing.assert_array_equal(np.asarray(frame), wanted)


@pytest.mark.parametrize("kind", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_a_clip_that_a_phone_turned_is_upright(tmp_path, kind):
    path = write_coloured(tmp_path / "c.mp4", 1, frames=24, rate=10, width=80, kind=kind)
    lying = read_frames(path, 99, 7.0)
    matrices = ((1, 0, 0, 0, 1, 0), (0, 1, 0, -1, 0, 0))
    plain, turn = (
        b"".join((0x10000 * value).to_bytes(4, signed=True) for value in one) for one in matrices
    )
    head, _, tail = path.read_bytes().partition(b"tkhd")
    path.write_bytes(head + b"tkhd" + tail.replace(plain, turn, 1))
    turned = list(stream_frames(path, 99, 7.0))
    assert turned[0].size == (48, 80) and lying[0].size == (80, 48)
    for one, other in zip(turned, lying, strict=True):
        np.testing.assert_array_equal(np.rot90(one), other)
    assert frame_at(path).size == (48, 80)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "3"}, {"bf": "2", "flags": "-cgop"}])
def test_a_late_frame_is_sought_and_is_that_frame(tmp_path, monkeypatch, suffix, options):
    """PyAV decoded 110 of 120 frames for the last moment: minutes of a film."""
    path = encode(tmp_path / f"film.{suffix}", noise(), 10, g="10", sc_threshold="0", **options)
    decoded, really = [], video_file._decoded
    monkeypatch.setattr(
        video_file,
        "_decoded",
        lambda container: (decoded.append(frame.pts) or frame for frame in really(container)),
    )
    clip = VideoFile(path)
    whole = list(clip.read([*range(clip.count)]))
    assert len(whole) == 120
    for chosen in ([115], [55, 114], [3, 4, 47, 109], [119]):
        decoded.clear()
        assert list(clip.stream(chosen)) == [whole[number] for number in chosen]
        assert len(decoded) <= 22 * len(chosen)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("is_open", [False, True])
def test_decord_reads_only_what_it_reads_right(tmp_path, monkeypatch, suffix, is_open):
    """Of frames shown before the key frame that precedes them in the file, it returns others."""
    options = {"x264-params": f"open-gop={is_open:d}:bframes=3:scenecut=0:keyint=10:min-keyint=10"}
    path = encode(tmp_path / f"c.{suffix}", noise(), 10, **options)
    opened, really = [], decord.VideoReader
    monkeypatch.setattr(
        "decord.VideoReader",
        lambda *args, **options: opened.append(args[0]) or really(*args, **options),
    )
    clip, drawn = VideoFile(path), [*range(7, 120, 4)]
    expected = [list(clip.stream([*range(120)]))[number] for number in drawn]
    assert list(clip.read(drawn)) == expected
    is_wrong = is_open or suffix == "avi"
    assert opened == ([] if is_wrong else [str(path)])
    alone = really(str(path), num_threads=1)
    found = [Image.fromarray(alone.get_batch([number]).asnumpy()[0]) for number in drawn]
    assert (found != expected) == is_wrong  # if decord is mended, the rule can go


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory):
    """40 frames as a video file, an animation and a folder of frames, each with its short side."""
    folder = tmp_path_factory.mktemp("long")
    levels = list(range(0, 240, 6))
    write_clip(folder / "clip.mp4", levels, size=(1280, 720))
    frames = [Image.new("RGB", (320, 240), (level, 0, 0)) for level in levels]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    for number, frame in enumerate(frames):
        (folder / "frames").mkdir(exist_ok=True)
        frame.save(folder / "frames" / f"{number:02}.png")
    return {folder / "clip.mp4": 720, folder / "clip.gif": 240, folder / "frames": 240}


@pytest.mark.parametrize(
    ("use", "number"), [("frames", 0), ("frames", 1), ("frames", 2), ("played", 0)]
)
def test_few_frames_are_held_at_full_size(long_clips, tmp_path, number, use):
    path, short_side = list(long_clips.items())[number]
    with full_size_frames(short_side) as most:
        if use == "played":
            file = MediaFile(path.name, path.name, "video")
            playing.part(path, file, 0.0, "mp4", lambda: True)
        else:
            decode(ClipPart(path, None, None, tmp_path / "out"), Extraction(None, 64))
            assert len(list((tmp_path / "out").glob("*.jpg"))) == 40
    assert most[0] <= 4  # the one that is read, and copies of it in other modes
    assert most[1] < 10 * 1280 * 720 * 3


def test_frames_after_a_damaged_one_keep_their_numbers(tmp_path):
    path = write_clip(tmp_path / "c.mp4", LEVELS, g="1")
    with av.open(str(path)) as container:
        sizes = [(one.pos, one.size) for one in container.demux(video=0) if one.size]
    content = bytearray(path.read_bytes())
    begin, size = sizes[9]
    content[begin : begin + size] = b"\xff" * size
    path.write_bytes(content)
    levels_near(list(stream_frames(path, 4, None)), [LEVELS[0], LEVELS[10], *LEVELS[18::9]])
    levels_near(read_frames(path, 1, None, start=1.5), [LEVELS[15]])


def test_a_path_that_is_not_utf8(clip, tmp_path):
    path = tmp_path / "caf\udce9.mp4"
    try:
        path.write_bytes(clip.read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read_frames(path, 5)) == 3


def test_bad_files_are_messages_and_nothing_else_is_printed(clip, tmp_path):
    (tmp_path / "text.mp4").write_text("this is no video" * 100)
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with av.open(str(tmp_path / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 4410), np.float32), format="fltp", layout="mono"
        )
        sound.rate = 44100
        container.mux([*stream.encode(sound), *stream.encode()])
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    script = f"""
from pathlib import Path
from cma import log_to_stdout
from cma.media import MediaError, read_frames, read_image
log_to_stdout()
print(read_image({str(tmp_path / "large.png")!r}).size)
for path in sorted(Path({str(tmp_path)!r}).glob("*.mp4")):
    try:
        read_frames(path, 3)
    except MediaError as error:
        print(str(error).removeprefix(f"{{path.parent}}/"))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    invalid = "cannot be decoded, corrupt or cut short (Invalid data found when processing input)"
    assert run.stdout.splitlines() == [
        "(10000, 10000)",
        "audio.mp4: no video in it, only audio; expected a clip",
        f"cut.mp4: {invalid}",
        f"text.mp4: {invalid}",
    ]
