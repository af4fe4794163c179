"""Small pictures and clips that any browser shows, made from the decoded media and never the source file."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from PIL import Image

from ..media import read_image, seconds, stream_frames
from ..search import MediaFile

SIDE = 256  # pixels, at most
FPS, MOST = 12, 60  # frames a second, frames in all: up to 5 s play in their own time, longer clips faster


def data_uri(path: Path, file: MediaFile) -> str:
    """The preview as a `data:` address: a JPEG of a picture, an H.264 mp4 of a clip. Raises MediaError."""
    kind = "video/mp4" if file.kind == "video" else "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(_preview(path, file)).decode()}"


def still(path: Path, file: MediaFile) -> Image.Image:
    """One small picture: the picture itself, or the middle frame of a clip. Raises MediaError."""
    if file.kind == "image":
        return _small(read_image(path))
    frames = [_small(frame) for frame in stream_frames(path, 3, None, file.start, file.end, 2 * SIDE)]
    return frames[len(frames) // 2]


@lru_cache(maxsize=512)
def _preview(path: Path, file: MediaFile) -> bytes:
    """The bytes of the preview; kept, since `file` holds the digest of what was read."""
    if file.kind == "video":
        frames = [_small(frame) for frame in stream_frames(path, MOST, FPS, file.start, file.end, 2 * SIDE)]
        return _mp4(frames, _rate(path, file, len(frames)))
    buffer = io.BytesIO()
    _small(read_image(path)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SIDE, SIDE))
    return picture


def _rate(path: Path, file: MediaFile, count: int) -> Fraction:
    """Frames a second at which `count` of a clip are shown: `FPS`, or fewer where it has fewer."""
    whole = seconds(path)
    if whole is None or count == MOST:
        return Fraction(FPS)
    length = (whole if file.end is None else min(file.end, whole)) - (file.start or 0.0)
    return min(Fraction(FPS), Fraction(count / max(length, 0.01)).limit_denominator(1000))


def _mp4(frames: list[Image.Image], rate: Fraction) -> bytes:
    width, height = (max(2, side // 2 * 2) for side in frames[0].size)  # H.264 counts in pairs of pixels
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "26", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_image(picture.resize((width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
