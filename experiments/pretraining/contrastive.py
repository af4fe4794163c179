"""How the bundled CLIP was made: contrastive pre-training from scratch on drawings and scenes with
captions.

The two towers have different widths and equal depth, as in ViT-B/32 (768 and 512). The training
follows Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*
(2021), on a small scale, with the patch dropping of FLIP (Li et al., 2023), the optimiser Muon
(Jordan et al., 2024) for the weight matrices, and averaged weights. Notebook a1 runs it.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPModel, CLIPTokenizer, image_utils

from cma import load_backbone
from cma.files import replacing

from .augmentation import augment, recolour
from .crowds import Crowds
from .small_clip import ClipShape, build_model, build_tokenizer


@dataclass
class PretrainConfig:
    """The settings of a pre-training run."""

    steps: int = 6000
    batch_size: int = 256
    learning_rate: float = 1e-3
    muon_factor: float = 2.0  # Muon's rate as a multiple of AdamW's
    weight_decay: float = 0.1
    warmup: int = 200  # steps
    decay: float = 0.35  # share of the steps, the last ones, in which the rate falls linearly
    average: float = 0.998  # decay of the averaged weights, which we keep
    drop: float = 0.4  # share of the patches left out …
    full_view: float = 0.07  # … except in this last share of the steps
    scenes: float = 0.5  # the share of scenes in a batch; the rest are single drawings
    backgrounds: float = 0.0  # share of the scenes' captions that name the background
    things: int | None = None  # that the scenes of one batch share; None: all of them
    # shares of the single drawings
    mix: tuple[tuple[str, float], ...] = (("emoji", 0.7), ("colour", 0.2), ("mono", 0.1))
    norm: float | None = 10.0  # mean norm of texts and of pictures at the end; None: as trained
    mean: bool = False  # keep the mean of the weights at the start and at the end
    shape: ClipShape = field(default_factory=ClipShape)
    seed: int = 42


NAMED = PretrainConfig(
    scenes=0.75, backgrounds=0.5, things=150, warmup=40, average=0.99, drop=0.35, full_view=0.15
)
# the trainings of the bundled weights; each continues from the end of the last
STAGES = (
    PretrainConfig(norm=None),  # no caption names a background
    replace(NAMED, steps=560, decay=0.26),
    replace(NAMED, steps=500, decay=0.36, mean=True),
)


def caption_of(drawing, random: np.random.Generator) -> str:
    """Draw a caption of a drawing: its label, any of its captions, or two to five of its tags,
    shuffled.
    """
    kind = random.random()
    if drawing.tags and kind < 0.35:
        tags = random.permutation(drawing.tags)[: random.integers(2, 6)]
        return (" ", ", ")[random.integers(2)].join(tags)
    if kind < 0.65:
        return drawing.captions[0]
    return drawing.captions[random.integers(len(drawing.captions))]


def sample_rows(
    groups: dict[str, list[list[int]]],
    count: int,
    config: PretrainConfig,
    random: np.random.Generator,
) -> list[int]:
    """Draw about `count` rows: each group's share, of concepts drawn evenly, with one drawing of
    each.

    groups: for each name in `config.mix`, the rows of every concept.
    """
    rows: list[int] = []
    for name, share in config.mix:
        concepts = groups[name]
        for concept in random.choice(len(concepts), round(share * count), replace=False):
            rows.append(concepts[concept][random.integers(len(concepts[concept]))])
    return rows


def same_drawings(concepts: Sequence[str], texts: Sequence[str]) -> Tensor:
    """Return a mask [N, N]: a caption matches every drawing of its concept or with the same
    caption.
    """
    ids = [
        torch.from_numpy(np.unique(names, return_inverse=True)[1]) for names in (concepts, texts)
    ]
    return (ids[0][:, None] == ids[0]) | (ids[1][:, None] == ids[1])


def contrastive_loss(logits: Tensor, right: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of logits [N texts, N pictures]; the matches in `right`
    [N, N] share the target.
    """
    losses = []
    for scores, same in ((logits, right.float()), (logits.T, right.float().T)):
        losses.append(F.cross_entropy(scores, same / same.sum(dim=1, keepdim=True)))
    return sum(losses) / 2


def moving_average(decay: float) -> Callable:
    """Return an exponential moving average of weights with a growing window, so that early ones
    soon count little.
    """
    return lambda old, new, n: (
        old + (new - old) * (1 - min(decay, (1 + n.item()) / (10 + n.item())))
    )


def build_optimizers(model: CLIPModel, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the weight matrices of the layers (Jordan et al., 2024)."""
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        outside = decayed if parameter.ndim > 1 else plain
        (matrices if ".layers." in name and parameter.ndim == 2 else outside).append(parameter)
    rate, decay = config.learning_rate, config.weight_decay
    groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    muon = {
        "lr": rate * config.muon_factor,
        "weight_decay": decay,
        "adjust_lr_fn": "match_rms_adamw",
    }
    adamw = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    return [adamw, torch.optim.Muon(matrices, **muon)]


class PatchDropper:
    """A forward hook on the vision embeddings: keeps the class token and a random share of the
    patches.
    """

    drop = 0.0  # share of the patches that are left out

    def __call__(self, module: nn.Module, inputs: tuple, tokens: Tensor) -> Tensor:
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


def has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 fast, as far as Linux reports it."""
    about = Path("/proc/cpuinfo")
    return about.is_file() and "avx512_bf16" in about.read_text("utf-8")


def pretrain(
    pixels: np.ndarray,
    drawings: Sequence,
    config: PretrainConfig,
    folder: Path,
    evaluate: Callable[[CLIPModel, CLIPTokenizer], dict] | None = None,
    evaluate_every: int = 500,
    crowds: Crowds | None = None,
    start_from: str | Path | None = None,
) -> tuple[CLIPModel, CLIPTokenizer, list[dict]]:
    """Train a CLIP; returns the averaged model, its tokenizer and the log.

    pixels [N, H, W, 4] uint8 RGBA. Each of the N drawings has `concept`, `captions`, `tags` and
    `group` (a name in `config.mix`). `crowds` draws the scenes, if `config.scenes` asks for some.
    Every three minutes, `folder/checkpoint.pt` is written, from which a run with the same settings
    continues. Every `evaluate_every` steps, what `evaluate` returns is added to the log. Raises
    ValueError if the settings have changed.
    """
    torch.manual_seed(config.seed)
    if start_from is None:
        texts = [text for drawing in drawings for text in (*drawing.captions, *drawing.tags)]
        texts += crowds.words if crowds else []
        tokenizer = build_tokenizer(texts, config.shape)
        model = build_model(config.shape, tokenizer)
    else:
        model, processor = load_backbone(start_from)
        tokenizer = processor.tokenizer
        model.requires_grad_(True)
    model.set_attn_implementation("eager")  # on a CPU faster than SDPA for sequences this short
    averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=moving_average(config.average))
    optimizers = build_optimizers(model, config)
    groups: dict[str, dict[str, list[int]]] = {name: {} for name, _ in config.mix}
    for row, drawing in enumerate(drawings):
        groups[drawing.group].setdefault(drawing.concept, []).append(row)
    concepts = {name: list(rows.values()) for name, rows in groups.items()}

    start, log, seconds = 0, [], 0.0
    checkpoint, settings = folder / "checkpoint.pt", json.dumps(asdict(config))
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["config"] != settings:
            raise ValueError(f"{checkpoint}: of a run with other settings; use another --runs")
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        start, log, seconds = state["step"], state["log"], state["seconds"]
    dropper = PatchDropper()
    hook = model.vision_model.embeddings.register_forward_hook(dropper)
    mean, std = torch.tensor([image_utils.OPENAI_CLIP_MEAN, image_utils.OPENAI_CLIP_STD])[
        ..., None, None
    ]
    model.train()
    clock = saved = time.monotonic()
    bar = tqdm(range(start, config.steps), "pre-training", initial=start, total=config.steps)
    for step in bar:
        # so that a resumed run draws the same numbers
        random = np.random.default_rng((config.seed, step))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        torch.manual_seed(int(random.integers(2**62)))
        crowd = round(config.scenes * config.batch_size)
        rows = sample_rows(concepts, config.batch_size - crowd, config, random)
        batch = [drawings[row] for row in rows]
        captions = [caption_of(drawing, random) for drawing in batch]
        rgba = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).float() / 255
        mono = torch.tensor([drawing.group == "mono" for drawing in batch], dtype=torch.bool)
        rgba[mono] = recolour(rgba[mono], generator)
        size = config.shape.image_size
        pictures = augment(rgba, size, generator)
        right = same_drawings([drawing.concept for drawing in batch], captions)
        if crowd:
            shown, scene_captions, true = crowds.batch(crowd, size, int(random.integers(2**62)))
            pictures, right = torch.cat([pictures, shown]), torch.block_diag(right, true).bool()
            captions += scene_captions
        views = (pictures - mean) / std
        ids = tokenizer(captions, padding=True, truncation=True, return_tensors="pt").input_ids
        dropper.drop = config.drop if step < (1 - config.full_view) * config.steps else 0.0
        rate = learning_rate(step, config)
        for optimizer, factor in zip(optimizers, (1.0, config.muon_factor), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            image = model.visual_projection(model.vision_model(pixel_values=views).pooler_output)
            text = model.text_projection(model.text_model(input_ids=ids).pooler_output)
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = contrastive_loss(model.logit_scale.exp() * text @ image.T, right)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        averaged.update_parameters(model)
        bar.set_postfix(loss=f"{loss.item():.3f}", rate=f"{rate:.1e}", refresh=False)
        last = step + 1 == config.steps
        if last or (step + 1) % evaluate_every == 0:
            now = seconds + time.monotonic() - clock
            entry = {"step": step + 1, "seconds": now, "loss": loss.item()}
            log.append(entry | (evaluate(averaged.module, tokenizer) if evaluate else {}))
            tqdm.write(json.dumps(log[-1]))
        if last or time.monotonic() - saved > 180:
            saved = time.monotonic()
            state = {
                "model": model.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step + 1,
                "log": log,
                "seconds": seconds + saved - clock,
                "config": settings,
            }
            with replacing(checkpoint) as temporary:
                torch.save(state, temporary)
    hook.remove()
    return averaged.module.eval(), tokenizer, log
