"""The command that makes the bundled CLIP again: `python -m experiments pretrain --help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import CLIPModel, CLIPTokenizer

from cma import RetrievalModel, data, load_backbone, training
from cma.data import RetrievalDataset
from cma.files import parse_json
from cma.recipes import recipe
from cma.training import evaluate
from data_prep.mini.things import read_things

from ..options import DATA
from ..world import digest_of
from . import icons
from .contrastive import STAGES, PretrainConfig, pretrain
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


def set_mean_norm(
    clip: CLIPModel, tokenizer: CLIPTokenizer, validation: RetrievalDataset, norm: float
) -> dict[str, float]:
    """Scale both projections so that texts and frames have this mean norm; cosines stay equal.

    Returns the mean norms before. The temperature of text-conditioned pooling (5) is made for
    embeddings about as long as those of OpenAI's CLIP ViT-B/32, whose mean norm is near 10: longer
    ones turn its softmax into a maximum.
    """
    model = RetrievalModel(clip, processor_for(clip, tokenizer))
    encoded = training.encode(model, validation, recipe(validation.recipe).train_config())
    vectors = {"text": encoded.text, "visual": encoded.frames[encoded.mask.bool()]}
    before = {kind: of.float().norm(dim=-1).mean().item() for kind, of in vectors.items()}
    with torch.no_grad():
        for kind, found in before.items():
            getattr(clip, f"{kind}_projection").weight.mul_(norm / found)
    return before


def average_with(clip: CLIPModel, start: str | Path) -> None:
    """Replace the weights of a run's end by their mean with those that it started from.

    The start is itself the end of a schedule: the mean of two such ends lies in a flatter place
    than either ("Averaging Weights Leads to Wider Optima", arXiv 1803.05407).
    """
    before = load_backbone(start)[0].state_dict()
    with torch.no_grad():
        for name, weight in clip.named_parameters():
            weight.lerp_(before[name], 0.5)


OPTIONS = {
    "--out": None,
    "--start": None,
    "--config": None,
    "--runs": "runs/pretraining",
    "--data": DATA,
    "--workers": 2,
}


def run(options: argparse.Namespace) -> None:
    """Make the bundled CLIP again: draw its corpus, train for hours on two cores, and save it.

    104 MB are fetched the first time. The trainings of `STAGES` follow each other, the last one
    into OUT, those before beside it, such as OUT-1. With --config, there is one training, with
    these settings, which goes on from the model --start if there is one. Every three minutes a
    checkpoint is saved in the folder of runs; after a stop, the same command continues from it. If
    mini-flickr30k has been built, recall on its val split is logged every 500 steps.
    `cma.load_backbone(OUT)` loads the result.
    """
    stages = STAGES
    if options.config is not None:
        stages = (parse_json(options.config, PretrainConfig, "--config"),)
    elif options.start is not None:
        raise ValueError("--start: one training goes on from it; --config gives its settings")
    if stages[0].mean and options.start is None:
        raise ValueError("--config: there is no --start to take the mean with")
    pixels, drawings = icons.build(options.workers)
    folder = options.data / VALIDATION
    validation = measure = None
    if folder.exists():
        validation = data.load(folder, "val")
        measure = recall_on(validation)
    else:
        missing = f"{folder}: no such folder, so no recall is logged and no norm is set"
        print(f"{missing}; `python -m data_prep mini` builds it")

    def set_norm(clip: CLIPModel, tokenizer: CLIPTokenizer, norm: float | None) -> None:
        if validation is not None and norm is not None:
            before = set_mean_norm(clip, tokenizer, validation, norm)
            norms = ", ".join(f"{kind} {found:.2f}" for kind, found in before.items())
            print(f"mean norms of the embeddings: {norms}; scaled to {norm:g}")

    start = options.start
    for number, config in enumerate(stages, start=1):
        crowds = None
        if config.scenes:
            crowds = Crowds(pixels, drawings, read_things(), config.grounds, config.things)
        place, out = options.runs / "training", options.out
        if number < len(stages):
            place, out = (path.with_name(f"{path.name}-{number}") for path in (place, out))
        clip, tokenizer, _ = pretrain(
            pixels, drawings, config, place, measure, crowds=crowds, start_from=start
        )
        set_norm(clip, tokenizer, config.norm)
        if config.mean:
            average_with(clip, start)
            set_norm(clip, tokenizer, config.norm)
            recalls = measure(clip, tokenizer) if measure else {}
            print(f"mean with {start}: {json.dumps(recalls)}")
        export(clip, tokenizer, out)
        print(f"written to {out}, sha256 {digest_of(out / 'model.safetensors')}")
        start = out
