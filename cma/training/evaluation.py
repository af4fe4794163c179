"""From a model and a dataset split to recall with its interval: encode once, compare, rank."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .. import metrics
from ..config import TrainConfig
from ..data import Pixels, RetrievalDataset
from ..model import RetrievalModel
from ..similarity import mean_pooled, text_conditioned
from . import resume
from .batches import load_media, make_pixels
from .record import RunRecord


@dataclass(frozen=True)
class Embeddings:
    """A split encoded: text [T, D], frames [V, F, D], mask [V, F], text_to_item [T], all on the CPU.

    `cut` counts the captions that were cut to the context.
    """

    text: Tensor
    frames: Tensor
    mask: Tensor
    text_to_item: Tensor
    cut: int


def autocast(model: RetrievalModel, precision: str) -> torch.autocast:
    """The context in which a forward pass of `precision` runs."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def encode(
    model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig, pixels: Pixels | None = None
) -> Embeddings:
    """Embed every caption and every frame of `dataset`, un-normalised and in float32.

    Raises ValueError naming an item without captions.
    """
    dataset.require_captions()
    pixels = pixels or make_pixels(model, config)
    was_training = model.training
    model.eval()
    ids, cut = model.tokenize(dataset.captions, config.max_words)
    size = 128 if dataset.kind == "image" else max(1, 128 // config.max_frames)  # about 128 frames
    batches = [part.tolist() for part in torch.arange(len(dataset)).split(size)]
    media = load_media(dataset, pixels, batches, config.workers)
    text, frames, masks = [], [], []
    with autocast(model, config.precision):
        for part in ids.split(256):
            text.append(model.encode_text(part.to(model.device)).float().cpu())
        for part, mask in tqdm(media, f"encode {dataset.split}", len(batches), leave=False, mininterval=1):
            embedded = model.encode_videos(part.to(model.device), mask.to(model.device))
            frames.append(embedded.float().cpu())
            masks.append(mask)
    model.train(was_training)
    return Embeddings(torch.cat(text), torch.cat(frames), torch.cat(masks), dataset.text_to_item, cut)


def compare(text: Tensor, frames: Tensor, mask: Tensor, config: TrainConfig) -> Tensor:
    """Cosines [T, V] of text [T, D] and frames [V, F, D], mask [V, F], by `config.similarity`."""
    if config.similarity == "mean_pooled":
        return mean_pooled(text, frames, mask)
    return text_conditioned(text, frames, mask, temperature=config.temperature)


def evaluate(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    pixels: Pixels | None = None,
    samples: int = 1000,
) -> dict:
    """Recall (%) and ranks of `model` as it stands on one split, both directions, with 95 % intervals.

    Returns retrieval_metrics' dict and `split`, `similarity`, `texts`, `items`, `expected_items`,
    `cut_captions`, `intervals` {direction: {"R@k": (low, high)}} (items resampled; empty if `samples` is 0).
    """
    embeddings = encode(model, dataset, config, pixels)
    tensors = (embeddings.text, embeddings.frames, embeddings.mask)
    similarity = compare(*(tensor.to(model.device) for tensor in tensors), config).cpu()
    result = score(similarity, embeddings.text_to_item, dataset.protocol["visual_to_text"], samples)
    return {
        "split": dataset.split,
        "similarity": config.similarity,
        "texts": len(embeddings.text),
        "items": len(dataset),
        "expected_items": dataset.expected,
        "cut_captions": embeddings.cut,
        **result,
    }


def evaluate_and_record(model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig) -> RunRecord:
    """Evaluate `model` as it stands, zero-shot for one, and leave `runs_dir/name/run.json` for the table.

    Raises ValueError if the folder is that of a training run, OSError if it cannot be written to.
    """
    folder = Path(config.runs_dir) / config.name
    if (folder / resume.CHECKPOINT).exists():
        raise ValueError(f"{folder} holds a training run; choose another name")
    resume.require_writable(folder)
    found = RunRecord.describe(model, dataset, config)
    found.metrics = evaluate(model, dataset, config)
    found.stamp(model.device).save(folder)
    return found


def score(similarity: Tensor, text_to_item: Tensor, visual_to_text: str, samples: int = 1000) -> dict:
    """retrieval_metrics of similarity [T, V], and under `intervals` the bootstrap interval of every R@k."""
    result = metrics.retrieval_metrics(similarity, text_to_item, visual_to_text)
    directions = {
        "text_to_visual": (metrics.ranks(similarity, text_to_item), text_to_item),
        "visual_to_text": (
            metrics.visual_ranks(similarity, text_to_item, visual_to_text),
            torch.arange(similarity.shape[1]),
        ),
    }
    intervals = {}
    for name, (ranks, query_to_item) in directions.items() if samples else ():
        intervals[name] = {
            key: metrics.bootstrap_interval(ranks, query_to_item, key, samples=samples)
            for key in result[name]
            if key.startswith("R@")
        }
    return {**result, "intervals": intervals}


def chance_recall(dataset: RetrievalDataset, k: int = 1) -> float:
    """Text-to-visual R@k in % of a model that guesses."""
    return 100 * min(k, len(dataset)) / len(dataset)


def recall_ceiling(dataset: RetrievalDataset) -> float:
    """The highest text-to-visual R@1 in %: of items that share a caption word for word, one comes first."""
    dataset.require_captions()
    owners: dict[str, Counter] = defaultdict(Counter)
    for caption, item in zip(dataset.captions, dataset.text_to_item.tolist(), strict=True):
        owners[" ".join(caption.lower().split())][item] += 1
    return 100 * sum(max(counts.values()) for counts in owners.values()) / len(dataset.captions)
