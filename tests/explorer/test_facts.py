"""What cameras wrote is read, and what they did not write is left out."""

import pytest
from PIL import ExifTags, Image

from explorer import facts, playing
from explorer.index import MediaFile
from tests.toy_media import write_animation, write_film, write_picture

GPS = {1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 17.0, 42.0)}


def photo(path, gps=GPS, date="2014:07:01 12:30:00", camera=("Canon", "Canon EOS 5D")):
    """A picture with what a camera writes."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = camera
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = date
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    Image.new("RGB", (40, 30), "red").save(path, exif=exif)
    return path, MediaFile(path.name, path.name, "image", size=path.stat().st_size)


def test_date_camera_and_place_are_those_that_the_camera_wrote(tmp_path):
    path, file = photo(tmp_path / "a.jpg")
    found = facts.about(path, file)
    assert (found["taken"], found["camera"]) == ("2014-07-01 12:30", "Canon EOS 5D")
    assert (found["place"], found["sides"]) == ("48.85833, -2.29500", "40 × 30")


def test_a_long_text_of_a_camera_is_cut_and_a_broken_or_lost_file_is_no_error(tmp_path):
    path, file = photo(tmp_path / "a.jpg", camera=("M" * 5000, "\0x"))
    assert len(facts.about(path, file)["camera"]) == facts.MAX_TEXT
    path.write_bytes(b"no picture")
    assert "sides" not in facts.about(path, file)
    path.unlink()
    assert facts.about(path, file) == {"bytes": file.size}


def test_an_animation_and_a_folder_of_frames_play(tmp_path):
    path = write_animation(tmp_path / "a.gif", [0, 9, 18], [500, 500, 1000])
    folder = tmp_path / "frames"
    for number in range(3):
        write_picture(folder / f"{number}.png", number, size=(301, 99))
    for one, lasts in ((path, 2), (folder, 0.3)):
        file = MediaFile(one.name, one.name, "video")
        content, start = playing.part(one, file, 0.0, "mp4", lambda: True)
        (made := tmp_path / "made.mp4").write_bytes(content)
        frames = playing.media.read_frames(made, 9, None)
        assert start == 0 and len(frames) == 3, "each frame once"
        # the last frame has no end
        assert playing.media.seconds(made) == pytest.approx(lasts * 2 / 3, abs=0.1)


def test_a_part_of_a_silent_clip_has_no_sound_and_is_small(tmp_path):
    path = write_film(tmp_path / "film.mkv", [], seconds=40)
    file = MediaFile(path.name, path.name, "video", start=3.0, end=13.0)
    content, start = playing.part(path, file, 4.0, "mp4", lambda: True)
    (made := tmp_path / "made.mp4").write_bytes(content)
    assert start == 3 and playing.media.seconds(made) == pytest.approx(10, abs=0.3)
    content, start = playing.part(path, MediaFile("f", "f", "video"), 39.0, "mp4", lambda: True)
    made.write_bytes(content)
    assert start == 34 and playing.media.seconds(made) == pytest.approx(6, abs=0.3)
