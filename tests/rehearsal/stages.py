"""The stages of a rehearsal, each as a user takes it; each runs in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# its parts are loaded when they are used, and torch with them: `prepare` is measured without
import cma
import explorer
from data_prep.dataset import SEAL, read_object
from data_prep.prepare import prepare
from tests.rehearsal.source import make_source, read_source


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed: a benchmark at `items` items, in the folder `out`, and how much of the
    run.

    `backbone` is what `cma.load_backbone` takes; None makes a ViT-B/32 of random weights in `out`.
    """

    like: str
    items: int
    out: Path
    backbone: str | None
    recipe: str  # a variant of `cma.recipes`; float32 where the paper has no recipe
    workers: int
    batch_size: int
    frames: int | None  # of a clip at most; None: as many as in the recipe
    gallery: int | None  # at most so many test items are evaluated and indexed; None: all

    def whole_recipe(self) -> cma.TrainConfig:
        """The settings of the recipe on this machine, the epoch chosen on test."""
        one = cma.recipes.recipe(self.like)
        config = one.train_config(
            "float32" if self.recipe == "paper" and not one.paper else self.recipe
        )
        here = {"workers": self.workers, "runs_dir": self.out / "runs", "select_on": "test"}
        return config.merge(here | {"max_frames": self.frames or config.max_frames})

    def few_steps(self) -> cma.TrainConfig:
        """Two epochs of the recipe, in small batches of two micro-batches, evaluated on as many
        items.
        """
        size = self.batch_size
        small = {
            "epochs": 2,
            "epoch_unit": "items",
            "batch_size": size,
            "micro_batch": -(-size // 2),
        }
        return self.whole_recipe().merge(small | {"eval_items": size})

    def split(self, name: str, most: int | None = None) -> cma.data.RetrievalDataset:
        """At most so many items of a split of the prepared dataset."""
        return cma.load_dataset(self.out / "dataset", name).subset(most)

    def model(self, trained: bool = False) -> cma.RetrievalModel:
        """The backbone, on a GPU if there is one, with a new adapter of the recipe's size or the
        trained.
        """
        import torch

        torch.manual_seed(42)  # a run goes on only from the weights that it began with
        backbone, device = self.backbone or str(self.out / "backbone"), cma.training.choose_device()
        model = cma.RetrievalModel(*cma.load_backbone(backbone, device=device))
        if trained:
            model.load_adapter(self.out / "runs" / self.few_steps().name, "rehearsal")
        else:
            model.add_adapter("rehearsal", cma.recipes.recipe(self.like).adapter_config())
        return model


def make(it: Rehearsal) -> dict:
    """The source folder, and unless a backbone is given a CLIP of ViT-B/32's dimensions with random
    weights.

    That takes the time and the memory of `openai/clip-vit-base-patch32`, and retrieves nothing. Its
    tokenizer is the bundled mini's, with room for 77 tokens.
    """
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, set_seed

    make_source(it.like, it.items, it.out, it.workers)
    if it.backbone is None:
        tokenizer, config = cma.load_backbone("mini")[1].tokenizer, CLIPConfig()
        tokenizer.model_max_length = config.text_config.max_position_embeddings
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config.text_config, name, getattr(tokenizer, name))
        set_seed(0)
        for part in (CLIPModel(config).half(), tokenizer, CLIPImageProcessorPil()):
            part.save_pretrained(it.out / "backbone")
    return {"message": f"{it.items:,} items"}


def prepare_twice(it: Rehearsal) -> dict:
    """The dataset folder; the second time nothing is decoded, so it is the time to list files and
    read.
    """
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        annotations = read_source(it.like, it.items, it.out / "source")
        prepare(annotations, it.out / "source", it.out / "dataset", workers=it.workers)
        seconds.append(round(time.perf_counter() - start, 2))
    counts = read_object(it.out / "dataset" / SEAL)["counts"]
    met = ", ".join(
        f"{split} {one['found']:,} / {one['expected']:,}" for split, one in counts.items()
    )
    message = f"{met} found / expected; again, without decoding: {seconds[1]} s"
    return {"message": message, "seconds": seconds, "counts": counts}


def measure(it: Rehearsal) -> dict:
    """What `cma.training.plan` says of the recipe, at its own batch size, on all training items."""
    planned = cma.training.plan(it.model(), it.split("train"), it.whole_recipe())
    return {"message": str(planned)} | asdict(planned)


def train_until_killed(it: Rehearsal) -> dict:
    """The training from its beginning, which ends by SIGKILL within its second epoch."""

    def arm(record: object) -> None:
        after = record.history[0]["seconds"] / 4
        threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    return _train(it, replace(it.few_steps(), if_exists="replace"), arm)


def resume(it: Rehearsal) -> dict:
    """The same call again. Raises ValueError unless it goes on from the epochs of the run that was
    killed.
    """
    import torch

    config = it.few_steps()
    checkpoint = it.out / "runs" / config.name / "checkpoint.pt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    before = json.loads(state["record"])["history"]
    done = _train(it, config)
    if not before or done["history"][: len(before)] != before:
        raise ValueError(
            f"{checkpoint}: the resumed run does not begin with the epochs before the kill"
        )
    return done | {
        "message": f"went on after epoch {len(before)} of {config.epochs}, {done['steps']} steps"
    }


def evaluate_gallery(it: Rehearsal) -> dict:
    """Recall of the trained adapter on the test split; with random weights it is chance."""
    test = it.split("test", it.gallery)
    metrics = cma.evaluate(it.model(trained=True), test, replace(it.few_steps(), eval_items=None))
    recall, (low, high) = (one["text_to_visual"]["R@1"] for one in (metrics, metrics["intervals"]))
    message = f"{len(test):,} / {len(it.split('test')):,} test items; "
    message += f"text-to-{test.kind} R@1 {recall:.1f} % "
    message += f"(N = {metrics['texts']:,}, 95 % interval {low:.1f} to {high:.1f})"
    return {"message": message, "metrics": metrics}


def explore(it: Rehearsal) -> dict:
    """An index of test items, built, loaded again and asked with a caption."""
    test, model = it.split("test", it.gallery), it.model(trained=True)
    start = time.perf_counter()
    explorer.MediaIndex.build(model, test, it.few_steps(), folder=it.out / "index")
    built = time.perf_counter() - start
    index = explorer.MediaIndex.load(it.out / "index", model)
    if len(index) != len(test):
        raise ValueError(
            f"{it.out / 'index'}: {len(index):,} / {len(test):,} items found / expected"
        )
    start = time.perf_counter()
    best = index.query(test.captions[0], 5)
    asked = time.perf_counter() - start
    message = f"{len(index):,} test items in the index after {built:.1f} s; "
    message += f"a sentence answered in {asked:.3f} s"
    return {"message": message, "best": best, "seconds": [built, asked]}


def _train(
    it: Rehearsal, config: cma.TrainConfig, on_epoch: Callable[[object], None] | None = None
) -> dict:
    record = cma.train(it.model(), it.split("train", 2 * it.batch_size), config, on_epoch)
    return {"history": record.history, "steps": record.total_steps, "seconds": record.seconds}
