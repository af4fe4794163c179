"""What each benchmark's files look like: their number, names, sizes and lengths.

Numbers of items and captions are the published ones, from the readers. Pictures of RSICD and RSITMD
and clips of MSR-VTT have their real size; where sizes vary within a benchmark, one that is common
there stands for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from data_prep.benchmarks import activitynet, coco, didemo, flickr30k, msrvtt, msvd, vatex
from data_prep.benchmarks.remote_sensing import RSICD_DIVISIONS, RSITMD_DIVISIONS
from data_prep.dataset import Counts

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CLIPS = msrvtt.TRAIN_LISTS["9k"][1]
MSRVTT = {"train": Counts(CLIPS, 20 * CLIPS), "test": msrvtt.PUBLISHED_TEST}
COCO = {"train": coco.TRAIN[coco.DEFAULT_SPLIT]} | coco.HELD


@dataclass(frozen=True)
class Likeness:
    """How to make one benchmark.

    `id` and `file` (below the source) are templates. `lengths` are the least, the usual and the
    most seconds of a clip, all even, and how far they spread. An item has the mean number of
    captions, or one more; if they become one paragraph, as many `sentences`.
    """

    size: tuple[int, int]  # width and height in pixels
    counts: Mapping[str, Counts]
    id: str
    file: str
    lengths: tuple[float, float, float, float] | None = None
    sentences: int = 0

    @property
    def total(self) -> int:
        """The published number of items."""
        return sum(counts.items for counts in self.counts.values())

    def scaled(self, items: int) -> dict[str, Counts]:
        """The counts at `items` items in all: in proportion, at least one item a split.

        Raises ValueError for fewer than two items a split, and for more than the published number.
        """
        least = 2 * len(self.counts)
        if not least <= items <= self.total:
            raise ValueError(
                f"--items {items:,}: expected {least} to {self.total:,}, the published number"
            )
        shares = {
            split: max(1, one.items * items // self.total) for split, one in self.counts.items()
        }
        shares["train"] += items - sum(shares.values())
        return {
            split: Counts(shares[split], one.captions * shares[split] // one.items)
            for split, one in self.counts.items()
        }

    def seconds(self, random: Random) -> int:
        """The length of a clip in seconds, an even number; 0 of a picture."""
        low, usual, high, spread = self.lengths or (0, 0, 0, 0)
        return 2 * round(min(high, max(low, usual * random.lognormvariate(0, spread))) / 2)

    def place(self, random: Random, number: int, seconds: int) -> tuple[str, str]:
        """The id of an item and the path of its file below the source."""
        start = random.randint(0, 200)
        words = {"n": number + 1, "start": start, "end": start + seconds}
        words |= {"large": 10**9 + number, "youtube": "".join(random.choices(LETTERS, k=11))}
        id = self.id.format(**words)
        return id, self.file.format(id=id, **words)


LIKENESSES = {
    "flickr30k": Likeness((500, 375), flickr30k.PUBLISHED, "{large}", "flickr30k-images/{id}.jpg"),
    "coco": Likeness((640, 480), COCO, "train2014/COCO_train2014_{n:012}", "{id}.jpg"),
    "rsicd": Likeness((224, 224), RSICD_DIVISIONS["official"], "{n:05}", "RSICD_images/{id}.jpg"),
    "rsitmd": Likeness((256, 256), RSITMD_DIVISIONS["official"], "scene_{n}", "images/{id}.tif"),
    "msrvtt": Likeness(
        (320, 240), MSRVTT, "video{n}", "videos/all/{id}.mp4", lengths=(10, 12, 30, 0.35)
    ),
    "msvd": Likeness(
        (480, 360),
        msvd.PUBLISHED,
        "{youtube}_{start}_{end}",
        "clips/{id}.avi",
        lengths=(4, 8, 60, 0.5),
    ),
    "vatex": Likeness(
        (640, 360),
        vatex.PUBLISHED,
        "{youtube}_{start:06}_{end:06}",
        "{id}.mp4",
        lengths=(10, 10, 10, 0),
    ),
    "didemo": Likeness(
        (480, 360),
        didemo.PUBLISHED,
        "{n}@N03_{large}_ab.mov",
        "{id}",
        lengths=(24, 28, 30, 0.1),
        sentences=4,
    ),
    "activitynet": Likeness(
        (640, 360),
        activitynet.PUBLISHED,
        "{youtube}",
        "v_{id}.mkv",
        lengths=(4, 100, 754, 0.55),
        sentences=4,
    ),
}
