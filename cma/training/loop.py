"""The training loop, seeded: a resumed run gives the same numbers as one that never stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from .. import metrics
from ..checkpoints import write_adapter
from ..config import TrainConfig
from ..data import RetrievalDataset
from ..media import MediaError
from ..method import Method
from ..model import RetrievalModel
from . import devices, optim, resume, words
from .devices import Stopped, Team
from .evaluation import Embeddings, encode, evaluate, query_ranks
from .planning import plan_of, until_it_fits
from .reading import Batch, Pixels, read_batches
from .record import RunRecord, best_epoch, weights_digest
from .resume import EpochState, RunState
from .splits import Splits, choose_splits, epoch_batches, epoch_size, remarks
from .step import NotFinite, norms, own_random_state, train_step
from .stopping import Stopping

CURVE_POINTS = 50  # points of the curve per epoch, up to twice as many
CHECKPOINT_SECONDS = 300  # the most work that a killed run loses


def train(
    model: RetrievalModel,
    dataset: RetrievalDataset,
    config: TrainConfig,
    on_epoch: Callable[[RunRecord], None] | None = None,
    team: Team | None = None,
    zero_shot: Embeddings | None = None,
) -> RunRecord:
    """Train the active adapter on a train split, keep the best epoch, and evaluate it.

    Into `runs_dir/name` it writes the kept adapter and its card, `best/` and `last/`, `run.json`,
    `curve.png` and, every five minutes, `checkpoint.pt`. The same call (same settings, items and
    initial weights) resumes a run from there, or returns a finished one. Ctrl-C and SIGTERM end a
    run after the current step, with a checkpoint. If memory runs out, the run halves the
    micro-batch and repeats the step.

    The same seed, initial adapter and number of threads give the same result, bitwise on a CPU in
    float32. The global random state is not changed. Other threads may use the model during a run:
    they wait for a step or an evaluation, and with "fp16" find CLIP in half precision until the run
    ends. Do not start another run or plan on this CLIP before that. All processes of a launch train
    as one.

    Args:
        model: with an active adapter, whose weights are the initial weights.
        dataset: a train split; the folder's other splits are used for validation and the final
            recall.
        config: the settings of the run.
        on_epoch: called with the record after every epoch.
        team: the processes of this launch, if you have joined them already.
        zero_shot: the final split as `encode` gives it without an adapter, if you have it already.

    Returns:
        The record of the run, as in `run.json`.

    Raises:
        TypeError: `model`, `dataset` or `config` has the wrong type.
        ValueError: no adapter is active, media are missing, the folder holds another run, or a loss
            is not finite.
        OSError: the folder cannot be written to.

    >>> import pathlib, tempfile, cma, PIL.Image
    >>> folder, pairs = pathlib.Path(tempfile.mkdtemp()), []
    >>> for number, colour in enumerate(["red", "green", "blue"] * 4):
    ...     PIL.Image.new("RGB", (64, 64), colour).save(folder / f"{number}.png")
    ...     pairs.append((folder / f"{number}.png", f"a {colour} page"))
    >>> pages = cma.data.from_pairs(pairs, name="pages")["train"]
    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> _ = model.add_adapter("mine", cma.AdapterConfig())
    >>> config = cma.TrainConfig(epochs=1, batch_size=4, select_on="last", runs_dir=folder)
    >>> record = cma.train(model, pages, config)
    pages train: 10 items found, 0 held out
    an epoch counts 10 (item, caption) pairs, each once: 2 steps of 4 (2 left over); ...
    >>> record.total_steps, record.metrics["texts"]
    (2, 1)
    """
    optim.check_training(model, config)
    if team is None:
        with devices.joined(model.device) as team:
            return train(model, dataset, config, on_epoch, team, zero_shot)

    # open everything once, so that mistakes show before the first step
    # from here on another thread may activate another adapter
    name = cast(str, model.active)  # `check_training` has seen one
    method = model.get_adapter(name)
    splits = choose_splits(dataset, config)
    with model.using(name):
        record = RunRecord.describe(model, dataset, config, splits)
    examples, _ = epoch_size(splits.training, config)
    share = share_of_a_batch(record, min(config.batch_size, examples), team)
    resuming = config.if_exists == "resume"
    state = team.on_rank0(lambda: resume.find(record, method) if resuming else None)
    team.say("\n".join([words.found(record, dataset.expected), *remarks(splits, config)]))
    if state and state.record.finished:
        team.say(
            f"{record.folder}: this run was finished on {state.record.finished}; loaded its adapter"
        )
        with model.lock:
            resume.set_parameters(method, state.best)
            method.reading = config.reading()
        return state.record
    for split in filter(None, splits):
        split.require_media()
    run = Run(
        model, name, method, splits, config, state or RunState(record), team, share, zero_shot
    )

    # only the first process writes, and no other run may write into this folder
    with resume.writing(record.folder) if team.first else nullcontext():
        try:
            run.begin()
            run.epochs(on_epoch)
            run.evaluate_kept()
        finally:
            with model.lock:
                model.eval()
                optim.restore(model)
            left = weights_digest(method.parameters())
            resume.LAST_RUN[method] = record.folder.absolute(), left
        return run.finish()


def share_of_a_batch(record: RunRecord, pairs: int, team: Team) -> int:
    """Return the most pairs of a batch that one process has.

    Raises ValueError if the processes have different runs, or a batch has fewer pairs than
    processes.
    """
    if differing := resume.differences(team.on_rank0(lambda: record), record):
        raise ValueError(f"process {team.rank} has another run than process 0: {differing}")
    if pairs < team.count:
        raise ValueError(
            f"a batch of {pairs} pairs for {team.count} processes: each needs one; use a larger "
            "batch_size, or fewer processes"
        )
    if team.count > 1:
        team.say(f"{team.count} processes share each batch of {pairs} pairs")
    return -(-pairs // team.count)


@dataclass
class Run:
    """One run; its epochs share these fields, and `state` is saved for a resumed run."""

    model: RetrievalModel
    name: str  # of the adapter being trained
    method: Method  # this adapter
    splits: Splits
    config: TrainConfig
    state: RunState
    team: Team
    pairs: int  # in memory at once in this process; fewer once memory runs out
    zero_shot: Embeddings | None = None  # of the final split

    def __post_init__(self) -> None:
        self.record = self.state.record
        captions = self.splits.training.captions
        self.ids, cut = self.model.tokenize(captions, self.config.max_words)
        self.pixels = Pixels(self.model.processor, self.config)
        if cut:
            limit = self.ids.shape[1]
            self.team.say(f"{cut:,} of {len(captions):,} captions were cut to {limit} tokens")

    def begin(self) -> None:
        """Choose the micro-batch, set the model's precision, and load a saved state, if any."""
        config = self.config
        state = self.state
        team = self.team
        if isinstance(config.micro_batch, int):
            self.pairs = min(config.micro_batch, self.pairs)
        with self.model.using(self.name):
            if config.micro_batch == "auto":
                planned = plan_of(self.model, self.splits.training, self.ids, self.pixels, team)
                team.say(str(planned))
                self.pairs = min(team.exchange(planned.pairs))
            self.optimizer = optim.prepare(self.model, config)
            # all processes start from the same adapter: the saved one, or the first process's
            start = state.last or team.on_rank0(lambda: resume.copy_parameters(self.method))
            resume.set_parameters(self.method, start)
            self.method.reading = config.reading()  # saved with the adapter
            if state.last:
                team.say(
                    f"{self.record.folder}: resumed after epoch {len(self.record.history)} and "
                    f"{len(state.epoch.losses)} steps of {config.epochs} epochs"
                )
                self.optimizer.load_state_dict(state.optimizer)
                state.last, state.optimizer = [], {}  # the model and the optimiser have them now
        if team.first and config.if_exists == "replace":  # only now: nothing is missing
            for path in resume.own_files(self.record.folder):
                path.unlink(missing_ok=True)

    def epochs(self, on_epoch: Callable[[RunRecord], None] | None) -> None:
        """Run the remaining epochs; after each, save `last/`, a new `best/` and the checkpoint."""
        record = self.record
        for epoch in range(len(record.history), self.config.epochs):
            entry = self.epoch(epoch)
            if self.splits.watched:
                entry["validation"] = self.evaluate(self.splits.watched, samples=0)
                found = words.sentence(entry["validation"], record)
                self.team.say(f"epoch {epoch + 1}: loss {entry['loss']:.3f}, {found}")
            record.history.append(entry)
            self.state.epoch = EpochState()
            record.selected_epoch = best_epoch(record.history, self.config.select_by)
            if record.selected_epoch == epoch + 1:
                self.state.best = resume.copy_parameters(self.method)
                self.save("best", "last")
            else:
                self.save("last")
            if on_epoch and self.team.first:
                on_epoch(record)

    def epoch(self, epoch: int) -> dict:
        """Train on the remaining batches of an epoch (from 0); return its entry of the history.

        It writes a checkpoint every `CHECKPOINT_SECONDS`, and when the run stops: for a loss that
        is not finite, media that cannot be read, too little memory, Ctrl-C or SIGTERM.
        """
        config = self.config
        training = self.splits.training
        part = self.state.epoch
        order = epoch_batches(training, config, epoch)
        done = len(part.losses)
        total = config.epochs * len(order)
        every = max(1, len(order) // CURVE_POINTS)  # steps per point of the curve

        # workers read batches in advance; each process reads its own share of each batch
        shares = [self.team.own(batch) for batch in order[done:]]
        batches = read_batches(training, self.ids, self.pixels, shares, config.workers)
        title = f"epoch {epoch + 1}/{config.epochs}"
        bar = self.team.bar(batches, title, total=len(order), initial=done)
        saved = time.perf_counter()
        start = saved - part.seconds
        with bar, Stopping(self.team.say) as stopping, self.saved_on_error(stopping):
            for step, batch in enumerate(bar, start=epoch * len(order) + done):
                rate = config.lr * optim.rate_factor(config.optimizer, step, total, config.warmup)
                loss = self.step(step, batch, rate)

                # the step is complete, so it counts
                part.add(step + 1, loss, rate, every)
                part.seconds = round(time.perf_counter() - start, 3)
                bar.set_postfix(loss=f"{loss:.3f}", rate=f"{rate:.1e}", refresh=False)

                # a signal to one process stops all after the same step
                stopping.asked = max(self.team.exchange(stopping.asked))
                if stopping.asked:
                    break
                if time.perf_counter() - saved >= CHECKPOINT_SECONDS:
                    self.save("last")
                    saved = time.perf_counter()
            if stopping.asked or self.splits.watched:  # an evaluation may take long, or fail
                self.save("last")
            stopping.end_if_asked(self.record.folder)
        return part.entry(epoch + 1)

    @contextmanager
    def saved_on_error(self, stopping: Stopping) -> Iterator[None]:
        """If a step fails, save the steps before it, unless the adapter has already diverged."""
        try:
            yield
        except (MediaError, MemoryError, NotFinite, Stopped):
            if all(one.isfinite().all() for one in self.method.parameters()):
                self.save("last")
            # a worker, or another process, may get the signal too
            stopping.end_if_asked(self.record.folder)
            raise

    def step(self, step: int, batch: Batch, rate: float) -> float:
        """Do one update and return the loss; if memory runs out, halve the micro-batch.

        Raises MemoryError if not even one pair fits, NotFinite that names the first items.
        """
        # dropout depends only on seed, step and process, so a resumed run draws the same numbers
        numbers = np.random.SeedSequence([self.config.seed, step, self.team.rank])
        seed = numbers.generate_state(1, np.uint64).item() >> 1
        if step == 0 and self.model.family.norm:
            with self.model.using(self.name):
                self.team.say(norms(self.model, batch, self.config))

        def attempt(pairs: int) -> float:
            config = replace(self.config, micro_batch=pairs)
            random = own_random_state(self.model.device, seed)
            with self.model.using(self.name, training=True), random:
                return train_step(self.model, self.optimizer, batch, rate, config, self.team)[0]

        try:
            self.pairs, loss = until_it_fits(self.pairs, attempt, self.team.say)
        except NotFinite as error:
            items = [self.splits.training.items[i].id for i in batch.item_ids[:8]]
            raise NotFinite(
                f"step {step + 1}: {error}; another lr is another run: give it another name; the "
                f"adapter before it, if it was finite, is in {self.record.folder / 'last'}; "
                f"the batch begins with: {', '.join(items)}"
            ) from error
        return loss

    def save(self, *places: str) -> None:
        """Write the adapter into the folders `places` of the run, and the checkpoint."""
        if self.team.first:
            for place in places:
                write_adapter(self.method, self.record.folder / place, self.record.backbone)
            self.state.save(resume.copy_parameters(self.method), self.optimizer.state_dict())

    def evaluate(self, split: RetrievalDataset, samples: int = 10_000) -> dict:
        """Return the metrics of the run's adapter on a split, and record the embeddings."""
        model = self.model
        config = self.config
        with model.using(self.name):
            found = encode(model, split, config, self.pixels, self.team)
            self.record.encoded = found
            return evaluate(model, split, config, samples=samples, team=self.team, encoded=found)

    def evaluate_kept(self) -> None:
        """Evaluate the kept epoch's adapter, which stays in the model, and its gain over CLIP."""
        final = self.splits.final
        with self.model.lock:
            resume.set_parameters(self.method, self.state.best)
            self.record.metrics = self.evaluate(final)
        kept, alone = self.record.encoded, self.zero_shot
        if alone is None:
            with self.model.using(None):
                alone = encode(self.model, final, self.config, self.pixels, self.team)

        def gain() -> tuple[float, float, float]:
            ours, theirs = (
                query_ranks(one, final, self.config, self.model.device)["text_to_visual"]
                for one in (kept, alone)
            )
            return metrics.bootstrap_difference(ours, theirs, kept.text_to_item)

        self.record.gain = self.team.on_rank0(gain)
        self.team.say(words.helped(self.record))

    def finish(self) -> RunRecord:
        """Write the adapter, its card, the record and the curve; return the record."""
        record = self.record
        record.seconds = round(sum(entry["seconds"] for entry in record.history), 2)
        record.stamp(self.model.device).hardware |= {"processes": self.team.count}
        if self.team.first:
            self.model.save_adapter(record.folder, self.name, record)
            words.draw_curve(record)
            record.save(record.folder)
        return record
