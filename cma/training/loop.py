"""The training loop, seeded: a resumed run gives the same numbers as one that never stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from ..checkpoints import write_adapter
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..media import MediaError
from ..model import RetrievalModel
from . import devices, optim, precision, resume
from .devices import Stopped, Team
from .evaluation import encode, evaluate
from .planning import plan
from .reading import Batch, Pixels, read_batches
from .record import RunRecord, best_epoch, draw_curve, sentence
from .resume import EpochState, RunState
from .splits import Splits, choose_splits, epoch_batches, epoch_size
from .step import NotFinite, norms, train_step
from .stopping import Stopping

CURVE_POINTS = 50  # points of the curve per epoch: so many, or up to twice as many
CHECKPOINT_SECONDS = 300  # at most so much work is lost when a run is killed


def train(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    on_epoch: Callable[[RunRecord], None] | None = None,
    team: Team | None = None,
) -> RunRecord:
    """Train the active adapter of `model` on a train split, keep one epoch's adapter, and evaluate
    it.

    `on_epoch` is called with the record after every epoch. Returns the record and writes into
    `runs_dir/name`: the kept adapter and its card, `best/` and `last/`, `run.json`, `curve.png`,
    and `checkpoint.pt`, which is also written every five minutes. A run of the same settings is
    resumed from it, or returned if it is finished. If memory runs out, the micro-batch is halved
    and the run continues with the same step. Ctrl-C and SIGTERM end it after the current step, with
    a checkpoint. The same seed, initial adapter and number of threads give the same result, bitwise
    on a CPU in float32. The seed decides held-out items, batches and dropout, not the adapter's
    initial weights; the global random state is not changed. All processes of a launch train as one;
    `team` is theirs, if it is joined already. Raises ValueError for no active adapter, missing
    data, another run in the folder, or a loss that is not finite; OSError if the folder cannot be
    written to. All but the loss is checked before the first step.
    """
    if team is None:
        with devices.joined(model.device) as team:
            return train(model, dataset, config, on_epoch, team)

    # everything that can be wrong is found before the first step
    precision.check_training(model, config)
    splits = choose_splits(dataset, config)
    record = RunRecord.describe(model, dataset, config, splits.training)
    check_processes(record, splits, config, team)
    state = team.by_first(lambda: resume.find(record) if config.if_exists == "resume" else None)
    expected = "" if dataset.expected is None else f" / {dataset.expected:,} expected"
    found = f"{len(dataset):,} items found{expected}, {record.held_out_items:,} held out"
    team.say(f"{dataset.name} train: {found}\n{record.epoch_counts}")
    if state and state.record.finished:
        team.say(
            f"{record.folder}: this run was finished on {state.record.finished}; its adapter is loaded"
        )
        resume.set_parameters(model, state.kept)
        return state.record
    for split in filter(None, splits):
        split.require_media()

    # only the first process writes, and no other run may write into this folder
    with resume.writing(record.folder) if team.first else nullcontext():
        if config.micro_batch == "auto":
            planned = plan(model, dataset, config, team)
            team.say(str(planned))
            config = replace(config, micro_batch=min(team.everyones(planned.pairs)))
        try:
            run = Run(model, splits, config, state or RunState(record), team)
            if team.first and config.if_exists == "replace":  # only now that nothing is missing
                for path in resume.own_files(record.folder):
                    path.unlink(missing_ok=True)
            run.epochs(on_epoch)
            # the kept epoch's adapter is evaluated once, and stays in the model
            record = run.state.record
            resume.set_parameters(model, run.state.kept)
            record.encoded = encode(model, splits.final, config, run.pixels, team)
            record.metrics = evaluate(
                model, splits.final, config, team=team, encoded=record.encoded
            )
        finally:
            model.eval()
            precision.restore(model)
        record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
        record.stamp(model.device).hardware |= {"processes": team.count}
        if team.first:
            model.save_adapter(record.folder, model.active, record)
            draw_curve(record)
            record.save(record.folder)
    return record


def check_processes(record: RunRecord, splits: Splits, config: TrainConfig, team: Team) -> None:
    """Raise ValueError if the processes have different runs, or a batch has fewer pairs than
    processes.
    """
    if differing := resume.differences(team.by_first(lambda: record), record):
        raise ValueError(f"process {team.number} has another run than process 0: {differing}")
    pairs = min(config.batch_size, epoch_size(splits.training, config)[0])
    if pairs < team.count:
        remedy = "each needs one; use a larger batch_size, or fewer processes"
        raise ValueError(f"a batch of {pairs} pairs for {team.count} processes: {remedy}")
    if team.count > 1:
        team.say(f"{team.count} processes share each batch of {pairs} pairs")


class Run:
    """One run, with what its epochs share; `state` is kept from epoch to epoch and saved to disk."""

    def __init__(
        self,
        model: RetrievalModel,
        splits: Splits,
        config: TrainConfig,
        state: RunState,
        team: Team,
    ) -> None:
        self.model, self.splits, self.config, self.state, self.team = (
            model,
            splits,
            config,
            state,
            team,
        )
        self.pixels = Pixels(model.processor, config)
        self.ids, cut = model.tokenize(splits.training.captions, config.max_words)
        if cut:
            team.say(
                f"{cut:,} of {len(self.ids):,} captions were cut to {self.ids.shape[1]} tokens"
            )
        self.optimizer = precision.prepare(model, config)
        if state.last:
            done, steps = len(state.record.history), len(state.epoch.losses)
            where = f"epoch {done} and {steps} steps of {config.epochs} epochs"
            team.say(f"{state.record.folder}: resumed after {where}")
            resume.set_parameters(model, state.last)
            self.optimizer.load_state_dict(state.optimizer)
        elif team.count > 1:  # all start from the first process's adapter
            resume.set_parameters(model, team.by_first(lambda: resume.copy_parameters(model)))

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """Run the epochs that are left; after each, save `last/`, a new `best/` and the checkpoint."""
        model, state, record = self.model, self.state, self.state.record
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            for epoch in range(len(record.history), self.config.epochs):
                entry = self.epoch(epoch)
                if (watched := self.splits.watched) is not None:
                    entry["validation"] = evaluate(
                        model, watched, self.config, self.pixels, 0, self.team
                    )
                    said = f"epoch {epoch + 1}: loss {entry['loss']:.3f}"
                    self.team.say(f"{said}, {sentence(entry['validation'], record)}")
                record.history.append(entry)
                state.epoch = EpochState()
                best = best_epoch(record.history, self.config.select_by)
                record.selected_epoch = epoch + 1 if record.select_on == "last" else best
                if best == epoch + 1:
                    state.best = resume.copy_parameters(model)
                self.save("best", "last") if best == epoch + 1 else self.save("last")
                if on_epoch and self.team.first:
                    on_epoch(record)

    def epoch(self, epoch: int) -> dict:
        """Train on the batches of an epoch (from 0) that are left; returns its entry for the
        history.

        A checkpoint is written every `CHECKPOINT_SECONDS`, and when the run stops: for a loss that
        is not finite, media that cannot be read, too little memory, Ctrl-C or SIGTERM.
        """
        config, training, team, part = (
            self.config,
            self.splits.training,
            self.team,
            self.state.epoch,
        )
        order, folder = epoch_batches(training, config, epoch), self.state.record.folder
        done, total = len(part.losses), config.epochs * len(order)
        every = max(1, len(order) // CURVE_POINTS)  # steps per point of the curve

        # the workers read batches ahead; each process reads its own share of each batch
        shares = [team.own(batch) for batch in order[done:]]
        batches = read_batches(training, self.ids, self.pixels, shares, config.workers)
        bar = team.bar(
            batches, f"epoch {epoch + 1}/{config.epochs}", total=len(order), initial=done
        )
        saved = time.perf_counter()
        start = saved - part.seconds
        self.model.train()
        with bar, Stopping(team.say) as stopping:
            try:
                for step, batch in enumerate(bar, start=epoch * len(order) + done):
                    rate = config.lr * optim.rate_factor(
                        config.optimizer, step, total, config.warmup
                    )
                    loss = self.step(step, batch, rate)

                    # the step is complete, so from here on it counts
                    part.losses.append(loss)
                    part.seconds = round(time.perf_counter() - start, 3)
                    if len(part.losses) % every == 0:
                        part.curve.append(
                            [step + 1, round(sum(part.losses[-every:]) / every, 5), rate]
                        )
                    bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)

                    # a signal to one process stops all after the same step
                    stopping.asked = max(team.everyones(stopping.asked))
                    if stopping.asked:
                        break
                    if time.perf_counter() - saved >= CHECKPOINT_SECONDS:
                        self.save("last")
                        saved = time.perf_counter()
            except (MediaError, MemoryError, NotFinite, Stopped) as error:
                sound = all(p.isfinite().all() for p in self.model.trainable_parameters())
                if sound:  # the steps before this one are complete
                    self.save("last")
                # a worker, or another process, may get the signal too
                stopping.end_if_asked(folder)
                if not isinstance(error, NotFinite):
                    raise
                items = [
                    training.items[i].id for i in training.text_to_item[order[len(part.losses)]][:8]
                ]
                kept = (
                    "the adapter before this step is in" if sound else "it had diverged before; see"
                )
                hint = f"another lr is another run: give it another name; {kept} {folder / 'last'}"
                said = (
                    f"step {step + 1}: {error}; {hint}; the batch begins with: {', '.join(items)}"
                )
                raise NotFinite(said) from error
            if stopping.asked or self.splits.watched:  # the evaluation may take long, or fail
                self.save("last")
            stopping.end_if_asked(folder)
        mean, done = sum(part.losses) / len(part.losses), len(part.losses)
        return {
            "epoch": epoch + 1,
            "steps": done,
            "loss": mean,
            "seconds": part.seconds,
            "curve": part.curve,
        }

    def step(self, step: int, batch: Batch, rate: float) -> float:
        """Do one update and return the loss. If memory runs out, halve the micro-batch and try
        again.

        Raises MemoryError if not even one pair fits.
        """
        while True:
            # dropout depends only on seed, step and process, so a resumed run draws the same
            # numbers
            numbers = [self.config.seed, step, self.team.number]
            torch.manual_seed(
                int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
            )
            try:
                with self.team.agree_on_memory():
                    batch = batch.to(self.model.device)
                    if step == 0 and self.model.family.norm:
                        self.team.say(norms(self.model, batch, self.config))
                return train_step(self.model, self.optimizer, batch, rate, self.config, self.team)[
                    0
                ]
            except MemoryError as error:
                largest = max(self.team.everyones(len(batch.input_ids)))
                pairs = min(self.config.micro_batch or largest, largest)
                if pairs == 1:
                    hint = "set checkpoint_activations=True, or fewer max_frames"
                    raise MemoryError(f"one pair at once does not fit ({error}); {hint}") from error
            less = (pairs + 1) // 2
            self.config = replace(self.config, micro_batch=less)
            self.team.say(f"out of memory with {pairs} pairs at once; going on with {less}")
            torch.cuda.empty_cache()  # does nothing without a GPU

    def save(self, *places: str) -> None:
        """Write the adapter into the folders `places` of the run, and the checkpoint."""
        state, method = self.state, self.model.get_adapter(self.model.active)
        state.last, state.optimizer = (
            resume.copy_parameters(self.model),
            self.optimizer.state_dict(),
        )
        if self.team.first:
            for place in places:
                write_adapter(method, state.record.folder / place, state.record.backbone)
            state.save()
