"""The suffixes of pictures and clips that we read, and of those that we do not."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import PurePath

HEIC = (".heic", ".heif", ".hif")
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw")  # camera raw
# modules of the extra `formats`
NEEDS = dict.fromkeys(HEIC, "pillow_heif") | dict.fromkeys(RAW, "rawpy")
LACKING = tuple(suffix for suffix, module in NEEDS.items() if find_spec(module) is None)
ANIMATABLE = (".gif", ".webp", ".png", ".apng")
PICTURES: tuple[str, ...] = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".jp2",
    ".j2k",
    *ANIMATABLE,
)
PICTURES += tuple(suffix for suffix in NEEDS if suffix not in LACKING)
CLIPS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".webm",
    ".mkv",
    ".avi",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".3gp",
    ".3g2",
    ".asf",
    ".flv",
    ".m2ts",
    ".mts",
    ".ogv",
    ".qt",
    ".3gpp",
    ".divx",
)
NEVER = (".svg", ".svgz", ".jxl", ".psd", ".rmvb", ".vob", ".mxf", ".f4v")
# what to do
UNREAD = dict.fromkeys(LACKING, "not read, run `pip install 'cross-modal-adapter[formats]'`")
UNREAD |= dict.fromkeys(NEVER, "not read, save them as .jpg, .png or .mp4")


def not_read(names: Iterable[str], read: int) -> list[tuple[str, str]]:
    """Return (counts by kind, advice) for the files among `names` that we cannot read.

    `read` is the number of files that are read. A pair is ("2 .psd, 1 .svg", "not read, … (…: 40 /
    43)").
    """
    kinds = Counter(suffix for name in names if (suffix := PurePath(name).suffix.lower()) in UNREAD)
    of_all = f"pictures and clips of a kind that is read: {read:,} / {read + kinds.total():,}"
    counts = defaultdict(list)
    for suffix, count in kinds.most_common():
        counts[UNREAD[suffix]].append(f"{count:,} {suffix}")
    return [(", ".join(found), f"{advice} ({of_all})") for advice, found in counts.items()]
