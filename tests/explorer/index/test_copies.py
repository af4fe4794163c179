"""Copies of a picture are folded into one result, and pictures that only look alike are not."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from explorer.index import fold, picture_hash
from explorer.index.copies import CLOSE
from tests.toy_media import scene


def resized(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize(
        [round(side * factor) for side in picture.size], Image.Resampling.BILINEAR
    )


def saved(picture: Image.Image, quality: int, kind: str = "JPEG") -> Image.Image:
    content = io.BytesIO()
    picture.save(content, kind, quality=quality)
    return Image.open(content).convert("RGB")


def cut(picture: Image.Image, part: float) -> Image.Image:
    """Without the edges: `part` of its width and of its height."""
    x, y = (side * part / 2 for side in picture.size)
    return picture.crop((round(x), round(y), picture.width - round(x), picture.height - round(y)))


COPIES = {  # how a copy is made, and which share of the pictures of a benchmark must be found again
    "half its size": (lambda picture: resized(picture, 0.5), 0.99),
    "a quarter": (lambda picture: resized(picture, 0.25), 0.99),
    "twice": (lambda picture: resized(picture, 2), 0.99),
    "quality 60": (lambda picture: saved(picture, 60), 0.99),
    "quality 20": (lambda picture: saved(picture, 20), 0.97),
    "as WebP, quality 40": (lambda picture: saved(picture, 40, "WEBP"), 0.97),
    "half and quality 40": (lambda picture: saved(resized(picture, 0.5), 40), 0.97),
    "cut by 2 %": (lambda picture: cut(picture, 0.02), 0.90),
    "cut by 5 %": (lambda picture: cut(picture, 0.05), 0.30),
}


def differing(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_close_and_another_picture_is_not(name):
    changed, share = COPIES[name]
    hashes = [picture_hash(scene(number)) for number in range(40)]
    copies = [picture_hash(changed(scene(number))) for number in range(40)]
    folded = [
        fold(np.array(pair, np.uint64)) == [[0, 1]] for pair in zip(hashes, copies, strict=True)
    ]
    assert sum(folded) >= share * len(folded)
    assert len(fold(np.array(hashes, np.uint64))) == 40


def test_plain_pictures_are_copies_of_nothing():
    plain = [
        Image.new("RGB", (64, 48), colour) for colour in ("white", "white", "black", "#808080")
    ]
    assert [picture_hash(one) for one in plain] == [0, 0, 0, 0]
    assert fold(np.array([7, 0, 0, 7], np.uint64)) == [[0, 3], [1], [2]]


def test_the_hash_is_that_of_imagehash_but_for_two_bits():
    imagehash = pytest.importorskip("imagehash")
    for number in range(60):
        for size in ((192, 192), (500, 375), (1500, 1125)) if number < 10 else ((320, 240),):
            picture = scene(number, size)
            assert differing(picture_hash(picture), int(str(imagehash.phash(picture)), 16)) <= 2


def naively(hashes: list[int]) -> list[list[int]]:
    groups = []
    for row, own in enumerate(hashes):
        for group in groups:
            if own and hashes[group[0]] and differing(own, hashes[group[0]]) <= CLOSE:
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


@given(st.data())
def test_folding_is_that_of_the_naive_loop(data):
    centres = st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF])
    flips = st.lists(st.integers(0, 63), max_size=CLOSE + 2)
    hashes = [
        centre ^ sum(2**bit for bit in set(bits)) if centre else 0
        for centre, bits in data.draw(st.lists(st.tuples(centres, flips), max_size=30))
    ]
    assert fold(np.array(hashes, np.uint64)) == naively(hashes)
