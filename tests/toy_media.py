"""Pictures and clips for the tests of search and explorer: files written in code."""

import io
import struct
import tarfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.toy_data import write_dataset

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


def halves(number: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A picture whose halves, left and right, have colours decided by `number`."""
    picture = Image.new("RGB", size, COLOURS[number % 8])
    picture.paste(COLOURS[number // 8 % 8], (size[0] // 2, 0, *size))
    return picture


def scene(number: int, size: tuple[int, int] = (400, 300), mode: str = "RGB") -> Image.Image:
    """A smooth picture with structure of every colour, as photographs have; one a number."""
    levels = np.random.default_rng(number).integers(0, 255, (9, 12, 3), np.uint8)
    return Image.fromarray(levels).convert(mode).resize(size, Image.Resampling.BICUBIC)


def grainy(picture: Image.Image, grain: np.ndarray) -> Image.Image:
    """A picture scaled up to the size of `grain` [H, W, 1], whole numbers that are added to it."""
    smooth = np.asarray(picture.resize(grain.shape[1::-1], Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def write_picture(path: Path, number: int, size: tuple[int, int] = (40, 32)) -> Path:
    """The picture `halves`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves(number, size).save(path)
    return path


def dated(path: Path, written: str) -> Path:
    """A picture, saved again with what a camera wrote as its date."""
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769)[0x9003] = written
    with Image.open(path) as picture:
        picture.load()
    picture.save(path, exif=exif)
    return path


def write_animation(path: Path, numbers: list[int], milliseconds: int | list[int] = 100) -> Path:
    """A gif, webp or png whose frames are `halves`, each shown for so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [halves(number) for number in numbers]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options
    )
    return path


def write_clip(
    path: Path, number: int, frames: int = 6, rate: int = 12, width: int = 64, kind: str = "yuv420p"
) -> Path:
    """A clip of plain frames whose colours change from frame to frame."""
    pictures = [Image.new("RGB", (width, 48), COLOURS[(number + i) % 8]) for i in range(frames)]
    for i, picture in enumerate(pictures):
        picture.paste(COLOURS[(number * 3 + i * i) % 8], (0, 0, width // 2, 24))
    return encode(path, pictures, rate, kind)


def encode(
    path: Path,
    pictures: list[Image.Image],
    rate: int,
    kind: str = "yuv420p",
    file_format: str | None = None,
    file_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """A file of H.264 video at `rate` frames a second; `options` are the encoder's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", file_format, options=file_options or {}) as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, kind
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def write_film(path: Path, sounds: list[str], codec: str = "libx264", seconds: int = 8) -> Path:
    """A film of four colours in a row, 10 frames a second, with a tone by each codec."""

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=10)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        tones = [out.add_stream(name, rate=48_000, layout="stereo") for name in sounds]
        for number in range(10 * seconds):
            colour = COLOURS[number * 4 // (10 * seconds)]
            frame = av.VideoFrame.from_image(Image.new("RGB", (160, 96), colour))
            out.mux(video.encode(frame))
        for tone in tones:
            for start in range(0, 48_000 * seconds, 1024):
                wave = np.sin(np.arange(start, start + 1024) / 17).astype(np.float32) / 9
                frame = av.AudioFrame.from_ndarray(np.stack([wave] * 2), "fltp", "stereo")
                frame.sample_rate, frame.pts = 48_000, start
                out.mux(tone.encode(frame))
        for stream in (video, *tones):
            out.mux(stream.encode())
    return path


def write_videos(folder: Path, counts: dict[str, int]) -> Path:
    """A dataset folder of clips with 1 to 6 frames and two captions each."""
    lines = []
    for split, count in counts.items():
        for i in range(count):
            name = f"media/{split}{i}.mp4"
            write_clip(folder / name, i, frames=1 + i % 6)
            captions = [f"a {COLOURS[i % 8]} boat", f"clip {i} of {split}"]
            lines.append(
                {"file_name": name, "id": f"{split}{i}", "captions": captions, "split": split}
            )
    return write_dataset(folder, lines, {"name": "toy-clips", "kind": "video"})


def write_shard(path: Path, contents: dict[str, bytes]) -> Path:
    """A tar file of members by name, as WebDataset has them, and a `link` to the first."""
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type = tarfile.SYMTYPE
        link.linkname = next(iter(contents))
        archive.addfile(link)
    return path


def write_raw(
    path: Path, values: np.ndarray, orientation: int = 1, size: tuple[int, int] | None = None
) -> Path:
    """A camera's raw file (DNG) of 12-bit values [H, W] behind a red, green, green and blue filter.

    Float values are those of a camera for grey. `size` is what the header claims.
    """
    height, width = size or values.shape
    pixels = values.astype("<u2").tobytes()
    grey = values.dtype.kind == "f"
    identity = struct.pack("<18i", *(number for i in range(9) for number in (i % 4 == 0, 1)))
    fields = {  # number of the tag: (its type, how many values, their bytes)
        256: (4, 1, struct.pack("<I", width)),
        257: (4, 1, struct.pack("<I", height)),
        258: (3, 1, struct.pack("<H", 16)),
        259: (3, 1, struct.pack("<H", 1)),  # not compressed
        262: (3, 1, struct.pack("<H", 34892 if grey else 32803)),
        271: (2, 5, b"Test\0"),
        273: (4, 1, b""),  # where the pixels are
        274: (3, 1, struct.pack("<H", orientation)),
        277: (3, 1, struct.pack("<H", 1)),
        278: (4, 1, struct.pack("<I", height)),
        279: (4, 1, struct.pack("<I", len(pixels))),
        33421: (3, 2, struct.pack("<2H", 2, 2)),
        33422: (1, 4, bytes([0, 1, 1, 2])),
        50706: (1, 4, bytes([1, 4, 0, 0])),  # the version of DNG
        50717: (4, 1, struct.pack("<I", 4095)),  # white
        50721: (10, 9, identity),
        50728: (5, 3, struct.pack("<6I", *[1] * 6)),
    }
    longer = 10 + 12 * len(fields) + 4  # where what does not fit into an entry begins
    start = longer + sum(len(content) for *_, content in fields.values() if len(content) > 4)
    fields[273] = (4, 1, struct.pack("<I", start))
    entries, rest = b"", b""
    for tag, (kind, count, content) in fields.items():
        value = (
            content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", longer + len(rest))
        )
        entries += struct.pack("<HHI", tag, kind, count) + value
        rest += content if len(content) > 4 else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(4) + rest + pixels
    )
    return path
