"""Pictures and clips made in code for the tests of data and video."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

FPS = 10


def write_picture(path: Path, level: int = 128, size: tuple[int, int] = (48, 40)) -> Path:
    """A picture of noise around one grey `level`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(-20, 20, (size[1], size[0], 3))
    Image.fromarray((level + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def write_clip(path: Path, levels: list[int], faststart: bool = False) -> Path:
    """A clip of 64 x 64 px at 10 fps, each frame of one grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", "mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def level_of(picture: Image.Image) -> float:
    """The mean grey level of a picture."""
    return float(np.asarray(picture).mean())
