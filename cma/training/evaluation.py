"""Recall of a model on a dataset split: encode everything once, compare, rank."""

from __future__ import annotations

import math
import reprlib
from typing import NamedTuple

import torch
from torch import Tensor

from .. import metrics
from ..config import ReadConfig, TrainConfig
from ..data import RetrievalDataset
from ..model import RetrievalModel
from ..similarity import compare
from . import resume
from .devices import ALONE, Team
from .optim import attention, autocast
from .reading import Pixels, load_media, model_frames
from .record import RunRecord
from .step import NotFinite

FRAMES = 128  # embedded at a time


class Embeddings(NamedTuple):
    """A split's text [T, D], frames [V, F, D], mask [V, F], text_to_item [T], on the CPU."""

    text: Tensor
    frames: Tensor
    mask: Tensor
    text_to_item: Tensor
    cut: int  # how many captions were truncated


def encode(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: ReadConfig,
    pixels: Pixels | None = None,
    team: Team = ALONE,
) -> Embeddings:
    """Embed every caption and frame of a split, in eval mode, for `compare`.

    Other threads that use the model wait. It uses the workers and "bf16" of a `TrainConfig`; only
    `cma.train` evaluates in "fp16", until it ends. The processes of a `team` share the batches, and
    each returns all embeddings, the same as a single process would. Raises TypeError if `dataset`
    is not a split or `config` not a config, ValueError for an item without captions (named),
    NotFinite if an embedding is infinite or NaN.
    """
    if not isinstance(dataset, RetrievalDataset):
        raise TypeError(
            f"expected a split, `cma.load_dataset(folder, split)`, not {reprlib.repr(dataset)}"
        )
    dataset.require_captions()
    if not isinstance(config, ReadConfig):
        raise TypeError(f"expected a cma.ReadConfig or TrainConfig, not {reprlib.repr(config)}")
    if not isinstance(config, TrainConfig):
        config = TrainConfig(**vars(config.reading()))
    ids, cut = model.tokenize(dataset.captions, config.max_words)
    pixels = pixels or Pixels(model.processor, config)
    clips = FRAMES if dataset.kind == "image" else max(1, FRAMES // config.max_frames)
    batches = team.own([part.tolist() for part in torch.arange(len(dataset)).split(clips)])
    media = load_media(dataset, pixels, batches, config.workers)
    bar = team.bar(media, f"encode {dataset.split}", total=len(batches), leave=False)
    pictures, masks = [], []

    def ready(embedded: Tensor) -> Tensor:
        return model.family.comparable(embedded).float().cpu()

    with (
        model.lock,
        model.using(model.active, model.scale),
        autocast(model, config.precision),
        attention(model, config.precision),
    ):
        own = team.own(ids.split(math.ceil(len(ids) / team.count)))
        texts = [ready(model.encode_text(part)) for part in own]
        for part, mask in bar:
            pictures.append(ready(model.encode_videos(model_frames(model, part, mask), mask)))
            masks.append(mask)
    text, frames, mask = (
        torch.cat(sum(team.all_gather(parts), [])) for parts in (texts, pictures, masks)
    )
    if not (text.isfinite().all() and frames.isfinite().all()):
        raise NotFinite(f"{dataset.split}: an embedding is infinite or NaN; train with a lower lr")
    return Embeddings(text, frames, mask, dataset.text_to_item, cut)


def query_ranks(
    encoded: Embeddings,
    dataset: RetrievalDataset,
    config: ReadConfig,
    device: torch.device | str = "cpu",
) -> dict[str, list[int]]:
    """Return the rank of each right answer: {"text_to_visual": [T], "visual_to_text": [V]}."""
    text, frames, mask = (tensor.to(device) for tensor in encoded[:3])
    similarity = compare(text, frames, mask, config).cpu()
    owner = encoded.text_to_item
    back = metrics.visual_ranks(similarity, owner, dataset.protocol["visual_to_text"])
    return {
        "text_to_visual": metrics.ranks(similarity, owner).tolist(),
        "visual_to_text": back.tolist(),
    }


def evaluate(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: ReadConfig | None = None,
    pixels: Pixels | None = None,
    samples: int = 10_000,
    team: Team = ALONE,
    encoded: Embeddings | None = None,
) -> dict:
    """Measure recall (%) and ranks of a model with its active adapter on one split, both ways.

    Args:
        model: with an active adapter, or without one for zero-shot.
        dataset: the split.
        config: how to read and compare captions and media; by default as in the active adapter's
            training (`RetrievalModel.reading`).
        pixels: the reader of media; a new one by default.
        samples: draws of the bootstrap; 0 gives no intervals.
        team: the processes that share the work.
        encoded: the result of `encode`, if you have it.

    Returns:
        The dict of `cma.metrics.retrieval_metrics`, with `split`, `similarity`, `texts`, `items`,
        `expected_items`, `cut_captions` and `intervals` {direction: {"R@k": (low, high)}}: 95 %
        bootstrap intervals over items.

    Raises:
        NotFinite: an embedding is infinite or NaN.
        MediaError: a file cannot be read (named).

    >>> import pathlib, tempfile, cma, PIL.Image
    >>> folder, pairs = pathlib.Path(tempfile.mkdtemp()), []
    >>> for colour in ("red", "blue"):
    ...     PIL.Image.new("RGB", (64, 64), colour).save(folder / f"{colour}.png")
    ...     pairs.append((folder / f"{colour}.png", f"a {colour} page"))
    >>> pages = cma.data.from_pairs(pairs, split="test")
    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> found = cma.evaluate(model, pages, cma.ReadConfig(), samples=0)
    >>> found["texts"], found["text_to_visual"]["R@5"]
    (2, 100.0)
    """
    config = model.reading(config)
    encoded = encoded or encode(model, dataset, config, pixels, team)

    def result() -> dict:
        ranks = query_ranks(encoded, dataset, config, model.device)
        owners: dict[str, metrics.Array] = {
            "text_to_visual": encoded.text_to_item,
            "visual_to_text": range(len(dataset)),
        }
        drawn = {
            way: metrics.intervals(ranks[way], owner, samples=samples)
            for way, owner in owners.items()
            if samples
        }
        return metrics.both_ways(ranks) | {"intervals": drawn}

    return {
        "split": dataset.split,
        "similarity": config.similarity,
        "texts": len(encoded.text),
        "items": len(dataset),
        "expected_items": dataset.expected,
        "cut_captions": encoded.cut,
        **team.on_rank0(result),
    }


def evaluate_and_record(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    encoded: Embeddings | None = None,
) -> RunRecord:
    """Evaluate a model with its active adapter, or zero-shot, and write `runs_dir/name/run.json`.

    Other threads that use the model wait until the split is encoded; `encoded` is the result of
    `encode`, if you have it. Raises ValueError if the folder holds a training run, or the adapter's
    scale is not 1, which a record cannot say; OSError if the folder cannot be written to.
    """
    if config.precision == "fp16":  # see `encode`
        config = config.merge({"precision": "float32"})
    with model.lock, model.using(model.active, model.scale):
        if model.scale != 1:
            raise ValueError(
                f"a record needs an adapter at scale 1, not {model.scale}; use cma.evaluate, or "
                "model.set_adapter(name)"
            )
        record = RunRecord.describe(model, dataset, config)
        if (record.folder / resume.CHECKPOINT).exists():
            raise ValueError(f"{record.folder} holds a training run; choose another name")
        resume.require_writable(record.folder)
        record.encoded = encoded or encode(model, dataset, config)
    record.metrics = evaluate(model, dataset, config, encoded=record.encoded)
    record.stamp(model.device).save(record.folder)
    return record
