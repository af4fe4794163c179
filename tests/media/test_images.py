"""Pictures are read as they look; what is wrong with a file is one message that names it."""

import random
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw

from cma.media import (
    PICTURES,
    MediaError,
    is_animation,
    read_frames,
    read_image,
    shown_name,
    to_pixels,
)
from cma.media.animation import Animation
from cma.media.images import ENOUGH, LONGEST
from tests.toy_media import scene, write_animation, write_clip, write_picture, write_raw

RED, WHITE = (255, 0, 0), (255, 255, 255)


def halves(mode, left, right):
    picture = Image.new(mode, (8, 4), left)
    picture.paste(right, (4, 0, 8, 4))
    return picture


# ---- as they look


@pytest.mark.parametrize(
    "orientation, corner", [(1, (0, 0)), (3, (7, 3)), (6, (3, 0)), (8, (0, 7))]
)
def test_a_rotated_picture_is_upright(tmp_path, orientation, corner):
    picture = Image.new("RGB", (8, 4))
    picture.putpixel((0, 0), WHITE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "p.png", exif=exif)
    found = read_image(tmp_path / "p.png")
    assert found.size == ((8, 4) if orientation in (1, 3) else (4, 8))
    assert found.getpixel(corner) == WHITE and np.asarray(found).sum() == 3 * 255


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.webp"])
def test_damaged_exif_data_loses_no_picture(tmp_path, name):
    picture, exif = halves("RGB", RED, WHITE), Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "camera" * 4, b"words"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    for seed in range(300):
        chance, content = random.Random(seed), bytearray(exif.tobytes())
        for _ in range(chance.randrange(1, 10)):
            content[chance.randrange(10, len(content))] = chance.randrange(256)
        del content[chance.choice((len(content), chance.randrange(8, len(content)))) :]
        picture.save(tmp_path / name, exif=bytes(content))
        assert read_image(tmp_path / name).size in ((8, 4), (4, 8))


def test_what_is_transparent_is_white_also_a_colour_of_a_palette(tmp_path):
    halves("LA", (0, 0), (200, 255)).save(tmp_path / "p.png")
    found = read_image(tmp_path / "p.png")
    assert (found.getpixel((0, 0)), found.getpixel((7, 0))) == (WHITE, (200, 200, 200))
    picture = halves("P", 0, 1)
    picture.putpalette([0, 255, 0, 255, 0, 0])
    for name in ("p.gif", "p.png"):
        picture.save(tmp_path / name, transparency=0)
        found = read_image(tmp_path / name)
        assert (found.getpixel((0, 0)), found.getpixel((7, 0))) == (WHITE, RED)
    picture.save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").getpixel((0, 0)) == (0, 255, 0)


def test_cmyk_and_more_than_eight_bits(tmp_path):
    halves("CMYK", (0, 255, 255, 0), (0, 0, 0, 0)).save(tmp_path / "p.tif")
    found = read_image(tmp_path / "p.tif")
    assert (found.getpixel((0, 0)), found.getpixel((7, 0))) == (RED, WHITE)
    levels = np.array([[0, 255, 256, 25600, 65535]])
    for kind, most in ((np.uint16, 1), (np.int32, 3), (np.float32, 3)):
        Image.fromarray((levels * most).astype(kind)).save(tmp_path / "r.tif")
        assert np.asarray(read_image(tmp_path / "r.tif"))[0, :, 1].tolist() == [0, 1, 1, 100, 255]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "nan.tif")
    assert read_image(tmp_path / "nan.tif").getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("colour", "page"),
    [("white", 64), ("#fff8f0", 64), ("#c0c0c0", 255), ("black", 255), (None, 255)],
)
def test_a_white_drawing_on_transparency_can_be_seen(tmp_path, colour, page):
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    if colour:
        ImageDraw.Draw(picture).ellipse((8, 8, 32, 32), fill=colour)
    picture.save(tmp_path / "p.png")
    found = read_image(tmp_path / "p.png")
    assert found.mode == "RGB" and found.getpixel((0, 0)) == (page,) * 3
    middle = ImageColor.getrgb(colour) if colour else WHITE
    assert found.getpixel((20, 20)) == middle and bool(np.ptp(np.asarray(found)) >= 60) == bool(
        colour
    )


# ---- pixels for CLIP


@example(short=1, ratio=20_000, rest=0, wide=True)
@example(short=1, ratio=20_000, rest=0, wide=False)
@given(
    short=st.integers(1, 12), ratio=st.integers(1, 60), rest=st.integers(0, 11), wide=st.booleans()
)
def test_clip_sees_the_same_middle_of_a_very_long_picture(toy_processor, short, ratio, rest, wide):
    long = short * ratio + min(rest, short - 1)
    pixels = np.random.default_rng(long).integers(0, 255, (short, long, 3), np.uint8)
    picture = Image.fromarray(pixels if wide else pixels.transpose(1, 0, 2))
    prepare = toy_processor.image_processor
    whole = prepare(
        [picture], do_normalize=False, input_data_format="channels_last", return_tensors="pt"
    )
    found = to_pixels([picture], prepare, do_normalize=False)
    exact = ratio <= LONGEST
    tolerance = 0 if exact else 0.005 if long % short == 0 else 0.1  # a level is 0.004
    torch.testing.assert_close(found, whole["pixel_values"], atol=tolerance, rtol=0)


def test_a_processor_that_crops_nothing_sees_the_ends_of_a_long_picture():
    kind = (
        getattr(transformers, "SiglipImageProcessorPil", None) or transformers.SiglipImageProcessor
    )
    prepare = kind(size={"height": 32, "width": 32})  # as `cma.load_backbone` takes it
    picture = Image.new("RGB", (2000, 20), "white")
    picture.paste("red", (0, 0, 100, 20))
    shown = to_pixels([picture], prepare, do_normalize=False)[0, :, 16, 0]
    assert shown[0] > 0.9 and shown[1:].max() < 0.1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "I;16", "F", "1"])
def test_a_picture_has_the_same_pixels_read_or_opened(tmp_path, toy_processor, mode):
    levels = np.random.default_rng(0).integers(0, 255, (33, 47, 4), np.uint8)
    path, exif = tmp_path / "p.tif", Image.Exif()
    exif[0x0112] = 6
    if mode == "I;16":
        picture = Image.fromarray(levels[:, :, 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(levels if mode in ("RGBA", "LA") else levels[:, :, :3]).convert(
            mode
        )
    picture.save(path, exif=exif, compression="tiff_lzw")
    read, opened = (
        to_pixels([one], toy_processor.image_processor)
        for one in (read_image(path), Image.open(path))
    )
    assert read_image(path).size == (33, 47) and torch.equal(read, opened)


# ---- sizes


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_and_clip_sees_almost_the_same(
    tmp_path, toy_processor, mode, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "p.jpg"
    scene(0, (4 * ENOUGH + 500, 4 * ENOUGH), mode).save(path, exif=exif, quality=90)
    full, small = read_image(path, enough=None), read_image(path)
    upright = (4 * ENOUGH + 500, 4 * ENOUGH) if orientation == 1 else (4 * ENOUGH, 4 * ENOUGH + 500)
    assert full.size == upright and small.size == tuple(side // 4 for side in upright)
    assert small.mode == "RGB"
    one, other = (
        to_pixels([p], toy_processor.image_processor, do_normalize=False) for p in (full, small)
    )
    assert (one - other).abs().max() <= 4 / 255 and (one - other).abs().mean() <= 1 / 255


@pytest.mark.parametrize("short, scale", [(500, 1), (2 * ENOUGH - 1, 1), (2 * ENOUGH, 2)])
def test_a_jpeg_that_is_not_large_keeps_its_pixels(tmp_path, short, scale):
    scene(0, (short + 100, short)).save(tmp_path / "p.jpg")
    read = read_image(tmp_path / "p.jpg")
    assert read.size == ((short + 100) // scale, short // scale)
    if scale == 1:
        assert np.array_equal(np.asarray(read), np.asarray(Image.open(tmp_path / "p.jpg")))


def test_too_many_pixels_are_a_message_and_many_are_read(tmp_path, monkeypatch):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "p.png")
    with pytest.raises(
        MediaError, match=r"p\.png: .*\(Image size .400\d{6} pixels. .* Save a smaller"
    ):
        read_image(tmp_path / "p.png")
    assert not is_animation(tmp_path / "p.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    write_picture(tmp_path / "q.png", 1, (6, 5))  # above Pillow's limit, and below twice
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_image(tmp_path / "q.png").size == (6, 5)


# ---- files that are none


@pytest.mark.parametrize(
    "name, message",
    [
        ("empty", "empty file; cannot be read as a picture"),
        ("page", "no picture that Pillow knows, but a page of HTML or XML"),
        ("script.jpg", "PostScript, which is a program; save it as .png"),
        ("gone", "no such file; cannot be read as a picture"),
        (".", "no regular file"),
    ],
)
def test_what_is_no_picture_says_why(tmp_path, name, message):
    (tmp_path / "empty").touch()
    (tmp_path / "page").write_bytes(b"<!DOCTYPE html><p>")
    script = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
    (tmp_path / "script.jpg").write_text(script)
    with pytest.raises(MediaError, match=re.escape(f"{tmp_path / name}: ") + f".*{message}"):
        read_image(tmp_path / name)
    with pytest.raises(MediaError, match=r"nul\\x00\.jpg: cannot be opened"):
        read_image(tmp_path / "nul\0.jpg")


@pytest.mark.parametrize("size", [(9, 0), (0, 9)])
def test_a_picture_without_height_or_width_says_so(toy_processor, size):
    with pytest.raises(ValueError, match="^{} x {} pixels; expected at least 1 x 1$".format(*size)):
        to_pixels([Image.new("RGB", size)], toy_processor.image_processor)


def test_what_may_not_be_opened_says_so(tmp_path, monkeypatch):
    for name in ("a.jpg", "a.gif", "a.mp4"):
        (tmp_path / name).write_bytes(b"GIF89a")

    def forbidden(path, *mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    clips = partial(read_frames, max_frames=2)
    for read, name in ((read_image, "a.jpg"), (clips, "a.gif"), (clips, "a.mp4")):
        with pytest.raises(MediaError, match=f"{name}: cannot be opened .*Permission denied"):
            read(tmp_path / name)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A small file of every kind that can be read, by its name."""
    folder = tmp_path_factory.mktemp("real")
    for name in ("p.jpg", "p.png", "p.gif", "p.webp", "p.tif", "p.avif", "p.jp2", "p.heic"):
        if Path(name).suffix in PICTURES:
            write_picture(folder / name, 11)
    if ".dng" in PICTURES:
        write_raw(folder / "p.dng", np.random.default_rng(0).integers(0, 4095, (40, 60), np.uint16))
    for name in ("a.gif", "a.webp", "a.png"):
        write_animation(folder / name, [1, 10, 19])
    write_clip(folder / "c.mp4", 1)
    return folder, {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(seed=st.integers(0, 2**32))
def test_damage_is_a_media_error_or_nothing(real, seed):
    (folder, contents), chance = real, random.Random(seed)
    name = chance.choice(list(contents))
    content = bytearray(contents[name])
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    else:
        reach = chance.choice((64, 400, len(content)))  # heads are where decoders stumble
        for _ in range(chance.randrange(1, 12)):
            content[chance.randrange(min(reach, len(content)))] = chance.randrange(256)
    path = folder / f"damaged-{name}"
    path.write_bytes(content)
    # a damaged header may promise a picture that takes minutes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        for read in (
            read_image,
            lambda file: read_frames(file, 3),
            lambda file: read_frames(file, 3, None),
        ):
            try:
                read(path)
            except MediaError as error:
                assert path.name in str(error)
        is_animation(path)


# ---- animations


def test_an_animated_png_is_shown_without_its_picture_for_old_viewers(tmp_path):
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue"))
    first.save(
        tmp_path / "a.png", save_all=True, append_images=others, default_image=True, duration=200
    )
    assert Animation(tmp_path / "a.png").seconds == pytest.approx(0.4)
    shown = [frame.getpixel((0, 0)) for frame in read_frames(tmp_path / "a.png", 9, None)]
    assert shown == [(0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_a_clip_by_its_content(tmp_path, suffix):
    moving = write_animation(tmp_path / f"a{suffix}", [0, 9, 18, 27, 36])
    still = write_picture(tmp_path / f"p{suffix}", 9)
    assert is_animation(moving) and not is_animation(still)
    np.testing.assert_allclose(Animation(moving).starts, np.arange(6) / 10)
    frames = read_frames(moving, 12, None)
    assert len(frames) == 5 and len(read_frames(still, 12)) == 1
    colours = [frame.getpixel((0, 0)) for frame in read_frames(moving, 3, None)]
    assert colours == [frames[i].getpixel((0, 0)) for i in (0, 2, 4)]
    assert colours[0] == read_image(moving).getpixel((0, 0)) == RED
    assert len(set(colours)) == 3
    assert read_frames(moving, 12, None, start=0.2, end=0.4) == frames[2:4]
    assert read_frames(moving, 12, None, start=0.3) == frames[3:]  # 0.1 + 0.1 + 0.1 > 0.3
    with pytest.raises(
        MediaError, match=rf"a\{suffix}: expected a part from 0.5 s on, found 0.50 s of 5"
    ):
        read_frames(moving, 12, None, start=0.5)
    if suffix == ".gif":
        moving.write_bytes(moving.read_bytes()[:-200])
        with pytest.raises(MediaError, match=r"a\.gif: cannot be decoded as an animation"):
            read_frames(moving, 12, None)


@given(
    st.lists(st.sampled_from([0.02, 0.1, 0.7, 3.0]), min_size=1, max_size=20),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_a_frame_is_taken_where_it_is_shown_at_a_tick(durations, fps):
    starts = np.cumsum([0.0, *durations])
    ticks = np.arange(0, starts[-1] - 1e-6, 1 / fps)
    shown = [max(i for i in range(len(durations)) if starts[i] <= tick + 1e-6) for tick in ticks]
    assert Animation.sampled(SimpleNamespace(starts=starts), fps, None, None) == sorted(set(shown))


# ---- names


def test_names_can_be_shown():
    assert shown_name("caf\udce9 é日本.jpg") == "caf� é日本.jpg"
    assert str(MediaError("x\n\udcff: no")).encode() == rb"x\n\udcff: no"
