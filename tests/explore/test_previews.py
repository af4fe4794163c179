"""Whatever the source, what is shown is a small JPEG or a small mp4 that can be decoded."""

import base64
import io

import pytest
from PIL import Image

from cma.explore import previews
from cma.media.video import MediaError, read_frames, seconds
from cma.search.listing import MediaFile
from tests.toy_media import write_animation, write_clip, write_picture


def decoded(uri: str) -> tuple[str, bytes]:
    head, _, content = uri.partition(";base64,")
    return head, base64.b64decode(content)


@pytest.mark.parametrize(
    "name, mode", [("p.png", "RGB"), ("p.tif", "CMYK"), ("p.gif", "P"), ("p.png", "RGBA")]
)
def test_a_picture_becomes_a_small_jpeg(tmp_path, name, mode):
    Image.new("RGB", (400, 200), "red").convert(mode).save(tmp_path / name)
    kind, content = decoded(previews.data_uri(tmp_path / name, MediaFile(name, name, "image")))
    picture = Image.open(io.BytesIO(content))
    assert kind == "data:image/jpeg"
    assert picture.format == "JPEG" and picture.size == (256, 128)
    red, green, blue = picture.getpixel((128, 64))
    assert red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.avi"])
def test_a_clip_becomes_an_mp4_of_its_own_speed(tmp_path, name):
    write_clip(tmp_path / name, 1, frames=24, rate=24)
    kind, content = decoded(previews.data_uri(tmp_path / name, MediaFile(name, name, "video")))
    assert kind == "data:video/mp4"
    (tmp_path / "preview.mp4").write_bytes(content)
    frames = read_frames(tmp_path / "preview.mp4", 100, None)
    assert len(frames) == pytest.approx(previews.FPS, abs=1)  # one second
    assert frames[0].size == (64, 48)


def test_a_part_of_a_clip_and_a_folder_of_frames(tmp_path):
    write_clip(tmp_path / "c.mp4", 1, frames=36, rate=12)
    part = MediaFile("c.mp4", "c.mp4", "video", start=1.0, end=1.5)
    assert len(read_frames(write(tmp_path, previews.data_uri(tmp_path / "c.mp4", part)), 100, None)) == 6
    for i in range(3):
        write_picture(tmp_path / "frames" / f"{i}.png", i, size=(301, 99))  # odd sides: H.264 has none
    folder = MediaFile("frames", "frames", "video")
    frames = read_frames(write(tmp_path, previews.data_uri(tmp_path / "frames", folder)), 100, None)
    assert len(frames) == 3 and frames[0].size == (256, 84)
    assert previews.still(tmp_path / "frames", folder).getpixel((10, 10)) == (0, 128, 0)  # the middle one


def write(folder, uri):
    path = folder / "preview.mp4"
    path.write_bytes(decoded(uri)[1])
    return path


def test_a_new_content_has_a_new_preview(tmp_path):
    path = write_picture(tmp_path / "p.png", 0)
    before = previews.data_uri(path, MediaFile("p.png", "p.png", "image", digest="1"))
    write_picture(path, 9)
    assert previews.data_uri(path, MediaFile("p.png", "p.png", "image", digest="2")) != before
    path.unlink()
    with pytest.raises(MediaError, match="p.png"):
        previews.data_uri(path, MediaFile("p.png", "p.png", "image", digest="3"))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_becomes_an_mp4_of_its_own_speed(tmp_path, suffix):
    path = write_animation(tmp_path / f"a{suffix}", [0, 9, 18], [500, 500, 1000])
    kind, _ = decoded(previews.data_uri(path, MediaFile(path.name, path.name, "video")))
    assert kind == "data:video/mp4"
    preview = write(tmp_path, previews.data_uri(path, MediaFile(path.name, path.name, "video")))
    assert seconds(preview) == pytest.approx(2, abs=0.1)


def test_a_slow_clip_and_a_long_one(tmp_path):
    slow = write_clip(tmp_path / "slow.mp4", 1, frames=6, rate=2)
    file = MediaFile("c", "c", "video", digest="slow")
    assert seconds(write(tmp_path, previews.data_uri(slow, file))) == pytest.approx(3, abs=0.1)
    long = write_clip(tmp_path / "long.mp4", 1, frames=90, rate=10)
    file = MediaFile("c", "c", "video", digest="long")
    assert seconds(write(tmp_path, previews.data_uri(long, file))) == previews.MOST / previews.FPS


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 1), (257, 7)])
def test_sizes_at_the_edge(tmp_path, size):
    picture = write_picture(tmp_path / "p.png", 1, size)
    _, content = decoded(previews.data_uri(picture, MediaFile("p.png", "p.png", "image", digest=str(size))))
    assert max(Image.open(io.BytesIO(content)).size) <= previews.SIDE
    write_picture(tmp_path / "frames" / "0.png", 1, size)
    uri = previews.data_uri(tmp_path / "frames", MediaFile("f", "f", "video", digest=str(size)))
    assert len(read_frames(write(tmp_path, uri), 9, None)) == 1
