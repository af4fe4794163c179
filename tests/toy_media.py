"""Pictures and clips for the tests of search and explorer: files written in code."""

import json
from pathlib import Path

import av
from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


def write_picture(path: Path, number: int, size: tuple[int, int] = (40, 32)) -> Path:
    """A picture whose left half has one colour and whose right half another, decided by `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size, COLOURS[number % 8])
    picture.paste(COLOURS[number // 8 % 8], (size[0] // 2, 0, *size))
    picture.save(path)
    return path


def write_clip(
    path: Path, number: int, frames: int = 6, rate: int = 12, width: int = 64, kind: str = "yuv420p"
) -> Path:
    """A clip of plain frames whose colours change from frame to frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, 48, kind
        for i in range(frames):
            picture = Image.new("RGB", (width, 48), COLOURS[(number + i) % 8])
            picture.paste(COLOURS[(number * 3 + i * i) % 8], (0, 0, width // 2, 24))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def write_animation(path: Path, numbers: list[int], milliseconds: int | list[int] = 100) -> Path:
    """A gif, webp or png whose frames are `write_picture`'s, each shown for so long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for number in numbers:
        frames.append(Image.new("RGB", (40, 32), COLOURS[number % 8]))
        frames[-1].paste(COLOURS[number // 8 % 8], (20, 0, 40, 32))
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, **options)
    return path


def write_videos(folder: Path, counts: dict[str, int]) -> Path:
    """A dataset folder of clips with 1 to 6 frames and two captions each."""
    lines = []
    for split, count in counts.items():
        for i in range(count):
            name = f"media/{split}{i}.mp4"
            write_clip(folder / name, i, frames=1 + i % 6)
            captions = [f"a {COLOURS[i % 8]} boat", f"clip {i} of {split}"]
            line = {"file_name": name, "id": f"{split}{i}", "captions": captions, "split": split}
            lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "dataset.json").write_text(json.dumps({"name": "toy-clips", "kind": "video"}))
    return folder
