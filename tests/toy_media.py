"""Pictures and clips for the tests of search and explorer: files written in code."""

from pathlib import Path

import av
from PIL import Image

from tests.toy_data import write_dataset

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


def halves(number: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A picture whose left half has one colour and whose right half another, decided by `number`."""
    picture = Image.new("RGB", size, COLOURS[number % 8])
    picture.paste(COLOURS[number // 8 % 8], (size[0] // 2, 0, *size))
    return picture


def write_picture(path: Path, number: int, size: tuple[int, int] = (40, 32)) -> Path:
    """The picture `halves`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    halves(number, size).save(path)
    return path


def write_animation(path: Path, numbers: list[int], milliseconds: int | list[int] = 100) -> Path:
    """A gif, webp or png whose frames are `halves`, each shown for so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [halves(number) for number in numbers]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options)
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


def write_videos(folder: Path, counts: dict[str, int]) -> Path:
    """A dataset folder of clips with 1 to 6 frames and two captions each."""
    lines = []
    for split, count in counts.items():
        for i in range(count):
            name = f"media/{split}{i}.mp4"
            write_clip(folder / name, i, frames=1 + i % 6)
            captions = [f"a {COLOURS[i % 8]} boat", f"clip {i} of {split}"]
            lines.append({"file_name": name, "id": f"{split}{i}", "captions": captions, "split": split})
    return write_dataset(folder, lines, {"name": "toy-clips", "kind": "video"})
