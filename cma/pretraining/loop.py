"""How the bundled small CLIP was made: contrastive pre-training from scratch on captioned drawings.

Two towers of different width and equal depth, so that the adapter meets the real case (ViT-B/32: 768/512).
After Radford et al., *Learning Transferable Visual Models From Natural Language Supervision* (2021), on a
small scale, with the patch dropping of FLIP (Li et al., 2023), the optimiser Muon (Jordan et al., 2024) for
the weight matrices, and averaged weights.
Notebook a1 runs it; nothing else needs it.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import CLIPModel, CLIPTokenizer

from .augmentation import augment, recolour
from .small_clip import MEAN, STD, ClipShape, build_model, build_tokenizer


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe. Constant rate, then a linear decay over the last `decay` of the steps."""

    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 1e-3
    muon_factor: float = 2.0  # Muon's rate as a multiple of AdamW's
    weight_decay: float = 0.1
    warmup: int = 200
    decay: float = 0.35
    average: float = 0.998  # decay of the averaged weights, which are the ones saved
    drop: float = 0.4  # share of the patches left out …
    full_view: float = 0.07  # … except in this last share of the steps
    mix: tuple[tuple[str, float], ...] = (("emoji", 0.6), ("colour", 0.28), ("mono", 0.12))
    shape: ClipShape = ClipShape()
    seed: int = 42


def caption_of(drawing, random: np.random.Generator) -> str:
    """One caption: the label, a shortcode, or two to five shuffled tags (emoji); the name (icons)."""
    kind = random.random()
    if drawing.tags and kind < 0.35:
        tags = random.permutation(drawing.tags)[: random.integers(2, 6)]
        return (" ", ", ")[random.integers(2)].join(tags)
    if kind < 0.65:
        return drawing.captions[0]
    return drawing.captions[random.integers(len(drawing.captions))]


def sample_rows(
    groups: dict[str, list[list[int]]], config: PretrainConfig, random: np.random.Generator
) -> list[int]:
    """The rows of one batch: each group's share, concepts drawn evenly, then one drawing of each."""
    rows: list[int] = []
    for name, share in config.mix:
        concepts = groups[name]
        for concept in random.choice(len(concepts), round(share * config.batch_size), replace=False):
            rows.append(concepts[concept][random.integers(len(concepts[concept]))])
    return rows


def contrastive_loss(logits: torch.Tensor, concepts: Sequence[str], texts: Sequence[str]) -> torch.Tensor:
    """Symmetric cross-entropy; drawings of one concept, or with one caption, share the target [N, N]."""
    concept_ids = torch.from_numpy(np.unique(np.asarray(concepts), return_inverse=True)[1])
    text_ids = torch.from_numpy(np.unique(np.asarray(texts), return_inverse=True)[1])
    same = (concept_ids[:, None] == concept_ids) | (text_ids[:, None] == text_ids)
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def moving_average(decay: float) -> Callable:
    """Exponentially averaged weights, over a window that grows so that the first ones are soon forgotten."""
    return lambda old, new, count: (
        old + (new - old) * (1 - min(decay, (1 + count.item()) / (10 + count.item())))
    )


def build_optimizers(model: CLIPModel, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of the layers, AdamW for everything else (Jordan et al., 2024)."""
    inner = {name for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2}
    named = dict(model.named_parameters())
    matrices = [named[name] for name in named if name in inner]
    decayed = [p for name, p in named.items() if name not in inner and p.ndim > 1]
    plain = [p for name, p in named.items() if name not in inner and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    muon = torch.optim.Muon(
        matrices,
        lr=config.learning_rate * config.muon_factor,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [adam, muon]


class PatchDropper:
    """A forward hook on the vision embeddings: keeps the class token and a random share of the patches."""

    def __init__(self) -> None:
        self.drop = 0.0

    def __call__(self, module: nn.Module, inputs: tuple, tokens: torch.Tensor) -> torch.Tensor:
        if not self.drop:
            return tokens
        count = tokens.shape[1] - 1
        keep = round(count * (1 - self.drop))
        order = torch.rand(len(tokens), count).argsort(dim=1)[:, :keep] + 1
        order = torch.cat([torch.zeros(len(tokens), 1, dtype=order.dtype), order], dim=1)
        return tokens.gather(1, order[:, :, None].expand(-1, -1, tokens.shape[2]))


def learning_rate(step: int, config: PretrainConfig) -> float:
    """The rate of update `step` (from 0): warm-up, constant, linear decay to 2 %."""
    left = (config.steps - step) / (config.decay * config.steps)
    return config.learning_rate * min(1.0, (step + 1) / config.warmup, max(left, 0.02))


def encode_pair(
    model: CLIPModel, pixels: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors of pictures [B, 3, H, W] and captions [B, L]."""
    image = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    text = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)


def pretrain(
    pixels: np.ndarray,
    drawings: Sequence,
    config: PretrainConfig,
    folder: Path,
    evaluate: Callable[[CLIPModel, CLIPTokenizer], dict] | None = None,
    checkpoint_seconds: float = 180,
    evaluate_every: int = 500,
) -> tuple[CLIPModel, CLIPTokenizer, list[dict]]:
    """Train and return the averaged model, its tokenizer and the log; resumes from `folder` after a kill.

    pixels [N, H, W, 4] uint8 RGBA; drawings have `concept`, `captions`, `tags`, `group` (`data_prep.mini`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [text for drawing in drawings for text in (*drawing.captions, *drawing.tags)]
    tokenizer = build_tokenizer(texts, config.shape)
    torch.manual_seed(config.seed)
    model = build_model(config.shape, tokenizer)
    model.set_attn_implementation("eager")  # faster than SDPA on CPU for these short sequences
    averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=moving_average(config.average))
    optimizers = build_optimizers(model, config)
    groups: dict[str, dict[str, list[int]]] = {name: {} for name, _ in config.mix}
    for row, drawing in enumerate(drawings):
        groups[drawing.group].setdefault(drawing.concept, []).append(row)
    concepts = {name: list(rows.values()) for name, rows in groups.items()}
    mono = np.array([drawing.group == "mono" for drawing in drawings])

    start, log, seconds = 0, [], 0.0
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        _check_recipe(checkpoint, json.loads(state["config"]), config)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        start, log, seconds = state["step"], state["log"], state["seconds"]
    dropper = PatchDropper()
    hook = model.vision_model.embeddings.register_forward_hook(dropper)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    model.train()
    clock = saved = time.monotonic()
    for step in (
        bar := tqdm(range(start, config.steps), initial=start, total=config.steps, desc="pre-training")
    ):
        random = np.random.default_rng(
            (config.seed, step)
        )  # each step has its own seed: resuming changes nothing
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))
        rows = sample_rows(concepts, config, random)
        captions = [caption_of(drawings[row], random) for row in rows]
        rgba = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 255
        rgba[mono[rows]] = recolour(rgba[mono[rows]], generator)
        views = (augment(rgba, config.shape.image_size, generator) - mean) / std
        ids = tokenizer(captions, padding=True, truncation=True, return_tensors="pt").input_ids
        dropper.drop = config.drop if step < (1 - config.full_view) * config.steps else 0.0
        rate = learning_rate(step, config)
        for optimizer, factor in zip(optimizers, (1.0, config.muon_factor), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            image, text = encode_pair(model, views, ids)
        logits = model.logit_scale.exp() * text @ image.T
        loss = contrastive_loss(logits, [drawings[row].concept for row in rows], captions)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        averaged.update_parameters(model)
        if step < 50 or step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", rate=f"{rate:.1e}", refresh=False)
        last = step + 1 == config.steps
        if last or (step + 1) % evaluate_every == 0:
            entry = {"step": step + 1, "seconds": seconds + time.monotonic() - clock, "loss": loss.item()}
            log.append(entry | (evaluate(averaged.module, tokenizer) if evaluate else {}))
            tqdm.write(json.dumps(log[-1]))
        if last or time.monotonic() - saved > checkpoint_seconds:
            saved = time.monotonic()
            state = {"model": model.state_dict(), "averaged": averaged.state_dict()}
            state |= {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}
            state |= {"step": step + 1, "log": log}
            torch.save(
                state | {"seconds": seconds + saved - clock, "config": json.dumps(asdict(config))},
                checkpoint.with_suffix(".part"),
            )
            checkpoint.with_suffix(".part").replace(checkpoint)
    hook.remove()
    return averaged.module.eval(), tokenizer, log


def _check_recipe(checkpoint: Path, saved: dict, config: PretrainConfig) -> None:
    """Raise ValueError unless `checkpoint` is of this recipe; only the number of steps may be another."""
    wanted = json.loads(json.dumps(asdict(config)))
    if changed := [key for key in wanted if key != "steps" and wanted[key] != saved.get(key)]:
        raise ValueError(f"{checkpoint} is of another recipe ({', '.join(changed)}); remove it or go back")
