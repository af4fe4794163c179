"""The command that makes the bundled CLIP again: `python -m experiments pretrain --help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from transformers import CLIPModel, CLIPTokenizer

from cma import RetrievalModel, data, load_backbone, training
from cma.data import RetrievalDataset
from cma.recipes import recipe
from cma.training import evaluate
from data_prep.mini.things import read_things

from ..options import DATA
from ..world import digest_of
from . import icons
from .contrastive import STAGES, pretrain
from .crowds import Crowds
from .small_clip import export, processor_for

VALIDATION = "mini-flickr30k"


def recall_on(validation: RetrievalDataset) -> Callable[[CLIPModel, CLIPTokenizer], dict]:
    """Return a function for `pretrain`'s log that measures text-to-visual R@1 and R@10 in % on a
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
) -> None:
    """Scale both projections so that texts and frames have this mean norm; cosines stay equal.

    The temperature of text-conditioned pooling (5) is made for embeddings about as long as those of
    OpenAI's CLIP ViT-B/32, whose mean norm is near 10: longer ones turn its softmax into a maximum.
    """
    model = RetrievalModel(clip, processor_for(clip, tokenizer))
    encoded = training.encode(model, validation, recipe(validation.recipe).train_config())
    vectors = {"text": encoded.text, "visual": encoded.frames[encoded.mask.bool()]}
    for kind, of in vectors.items():
        found = of.float().norm(dim=-1).mean().item()
        print(f"mean norm of {kind} embeddings: {found:.2f}; scaled to {norm:g}")
        with torch.no_grad():
            getattr(clip, f"{kind}_projection").weight.mul_(norm / found)


OPTIONS = {"--out": None, "--runs": "runs/pretraining", "--data": DATA, "--workers": 2}


def run(options: argparse.Namespace) -> None:
    """Make the bundled CLIP again: draw its corpus, train for hours on two cores, and save it.

    104 MB are fetched the first time. The trainings of `STAGES` follow each other, the last one
    into OUT, those before beside it, such as OUT-1. Every three minutes a checkpoint is saved in
    the folder of runs; after a stop, the same command continues from it. Recall on the val split of
    mini-flickr30k, which must have been built, is logged every 500 steps. `cma.load_backbone(OUT)`
    loads the result.
    """
    validation = data.load(options.data / VALIDATION, "val")
    measure = recall_on(validation)
    pixels, drawings = icons.build(options.workers)
    start = None
    for number, config in enumerate(STAGES, start=1):
        crowds = None
        if config.scenes:
            crowds = Crowds(pixels, drawings, read_things(), config.backgrounds, config.things)
        place, out = options.runs / "training", options.out
        if number < len(STAGES):
            place, out = (path.with_name(f"{path.name}-{number}") for path in (place, out))
        clip, tokenizer, _ = pretrain(
            pixels, drawings, config, place, measure, crowds=crowds, start_from=start
        )
        if config.norm:
            set_mean_norm(clip, tokenizer, validation, config.norm)
        if config.mean:
            # both end a schedule, and their mean is a flatter optimum than either ("Averaging
            # Weights Leads to Wider Optima", arXiv 1803.05407)
            before = load_backbone(start)[0].state_dict()
            with torch.no_grad():
                for name, weight in clip.named_parameters():
                    weight.lerp_(before[name], 0.5)
            set_mean_norm(clip, tokenizer, validation, config.norm)
            print(f"mean with {start}: {json.dumps(measure(clip, tokenizer))}")
        export(clip, tokenizer, out)
        print(f"written to {out}, sha256 {digest_of(out / 'model.safetensors')}")
        start = out
