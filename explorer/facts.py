"""What is known about a file besides its content: when it was made, its size, camera and place."""

import contextlib
import threading
from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from cma import media
from cma.search import MediaFile, MediaIndex

MOST = 100  # characters of a text that a camera wrote
GPS = ExifTags.GPS


class Dates:
    """When the items of an index were made, `times` [V], as UTC.

    At first it is what the index knows, when files were last changed or moved. A thread then reads
    what the cameras wrote, or else when a file (for a member of a shard: the shard) was last
    changed, and fulfils `known`.
    """

    def __init__(self, index: MediaIndex) -> None:
        self.index = index
        # of the moments of a clip the first one stands for the clip
        names = [(file.media, file.id) for file in index.files]
        self.firsts = sorted({name: item for item, name in reversed([*enumerate(names)])}.values())
        self.times = np.array([file.modified for file in index.files]).astype("datetime64[ns]")
        self.known: Future[None] = Future()
        threading.Thread(target=self._read, name="cma-dates", daemon=True).start()

    def _read(self) -> None:
        for item, file in enumerate(self.index.files):
            path = self.index.path(file)
            # e.g. a file that is gone: its old date stays
            with contextlib.suppress(OSError, media.MediaError):
                found = file.kind == "image" and taken(path)
                self.times[item] = found or changed(path)
        self.known.set_result(None)

    def years(self) -> np.ndarray:
        """The year of each item [V]."""
        return self.times.astype("datetime64[Y]").astype(int) + 1970

    def newest(self, items: list[int]) -> list[int]:
        """Return items in the order of their dates, the newest first; ties in the order given."""
        order = (-self.times[items].astype(int)).argsort(kind="stable")
        return [items[place] for place in order]


def taken(path: Path) -> np.datetime64 | None:
    """Return when a picture was taken, as its camera wrote it; None if it did not."""
    # a decoder can raise anything
    with (
        contextlib.suppress(Exception),
        media.open_media(path) as stream,
        Image.open(stream) as picture,
    ):
        exif = picture.getexif()
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        written = inner.get(ExifTags.Base.DateTimeOriginal) or exif[ExifTags.Base.DateTime]
        day, hour = written.split()
        return np.datetime64(f"{day.replace(':', '-')}T{hour}", "ns")
    return None


def changed(path: Path) -> np.datetime64:
    """Return when a file was last changed; of a member of a shard, the shard. Raises OSError, or
    MediaError if it is no member.
    """
    return np.datetime64(media.stamp(path).modified, "ns")


def about(path: Path, file: MediaFile) -> dict[str, str | float]:
    """Return what is known about a file, by name: date, bytes, sides, camera, place, seconds.

    What cannot be read is left out. A place is degrees of latitude and longitude.
    """
    found = {"bytes": file.size}
    with contextlib.suppress(OSError, media.MediaError):
        found["changed"] = _said(changed(path))
    # a decoder can raise anything
    with contextlib.suppress(Exception):
        if file.kind == "video":
            found["seconds"] = media.seconds(path)
            return found
        with media.open_media(path) as stream, Image.open(stream) as picture:
            found["sides"] = " × ".join(map(str, picture.size))
            exif = picture.getexif()
        words = (exif.get(tag) or "" for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        found["camera"] = " ".join(dict.fromkeys(" ".join(words).replace("\0", "").split()))[:MOST]
        if (when := taken(path)) is not None:
            found["taken"] = _said(when)
        found["place"] = _place(exif.get_ifd(ExifTags.IFD.GPSInfo))
    return found


def _said(when: np.datetime64) -> str:
    return str(when.astype("datetime64[m]")).replace("T", " ")


def _place(gps: dict) -> str:
    """Return latitude and longitude in degrees. Raises an error where they are not known."""
    found = []
    for side, key in (
        (GPS.GPSLatitudeRef, GPS.GPSLatitude),
        (GPS.GPSLongitudeRef, GPS.GPSLongitude),
    ):
        degrees = sum(Fraction(part) / 60**power for power, part in enumerate(gps[key]))
        found.append(f"{float(-degrees if gps[side] in 'SW' else degrees):.5f}")
    return ", ".join(found)
