"""Figures of answers, and previews that can be decoded: small, upright, of the right speed."""

import io
import os
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import pytest
from PIL import Image, ImageColor

from cma import RetrievalModel
from cma.media import MediaError
from explorer import answers, pictures
from explorer.index import MediaFile, MediaIndex
from tests.toy_galleries import HOSTILE, write_hostile
from tests.toy_media import write_clip, write_film, write_picture

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore:1 of 1 captions exceed")


def test_grid_shows_every_picture_once_and_marks_the_right_one():
    drawn = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(7)]
    names, marked = ["$1_of_$2.jpg", "$$.jpg", *"23456"], [i == 3 for i in range(7)]
    figure = pictures.image_grid(drawn, names, columns=5, marked=marked)
    figure.canvas.draw()  # a $ is not read as mathematics
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.images[0].get_array()[0, 0, 0] for axis in shown] == list(range(7))
    assert [axis.get_xlabel() for axis in shown] == names
    assert [axis.spines["left"].get_visible() for axis in shown] == marked
    plt.close("all")


@pytest.fixture
def hostile(tmp_path, toy_clip, toy_processor):
    return MediaIndex.build(RetrievalModel(toy_clip, toy_processor), write_hostile(tmp_path))


def test_a_file_that_is_gone_is_grey_and_a_lone_dollar_is_text(hostile):
    hostile.path(hostile.files[0]).unlink()
    gone = {"gone": hostile}
    figure = pictures.results_grid(gone, answers.search_both(gone, HOSTILE))
    figure.canvas.draw()  # a lone $ would be read as mathematics
    plt.close("all")


# ---- previews


def clip(path, **known) -> MediaFile:
    return MediaFile(path.name, path.name, "video", **known)


def image(path, **known) -> MediaFile:
    return MediaFile(path.name, path.name, "image", **known)


def thumbnail_of(path, **known) -> Image.Image:
    """The preview of a picture, decoded."""
    return Image.open(io.BytesIO(pictures.thumbnail(path, image(path, **known))), formats=["JPEG"])


@pytest.mark.parametrize(
    ("name", "mode"), [("p.png", "RGB"), ("p.tif", "CMYK"), ("p.gif", "P"), ("p.png", "RGBA")]
)
def test_a_picture_becomes_a_small_jpeg(tmp_path, name, mode):
    Image.new("RGB", (400, 200), "red").convert(mode).save(tmp_path / name)
    picture = thumbnail_of(tmp_path / name)
    red, green, blue = picture.getpixel((128, 64))
    assert picture.size == (256, 128) and red > 200 and green < 60 and blue < 60
    large = pictures.copy_of(tmp_path / name, image(tmp_path / name), pictures.LARGE)
    assert large.size == (400, 200)


@pytest.mark.parametrize("length", [6, 70_000])
def test_a_preview_has_no_comment(tmp_path, length):
    picture = Image.new("RGB", (9, 9))
    picture.info["comment"] = b"secret" * (length // 6)
    picture.save(tmp_path / "p.gif", comment=picture.info["comment"])
    assert b"secret" in (tmp_path / "p.gif").read_bytes()
    assert b"secret" not in pictures.thumbnail(tmp_path / "p.gif", image(tmp_path / "p.gif"))


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 1), (257, 7)])
def test_sizes_at_the_edge(tmp_path, size):
    path = write_picture(tmp_path / "p.png", 1, size)
    assert max(thumbnail_of(path).size) <= pictures.SIDE
    assert pictures.ratio(path, image(path)) == pytest.approx(size[0] / size[1])


def test_the_shape_is_known_from_the_header_and_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.jpg"
    Image.new("RGB", (300, 200)).save(turned, exif=exif)
    assert pictures.ratio(turned, image(turned)) == pytest.approx(2 / 3)
    assert thumbnail_of(turned).size == (171, 256)
    (tmp_path / "none.png").write_bytes(b"no picture")
    for path in (tmp_path / "none.png", tmp_path / "gone"):
        assert pictures.ratio(path, image(path)) == 4 / 3
    upright = write_clip(tmp_path / "c.mp4", 1, width=32)  # 48 pixels high
    assert pictures.ratio(upright, clip(upright)) == pytest.approx(2 / 3)


def test_the_preview_of_a_clip_is_its_moment_or_its_middle(tmp_path):
    path = write_film(tmp_path / "film.mp4", [])
    for at, colour in ((0.5, "red"), (2.5, "green"), (4.5, "blue"), (6.5, "yellow")):
        shown = pictures.copy_of(path, clip(path), at=at).getpixel((10, 10))
        wanted = ImageColor.getrgb(colour)
        assert all(abs(one - other) < 12 for one, other in zip(shown, wanted, strict=True))
    for i in range(3):
        write_picture(tmp_path / "frames" / f"{i}.png", i, size=(301, 99))
    middle = pictures.still(tmp_path / "frames", clip(tmp_path / "frames"))
    assert middle.getpixel((10, 10)) == (0, 128, 0)


def test_previews_that_were_not_used_for_longest_make_room(tmp_path, monkeypatch, previews):
    def shown(number):
        path = write_picture(tmp_path / f"{number}.png", number)
        return pictures.thumbnail(path, image(path, digest=str(number)))

    times = iter(range(100))
    monkeypatch.setattr(pictures.time, "monotonic", lambda: next(times) * pictures.EVERY)
    kept = len(shown(1))
    (old,) = previews.iterdir()
    os.utime(old, (1, 1))
    monkeypatch.setattr(pictures, "ROOM", 2 * kept + kept // 2)
    shown(2)
    assert old in previews.iterdir()
    shown(1)
    assert old.stat().st_mtime > 2  # used, so no longer the oldest
    (other,) = {*previews.iterdir()} - {old}
    os.utime(other, (2, 2))
    newest = shown(3)
    assert other not in previews.iterdir()
    assert newest in [one.read_bytes() for one in previews.iterdir()]
    assert sum(one.stat().st_size for one in previews.iterdir()) <= pictures.ROOM


@pytest.mark.parametrize("fault", ["a file", "full"])
def test_previews_are_shown_though_the_cache_cannot_be_written(
    tmp_path, monkeypatch, previews, fault
):
    if fault == "a file":
        previews.write_text("no folder")
    else:
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(pictures, "write_whole", mock.Mock(side_effect=full))
    path = write_picture(tmp_path / "p.png", 1)
    for _ in range(2):
        assert thumbnail_of(path, digest="1").size == (40, 32)


def test_a_new_content_has_a_new_preview_and_what_is_gone_is_an_error(tmp_path):
    path = write_picture(tmp_path / "p.png", 0)
    before = thumbnail_of(path, digest="1")
    write_picture(path, 9)
    assert thumbnail_of(path, digest="2").tobytes() != before.tobytes()
    path.unlink()
    assert len(pictures.still(path, image(path, digest="3")).getcolors()) == 1
    with pytest.raises(MediaError, match="p.png"):
        thumbnail_of(path, digest="3")
