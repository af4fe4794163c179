"""The command that makes the bundled CLIP again: `python -m experiments pretrain --help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from transformers import CLIPModel, CLIPTokenizer

from cma import RetrievalModel, data
from cma.data import RetrievalDataset
from cma.files import parse_json
from cma.recipes import recipe
from cma.training import evaluate

from . import icons
from .contrastive import PretrainConfig, pretrain
from .small_clip import export, processor_for

VALIDATION = "mini-flickr30k"


def recall_on(validation: RetrievalDataset) -> Callable[[CLIPModel, CLIPTokenizer], dict]:
    """What `pretrain` logs beside the loss: text-to-visual R@1 and R@10 in % on a split."""
    config = recipe(validation.recipe).train_config()

    def measure(clip: CLIPModel, tokenizer: CLIPTokenizer) -> dict:
        model = RetrievalModel(clip, processor_for(clip, tokenizer))  # freezes the CLIP
        recalls = evaluate(model, validation, config, samples=0)["text_to_visual"]
        clip.requires_grad_(True)
        return {"R@1": recalls["R@1"], "R@10": recalls["R@10"]}

    return measure


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m experiments pretrain`."""
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the CLIP")
    parser.add_argument("--config", default="{}", help="JSON of PretrainConfig, such as '{\"steps\": 50}'")
    parser.add_argument("--runs", type=Path, default=Path("runs/mini_clip"), help="default: runs/mini_clip")
    parser.add_argument("--data", type=Path, default=Path("data"), help=f"has {VALIDATION}; default: data")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw; default: 2")


def run(options: argparse.Namespace) -> None:
    """Make the bundled CLIP again: draw its corpus, train for an hour on two cores, and save it.

    104 MB are fetched the first time. A checkpoint is kept in the folder of runs every three minutes, from
    which the same command goes on after a stop. Recall is logged if mini-flickr30k has been built, on its
    split val. `cma.load_backbone(OUT)` loads the result.
    """
    config = parse_json(options.config, PretrainConfig, "--config")
    pixels, drawings = icons.build(options.workers)
    measure, folder = None, options.data / VALIDATION
    if folder.exists():
        measure = recall_on(data.load(folder, "val"))
    else:
        print(f"{folder}: no such folder, so no recall is logged; `python -m data_prep mini` builds it")
    clip, tokenizer, _ = pretrain(pixels, drawings, config, options.runs / "training", measure)
    export(clip, tokenizer, options.out)
    print(f"written to {options.out}")
