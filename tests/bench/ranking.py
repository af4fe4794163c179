"""Similarities and metrics of the sizes of the benchmarks, on random numbers."""

import time

import torch
from torch.nn import functional as F

from cma.metrics import retrieval_metrics
from cma.similarity import text_conditioned
from tests.bench.measure import peak_gib, ratio


def figures(quick: bool) -> dict:
    """The Gram form of text-conditioned pooling against the direct product; metrics of MSCOCO's
    size.
    """
    text, frames = data(1000, 1000)
    found = {
        "direct ÷ Gram form, 1,000 × 1,000 × 12 × 512, time": ratio(
            lambda: direct(text, frames), lambda: text_conditioned(text, frames), 2 if quick else 5
        ),
        "largest difference": (direct(text, frames) - text_conditioned(text, frames))
        .abs()
        .max()
        .item(),
    }
    extra = {kind: peak_gib("ranking.one", kind).above for kind in ("gram", "direct")}
    found["Gram form ÷ direct, extra memory"] = round(extra["gram"] / extra["direct"], 4)
    similarity, owner = torch.rand(25_010, 5_000), torch.arange(25_010) // 5 % 5_000
    start = time.perf_counter()
    retrieval_metrics(similarity, owner)
    found["metrics of 25,010 × 5,000, seconds"] = round(time.perf_counter() - start, 2)
    if not quick:
        start = time.perf_counter()
        text_conditioned(*data(10_000, 10_000))
        found["Gram form, 10,000 × 10,000 × 12 × 512, seconds"] = round(
            time.perf_counter() - start, 1
        )
    return found


def data(texts: int, items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random text [T, 512] and frames [V, 12, 512]."""
    torch.manual_seed(0)
    return torch.randn(texts, 512), torch.randn(items, 12, 512)


def direct(text: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Text-conditioned pooling as it is written down, with every pooled clip [T, V, D]."""
    weights = (torch.einsum("td,vfd->tvf", text, frames) / 5.0).softmax(-1)
    pooled = torch.einsum("tvf,vfd->tvd", weights, frames)
    return torch.einsum("td,tvd->tv", F.normalize(text, dim=-1), F.normalize(pooled, dim=-1))


def one(kind: str):
    """A function whose peak memory is measured."""
    text, frames = data(1000, 1000)
    run = {"gram": text_conditioned, "direct": direct}[kind]
    run(text[:2], frames[:2])  # what loads at first use is loaded now
    return lambda: run(text, frames)
