"""The training loop, seeded: a resumed run gives the same numbers as one that never stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import TrainConfig
from ..data import RetrievalDataset
from ..media import MediaError
from ..model import RetrievalModel
from . import batches, devices, optim, precision, resume
from .batches import Batch, Splits
from .evaluation import evaluate
from .planning import plan
from .record import RunRecord, draw_curve, is_best, sentence
from .resume import EpochState, RunState
from .starting import check, check_processes
from .step import NotFinite, random_state, set_random_state, train_step
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

    `config.select_on` says which epoch is kept: "val" and "test" keep the best one on that split, by R@1 of
    text-to-image (or text-to-video) or by mR (`select_by`). `on_epoch` is called with the record after every
    epoch. Returns the record and writes into `runs_dir/name`: the kept adapter, `best/` and `last/`,
    `run.json`, `curve.png` and `checkpoint.pt`, every five minutes too. A run of the same settings is resumed
    from there, or returned if it is finished. If memory runs out, the micro-batch is halved and the run goes
    on from the same step; Ctrl-C and SIGTERM end it after a whole step, with a checkpoint.
    The same seed, initial adapter and number of threads give the same result, bitwise on a CPU in float32.
    The seed decides held-out items, batches and dropout, not the adapter's initial weights; the global random
    state is not changed. Raises ValueError for no active adapter, data that is missing, another run in the
    folder, or a loss that is not finite; OSError if the folder cannot be written to. All but the loss is
    checked before the first step.
    """
    with devices.joined(model.device), ExitStack() as held:
        with devices.together():
            check(model, dataset)
            splits = batches.choose_splits(dataset, config)
            needed = [split for split in splits if split is not None]
            for split in needed:
                split.require_captions()
            record = RunRecord.describe(model, dataset, config, splits.training)
        check_processes(record, splits.training, config)
        state = devices.by_first(lambda: resume.find(record) if config.if_exists == "resume" else None)
        expected = "" if dataset.expected is None else f" / {dataset.expected:,} expected"
        found = f"{dataset.name} train: {len(dataset):,} items found{expected}"
        devices.say(f"{found}, {record.held_out_items:,} held out")
        devices.say(record.epoch_counts)
        if state and state.record.finished:
            when = f"this run was finished on {state.record.finished}"
            devices.say(f"{record.folder}: {when}; its adapter is loaded")
            resume.set_parameters(model, state.kept)
            return state.record

        with devices.together():
            for split in needed:
                split.require_media()
            if devices.rank() == 0:
                held.enter_context(resume.writing(record.folder))
                if config.if_exists == "replace":
                    resume.remove(record.folder)
            if model.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(model.device)
        if config.micro_batch == "auto":
            with devices.together():
                planned = plan(model, dataset, config)
            devices.say(str(planned))
            config = replace(config, micro_batch=-devices.most(-planned.pairs)[0])
        try:
            run = _Run(model, splits, config, state or RunState(record))
            run.epochs(on_epoch)
            record = run.state.record
            resume.set_parameters(model, run.state.kept)
            record.metrics = evaluate(model, splits.final, config, run.pixels)
        finally:
            model.eval()
            precision.restore(model)
        with devices.together():
            record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
            record.stamp(model.device).hardware |= {"processes": devices.count()}
            if devices.rank() == 0:
                model.save_adapter(record.folder, model.active)
                draw_curve(record)
                record.save(record.folder)
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
            devices.say(f"{cut:,} of {len(self.ids):,} captions were cut to {self.ids.shape[1]} tokens")
        self.optimizer = precision.prepare(model, config)
        done, part = len(self.state.record.history), self.state.epoch
        if done or part:
            where = f"epoch {done}" + (f" and {len(part.losses)} steps" if part else "")
            devices.say(f"{self.state.record.folder}: resumed after {where} of {config.epochs} epochs")
            resume.set_parameters(model, self.state.last)
            self.optimizer.load_state_dict(self.state.optimizer)
        elif devices.count() > 1:
            resume.set_parameters(model, devices.by_first(lambda: resume.copy_parameters(model)))

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """Run the epochs that are left; best, last and checkpoint are saved after each."""
        model, state, record = self.model, self.state, self.state.record
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for epoch in range(len(record.history), self.config.epochs):
                seed = self.config.seed * 1_000_003 + epoch + (devices.rank() << 40)
                torch.manual_seed(seed)  # the dropout of this epoch
                entry = self.epoch(epoch, state.epoch or EpochState())
                if (watched := self.splits.watched) is not None:
                    entry["validation"] = evaluate(model, watched, self.config, self.pixels, samples=0)
                    devices.say(sentence(entry, record))
                record.history.append(entry)
                state.last = resume.copy_parameters(model)
                if best := is_best(record.history, self.config.select_by):
                    state.best, state.best_epoch = state.last, epoch + 1
                record.selected_epoch = epoch + 1 if record.select_on == "last" else state.best_epoch
                self.save(places=("best", "last") if best else ("last",))
                with devices.together():
                    if on_epoch and devices.rank() == 0:
                        on_epoch(record)

    def epoch(self, epoch: int, part: EpochState) -> dict:
        """Train on the batches of one epoch (from 0), after those of `part`; returns its entry of history.

        A checkpoint is written every `CHECKPOINT_SECONDS`, and when the run stops: for a loss that is not
        finite, media that cannot be read, Ctrl-C or SIGTERM.
        """
        config, training, device = self.config, self.splits.training, self.model.device
        order, done = batches.epoch_batches(training, config, epoch), len(part.losses)
        total, every = config.epochs * len(order), max(1, len(order) // CURVE_POINTS)
        own = [batch[devices.own_share(len(batch))] for batch in order[done:]]
        read = batches.read_batches(training, self.ids, self.pixels, own, config.workers)
        if len(part.random) == devices.count():  # else it was left by another number of processes
            set_random_state(device, part.random[devices.rank()])
        start = saved = time.perf_counter()
        start -= part.seconds
        self.model.train()
        name = f"epoch {epoch + 1}/{config.epochs}"
        bar = devices.bar(read, name, len(order), initial=done, mininterval=1)
        with bar, Stopping() as stopping:
            steps = enumerate(self.readable(bar, part, stopping), start=epoch * len(order) + done)
            for step, batch in steps:
                rate = config.lr * optim.rate_factor(config.optimizer, step, total, config.warmup)
                before = random_state(device)
                try:
                    loss = self.step(batch, rate, before)
                except (MemoryError, NotFinite) as error:  # in all processes
                    set_random_state(device, before)
                    kept = self.save_if_sound(part)
                    if isinstance(error, NotFinite):
                        items = training.text_to_item[order[len(part.losses)]].tolist()  # of all processes
                        ids = ", ".join(dict.fromkeys(training.items[i].id for i in items))
                        hint = "another lr is another run: give it another name"
                        said = f"step {step + 1}: {error}; {hint}; {kept}; items of the batch: {ids}"
                        error = NotFinite(said)
                    devices.raise_once(error)
                part.losses.append(loss)
                if len(part.losses) % every == 0:
                    part.curve.append([step + 1, round(sum(part.losses[-every:]) / every, 5), rate])
                part.seconds = round(time.perf_counter() - start, 3)
                bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)
                due = time.perf_counter() - saved >= CHECKPOINT_SECONDS
                stopping.asked, due = devices.most(stopping.asked, due)  # one for all is enough
                if stopping.asked:
                    break
                if due:
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
            yield from devices.guarded(read)
        except (MediaError, devices.Stopped):
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
                with devices.together():
                    here = batch.to(self.model.device)
                return train_step(self.model, self.optimizer, here, rate, self.config)[0]
            except (MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is a RuntimeError
                if not devices.is_out_of_memory(error):
                    raise
                pairs = max(devices.everyones(len(batch.input_ids)))
                size = min(self.config.micro_batch or pairs, pairs)
                if size == 1:
                    less = "set checkpoint_activations=True, or fewer max_frames"
                    raise MemoryError(f"one pair at once does not fit ({error}); {less}") from error
            self.config = replace(self.config, micro_batch=-(-size // 2))
            devices.say(f"out of memory with {size} pairs at once; going on with {self.config.micro_batch}")
            self.optimizer.zero_grad(set_to_none=True)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(self.model.device, before)

    def save_if_sound(self, part: EpochState) -> str:
        """A checkpoint, unless the adapter has diverged; returns which adapter `last/` has then."""
        last = self.state.record.folder / "last"
        if not all(parameter.isfinite().all() for parameter in self.model.trainable_parameters()):
            return f"the adapter had diverged before, so the checkpoint and {last} are older"
        self.save(part)
        return f"the adapter before this step is in {last}"

    def save(self, part: EpochState | None = None, places: tuple[str, ...] = ("last",)) -> None:
        """Write the adapter into `places` and the checkpoint; `part` is an epoch that is not finished."""
        model, state = self.model, self.state
        if part:
            part.random = devices.everyones(random_state(model.device))
        state.last, state.optimizer = resume.copy_parameters(model), self.optimizer.state_dict()
        state.epoch = part
        with devices.together():
            for place in places if devices.rank() == 0 else ():
                model.save_adapter(state.record.folder / place, model.active)
            if devices.rank() == 0:
                state.save()
