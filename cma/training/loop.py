"""The training loop: one process, seeded; a resumed run gives the same numbers as one that never stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..losses import symmetric_cross_entropy
from ..model import RetrievalModel
from . import batches, optim, resume
from .batches import Batch, Splits
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
    """Train the active adapter of `model` on a train split, keep one epoch's adapter, and evaluate it.

    `config.select_on` says which epoch is kept: "val" and "test" keep the one of the highest text-to-image
    (or text-to-video) R@1 on that split. `on_epoch` is called with the record after every epoch. Returns the
    record and writes into `runs_dir/name`: the kept adapter, `best/` and `last/`, `run.json`, `curve.png`
    and `checkpoint.pt`. A run of the same settings is resumed from there, or returned if it is finished.
    The same seed, initial adapter and number of threads give the same result, bitwise on a CPU in float32.
    The seed decides held-out items, batches and dropout, not the adapter's initial weights; the global random
    state is not changed. Raises ValueError for no active adapter, data that is missing, another run in the
    folder, or a loss that is not finite; OSError if the folder cannot be written to. All but the loss is
    checked before the first step.
    """
    _check(model, dataset)
    splits = batches.choose_splits(dataset, config)
    needed = [split for split in splits if split is not None]
    for split in needed:
        split.require_captions()
    record = RunRecord.describe(model, dataset, config, splits.training)
    state = resume.find(record) if config.if_exists == "resume" else None
    expected = "" if dataset.expected is None else f" / {dataset.expected:,} expected"
    print(f"{dataset.name} train: {len(dataset):,} items found{expected}, {record.held_out_items:,} held out")
    print(record.epoch_counts)
    if state and state.record.finished:
        print(f"{record.folder}: this run was finished on {state.record.finished}; its adapter is loaded")
        resume.set_parameters(model, state.kept)
        return state.record

    for split in needed:
        split.require_media()
    resume.require_writable(record.folder)
    if config.if_exists == "replace":
        resume.remove(record.folder)
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    run = _Run(model, splits, config, state or RunState(record))
    try:
        run.epochs(on_epoch)
    finally:
        model.eval()
    record = run.state.record
    resume.set_parameters(model, run.state.kept)
    model.save_adapter(model.active, record.folder)
    record.metrics = evaluate(model, splits.final, config, run.pixels)
    record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
    _draw_curve(record)
    record.stamp(model.device).save(record.folder)
    return record


@dataclass
class _Run:
    """What the epochs of one run share; `state` goes from one epoch to the next, and to disk."""

    model: RetrievalModel
    splits: Splits
    config: TrainConfig
    state: RunState

    def __post_init__(self) -> None:
        model, config, training = self.model, self.config, self.splits.training
        self.pixels = batches.Pixels(model.processor, config)
        self.ids, cut = model.tokenize(training.captions, config.max_words)
        if cut:
            print(f"{cut:,} of {len(self.ids):,} captions were cut to {self.ids.shape[1]} tokens")
        self.optimizer = optim.build_optimizer(model, config)
        if done := len(self.state.record.history):
            print(f"{self.state.record.folder}: resumed after epoch {done} of {config.epochs}")
            resume.set_parameters(model, self.state.last)
            self.optimizer.load_state_dict(self.state.optimizer)

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """Run the epochs that are left; best, last and checkpoint are saved after each."""
        model, state, record = self.model, self.state, self.state.record
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for epoch in range(len(record.history), self.config.epochs):
                torch.manual_seed(self.config.seed * 1_000_003 + epoch)  # the dropout of this epoch
                entry = self.epoch(epoch)
                if (watched := self.splits.watched) is not None:
                    entry["validation"] = evaluate(model, watched, self.config, self.pixels, samples=0)
                    tqdm.write(_sentence(entry, record))
                record.history.append(entry)
                state.last, state.optimizer = resume.copy_parameters(model), self.optimizer.state_dict()
                if _is_best(record.history):
                    state.best, state.best_epoch = state.last, epoch + 1
                    model.save_adapter(model.active, record.folder / "best")
                record.selected_epoch = epoch + 1 if record.select_on == "last" else state.best_epoch
                model.save_adapter(model.active, record.folder / "last")
                state.save()
                if on_epoch:
                    on_epoch(record)

    def epoch(self, epoch: int) -> dict:
        """Train on the batches of one epoch (from 0); returns its entry of the record's history."""
        config, training, start = self.config, self.splits.training, time.perf_counter()
        order = batches.epoch_batches(training, config, epoch)
        total, every = config.epochs * len(order), max(1, len(order) // CURVE_POINTS)
        read = batches.read_batches(training, self.ids, self.pixels, order, config.workers)
        losses, curve = [], []
        self.model.train()
        bar = tqdm(read, f"epoch {epoch + 1}/{config.epochs}", len(order), mininterval=1)
        for step, batch in enumerate(bar, start=epoch * len(order)):
            rate = config.lr * optim.rate_factor(config.optimizer, step, total, config.warmup)
            loss, _ = train_step(self.model, self.optimizer, batch.to(self.model.device), rate, config)
            losses.append(loss)
            if len(losses) % every == 0:
                curve.append([step + 1, round(sum(losses[-every:]) / every, 5), rate])
            bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)
        return {
            "epoch": epoch + 1,
            "steps": len(order),
            "loss": sum(losses) / len(losses),
            "seconds": round(time.perf_counter() - start, 3),
            "curve": curve,  # [step, mean loss since the last point, rate]
        }


def train_step(
    model: RetrievalModel, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, config: TrainConfig
) -> tuple[float, float]:
    """One update of the active adapter at the learning rate `rate`.

    Returns (loss before the update, gradient norm before clipping). Raises ValueError, without an update, if
    one of them is not finite.
    """
    optim.set_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    loss = batch_loss(model, batch, config)
    loss.backward()
    norm = clip_grad_norm_(model.trainable_parameters(), config.max_grad_norm)
    if not (loss.isfinite() and norm.isfinite()):
        found = f"loss {loss.item()} with gradient norm {norm.item()} at rate {rate:.2e}: no step taken"
        raise ValueError(f"{found}; use a lower lr, or look for broken media in this batch")
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
        raise ValueError("no adapter is active: use model.add_adapter(name, config), model.set_adapter(name)")
    if (count := os.environ.get("WORLD_SIZE", "1")) not in ("0", "1"):
        raise RuntimeError(f"WORLD_SIZE={count}: cma.train runs in one process; start it without torchrun")
    if dataset.split != "train":
        hint = 'cma.data.load(folder, "train")'
        raise ValueError(f"{dataset.name}: expected its train split, found {dataset.split}: {hint}")


def _is_best(history: list[dict]) -> bool:
    """Whether the last epoch has a higher R@1 than all before it; always without validation."""
    if "validation" not in history[-1]:
        return True
    *earlier, last = (entry["validation"]["text_to_visual"]["R@1"] for entry in history)
    return last > max(earlier, default=-1)


def _sentence(entry: dict, record: RunRecord) -> str:
    """One line about an epoch: its loss and the recall of the watched split."""
    found, kind = entry["validation"], record.kind
    label = f" {record.label}" if record.select_on == "test" else ""
    there, back = (found[direction]["R@1"] for direction in ("text_to_visual", "visual_to_text"))
    recalls = f"R@1 in %: text-to-{kind} {there:.1f}, {kind}-to-text {back:.1f}"
    counts = f"({found['texts']:,} texts, {found['items']:,} items)"
    return f"epoch {entry['epoch']}: loss {entry['loss']:.3f}, {found['split']}{label} {recalls} {counts}"


def _draw_curve(record: RunRecord) -> None:
    """Write `curve.png` into the record's folder; without matplotlib print one line instead."""
    try:
        from ..plots import save, training_curve
    except ImportError as error:
        print(f"{record.folder}: no curve.png is drawn ({error})")
    else:
        save(training_curve(record), record.folder / "curve.png")
