"""Clips of real length in little time: shots are encoded once, and each clip joins the packets of several.

A shot is a figure that moves over a ground, 2 to 5 seconds long, encoded as one group of pictures that needs
no other. A clip is a series of shots, copied without encoding, so 10,000 clips take minutes instead of a day.
"""

import io
import math
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from cma.files import replacing
from data_prep.rehearsal.figures import background, drawing

LENGTHS = (2, 3, 4, 5)  # seconds of a shot
RATES = (25, 30)  # frames a second
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".m4v": "mp4", ".": "mp4", ".mkv": "matroska", ".avi": "avi"}


class Shot(NamedTuple):
    """One shot: its file, the figure and its name, frames a second and seconds."""

    path: Path
    figure: Path
    name: str
    rate: int
    seconds: int
    size: tuple[int, int]


class Encoded(NamedTuple):
    """A shot in memory: its file, and (data, dts, pts, is key frame) of its packets, in `time_base`."""

    file: bytes
    packets: list[tuple[bytes, int, int, bool]]
    time_base: Fraction


def save_shot(job: tuple[Shot, int]) -> None:
    """Encode the shot of a job (shot, seed), unless its file is there: H.264, or MPEG-4 in an avi."""
    import av

    shot, seed = job
    if shot.path.exists():
        return
    (width, height), count, random = shot.size, shot.rate * shot.seconds, Random(seed)
    ground = background(seed, (width * 5 // 4, height))  # wider than the frame: the camera pans
    figure = drawing(shot.figure, min(width, height) // 2)
    turn, phase = random.uniform(0.5, 1.5), random.uniform(0, 2 * math.pi)
    avi = shot.path.suffix == ".avi"
    options = {} if avi else {"crf": "18", "preset": "veryfast", "keyint": str(count), "sc_threshold": "0"}
    with replacing(shot.path) as temporary, av.open(str(temporary), "w", format=_container(shot.path)) as out:
        stream = out.add_stream("mpeg4" if avi else "libx264", rate=shot.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = count, 1
        if avi:
            stream.bit_rate = 8 * 40_000
        for number in range(count):
            share = number / count
            left = round((ground.width - width) * share)
            frame = ground.crop((left, 0, left + width, height))
            angle = phase + 2 * math.pi * turn * share
            x = (width - figure.width) * (0.5 + 0.5 * math.cos(angle))
            y = (height - figure.height) * (0.5 + 0.5 * math.sin(angle))
            frame.paste(figure, (round(x), round(y)), figure)
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
        out.mux(stream.encode())


@lru_cache(maxsize=512)
def load_shot(path: Path) -> Encoded:
    """The packets of a shot."""
    import av

    data = path.read_bytes()
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        found = [packet for packet in container.demux(stream) if packet.size]
        packets = [
            (bytes(packet), packet.dts, packet.dts if packet.pts is None else packet.pts, packet.is_keyframe)
            for packet in found
        ]
        return Encoded(data, packets, stream.time_base)


def join_shots(job: tuple[Path, tuple[Shot, ...]]) -> None:
    """Write the clip of a job (file, its shots, all of one rate), unless the file is there."""
    import av

    target, shots = job
    if target.exists():
        return
    first = load_shot(shots[0].path)
    with (
        replacing(target) as temporary,
        av.open(io.BytesIO(first.file)) as template,
        av.open(str(temporary), "w", format=_container(target)) as out,
    ):
        stream, begun = out.add_stream_from_template(template.streams.video[0]), Fraction(0)
        for shot in shots:
            encoded = load_shot(shot.path)
            offset = round(begun / encoded.time_base)
            for data, dts, pts, is_key in encoded.packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, encoded.time_base, is_key
                packet.dts, packet.pts = dts + offset, pts + offset
                out.mux(packet)
            begun += shot.seconds


def choose(random: Random, shots: list[Shot], seconds: int) -> tuple[Shot, ...]:
    """Shots of one rate that last `seconds` together (2 or more), drawn by `random`."""
    rate, chosen, left = random.choice(RATES), [], seconds
    while left:
        fitting = [shot for shot in shots if shot.rate == rate and left - shot.seconds not in (-3, -2, -1, 1)]
        fitting = [shot for shot in fitting if shot.seconds <= left]
        chosen.append(random.choice(fitting))
        left -= chosen[-1].seconds
    return tuple(chosen)


def _container(path: Path) -> str:
    end = "." if path.name.endswith(".") else path.suffix.lower()
    return CONTAINERS[end]
