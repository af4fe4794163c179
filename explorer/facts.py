"""Read a file's dates, size, camera and place."""

import contextlib
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from cma import media
from explorer.index import MediaFile, taken

MAX_TEXT = 100  # characters of a text that a camera wrote
GPS = ExifTags.GPS


def about(path: Path, file: MediaFile) -> dict[str, str | float]:
    """Return a file's known facts by name: date, bytes, sides, camera, place, seconds."""
    found: dict[str, str | float] = {"bytes": file.size}
    with contextlib.suppress(OSError, media.MediaError):
        # for a member of a shard: when the shard was last changed
        when = np.datetime64(media.stamp(path).modified, "ns")
        found["changed"] = str(when.astype("datetime64[m]")).replace("T", " ")
    # a decoder can raise anything
    with contextlib.suppress(Exception):
        if file.kind == "video":
            found["seconds"] = media.seconds(path)
            return found
        with media.open_media(path) as stream, Image.open(stream) as picture:
            found["sides"] = " × ".join(map(str, picture.size))
            exif = picture.getexif()
        words = (exif.get(tag) or "" for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        camera = dict.fromkeys(" ".join(words).replace("\0", "").split())
        found["camera"] = " ".join(camera)[:MAX_TEXT]
        if date := taken(path):
            found["taken"] = date[:16].replace("T", " ")
        found["place"] = _place(exif.get_ifd(ExifTags.IFD.GPSInfo))
    return found


def _place(gps: dict) -> str:
    """Return latitude and longitude in degrees. Raises an error if they are unknown."""
    found = []
    for side, key in (
        (GPS.GPSLatitudeRef, GPS.GPSLatitude),
        (GPS.GPSLongitudeRef, GPS.GPSLongitude),
    ):
        degrees = sum(Fraction(part) / 60**power for power, part in enumerate(gps[key]))
        found.append(f"{float(-degrees if gps[side] in 'SW' else degrees):.5f}")
    return ", ".join(found)
