"""Recall of a model on a dataset split: encode everything once, compare, rank."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import metrics
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..model import RetrievalModel
from ..similarity import compare
from . import devices, resume
from .batches import Pixels, load_media, model_frames, without_padding
from .record import RunRecord


class Embeddings(NamedTuple):
    """A split encoded: text [T, D], frames [V, F, D], mask [V, F], text_to_item [T], all on the CPU."""

    text: Tensor
    frames: Tensor
    mask: Tensor
    text_to_item: Tensor
    cut: int  # captions that were cut to the context


def autocast(model: RetrievalModel, precision: str) -> torch.autocast:
    """The context for a forward pass in `precision`."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def attention(model: RetrievalModel, precision: str) -> AbstractContextManager:
    """The context for a step or an evaluation: on a CPU, bfloat16 attention is computed by plain products.

    torch's fused kernel is slower at so few tokens: with plain products a step of the offline benchmark takes
    0.82 of the time (cross-modal adapter, batch of 128, one thread of an AMD EPYC, torch 2.13).
    """
    plain = precision == "bf16" and model.device.type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def encode(
    model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig, pixels: Pixels | None = None
) -> Embeddings:
    """Embed every caption and frame of `dataset`, un-normalised, in float32, without dropout or gradients.

    Several processes (`devices.joined`) share the batches, and each gets all embeddings, as one process
    computes them from the same batches. Raises ValueError that names an item without captions.
    """
    dataset.require_captions()
    pixels = pixels or Pixels(model.processor, config)
    ids, cut = model.tokenize(dataset.captions, config.max_words)
    size = 128 if dataset.kind == "image" else max(1, 128 // config.max_frames)  # about 128 frames
    batches = [part.tolist() for part in torch.arange(len(dataset)).split(size)]
    batches, texts = (part[devices.own_share(len(part))] for part in (batches, ids.split(256)))
    media = load_media(dataset, pixels, batches, config.workers)
    most, width = 1 if dataset.kind == "image" else config.max_frames, model.clip.text_projection.out_features
    text, frames = [torch.zeros(0, width)], [torch.zeros(0, most, width)]  # a process may have no batch
    masks = [torch.zeros(0, most, dtype=torch.long)]
    acting, bar = model.acting(model.active, model.scale), f"encode {dataset.split}"
    with devices.together(), acting, autocast(model, config.precision), attention(model, config.precision):
        for part in texts:
            text.append(model.encode_text(without_padding(model, part)).float().cpu())
        for part, mask in devices.bar(media, bar, len(batches), leave=False, mininterval=1):
            embedded = model.encode_videos(model_frames(model, part, mask), mask.to(model.device))
            frames.append(embedded.float().cpu())
            masks.append(mask)
    gathered = (devices.gather(torch.cat(rows)) for rows in (text, frames, masks))
    return Embeddings(*gathered, dataset.text_to_item, cut)


def query_ranks(found: Embeddings, dataset: RetrievalDataset, config: TrainConfig) -> dict[str, list[int]]:
    """The rank of each query's right answer, {"text_to_visual": [T], "visual_to_text": [V]}."""
    similarity, owner = compare(*found[:3], config), found.text_to_item
    back = metrics.visual_ranks(similarity, owner, dataset.protocol["visual_to_text"])
    return {"text_to_visual": metrics.ranks(similarity, owner).tolist(), "visual_to_text": back.tolist()}


def evaluate(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    pixels: Pixels | None = None,
    samples: int = 1000,
) -> dict:
    """Recall (%) and ranks of `model` with its active adapter on one split, in both directions.

    Returns the dict of `cma.metrics.retrieval_metrics` with `split`, `similarity`, `texts`, `items`,
    `expected_items`, `cut_captions`, and `intervals` {direction: {"R@k": (low, high)}}: 95 % bootstrap
    intervals over items from `samples` samples (empty if `samples` is 0).
    """
    embeddings = encode(model, dataset, config, pixels)

    def result() -> dict:
        similarity = compare(*(tensor.to(model.device) for tensor in embeddings[:3]), config).cpu()
        return score(similarity, embeddings.text_to_item, dataset.protocol["visual_to_text"], samples)

    return {
        "split": dataset.split,
        "similarity": config.similarity,
        "texts": len(embeddings.text),
        "items": len(dataset),
        "expected_items": dataset.expected,
        "cut_captions": embeddings.cut,
        **devices.by_first(result),
    }


def evaluate_and_record(model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig) -> RunRecord:
    """Evaluate `model` with its active adapter, or zero-shot, and write `runs_dir/name/run.json`.

    Raises ValueError if the folder holds a training run, OSError if it cannot be written to.
    """
    record = RunRecord.describe(model, dataset, config)

    def check() -> None:
        if (record.folder / resume.CHECKPOINT).exists():
            raise ValueError(f"{record.folder} holds a training run; choose another name")
        resume.require_writable(record.folder)

    with devices.joined(model.device):
        devices.by_first(check)
        record.metrics = evaluate(model, dataset, config)
        devices.by_first(lambda: record.stamp(model.device).save(record.folder))
    return record


def score(similarity: Tensor, text_to_item: Tensor, visual_to_text: str, samples: int = 1000) -> dict:
    """The dict of `retrieval_metrics` for similarity [T, V], with the bootstrap interval of every R@k.

    The arguments are those of `cma.metrics.retrieval_metrics`; `samples` is that of `evaluate`.
    """
    result = metrics.retrieval_metrics(similarity, text_to_item, visual_to_text)
    by_item = metrics.visual_ranks(similarity, text_to_item, visual_to_text)
    queries = {
        "text_to_visual": (metrics.ranks(similarity, text_to_item), text_to_item),
        "visual_to_text": (by_item, torch.arange(similarity.shape[1])),
    }
    intervals = {}
    for direction, given in queries.items() if samples else ():
        keys = [key for key in result[direction] if key.startswith("R@")]
        intervals[direction] = metrics.intervals(*given, keys, samples)
    return {**result, "intervals": intervals}


def chance_recall(dataset: RetrievalDataset, k: int = 1) -> float:
    """R@k in % of a model that guesses, text-to-image or text-to-video."""
    return 100 * min(k, len(dataset)) / len(dataset)


def recall_ceiling(dataset: RetrievalDataset) -> float:
    """The highest R@1 in % that text-to-image or text-to-video retrieval can reach.

    Of the items that have the same caption, word for word, only one can come first.
    """
    dataset.require_captions()
    owners: dict[str, Counter] = defaultdict(Counter)
    for caption, item in zip(dataset.captions, dataset.text_to_item.tolist(), strict=True):
        owners[" ".join(caption.lower().split())][item] += 1
    return 100 * sum(max(counts.values()) for counts in owners.values()) / len(dataset.captions)
