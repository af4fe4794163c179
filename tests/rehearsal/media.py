"""Pictures, and clips of real length in little time: shots are encoded once, and a clip joins several.

A shot is a disc that moves over a ground, 2 to 5 seconds long, encoded as one group of pictures that needs
no other. A clip is a series of shots, copied without encoding, so 10,000 clips take minutes instead of a day.
"""

import math
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

import av
import numpy as np
from PIL import Image, ImageDraw

from cma.files import replacing

GRAIN = 9  # of 255; without it a picture takes a tenth of the bytes of a photograph
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
SHOTS, RATE, LENGTHS = 240, 25, (2, 3, 4, 5)  # shots at most; frames a second and seconds of one
CONTAINERS = {"mov": "mov", "mkv": "matroska", "avi": "avi"}  # any other ending: mp4


class Shot(NamedTuple):
    """One shot: its file, the colour of its disc, seconds, width and height."""

    path: Path
    colour: str
    seconds: int
    size: tuple[int, int]


class Made(NamedTuple):
    """One item: a picture of discs of these `colours`, or a clip that joins `shots`."""

    id: str
    path: Path
    split: str
    captions: tuple[str, ...]
    colours: tuple[str, ...]
    shots: tuple[Shot, ...]
    size: tuple[int, int]


def background(seed: int, size: tuple[int, int]) -> Image.Image:
    """A blurred, grainy ground of many colours, `size` (width, height) pixels."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.integers(-GRAIN, GRAIN + 1, (size[1], size[0], 1), dtype=np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def save_picture(item: Made) -> None:
    """Save its discs side by side."""
    picture, (width, height) = background(crc32(item.id.encode()), item.size), item.size
    for number, colour in enumerate(item.colours):
        place = (number + 0.5) * width / len(item.colours), height / 2
        ImageDraw.Draw(picture).circle(place, height / 8, fill=colour)
    with replacing(item.path) as temporary:
        picture.save(temporary, format="TIFF" if item.path.suffix == ".tif" else "JPEG", quality=88)


def shots_for(items: int, size: tuple[int, int], folder: Path, suffix: str) -> list[Shot]:
    """Shots for `items` clips, of every length."""
    return [
        Shot(folder / f"{number:03}{suffix}", COLOURS[number // 4 % 8], LENGTHS[number % 4], size)
        for number in range(max(8, min(SHOTS, items // 2)))
    ]


def choose(random: Random, shots: list[Shot], seconds: int) -> tuple[Shot, ...]:
    """Shots that last `seconds` together (2 or more), drawn by `random`."""
    chosen, left = [], seconds
    while left:  # what is left after a shot is nothing, or enough for another
        lengths = [length for length in LENGTHS if left == length or left >= length + LENGTHS[0]]
        chosen.append(random.choice([shot for shot in shots if shot.seconds in lengths]))
        left -= chosen[-1].seconds
    return tuple(chosen)


def save_shot(shot: Shot) -> None:
    """Encode a shot: H.264, or MPEG-4 in an avi."""
    (width, height), count = shot.size, RATE * shot.seconds
    wide = width * 5 // 4, height  # the camera pans
    ground = background(int(shot.path.stem), wide)
    avi = shot.path.suffix == ".avi"
    options = {} if avi else {"crf": "18", "preset": "veryfast", "keyint": str(count), "sc_threshold": "0"}
    with replacing(shot.path) as temporary, av.open(str(temporary), "w", _container(shot.path)) as out:
        stream = out.add_stream("mpeg4" if avi else "libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = count, 1
        if avi:
            stream.bit_rate = 8 * 40_000
        for number in range(count):
            share = number / count
            left, angle = round((ground.width - width) * share), 2 * math.pi * share
            frame = ground.crop((left, 0, left + width, height))
            place = width * (0.5 + 0.3 * math.cos(angle)), height * (0.5 + 0.3 * math.sin(angle))
            ImageDraw.Draw(frame).circle(place, height / 5, fill=shot.colour)
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
        out.mux(stream.encode())


def join_shots(item: Made) -> None:
    """Write a clip."""
    with replacing(item.path) as temporary, av.open(str(temporary), "w", _container(item.path)) as out:
        stream, begun = None, 0
        for shot in item.shots:
            with av.open(str(shot.path)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.size:
                        offset = round(begun / packet.time_base)
                        packet.pts = (packet.dts if packet.pts is None else packet.pts) + offset
                        packet.dts, packet.stream = packet.dts + offset, stream
                        out.mux(packet)
            begun += shot.seconds


def _container(path: Path) -> str:
    return CONTAINERS.get(path.name.rpartition(".")[2], "mp4")
