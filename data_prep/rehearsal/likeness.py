"""What each benchmark's files look like: their number, names, sizes and lengths.

Numbers of items and captions are the published ones, from the readers. Pictures of RSICD and RSITMD and clips
of MSR-VTT have their real size; where sizes vary within a benchmark, one that is common there stands for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from data_prep.benchmarks import activitynet, coco, didemo, flickr30k, msvd, remote_sensing, vatex
from data_prep.dataset import Counts
from data_prep.readers import BadInput

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
RESTVAL = "restval"  # COCO's: images of val2014 that are used for training
DIDEMO_ENDS = (".mov", ".mp4", ".m4v", ".wmv", ".")  # a .wmv is kept transcoded, as .mp4


@dataclass(frozen=True)
class Likeness:
    """How to make one benchmark: `splits` as its annotation files call them, with items and captions.

    `place(random, number, split, seconds)` gives an item's id and the path of its file below the source.
    `seconds` draws a clip's length. `per_item` is how many captions are written for an item where that is not
    what counts: all descriptions of a paragraph, twenty of an MSR-VTT test clip. `spread` is by how many
    captions items may differ from the mean.
    """

    kind: Literal["image", "video"]
    size: tuple[int, int]  # width and height in pixels
    splits: Mapping[str, Counts]
    place: Callable[[Random, int, str, int], tuple[str, str]]
    seconds: Callable[[Random], int] | None = None
    per_item: Callable[[Random], int] | None = None
    spread: int = 0
    shot_suffix: str = ".mp4"

    @property
    def total(self) -> int:
        """The published number of items."""
        return sum(counts.items for counts in self.splits.values())


def scaled(splits: Mapping[str, Counts], items: int) -> dict[str, Counts]:
    """The splits at `items` items in all, in proportion, at least one item each; captions in proportion.

    At the published number the counts are the published ones. Raises `BadInput` for a number that cannot be
    divided so, or that is larger.
    """
    total = sum(counts.items for counts in splits.values())
    if not 2 * len(splits) <= items <= total:
        raise BadInput(f"--items {items:,}: expected {2 * len(splits)} to {total:,}, the published number")
    exact = {split: counts.items * items / total for split, counts in splits.items()}
    shares = {split: max(1, int(share)) for split, share in exact.items()}
    left = items - sum(shares.values())
    for split in sorted(exact, key=lambda split: exact[split] - shares[split], reverse=True)[: max(0, left)]:
        shares[split] += 1
    largest = max(shares, key=shares.get)
    shares[largest] += items - sum(shares.values())  # where a small split was rounded up to 1
    return {
        split: Counts(shares[split], counts.captions * shares[split] // counts.items)
        for split, counts in splits.items()
    }


def expected(splits: Mapping[str, Counts]) -> dict[str, Counts]:
    """What the benchmark's reader should find: COCO's restval images are training images."""
    found = {split: counts for split, counts in splits.items() if split != RESTVAL}
    if RESTVAL in splits:
        pairs = zip(splits["train"], splits[RESTVAL], strict=True)
        found["train"] = Counts(*(one + other for one, other in pairs))
    return found


def captions_of(random: Random, counts: Counts, spread: int) -> list[int]:
    """The number of captions of each item, `counts.captions` in all; two by two around the mean."""
    mean, rest = divmod(counts.captions, counts.items)
    each = [mean + (number < rest) for number in range(counts.items)]
    for number in range(0, counts.items - 1, 2):
        more = random.randint(0, spread)
        each[number], each[number + 1] = each[number] + more, each[number + 1] - more
    return each


def youtube(random: Random) -> str:
    """An id as YouTube's, of eleven characters."""
    return "".join(random.choices(LETTERS, k=11))


def _coco(random: Random, number: int, split: str, seconds: int) -> tuple[str, str]:
    folder = "train2014" if split == "train" else "val2014"
    id = f"COCO_{folder}_{number + 1:012}"
    return id, f"{folder}/{id}.jpg"


def _msvd(random: Random, number: int, split: str, seconds: int) -> tuple[str, str]:
    start = random.randint(0, 200)
    id = f"{youtube(random)}_{start}_{start + seconds}"
    return id, f"YouTubeClips/{id}.avi"


def _vatex(random: Random, number: int, split: str, seconds: int) -> tuple[str, str]:
    start = random.randint(0, 300)
    id = f"{youtube(random)}_{start:06}_{start + 10:06}"
    return id, f"clips/{id}.mp4"


def _didemo(random: Random, number: int, split: str, seconds: int) -> tuple[str, str]:
    user, secret = random.randrange(10**7, 10**8), random.randrange(16**10)
    stem = f"{user}@N0{random.randint(0, 8)}_{10**9 + number}_{secret:010x}"
    end = random.choices(DIDEMO_ENDS, weights=(40, 40, 8, 10, 2))[0]
    return stem + end, f"videos/{stem}.mp4" if end == ".wmv" else f"videos/{stem}{end}"


def _activitynet(random: Random, number: int, split: str, seconds: int) -> tuple[str, str]:
    id = f"v_{youtube(random)}"
    return id, f"videos/{id}{random.choices(('.mp4', '.mkv'), weights=(9, 1))[0]}"


def _lengths(low: float, usual: float, high: float, spread: float) -> Callable[[Random], int]:
    """Lengths in whole seconds around `usual`, with a long tail, from `low` to `high`."""
    return lambda random: round(min(high, max(low, usual * random.lognormvariate(0, spread))))


LIKENESSES = {
    "flickr30k": Likeness(
        "image",
        (500, 375),
        flickr30k.PUBLISHED,
        lambda random, number, split, seconds: (
            f"{10**9 + number}",
            f"flickr30k-images/{10**9 + number}.jpg",
        ),
    ),
    "coco": Likeness(
        "image",
        (640, 480),
        {
            "train": coco.TRAIN["no-restval"],
            RESTVAL: Counts(
                *(a - b for a, b in zip(coco.TRAIN["restval"], coco.TRAIN["no-restval"], strict=True))
            ),
            **coco.HELD,
        },
        _coco,
    ),
    "rsicd": Likeness(
        "image",
        (224, 224),
        remote_sensing.RSICD_DIVISIONS["official"],
        lambda random, number, split, seconds: (f"{number + 1:05}", f"RSICD_images/{number + 1:05}.jpg"),
    ),
    "rsitmd": Likeness(
        "image",
        (256, 256),
        remote_sensing.RSITMD_DIVISIONS["official"],
        lambda random, number, split, seconds: (f"scene_{number}", f"images/scene_{number}.tif"),
    ),
    "msrvtt": Likeness(
        "video",
        (320, 240),
        {"train": Counts(9_000, 180_000), "test": Counts(1_000, 1_000)},
        lambda random, number, split, seconds: (f"video{number}", f"videos/all/video{number}.mp4"),
        _lengths(10, 13, 30, 0.35),
        lambda random: 20,
    ),
    "msvd": Likeness(
        "video", (480, 360), msvd.PUBLISHED, _msvd, _lengths(4, 9, 60, 0.5), spread=22, shot_suffix=".avi"
    ),
    "vatex": Likeness("video", (640, 360), vatex.PUBLISHED, _vatex, lambda random: 10),
    "didemo": Likeness(
        "video",
        (480, 360),
        didemo.PUBLISHED,
        _didemo,
        lambda random: random.randint(25, 30),
        lambda random: random.choice((3, 4, 4, 4, 4)),
    ),
    "activitynet": Likeness(
        "video",
        (640, 360),
        activitynet.PUBLISHED,
        _activitynet,
        _lengths(5, 100, 755, 0.55),
        lambda random: random.choice((3, 3, 3, 4, 5)),
    ),
}
