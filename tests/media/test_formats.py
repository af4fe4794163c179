"""The kinds of pictures: read where something reads them, else counted with what to do."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cma.media import MediaError, read_image
from data_prep.media import problem
from explorer.index import listing
from tests import ROOT
from tests.toy_media import halves, write_raw

BARE = """
import sys
sys.modules |= {"pillow_heif": None, "rawpy": None}
from cma.media import MediaError, read_image
from explorer.index import listing
from data_prep import own

root, files, problems = listing.find(sys.argv[1])
print([file.media for file in files], problems)
print(own.find_media(root)[2])
for name in ("a.heic", "c.nef", "heic.jpg"):
    try:
        read_image(root / name)
    except (ImportError, MediaError) as error:
        print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def heif():
    return pytest.importorskip("pillow_heif")


@pytest.fixture(scope="module")
def rawpy():
    return pytest.importorskip("rawpy")


def is_known(path: Path) -> bool:
    """Whether search and `data_prep` both take a file for a picture."""
    return listing.kind_of(path) == "image" and problem((path, None), "image") is None


def shown(path: Path, **options) -> tuple[tuple[int, int], list[str]]:
    """The size of a picture, and the colours of its left, right and lower edge: the strongest
    channel.
    """
    pixels = np.asarray(read_image(path, **options), int)
    row = pixels[len(pixels) // 4]
    points = row[4], row[-5], pixels[-5, 4]
    return pixels.shape[1::-1], [["red", "green", "blue"][point.argmax()] for point in points]


@pytest.mark.parametrize(
    "name, written_as",
    [("p.jfif", "JPEG"), ("p.avif", "AVIF"), ("p.jp2", "JPEG2000"), ("p.j2k", "JPEG2000")],
)
def test_pillow_reads_these_by_itself(tmp_path, name, written_as):
    halves(16, (80, 40)).save(tmp_path / name, written_as)
    assert is_known(tmp_path / name)
    assert shown(tmp_path / name) == ((80, 40), ["red", "blue", "red"])


def test_heic_is_upright_and_known_by_its_content(tmp_path, heif):
    picture, exif = halves(16, (80, 40)), Image.Exif()
    exif[0x0112] = 6
    for name in ("a.heic", "b.HEIF", "c.hif"):
        # which the library writes as a rotation
        picture.save(tmp_path / name, "HEIF", exif=exif.tobytes())
        assert is_known(tmp_path / name)
    assert shown(tmp_path / "a.heic") == ((40, 80), ["red", "red", "blue"])
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")  # as some programs export them
    assert read_image(tmp_path / "a.jpg").size == (40, 80)
    Image.new("RGBA", (40, 40)).save(tmp_path / "clear.heic")
    assert read_image(tmp_path / "clear.heic").getpixel((9, 9)) == (255, 255, 255)


@pytest.fixture
def bayer():
    """Values of a sensor [80, 160] that saw red on the left and blue on the right."""
    values = np.full((80, 160), 100, np.uint16)
    values[::2, :80:2] = 3500
    values[1::2, 81::2] = 3500
    return values


@pytest.mark.parametrize(
    "orientation, size, colours",
    [(1, (160, 80), ["red", "blue", "red"]), (6, (80, 160), ["red", "red", "blue"])],
)
def test_camera_raw_is_developed_upright(tmp_path, rawpy, bayer, orientation, size, colours):
    path = write_raw(tmp_path / "p.dng", bayer, orientation)
    assert is_known(path)
    assert shown(path) == (size, colours)
    assert shown(path, enough=40) == ((size[0] // 2, size[1] // 2), colours)
    assert shown(path, enough=41) == shown(path, enough=None) == (size, colours)
    named = path.rename(tmp_path / os.fsdecode(b"caf\xe9.NEF") if sys.platform == "linux" else path)
    assert shown(named) == (size, colours)


def test_raw_of_a_camera_for_grey(tmp_path, rawpy):
    grey = np.full((40, 60), 100.0)
    grey[:, 30:] = 3500
    pixels = np.asarray(read_image(write_raw(tmp_path / "p.dng", grey)), int)
    assert pixels.shape == (40, 60, 3) and pixels[20, 50, 0] - pixels[20, 10, 0] > 100
    assert np.ptp(pixels, axis=2).max() == 0


def test_a_small_raw_file_that_claims_a_billion_pixels_is_a_message(tmp_path, rawpy, bayer):
    path = write_raw(tmp_path / "p.dng", bayer, size=(30_000, 30_000))
    with pytest.raises(
        MediaError, match=r"\(Image size .900000000 pixels. exceeds limit .* Save a smaller"
    ):
        read_image(path)
    assert problem((path, None), "image").startswith("cannot be read as a picture (Image size (90")


def test_without_the_extra_its_kinds_are_counted_and_named_and_reading_one_says_what_to_install(
    tmp_path,
):
    for name in ("a.heic", "b.HEIC", "c.nef", "d.svg", "p.png", "notes.txt"):
        halves(16).save(tmp_path / name, "png")
    (tmp_path / "heic.jpg").write_bytes(b"\0\0\0\x1cftypheic" + bytes(40))
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    index, folder, *refusals = done.stdout.splitlines()
    counted = "pictures and clips of a kind that is read: 2 / 6"
    advice = f"not read, run `pip install 'cross-modal-adapter[formats]'` ({counted})"
    other = f"not read, save them as .jpg, .png or .mp4 ({counted})"
    assert index == str(["heic.jpg", "p.png"]) + " " + str(
        [("2 .heic, 1 .nef", advice), ("1 .svg", other)]
    )
    assert folder == str([f"2 .heic, 1 .nef: {advice}", f"1 .svg: {other}"])
    command = "not installed; run `pip install 'cross-modal-adapter[formats]'`"
    assert refusals[0] == f"ImportError pillow_heif: {command}"
    assert refusals[1] == f"ImportError rawpy: {command}"
    assert refusals[2].startswith("MediaError") and refusals[2].endswith(
        "HEIC needs the extra `formats`)"
    )
