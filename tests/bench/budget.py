"""Memory and hours of the training of `docs/reproduce.md` on cards that we do not have: its table.

    python -m tests.bench.budget          # measure (minutes), write the file and the table
    python -m tests.bench.budget --table  # the table alone, from results/budget.json

Measured: the bytes that the backward pass keeps for one more picture and one more token, in half
precision; counted: the floating point operations of both. The rest is arithmetic, and the page says
which.
"""

import argparse
import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPConfig, CLIPModel

from cma import AdapterConfig, RetrievalModel, TrainConfig, recipes
from cma.data import Item, RetrievalDataset
from cma.files import write_whole
from cma.training import Batch, epoch_size, prepare, restore
from cma.training.planning import measure as measure_step
from cma.training.splits import hold_out
from cma.training.step import batch_gradient
from data_prep.dataset import Counts
from tests import ROOT
from tests.rehearsal.likeness import LIKENESSES

FILE, PAGE = ROOT / "results" / "budget.json", ROOT / "docs" / "reproduce.md"
START, END = "<!-- budget: python -m tests.bench.budget -->", "<!-- end of budget -->"
LAYERS = 12  # of each encoder of ViT-B/32
GIB = 2**30
CONFIG = TrainConfig(similarity="text_conditioned", precision="fp16")
# GiB, peak of dense half precision with float32 sums in TFLOP/s, as their maker publishes it
CARDS = {
    "8 GB (RTX 3070)": (8, 40.6),
    "16 GB (T4)": (16, 65.0),
    "24 GB (RTX 3090)": (24, 71.0),
    "80 GB (A100)": (80, 312.0),
}
UTILISATION = 0.3  # of that peak; an assumption
OVERHEAD = 1.0  # GiB for the driver, kernels and fragments; an assumption
USABLE = 0.9  # of the rest, as `cma.training.plan` takes
# in the order of the page
NAMES = ("flickr30k", "coco", "rsicd", "rsitmd", "msrvtt", "msvd", "vatex", "didemo", "activitynet")
COUNTS: dict[str, Mapping[str, Counts]] = {name: LIKENESSES[name].counts for name in NAMES}


def variant(name: str) -> str:
    """The recipe that the page trains a benchmark by: the paper's, or ours where the paper has
    none.
    """
    return "paper" if recipes.recipe(name).paper else "bf16"


def config_of(name: str) -> TrainConfig:
    """The settings of that recipe."""
    return recipes.recipe(name).train_config(variant(name))


@cache
def training_set(name: str) -> RetrievalDataset:
    """As many items and captions as the recipe trains on, without media: those it holds out are
    left out.
    """
    config, counts = config_of(name), COUNTS[name]
    each, more = divmod(counts["train"].captions, counts["train"].items)
    captions = [("a",) * (each + (i < more)) for i in range(counts["train"].items)]
    items = tuple(
        Item(f"{i:06}", f"media/{i:06}", texts, "train") for i, texts in enumerate(captions)
    )
    published = RetrievalDataset(ROOT, name, "image", {}, name, "train", items)
    if config.select_on == "val" and "val" not in counts:
        return hold_out(published, config.val_items, config.seed)[1]
    return published


def epoch_steps(name: str) -> int:
    """Steps of an epoch."""
    return epoch_size(training_set(name), config_of(name))[1]


def build(layers: int = LAYERS) -> RetrievalModel:
    """ViT-B/32 with random weights, or one of fewer layers, and the adapter of the paper."""
    torch.manual_seed(0)
    config = CLIPConfig()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = layers
    model = RetrievalModel(CLIPModel(config))
    model.add_adapter("a", AdapterConfig())
    model.train()
    return model


def pair(frames: int, tokens: int, device: str = "cpu") -> Batch:
    """One caption of `tokens` and one clip of `frames`, of noise."""
    ids = torch.full((1, tokens), 7)
    ids[:, -1] = 49407
    pixels, mask = (
        torch.rand(1, frames, 3, 224, 224, device=device),
        torch.ones(1, frames, device=device),
    )
    return Batch(ids.to(device), pixels, mask, torch.arange(1, device=device))


def per_unit(measure) -> dict[str, float]:
    """What `measure(frames, tokens)` grows by with one more picture, and with one more token."""
    base, picture, tokens = measure(1, 32), measure(2, 32), measure(1, 64)
    return {"picture": picture - base, "token": (tokens - base) / 32}


def flops(model: RetrievalModel, backward: bool, frames: int, tokens: int) -> float:
    """Floating point operations of a pair: forward alone, or forward and backward."""
    batch, config = pair(frames, tokens, model.device.type), CONFIG.merge({"precision": "float32"})
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        if backward:
            batch_gradient(model, batch, config)
        else:
            with torch.no_grad():
                model.encode_text(batch.input_ids), model.encode_videos(batch.frames, batch.mask)
    return float(counter.get_total_flops())


def bytes_kept(model: RetrievalModel, checkpoint: bool, frames: int, tokens: int) -> float:
    """Bytes that a pair keeps for the backward pass; the model is prepared for `CONFIG`."""
    return measure_step(
        model, pair(frames, tokens), CONFIG.merge({"checkpoint_activations": checkpoint})
    )[0]


def measure(layers: int = LAYERS) -> dict:
    """The content of `results/budget.json`, or that of a model of fewer layers."""
    model = build(layers)
    found = {"backbone": "ViT-B/32, random weights", "precision": "fp16", "adapter": "r 8, d_s 16"}
    for name, backward in {"forward": False, "forward and backward": True}.items():
        found[f"operations, {name}"] = per_unit(partial(flops, model, backward))
    prepare(model, CONFIG)
    for name, checkpoint in {"kept": False, "kept with checkpointing": True}.items():
        found[f"bytes {name}"] = per_unit(partial(bytes_kept, model, checkpoint))
    found["bytes of weights"] = sum(p.numel() * p.element_size() for p in model.parameters())
    restore(model)
    return found | {"torch": torch.__version__}


def of_pair(unit: dict[str, float], config: TrainConfig) -> float:
    """What one pair takes: `max_frames` pictures and `max_words` tokens."""
    return config.max_frames * unit["picture"] + config.max_words * unit["token"]


def memory(measured: dict, config: TrainConfig, pairs: int, checkpoint: bool) -> float:
    """GiB of a step with `pairs` at once: weights, the batch's pixels, what is kept, one layer once
    more.
    """
    pixels = config.max_frames * 3 * 224 * 224
    kept = of_pair(measured["bytes kept"], config)
    if checkpoint:  # the inputs of all layers, and of one layer everything
        each = of_pair(measured["bytes kept with checkpointing"], config) + kept / LAYERS
    else:
        each = kept * (1 + 1 / LAYERS)
    raw = config.batch_size * pixels  # uint8
    return (measured["bytes of weights"] + raw + pairs * (each + pixels * 4)) / GIB + OVERHEAD


def setting(measured: dict, config: TrainConfig, gib: float) -> tuple[int, bool]:
    """(pairs at once, checkpointing) for a card: the most pairs, a power of two, first without
    checkpointing.

    (0, True) if not even one pair fits.
    """
    for checkpoint in (False, True):
        pairs = config.batch_size
        while pairs and memory(measured, config, pairs, checkpoint) > USABLE * gib:
            pairs //= 2
        if pairs >= 8 or (checkpoint and pairs):  # fewer would leave most of a GPU idle
            return pairs, checkpoint
    return 0, True


def hours(measured: dict, name: str, pairs: int, checkpoint: bool, peak: float) -> float:
    """Hours of the recipe's training, evaluated on test after each epoch and at the end."""
    config = config_of(name)
    forward = of_pair(measured["operations, forward"], config)
    both = of_pair(measured["operations, forward and backward"], config)
    again = (pairs < config.batch_size) + checkpoint  # embedded once more for each
    training = config.epochs * epoch_steps(name) * config.batch_size * (both + again * forward)
    unit, test = measured["operations, forward"], COUNTS[name]["test"]
    once = (
        test.items * config.max_frames * unit["picture"]
        + test.captions * config.max_words * unit["token"]
    )
    return (training + (config.epochs + 1) * once) / (peak * 1e12 * UTILISATION) / 3600


def table(measured: dict) -> str:
    """The markdown table: for each benchmark its steps, GiB of the whole batch at once, and each
    card.

    A benchmark that is not trained by the paper's recipe says by which.
    """
    header = ["benchmark", "steps", "whole batch at once, GiB", *CARDS]
    lines = [header, ["---"] * len(header)]
    for name in COUNTS:
        config = config_of(name)
        marked = name if variant(name) == "paper" else f"{name} (`{variant(name)}`)"
        whole = [
            memory(measured, config, config.batch_size, checkpoint) for checkpoint in (False, True)
        ]
        steps = config.epochs * epoch_steps(name)
        cells = [marked, f"{steps:,}", f"{whole[0]:.0f}; {whole[1]:.0f} with checkpointing"]
        for gib, peak in CARDS.values():
            pairs, checkpoint = setting(measured, config, gib)
            used = memory(measured, config, pairs, checkpoint)
            fits = f"{pairs} at once{' with checkpointing' if checkpoint else ''}, {used:.1f} GiB"
            needed = hours(measured, name, pairs, checkpoint, peak)
            time = f"{needed:.1f} h" if needed >= 1 else f"{max(1, round(60 * needed))} min"
            cells.append(f"{time}; {fits}" if pairs else "–")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, unless --table is given, and put the table between the markers of its page."""
    parser = argparse.ArgumentParser("python -m tests.bench.budget", description=main.__doc__)
    parser.add_argument(
        "--table", action="store_true", help="from results/budget.json, without measuring"
    )
    if not parser.parse_args().table:
        write_whole(FILE, json.dumps(measure(), indent=1) + "\n")
    text = table(json.loads(FILE.read_text("utf-8")))
    before, rest = Path(PAGE).read_text("utf-8").split(START)
    write_whole(PAGE, f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")
    print(text)


if __name__ == "__main__":
    main()
