"""Copies of one picture, which a list of results shows as one: resized, saved again, or cut a little."""

import numpy as np
from PIL import Image

CLOSE = 4  # of 64 bits: what two pictures may differ by to be copies
PLAIN = 2  # grey levels: a picture of no more has nothing to compare
_WAVES = np.cos(np.pi / 64 * np.arange(8)[:, None] * (2 * np.arange(32) + 1))  # [8, 32]


def picture_hash(image: Image.Image) -> int:
    """64 bits of a picture, which its copies share but for a few; 0 if it is plain, a copy of nothing.

    This is pHash, ImageHash's `phash` but for 2 bits at most: which of the lowest 8 × 8 frequencies of its
    grey values, shrunk to 32 × 32, are above their median. With `reducing_gap` a large picture is shrunk
    about 20 times as fast.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    grey = np.asarray(small, np.float64)
    if np.ptp(grey) <= PLAIN:
        return 0
    low = (_WAVES @ grey @ _WAVES.T).round(3)  # so that what is 0 but for rounding is the same on any machine
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def fold(hashes: np.ndarray) -> list[list[int]]:
    """The rows of hashes [R], uint64, best first, as groups: each row that is no copy, then its copies.

    A row joins the first one that is at most `CLOSE` bits away and is no copy itself, so that chains of small
    differences do not grow.
    """
    signs = np.unpackbits(hashes[:, None].view(np.uint8), axis=1).astype(np.float32) * 2 - 1  # [R, 64]
    signs[hashes == 0] = 0  # as far from all others as half of the bits
    free, groups = np.ones(len(hashes), bool), []
    for row in range(len(hashes)):
        if free[row]:
            near = free & (signs @ signs[row] >= 64 - 2 * CLOSE)
            near[row] = True
            free &= ~near
            groups.append(np.flatnonzero(near).tolist())
    return groups
