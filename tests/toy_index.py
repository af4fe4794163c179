"""What tests do with indexes: compare two of them, and make one of given embeddings."""

from dataclasses import replace

import torch

from explorer.index import MediaFile, MediaIndex
from explorer.index.table import Table


def same(one: MediaIndex, other: MediaIndex) -> None:
    """Check that two indexes hold the same."""
    assert list(one.files) == list(other.files) and torch.equal(one.lengths, other.lengths)
    torch.testing.assert_close(one.frames(), other.frames())


def holding(
    index: MediaIndex,
    files: list[MediaFile],
    embeddings: torch.Tensor,
    lengths: torch.Tensor | None = None,
    uri: str | None = None,
) -> MediaIndex:
    """The index with other embeddings [N, D] of other files, of so many frames each (None: one)."""
    lengths = [1] * len(files) if lengths is None else lengths.int().tolist()
    table = Table.new(uri, index.header, index.media_root)
    items = list(zip(files, embeddings.split(lengths), strict=True))
    for start in range(0, len(items), 1000):
        table.add(items[start : start + 1000])
    return replace(index, table=table.now())


def drawn(n: int, seed: int = 0, width: int = 32) -> tuple[list[MediaFile], torch.Tensor]:
    """Random files, and embeddings [n, D] that differ on a few axes more than on others."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, width + 1) ** -0.5
    files = [MediaFile(f"{i}.png", f"{i}.png", "image", place=i) for i in range(n)]
    return files, 3 + 10 * spectrum * torch.randn(n, width, generator=generator)


def names(pairs: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in pairs]
