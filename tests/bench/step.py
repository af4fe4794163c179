"""A training step of ViT-B/32's size, random weights: 4 clips of 12 frames and 4 captions."""

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.training import Batch, train_step
from tests.bench.measure import peak_gib, ratio

CONFIG = TrainConfig(similarity="text_conditioned", lr=1e-5)


def figures(quick: bool) -> dict:
    """The adapter's step against full fine-tuning: time, and the peak memory of a process.

    Full fine-tuning is the paper's, which leaves out the embeddings; "all" is every parameter of
    CLIP. The quick figures leave out the latter, and clips of 64 frames.
    """
    pairs = 1 if quick else 5
    wholes = {"full": "full fine-tuning"} | ({} if quick else {"all": "all parameters of CLIP"})
    adapter = step("adapter")
    found = {
        f"adapter ÷ {label}, time": ratio(adapter, step(kind), pairs)
        for kind, label in wholes.items()
    }
    found["adapter with checkpointing ÷ adapter, time"] = ratio(
        step("checkpointed"), adapter, pairs
    )
    peaks = {
        kind: peak_gib("step.step", kind, times=2) for kind in ("adapter", "checkpointed", *wholes)
    }
    for part, name in (
        ("process", "peak of the process"),
        ("above", "peak above the loaded model"),
    ):
        sizes = {kind: getattr(peak, part) for kind, peak in peaks.items()}
        found |= {f"{kind}, {name}, GiB": size for kind, size in sizes.items()}
        for whole, label in wholes.items():
            found[f"adapter ÷ {label}, {name}"] = round(sizes["adapter"] / sizes[whole], 3)
            found[f"with checkpointing ÷ {label}, {name}"] = round(
                sizes["checkpointed"] / sizes[whole], 3
            )
    for frames in (12,) if quick else (12, 64):
        found[f"batch of 128 × {frames} frames in micro-batches of 4, peak of the process, GiB"] = (
            peak_gib("step.two_micro_batches", frames).process
        )
    return found


def build(kind: str) -> tuple[RetrievalModel, torch.optim.Optimizer]:
    """A model of random weights, and the fused AdamW of what is trained: the adapter, or all of
    CLIP.
    """
    torch.manual_seed(0)
    model = RetrievalModel(CLIPModel(CLIPConfig()))
    if kind in ("full", "all"):
        embeddings = [model.clip.vision_model.embeddings, model.clip.text_model.embeddings]
        model.clip.requires_grad_(True)
        nn.ModuleList(embeddings).requires_grad_(kind == "all")
        model.trainable_parameters = lambda: [p for p in model.clip.parameters() if p.requires_grad]
    else:
        model.add_adapter("a", AdapterConfig())
    model.train()
    return model, torch.optim.AdamW(model.trainable_parameters(), lr=1e-5, fused=True)


def batch(pairs: int, frames: int) -> Batch:
    """Captions of 16 tokens and frames of noise."""
    ids = torch.randint(1, 1000, (pairs, 16))
    ids[:, -1] = 49407
    pixels = torch.rand(1, frames, 3, 224, 224).expand(pairs, -1, -1, -1, -1)
    return Batch(ids, pixels, torch.ones(pairs, frames), torch.arange(pairs))


def step(kind: str):
    """A function that takes one step of `kind`: "adapter", "checkpointed", "full" or "all"."""
    model, optimizer = build(kind)
    config = CONFIG.merge({"checkpoint_activations": kind == "checkpointed"})
    four = batch(4, 12)
    return lambda: train_step(model, optimizer, four, 1e-5, config)


def two_micro_batches(frames: int):
    """The part of a step that decides its peak: the frames of 128 clips, and two micro-batches of
    four.
    """
    model, optimizer = build("adapter")
    whole = torch.zeros(128, frames, 3, 224, 224, dtype=torch.uint8)
    config = CONFIG.merge({"micro_batch": 4})

    def run() -> None:
        train_step(model, optimizer, batch(8, frames), 1e-5, config)
        whole.sum()

    return run
