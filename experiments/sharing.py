"""What the slice that both towers share does: which gradients meet in it, and what is lost without it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from cma import CrossModalAdapters, RetrievalModel, TrainConfig, training
from cma.data import RetrievalDataset
from cma.losses import symmetric_cross_entropy
from cma.similarity import compare


def fixed_batch(model: RetrievalModel, dataset: RetrievalDataset, config: TrainConfig) -> training.Batch:
    """The training pairs on which the towers' gradients are compared, in an order that no epoch has."""
    chosen = training.epoch_batches(dataset, config, config.epochs)[:1]
    ids, _ = model.tokenize(dataset.captions, config.max_words)
    pixels = training.Pixels(model.processor, config)
    read = training.read_batches(dataset, ids, pixels, chosen, workers=0)
    return next(read).to(model.device)


def tower_gradients(model: RetrievalModel, batch: training.Batch, config: TrainConfig) -> dict[str, Tensor]:
    """The loss's gradient in the shared slice through each tower alone: {tower: [sites, d_s · (r + 1)]}.

    The embeddings of the other tower count as constants, so the two add up to the whole gradient. In float32.
    """
    adapters = model.get_adapter(model.active)
    text = model.encode_text(training.without_padding(model, batch.input_ids))
    mask = batch.mask.to(model.device)
    frames = model.encode_videos(training.model_frames(model, batch.frames, mask), mask)
    sides, gradients = {"vision": (text.detach(), frames), "text": (text, frames.detach())}, {}
    for tower, (texts, visuals) in sides.items():
        logits = model.logit_scale * compare(texts, visuals, mask, config)
        loss = symmetric_cross_entropy(logits, batch.item_ids if config.mask_same_item else None)
        parts = torch.autograd.grad(loss, (adapters.shared_weight, adapters.shared_bias))
        gradients[tower] = torch.cat([part.flatten(1) for part in parts], dim=1)
    return gradients


def agreement(model: RetrievalModel, batch: training.Batch, config: TrainConfig) -> dict:
    """How far the towers pull the shared slice the same way, by the cosine of their gradients.

    "sites" has it for each site (attention and MLP of each layer, in order), "cosine" is their mean; "norms"
    are of the whole gradient of each tower.
    """
    gradients = tower_gradients(model, batch, config)
    cosines = F.cosine_similarity(gradients["vision"], gradients["text"], dim=1)
    norms = {tower: gradient.norm().item() for tower, gradient in gradients.items()}
    return {"cosine": cosines.mean().item(), "sites": cosines.tolist(), "norms": norms}


def modality_gap(embeddings: training.Embeddings) -> float:
    """Distance of the mean normalised text from the mean normalised picture or clip, from 0 to 2.

    As in Liang et al. 2022, "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
    Representation Learning"; a clip is the mean of its normalised frames.
    """
    frames = F.normalize(embeddings.frames, dim=-1) * embeddings.mask[..., None]
    visual = frames.sum(1) / embeddings.mask.sum(1, keepdim=True)
    texts, visuals = (F.normalize(side, dim=-1).mean(0) for side in (embeddings.text, visual))
    return torch.dist(texts, visuals).item()


def changed_slices(adapters: CrossModalAdapters, seed: int) -> Iterator[tuple[str, CrossModalAdapters]]:
    """Copies of trained adapters whose shared slice is shuffled, re-initialised or zero, by what was done.

    "shuffled": the rows of each site among themselves, weights with biases; "zero": only what each tower has
    of its own is left.
    """
    generator = torch.Generator().manual_seed(seed)
    for name in ("shuffled", "re-initialised", "zero"):
        changed = deepcopy(adapters)
        weight, bias = changed.shared_weight.data, changed.shared_bias.data  # [sites, d_s, r], [sites, d_s]
        if name == "shuffled":
            for site in range(len(weight)):
                order = torch.randperm(weight.shape[1], generator=generator).to(weight.device)
                weight[site], bias[site] = weight[site, order], bias[site, order]
        else:
            std = adapters.config.init_std if name == "re-initialised" else 0.0
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)  # as at the start
            bias.zero_()
        yield name, changed
