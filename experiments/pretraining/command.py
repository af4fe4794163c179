"""The command that makes the bundled CLIP again: `python -m experiments pretrain --help`."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transformers import CLIPModel, CLIPTokenizer

from cma import RetrievalModel, data
from cma.data import RetrievalDataset
from cma.files import parse_json, write_whole
from cma.recipes import recipe
from cma.training import evaluate
from data_prep.mini.things import read_things

from . import icons
from .contrastive import PretrainConfig, branches, pretrain
from .crowds import Crowds
from .small_clip import export, processor_for

VALIDATION = "mini-flickr30k"


def recall_on(validation: RetrievalDataset) -> Callable[[CLIPModel, CLIPTokenizer], dict]:
    """Return what `pretrain` calls for its log: it measures text-to-visual R@1 and R@10 in % on a
    split.
    """
    config = recipe(validation.recipe).train_config()

    def measure(clip: CLIPModel, tokenizer: CLIPTokenizer) -> dict:
        model = RetrievalModel(clip, processor_for(clip, tokenizer))  # freezes the CLIP
        recalls = evaluate(model, validation, config, samples=0)["text_to_visual"]
        clip.requires_grad_(True)
        return {"R@1": recalls["R@1"], "R@10": recalls["R@10"]}

    return measure


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments pretrain`."""
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the CLIP")
    parser.add_argument(
        "--start", help="a CLIP whose training goes on, such as mini; default: random weights"
    )
    parser.add_argument(
        "--config", default="{}", help="JSON of PretrainConfig, such as '{\"steps\": 50}'"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/mini_clip"), help="default: runs/mini_clip"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help=f"has {VALIDATION}; default: data"
    )
    parser.add_argument(
        "--every", type=int, default=500, help="steps between two lines of the log; default: 500"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that draw; default: 2")


def run(options: argparse.Namespace) -> None:
    """Make the bundled CLIP again: draw its corpus, train for two hours on two cores, and save it.

    104 MB are fetched the first time. Every three minutes a checkpoint is saved in the folder of
    runs; after a stop, the same command continues from it. If mini-flickr30k has been built, recall
    on its val split is logged. `cma.load_backbone(OUT)` loads the result. Those of `states` are
    beside it, for example OUT-700, trained for 700 steps.
    """
    config = parse_json(options.config, PretrainConfig, "--config")
    pixels, drawings = icons.build(options.workers)
    crowds = None
    if config.scenes:
        crowds = Crowds(pixels, drawings, read_things(), config.grounds, config.things)
    folder = options.data / VALIDATION
    measure = recall_on(data.load(folder, "val")) if folder.exists() else None
    if not measure:
        print(
            f"{folder}: no such folder, so no recall is logged; `python -m data_prep mini` builds it"
        )

    def train_and_save(config: PretrainConfig, folder: Path, out: Path) -> None:
        clip, tokenizer, _ = pretrain(
            pixels, drawings, config, folder, measure, options.every, crowds, options.start
        )
        export(clip, tokenizer, out)
        with (out / "model.safetensors").open("rb") as file:
            print(f"written to {out}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}")

    training = options.runs / "training"
    train_and_save(config, training, options.out)
    for step, state in branches(config).items():
        branch = training / f"state-{state}"
        if not (branch / "checkpoint.pt").exists():
            write_whole(branch / "checkpoint.pt", (training / f"step-{step}.pt").read_bytes())
        shorter = replace(config, steps=state, decay=0.1, states=())
        train_and_save(shorter, branch, options.out.with_name(f"{options.out.name}-{state}"))
