"""Pictures, and clips of real length in little time: shots are encoded once, and a clip joins
several.

A shot pans over a ground for two seconds, encoded as one group of pictures that needs no other. A
clip is a series of shots, copied without encoding, so 10,000 clips take minutes instead of a day.
"""

from pathlib import Path

import av
import numpy as np
from PIL import Image

from cma.files import replacing
from tests.toy_media import grainy

GRAIN = 9  # of 255; without it a picture takes a tenth of the bytes of a photograph
RATE, SECONDS = 25, 2  # frames a second, and seconds of a shot
CONTAINERS = {"mov": "mov", "mkv": "matroska", "avi": "avi"}  # any other ending: mp4


def background(seed: int, size: tuple[int, int]) -> Image.Image:
    """A blurred, grainy ground of many colours, `size` (width, height) pixels."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    grain = generator.integers(-GRAIN, GRAIN + 1, (size[1], size[0], 1), dtype=np.int16)
    return grainy(coarse, grain)


def save_picture(job: tuple[Path, tuple[int, int], int]) -> None:
    """Save the picture of a job (file, size, seed), unless the file is there."""
    target, size, seed = job
    if not target.exists():
        with replacing(target) as temporary:
            kind = "TIFF" if target.suffix == ".tif" else "JPEG"
            background(seed, size).save(temporary, format=kind, quality=88)


def save_shot(job: tuple[Path, tuple[int, int], int]) -> None:
    """Encode the shot of a job (file, size, seed), unless the file is there: H.264, or MPEG-4 in an
    avi.
    """
    target, (width, height), seed = job
    if target.exists():
        return
    ground, count = background(seed, (width * 5 // 4, height)), RATE * SECONDS
    avi = target.suffix == ".avi"
    options = (
        {}
        if avi
        else {"crf": "18", "preset": "veryfast", "keyint": str(count), "sc_threshold": "0"}
    )
    with replacing(target) as temporary, av.open(str(temporary), "w", _container(target)) as out:
        stream = out.add_stream("mpeg4" if avi else "libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = count, 1
        if avi:
            stream.bit_rate = 8 * 40_000
        for number in range(count):
            left = (ground.width - width) * number // count
            frame = ground.crop((left, 0, left + width, height))
            out.mux(stream.encode(av.VideoFrame.from_image(frame)))
        out.mux(stream.encode())


def join_shots(job: tuple[Path, tuple[Path, ...]]) -> None:
    """Write the clip of a job (file, its shots), unless the file is there."""
    target, shots = job
    if target.exists():
        return
    same = {"fflags": "bitexact"}  # the same bytes each time, also in a mkv
    with (
        replacing(target) as temporary,
        av.open(str(temporary), "w", _container(target), same) as out,
    ):
        stream = None
        for number, shot in enumerate(shots):
            with av.open(str(shot)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.size:
                        offset = round(number * SECONDS / packet.time_base)
                        packet.pts = (packet.dts if packet.pts is None else packet.pts) + offset
                        packet.dts, packet.stream = packet.dts + offset, stream
                        out.mux(packet)


def _container(path: Path) -> str:
    return CONTAINERS.get(path.name.rpartition(".")[2], "mp4")
