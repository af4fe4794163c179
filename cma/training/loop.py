"""The training loop: one process, seeded; a resumed run gives the same numbers as one that never stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..media import MediaError
from ..model import RetrievalModel
from . import batches, optim, precision, resume
from .batches import Batch, Splits
from .evaluation import evaluate
from .planning import plan
from .record import RunRecord, draw_curve
from .resume import EpochState, RunState
from .step import NotFinite, is_out_of_memory, random_state, set_random_state, train_step
from .stopping import Stopping

CURVE_POINTS = 50  # an epoch, at most
CHECKPOINT_SECONDS = 300  # so much work is lost at most when a run is killed


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
    and `checkpoint.pt`, every five minutes too. A run of the same settings is resumed from there, or returned
    if it is finished. If memory runs out, the micro-batch is halved and the run goes on from the same step;
    Ctrl-C and SIGTERM end it after a whole step, with a checkpoint.
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
    with resume.writing(record.folder):
        if config.if_exists == "replace":
            resume.remove(record.folder)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        if config.micro_batch == "auto":
            planned = plan(model, dataset, config)
            print(planned)
            config = replace(config, micro_batch=planned.pairs)
        try:
            run = _Run(model, splits, config, state or RunState(record))
            run.epochs(on_epoch)
            record = run.state.record
            resume.set_parameters(model, run.state.kept)
            record.metrics = evaluate(model, splits.final, config, run.pixels)
        finally:
            model.eval()
            precision.restore(model)
        model.save_adapter(model.active, record.folder)
        record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
        draw_curve(record)
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
        self.optimizer = precision.prepare(model, config)
        done, part = len(self.state.record.history), self.state.epoch
        if done or part:
            where = f"epoch {done}" + (f" and {len(part.losses)} steps" if part else "")
            print(f"{self.state.record.folder}: resumed after {where} of {config.epochs} epochs")
            resume.set_parameters(model, self.state.last)
            self.optimizer.load_state_dict(self.state.optimizer)

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """Run the epochs that are left; best, last and checkpoint are saved after each."""
        model, state, record = self.model, self.state, self.state.record
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for epoch in range(len(record.history), self.config.epochs):
                torch.manual_seed(self.config.seed * 1_000_003 + epoch)  # the dropout of this epoch
                entry = self.epoch(epoch, state.epoch or EpochState())
                if (watched := self.splits.watched) is not None:
                    entry["validation"] = evaluate(model, watched, self.config, self.pixels, samples=0)
                    tqdm.write(_sentence(entry, record))
                record.history.append(entry)
                state.last = resume.copy_parameters(model)
                if _is_best(record.history):
                    state.best, state.best_epoch = state.last, epoch + 1
                    model.save_adapter(model.active, record.folder / "best")
                record.selected_epoch = epoch + 1 if record.select_on == "last" else state.best_epoch
                self.save()
                if on_epoch:
                    on_epoch(record)

    def epoch(self, epoch: int, part: EpochState) -> dict:
        """Train on the batches of one epoch (from 0), after those of `part`; returns its entry of history.

        A checkpoint is written every `CHECKPOINT_SECONDS`, and when the run stops: for a loss that is not
        finite, media that cannot be read, Ctrl-C or SIGTERM.
        """
        config, training, device = self.config, self.splits.training, self.model.device
        order, done = batches.epoch_batches(training, config, epoch), len(part.losses)
        total, every = config.epochs * len(order), max(1, len(order) // CURVE_POINTS)
        read = batches.read_batches(training, self.ids, self.pixels, order[done:], config.workers)
        if part.random:
            set_random_state(device, part.random)
        start = saved = time.perf_counter()
        start -= part.seconds
        self.model.train()
        bar = tqdm(read, f"epoch {epoch + 1}/{config.epochs}", len(order), initial=done, mininterval=1)
        with Stopping() as stopping:
            steps = enumerate(self.readable(bar, part, stopping), start=epoch * len(order) + done)
            for step, batch in steps:
                rate = config.lr * optim.rate_factor(config.optimizer, step, total, config.warmup)
                before = random_state(device)
                try:
                    loss = self.step(batch.to(device), rate, before)
                except NotFinite as error:
                    set_random_state(device, before)
                    self.save(part)
                    ids = ", ".join(dict.fromkeys(training.items[i].id for i in batch.item_ids.tolist()))
                    kept = f"the adapter before this step is in {self.state.record.folder / 'last'}"
                    raise NotFinite(f"step {step + 1}: {error}; {kept}; items of the batch: {ids}") from None
                part.losses.append(loss)
                if len(part.losses) % every == 0:
                    part.curve.append([step + 1, round(sum(part.losses[-every:]) / every, 5), rate])
                part.seconds = round(time.perf_counter() - start, 3)
                bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)
                if stopping.asked:
                    break
                if time.perf_counter() - saved >= CHECKPOINT_SECONDS:
                    saved = time.perf_counter()
                    self.save(part)
            if stopping.asked or self.splits.watched:  # the evaluation may take long, or fail
                self.save(part)
            stopping.end_if_asked(self.state.record.folder)
        losses, seconds = part.losses, part.seconds
        mean = sum(losses) / len(losses)
        entry = {"epoch": epoch + 1, "steps": len(order), "loss": mean, "seconds": seconds}
        return entry | {"curve": part.curve}

    def readable(self, read: Iterable[Batch], part: EpochState, stopping: Stopping) -> Iterator[Batch]:
        """The batches; where one cannot be read, the run stops after a checkpoint of the steps before it."""
        try:
            yield from read
        except MediaError:
            self.save(part)
            stopping.end_if_asked(self.state.record.folder)  # a worker may get the signal too
            raise

    def step(self, batch: Batch, rate: float, before: list[Tensor]) -> float:
        """One update; returns the loss.

        If memory runs out, the micro-batch is halved, the random state is again as it was `before` the step,
        and the step is tried again.
        """
        while True:
            try:
                return train_step(self.model, self.optimizer, batch, rate, self.config)[0]
            except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is a RuntimeError
                size = min(self.config.micro_batch or len(batch.input_ids), len(batch.input_ids))
                if size == 1 or not is_out_of_memory(error):
                    raise
            self.config = replace(self.config, micro_batch=-(-size // 2))
            tqdm.write(f"out of memory with {size} pairs at once; going on with {self.config.micro_batch}")
            self.optimizer.zero_grad(set_to_none=True)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(self.model.device, before)

    def save(self, part: EpochState | None = None) -> None:
        """Write the checkpoint and the adapter `last/`; `part` is an epoch that is not finished."""
        model, state = self.model, self.state
        if part:
            part.random = random_state(model.device)
        state.last, state.optimizer = resume.copy_parameters(model), self.optimizer.state_dict()
        state.epoch = part
        model.save_adapter(model.active, state.record.folder / "last")
        state.save()


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
