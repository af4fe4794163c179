"""Whether a moment of a long clip is found: test clips of mini-msrvtt joined to films of ten
minutes.

Each caption is asked of an index of all films. The answer is the time of the frame that weighs most
in the best result, and is right at most `NEAR` seconds before or after the clip of the caption. The
model is `mini` without an adapter.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cma import RetrievalModel, data, media
from explorer.index import IndexConfig, MediaIndex
from tests import ROOT
from tests.bench.measure import report
from tests.toy_media import encode

FILMS, SECONDS = 4, 600  # the test clips fill not quite five
RATE = 10  # frames a second, as the clips have
NEAR = 5  # seconds
CONFIGS = {
    "moments of 24 s, half a frame a second": IndexConfig(),
    "twelve frames a film": IndexConfig(window=1e6),
    "moments of 24 s, two frames a second": IndexConfig(rate=2.0, max_frames=48),
}


@dataclass(frozen=True)
class Asked:
    """A caption, and the part of a film that its clip became (seconds)."""

    caption: str
    film: str
    start: float
    end: float


def figures(quick: bool, films: int | None = None) -> dict:
    """R@1 (%) within `NEAR` seconds, and the seconds of indexing, for each of `CONFIGS`."""
    films = films or (2 if quick else FILMS)
    model = RetrievalModel.from_pretrained("mini")
    with tempfile.TemporaryDirectory() as name:
        asked = write_films(Path(name), films)
        found = {"films": films, "minutes of each": SECONDS / 60, "captions": len(asked)}
        for label, config in CONFIGS.items():
            start = time.perf_counter()
            index = MediaIndex.build(model, name, config)
            indexing = time.perf_counter() - start
            right = sum(is_right(index, one) for one in asked)
            found[label] = {
                "R@1": round(100 * right / len(asked), 1),
                "items": len(index),
                "indexing, seconds": round(indexing, 1),
            }
            report(label, found[label])
    return found


def write_films(folder: Path, films: int) -> list[Asked]:
    """Join test clips, in their order, to films; return what is asked of them."""
    dataset = data.load(ROOT / "data" / "mini-msrvtt", "test")
    items = iter(dataset.items)
    asked = []
    for number in range(films):
        name = f"film{number}.mp4"
        frames = []
        while len(frames) < SECONDS * RATE:
            item = next(items)
            clip = media.read_frames(dataset.path(item), 10**6, None)
            begin = len(frames) / RATE
            end = begin + len(clip) / RATE
            asked += [Asked(caption, name, begin, end) for caption in item.captions]
            frames += clip
        encode(folder / name, frames, RATE)
    return asked


def is_right(index: MediaIndex, asked: Asked) -> bool:
    """Whether the time that answers a caption is in its clip, or at most `NEAR` seconds away."""
    best = int(index.ranking(asked.caption)[0][0])
    file = index.files[best]
    weights = index.frame_weights(asked.caption, best)
    frame = int(weights.argmax())
    if file.is_moment:
        at = file.start + frame / index.config.rate
    else:  # spread over all of it, from first to last
        at = file.seconds * frame / max(1, len(weights) - 1)
    near = asked.start - NEAR <= at <= asked.end + NEAR
    return file.file_name == asked.film and near
