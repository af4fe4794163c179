"""The training loop: one process, seeded, and resumed from its last epoch as if it had never stopped."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from .. import plots
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..losses import symmetric_cross_entropy
from ..model import RetrievalModel
from . import optim, resume, sampling
from .batches import Batch, make_pixels, read_batches
from .evaluation import autocast, compare, evaluate
from .record import RunRecord
from .resume import RunState

CURVE_POINTS = 50  # an epoch, at most


def train(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    on_epoch: Callable[[RunRecord], None] | None = None,
) -> RunRecord:
    """Train the active adapter of `model` on a train split, keep the epoch `select_on` names, and test it.

    "val" and "test" keep the epoch of the highest text-to-visual R@1. Writes into `runs_dir/name`: the kept
    adapter, `best/` and `last/`, `run.json`, `curve.png` and `checkpoint.pt`, from which a run of the same
    settings is resumed (or returned, if it is finished). `on_epoch` gets the record after every epoch.
    The same seed, initial adapter and number of threads give the same result, bitwise on a CPU in float32.
    The seed decides held-out items, batches and dropout; the adapter's initial weights are the caller's.
    The global random state is left as it was. What is needed at the end, the split that is reported on with
    its captions and media and a folder to write to, is looked for before the first step. Raises ValueError
    for no active adapter, data without it, another run in the folder, or a loss that is not finite, OSError
    for a folder that cannot be written to.
    """
    _check(model, dataset)
    training_set, watched = sampling.splits_of_a_run(dataset, config)
    final = sampling.reported(dataset, watched, config)
    needed = list(filter(None, (training_set, watched, final)))
    for split in needed:
        split.require_captions()
    record = _describe(model, dataset, training_set, config)
    state = resume.find(record) if config.if_exists == "resume" else None
    expected = "" if dataset.expected is None else f" / {dataset.expected:,} expected"
    print(f"{dataset.name} train: {len(dataset):,} items found{expected}, {record.held_out_items:,} held out")
    print(record.epoch_counts)
    if state and state.record.finished:
        print(
            f"{record.folder}: finished {state.record.finished} with the same settings; its adapter is loaded"
        )
        resume.put(model, state.kept)
        return state.record

    for split in needed:
        split.require_media()
    resume.require_writable(record.folder)
    if config.if_exists == "replace":
        resume.remove(record.folder)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    run = _Run(model, training_set, watched, config, state or RunState(record))
    try:
        run.epochs(on_epoch)
    finally:
        model.eval()
    record = run.state.record
    resume.put(model, run.state.kept)
    model.save_adapter(model.active, record.folder)
    record.metrics = evaluate(model, final, config, run.pixels)
    record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
    plots.save(plots.training_curve(record), record.folder / "curve.png")
    record.stamp(model.device).save(record.folder)
    return record


class _Run:
    """What the epochs of one run share; `state` is what goes from one to the next, and to disk."""

    def __init__(
        self,
        model: RetrievalModel,
        training_set: RetrievalDataset,
        watched: RetrievalDataset | None,
        config: TrainConfig,
        state: RunState,
    ) -> None:
        self.model, self.training_set, self.watched = model, training_set, watched
        self.config, self.state = config, state
        self.pixels = make_pixels(model, config)
        self.ids, cut = model.tokenize(training_set.captions, config.max_words)
        if cut:
            print(f"{cut:,} of {len(self.ids):,} captions were cut to {self.ids.shape[1]} tokens")
        groups = optim.parameter_groups(model, model.trainable_parameters(), config.weight_decay)
        self.optimizer = optim.build_optimizer(config.optimizer, groups, config.lr)
        if done := len(state.record.history):
            print(f"{state.record.folder}: resumed after epoch {done} of {config.epochs}")
            resume.put(model, state.last)
            self.optimizer.load_state_dict(state.optimizer)

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """From the state (or the first epoch) to the last; best, last and checkpoint are saved after each."""
        model, state, record = self.model, self.state, self.state.record
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for epoch in range(len(record.history), self.config.epochs):
                torch.manual_seed(self.config.seed * 1_000_003 + epoch)  # the dropout of this epoch
                entry = self.epoch(epoch)
                if self.watched is not None:
                    entry["validation"] = evaluate(model, self.watched, self.config, self.pixels, samples=0)
                    tqdm.write(_say(entry, record))
                record.history.append(entry)
                state.last, state.optimizer = resume.take(model), self.optimizer.state_dict()
                if _is_best(record.history):
                    state.best, state.best_epoch = state.last, epoch + 1
                    model.save_adapter(model.active, record.folder / "best")
                record.selected_epoch = epoch + 1 if record.select_on == "last" else state.best_epoch
                model.save_adapter(model.active, record.folder / "last")
                state.save()
                if on_epoch:
                    on_epoch(record)

    def epoch(self, epoch: int) -> dict:
        """One pass over an epoch's batches (from 0); what history keeps of it."""
        config, start, losses, curve = self.config, time.perf_counter(), [], []
        batches = sampling.epoch_batches(self.training_set, config, epoch)
        total, every = config.epochs * len(batches), max(1, len(batches) // CURVE_POINTS)
        self.model.train()
        with tqdm(total=len(batches), desc=f"epoch {epoch + 1}/{config.epochs}", mininterval=1) as bar:
            for batch in read_batches(self.training_set, self.ids, self.pixels, batches, config.workers):
                step = epoch * len(batches) + len(losses)
                rate = config.lr * optim.rate_factor(config.optimizer, step, total, config.warmup)
                loss, _ = train_step(self.model, self.optimizer, batch.to(self.model.device), rate, config)
                losses.append(loss)
                if len(losses) % every == 0:
                    curve.append([step + 1, round(sum(losses[-every:]) / every, 5), rate])
                bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)
                bar.update()
        return {
            "epoch": epoch + 1,
            "steps": len(batches),
            "loss": sum(losses) / len(losses),
            "seconds": round(time.perf_counter() - start, 3),
            "curve": curve,  # [step, mean loss since the last point, rate]
        }


def train_step(
    model: RetrievalModel, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, config: TrainConfig
) -> tuple[float, float]:
    """One update at `rate`: (loss before it, gradient norm before clipping). ValueError if not finite."""
    optim.set_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    loss = batch_loss(model, batch, config)
    loss.backward()
    norm = clip_grad_norm_(model.trainable_parameters(), config.max_grad_norm)
    if not (loss.isfinite() and norm.isfinite()):
        raise ValueError(
            f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step taken; "
            "lower lr, or look for broken media among the items of this batch"
        )
    optimizer.step()
    return loss.item(), norm.item()


def batch_loss(model: RetrievalModel, batch: Batch, config: TrainConfig) -> Tensor:
    """The symmetric cross-entropy of exp(logit_scale) · similarity over a batch (paper section 3.4)."""
    with autocast(model, config.precision):
        text = model.encode_text(batch.input_ids)
        frames = model.encode_videos(batch.frames, batch.mask)
    similarity = compare(text, frames, batch.mask, config)
    return symmetric_cross_entropy(model.logit_scale * similarity, batch.item_ids)


def _check(model: RetrievalModel, dataset: RetrievalDataset) -> None:
    if model.active is None:
        raise ValueError(
            "no adapter is active, so nothing would be trained: model.add_adapter(name, config), then "
            "model.set_adapter(name)"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: cma.train runs in one process; start it without torchrun"
        )
    if dataset.split != "train":
        raise ValueError(
            f'{dataset.name}: expected its train split, found {dataset.split}: cma.data.load(folder, "train")'
        )


def _describe(
    model: RetrievalModel, dataset: RetrievalDataset, training_set: RetrievalDataset, config: TrainConfig
) -> RunRecord:
    """The record as it is before the first step."""
    return dataclasses.replace(
        RunRecord.describe(model, dataset, config),
        select_on=config.select_on,
        train_items=len(training_set),
        held_out_items=len(dataset) - len(training_set),
        data_digest=sampling.digest(training_set),
        epoch_counts=sampling.describe_epoch(training_set, config),
        steps_per_epoch=sampling.steps_per_epoch(training_set, config),
        total_steps=config.epochs * sampling.steps_per_epoch(training_set, config),
        folder=Path(config.runs_dir) / config.name,
    )


def _recall(entry: dict) -> float:
    return entry["validation"]["text_to_visual"]["R@1"] if "validation" in entry else 0.0


def _is_best(history: list[dict]) -> bool:
    """Whether the last epoch beats all before it in text-to-visual R@1; without validation it always does."""
    if "validation" not in history[-1]:
        return True
    return all(_recall(history[-1]) > _recall(entry) for entry in history[:-1])


def _say(entry: dict, record: RunRecord) -> str:
    found = entry["validation"]
    label = f" {record.label}" if record.select_on == "test" else ""
    return (
        f"epoch {entry['epoch']}: loss {entry['loss']:.3f}, {found['split']}{label} R@1 text→visual "
        f"{found['text_to_visual']['R@1']:.1f}, visual→text {found['visual_to_text']['R@1']:.1f} "
        f"({found['texts']:,} texts, {found['items']:,} items)"
    )
