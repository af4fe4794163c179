"""Which files are pictures and clips, by their suffix, and which of them are of a kind that is not read."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

ANIMATABLE = (".gif", ".webp", ".png", ".apng")
PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", *ANIMATABLE)
CLIPS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".wmv", ".3gp", ".3g2", ".asf",
         ".flv", ".m2ts", ".mts", ".ogv")  # fmt: skip
UNREAD = (".heic", ".heif", ".hif", ".svg", ".svgz", ".jxl", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw",
          ".orf", ".raf", ".rw2", ".pef", ".srw", ".rmvb", ".vob", ".mxf", ".f4v")  # fmt: skip


def not_read(names: Iterable[str], read: int) -> list[tuple[str, str]]:
    """Which kinds of `UNREAD` are among the files `names`, and why they are left out: one pair or none.

    `read` is how many files beside them are read. A pair is ("2 .heic, 1 .svg", "not read, …: 40 / 43").
    """
    kinds = Counter(suffix for name in names if (suffix := PurePath(name).suffix.lower()) in UNREAD)
    counts = ", ".join(f"{count:,} {suffix}" for suffix, count in kinds.most_common())
    of_all = f"pictures and clips of a kind that is read: {read:,} / {read + kinds.total():,}"
    return [(counts, f"not read, save them as .jpg, .png or .mp4 ({of_all})")] if kinds else []
