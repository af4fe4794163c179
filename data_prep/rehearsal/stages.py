"""The steps of a run on a rehearsal, each as a user takes it; every function runs in a process of its own."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.dataset import SEAL, read_object
from data_prep.prepare import prepare
from data_prep.rehearsal.figures import Figure
from data_prep.rehearsal.likeness import LIKENESSES, expected
from data_prep.rehearsal.random_clip import save_random_clip
from data_prep.rehearsal.source import make_source, read_source
from data_prep.rehearsal.watch import KILL

if TYPE_CHECKING:
    from cma import RetrievalModel, TrainConfig
    from cma.data import RetrievalDataset

WIDTH = 512  # of the joint space of ViT-B/32


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed: a benchmark at `items` items, in the folder `out`, and how much of the run.

    `backbone` is what `cma.load_backbone` takes; None makes a ViT-B/32 of random weights in `out`.
    """

    like: str
    items: int
    out: Path
    seed: int = 0
    workers: int = 2
    backbone: str | None = None
    recipe: str = "paper"  # a variant of `cma.recipes`; float32 where the paper has no recipe
    steps: int = 4  # of training, in two epochs
    batch_size: int = 8
    micro_batch: int = 4
    frames: int | None = None  # of a clip in training, evaluation and index; None: as many as in the recipe
    gallery: int | None = None  # at most so many test items are evaluated; None: all
    indexed: int = 100  # at most so many test items are put into the index

    def whole_recipe(self) -> TrainConfig:
        """The settings of the recipe on this machine, the epoch chosen on test."""
        from cma.recipes import recipe

        one = recipe(self.like)
        config = one.train_config("float32" if self.recipe == "paper" and not one.paper else self.recipe)
        return replace(config, workers=self.workers, runs_dir=self.out / "runs", select_on="test")

    def few_steps(self) -> TrainConfig:
        """The recipe in small batches and two epochs, evaluated on as many items as a batch has."""
        micro = min(self.micro_batch, self.batch_size)
        small = {"epochs": 2, "epoch_unit": "items", "batch_size": self.batch_size, "micro_batch": micro}
        frames = self.frames or self.whole_recipe().max_frames
        return self.whole_recipe().merge(small | {"eval_items": self.batch_size, "max_frames": frames})

    def split(self, name: str) -> RetrievalDataset:
        """A split of the prepared dataset."""
        from cma import data

        return data.load(self.out / "dataset", name)

    def model(self, adapter: Path | None = None) -> RetrievalModel:
        """The backbone with a new adapter of the recipe's size, or with the one in the folder `adapter`.

        It is on the GPU where there is one.
        """
        import torch

        from cma import RetrievalModel, load_backbone
        from cma.recipes import recipe
        from cma.training import choose_device

        backbone = self.backbone or str(self.out / "backbone")
        model = RetrievalModel(*load_backbone(backbone, device=choose_device()))
        torch.manual_seed(self.seed)
        if adapter:
            model.load_adapter(adapter, "rehearsal")
        else:
            model.add_adapter("rehearsal", recipe(self.like).adapter_config())
        model.set_adapter("rehearsal")
        return model


def make(it: Rehearsal, figures: Sequence[Figure]) -> dict:
    """The source folder, and the backbone if none is given."""
    make_source(it.like, it.items, it.out, figures, it.seed, it.workers)
    if it.backbone is None:
        save_random_clip(it.out / "backbone", it.seed)
    return {"said": f"{it.items:,} items"}


def prepare_twice(it: Rehearsal) -> dict:
    """The dataset folder; the second time nothing is decoded, so it is the time to list files and read."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        annotations = read_source(it.like, it.out / "source")
        prepare(annotations, it.out / "source", it.out / "dataset", workers=it.workers)
        seconds.append(round(time.perf_counter() - start, 2))
    counts = read_object(it.out / "dataset" / SEAL)["counts"]
    found = ", ".join(f"{split} {one['found']:,} / {one['expected']:,}" for split, one in counts.items())
    said = f"{found} found / expected; again, without decoding: {seconds[1]} s"
    return {"said": said, "first_seconds": seconds[0], "again_seconds": seconds[1], "counts": counts}


def measure(it: Rehearsal) -> dict:
    """What `cma.training.plan` says of the recipe, at its own batch size, on all training items."""
    from cma import training

    config = replace(it.whole_recipe(), max_frames=it.few_steps().max_frames)
    found = training.plan(it.model(), it.split("train"), config)
    return {"said": str(found), "advice": found.advice, "hours": round(found.hours, 1)} | asdict(found)


def train_until_killed(it: Rehearsal) -> dict:
    """The training from its beginning, which ends by SIGKILL within its second epoch."""

    def arm(record: object) -> None:
        after = record.history[0]["seconds"] / 4
        threading.Timer(after, lambda: os.kill(os.getpid(), KILL)).start()

    return _train(it, replace(it.few_steps(), if_exists="replace"), arm)


def resume(it: Rehearsal) -> dict:
    """The same call again. Raises ValueError unless it goes on from the epochs of the run that was killed."""
    import torch

    checkpoint = it.out / "runs" / it.few_steps().name / "checkpoint.pt"
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    before = json.loads(state["record"])["history"]
    result = _train(it, it.few_steps())
    if not before or result["history"][: len(before)] != before:
        raise ValueError(f"{checkpoint}: the resumed run does not begin with the epochs before the kill")
    epochs = it.few_steps().epochs
    return result | {"said": f"went on after epoch {len(before)} of {epochs}, {result['steps']} steps in all"}


def evaluate_gallery(it: Rehearsal) -> dict:
    """Recall of the trained adapter on the test split; with random weights it is chance."""
    from cma import training

    config, every = replace(it.few_steps(), eval_items=None), it.split("test")
    test = every.subset(it.gallery)
    start = time.perf_counter()
    found = training.evaluate(it.model(it.out / "runs" / config.name), test, config)
    seconds = time.perf_counter() - start
    recall, interval = found["text_to_visual"]["R@1"], found["intervals"]["text_to_visual"]["R@1"]
    said = f"{len(test):,} / {len(every):,} test items; text-to-{test.kind} R@1 {recall:.1f} % "
    said += f"(N = {found['texts']:,}, 95 % interval {interval[0]:.1f} to {interval[1]:.1f})"
    return {"said": said, "seconds": round(seconds, 2), "metrics": found}


def rank_published(it: Rehearsal) -> dict:
    """Random embeddings of the published test gallery, compared and ranked."""
    import torch

    from cma import metrics, training

    counts, config, test = expected(LIKENESSES[it.like].splits)["test"], it.whole_recipe(), it.split("test")
    frames = 1 if test.kind == "image" else config.max_frames
    torch.manual_seed(it.seed)
    text, visual = torch.randn(counts.captions, WIDTH), torch.randn(counts.items, frames, WIDTH)
    owners = torch.arange(counts.captions) * counts.items // counts.captions
    start = time.perf_counter()
    similarity = training.compare(text, visual, torch.ones(visual.shape[:2]), config)
    compared = time.perf_counter()
    metrics.retrieval_metrics(similarity, owners, test.protocol["visual_to_text"])
    seconds = [round(compared - start, 2), round(time.perf_counter() - compared, 2)]
    size = f"{counts.captions:,} texts × {counts.items:,} items × {frames} frames × {WIDTH}"
    said = f"{size}, random: compared in {seconds[0]} s, ranked in {seconds[1]} s"
    return {"said": said, "compare_seconds": seconds[0], "rank_seconds": seconds[1]}


def explore(it: Rehearsal) -> dict:
    """An index of test items, built, loaded again and asked with a caption; then with the captions of all."""
    from cma import metrics
    from cma.search import MediaIndex

    config, every = it.few_steps(), it.split("test")
    test, model = every.subset(it.indexed), it.model(it.out / "runs" / config.name)
    start = time.perf_counter()
    MediaIndex.build(model, test, config, folder=it.out / "index")
    built = time.perf_counter()
    index = MediaIndex.load(it.out / "index", model)
    asked = time.perf_counter()
    best = index.query(test.captions[0], 5)
    answered = time.perf_counter()
    if len(index) != len(test):
        raise ValueError(f"{it.out / 'index'}: {len(index):,} / {len(test):,} items found / expected")
    every_text, owners = index.scores(index.captions), index.text_to_item
    recall = metrics.retrieval_metrics(every_text, owners, test.protocol["visual_to_text"])["text_to_visual"]
    low, high = metrics.bootstrap_interval(metrics.ranks(every_text, owners), owners)
    seconds = [round(built - start, 2), round(answered - asked, 3)]
    said = f"{len(index):,} / {len(every):,} test items in the index; a sentence answered in {seconds[1]} s; "
    said += f"R@1 {recall['R@1']:.1f} % (N = {len(owners):,}, 95 % interval {low:.1f} to {high:.1f})"
    cost = {"build_seconds": seconds[0], "query_seconds": seconds[1]}
    return {"said": said, "best": best, "text_to_visual": recall} | cost


def _train(it: Rehearsal, config: TrainConfig, on_epoch: Callable[[object], None] | None = None) -> dict:
    import cma

    dataset = it.split("train").subset(max(2, it.steps // 2 * it.batch_size))
    record = cma.train(it.model(), dataset, config, on_epoch)
    return {"history": record.history, "steps": record.total_steps, "seconds": record.seconds}
