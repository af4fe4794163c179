"""Several processes over gloo do what one does: gradient, run, metrics; an error in one ends all,
once.
"""

import math
import os
import re
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from unittest.mock import patch

import pytest
import torch
from filelock import FileLock

import cma
from cma import TrainConfig
from cma.data import load
from cma.media import MediaError
from cma.training import devices, evaluate, loop, prepare, step
from cma.training.resume import CHECKPOINT
from tests.toy_data import write_images
from tests.training.conftest import equal, weights
from tests.training.toy_runs import a_batch, build, config_of, model_of
from tests.training.worlds import begin, end, world

pytestmark = pytest.mark.processes
CPU = torch.device("cpu")
SIZES = (2, pytest.param(3, marks=pytest.mark.night))
GRADIENTS = [  # pairs, settings, dtype of the model
    (7, {}),
    (7, {"similarity": "text_conditioned"}),
    (7, {"similarity": "text_conditioned", "mask_same_item": False}),
    (3, {}),
    (7, {"micro_batch": 1}),
    (7, {"micro_batch": 2, "similarity": "text_conditioned"}),  # parts of a share of 3: 2 and 1
    (8, {"micro_batch": 3}),  # for 3 processes: shares of 3, 3 and 2, in one piece
    (8, {"micro_batch": 2, "checkpoint_activations": True, "similarity": "text_conditioned"}),
    (7, {"loss": "sigmoid", "micro_batch": 2}),
]
ROUGH = [{"precision": "fp16"}, {"precision": "fp16", "micro_batch": 2}, {"precision": "bf16"}]


def gradients(folder: Path) -> list:
    """Loss and gradient of the whole batch, as one step computes them, for all of GRADIENTS and
    ROUGH.
    """
    results = []
    cases = [(pairs, settings, torch.float64) for pairs, settings in GRADIENTS]
    with devices.joined(CPU) as team:
        for pairs, settings, dtype in cases + [(7, settings, torch.float32) for settings in ROUGH]:
            model, config = build(dtype=dtype), TrainConfig(**settings)
            model.clip.logit_bias = torch.tensor(-2.0)  # SigLIP's, which the sigmoid loss needs
            unused = model.adapters["a"].unused = torch.nn.Parameter(torch.ones(1))
            prepare(model, config)
            own = a_batch(dtype, pairs).part(torch.tensor(team.own(range(pairs))))
            with step.recomputed(model, config):
                loss = step.batch_gradient(model, own, config, team)
            assert unused.grad is None  # or it would decay, as it does not in one process
            own = [p.grad for p in model.trainable_parameters() if p is not unused]
            results.append((loss.item(), own))
    return results


def evaluated(folder: Path) -> dict:
    """The test split has 300 pictures and 600 captions: three batches of each."""
    with devices.joined(CPU) as team:
        test = load(folder.parent / "data", "test")
        return evaluate(model_of(), test, TrainConfig(max_frames=1), samples=100, team=team)


def trained(folder: Path, dropout: float = 0.0, **settings) -> tuple:
    """A run; the processes start with other adapters, and the first one's counts."""
    model = model_of(int(os.environ.get("RANK", 0)), dropout)
    record = cma.train(model, load(folder.parent / "data", "train"), config_of(folder, **settings))
    return record.history, record.metrics, weights(model), record.hardware["processes"]


def failing(number: int, act, really):
    """`really`, with `act` before its call `number` (from 0)."""
    count = iter(range(10**6))

    def call(*arguments):
        if next(count) == number:
            act()
        return really(*arguments)

    return call


def raising(kind: type[Exception], *said, here=lambda: True):
    """A new error each time: one that is kept holds on to the connections of its processes."""

    def act(*_) -> None:
        if here():
            raise kind(*said)

    return act


def is_last() -> bool:
    return int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1


def stopped(folder: Path, after: int, **settings) -> None:
    """The same run, stopped after some steps by an error that every process has."""
    broken = failing(after, raising(KeyError, "stopped"), loop.train_step)
    with suppress(KeyError), patch.multiple(loop, train_step=broken, CHECKPOINT_SECONDS=0):
        trained(folder, **settings)


def again(folder: Path) -> tuple:
    """The run `once`, stopped after its first step and resumed."""
    stopped(folder, 1, name="again", dropout=0.3, epochs=1)
    return trained(folder, name="again", dropout=0.3, epochs=1)


def crowded(folder: Path) -> tuple:
    """In the last process alone, memory runs out for more than one pair at once, the first two
    times.
    """
    really, seen = step.embed, []

    def embed(model, batch, config):
        if is_last() and len(batch.input_ids) > 1 and len(seen) < 2:
            seen.append(len(batch.input_ids))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return really(model, batch, config)

    with patch.object(step, "embed", embed):
        return (*trained(folder, name="crowded"), seen)


def broken(folder: Path, place: str, breaking, **settings) -> None:
    """A run in which a function of `cma.training` is what `breaking` makes of it."""
    place = f"cma.training.{place}"
    with patch(place, breaking(resolve_name(place))):
        trained(folder, **settings)


def without_memory(really):
    return failing(
        0, raising(MemoryError, "no page is left", here=lambda: os.environ["RANK"] == "1"), really
    )


def not_finite(really):
    count = iter(range(100))
    return lambda *given: really(*given) * (math.nan if next(count) == 3 else 1)


def unreadable(really):
    """A picture that the last process alone cannot read."""
    return failing(0, raising(MediaError, "train007.png: cut short", here=is_last), really)


def full_disk(really):
    return raising(OSError, 28, "No space left on device", "checkpoint.pt")


def killed(really):
    """The last process ends in the middle of a step."""
    return failing(2, lambda: os.kill(os.getpid(), 9) if is_last() else None, really)


def silent(folder: Path) -> None:
    """The last process fails; the first one exchanges nothing until it has ended."""
    with patch.object(devices, "TELLING", 1), devices.joined(CPU) as team:
        if not team.first:
            raise OSError("no such disk")
        while not (folder / "ended").exists():
            time.sleep(0.1)
        team.exchange()


def unlike(folder: Path) -> None:
    trained(folder, name="unlike", lr=0.1 if os.environ["RANK"] == "1" else 0.2)


def too_few(folder: Path) -> None:
    trained(folder, name="few", batch_size=int(os.environ["WORLD_SIZE"]) - 1)


SHARED = ("without_memory", "not_finite", "few", "wrong")  # errors that every process has
JOBS = {
    "gradients": gradients,
    "evaluated": evaluated,
    "trained": partial(trained, name="trained"),
    "once": partial(trained, name="once", dropout=0.3, epochs=1),
    "again": again,
    "finished": partial(trained, name="trained"),
    "resumed": partial(trained, name="resumed"),
    "crowded": crowded,
    "without_memory": partial(
        broken, place="step.embed", breaking=without_memory, name="without", micro_batch=1
    ),
    "not_finite": partial(broken, place="step.pairs_loss", breaking=not_finite, name="infinite"),
    "unreadable": partial(
        broken, place="reading.Pixels.__call__", breaking=unreadable, name="unreadable"
    ),
    "full_disk": partial(broken, place="resume.RunState.save", breaking=full_disk, name="full"),
    "held": partial(trained, name="held"),
    "unlike": unlike,
    "few": too_few,
    "wrong": partial(trained, name="wrong", batch_size=-1),
    "stopped": partial(stopped, after=5, name="by_many"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(
        tmp_path_factory.mktemp("w") / "data", {"train": 24, "val": 8, "test": 300}
    ).parent


@pytest.fixture(scope="module")
def one(folder):
    """What one process does."""
    part = folder / "one"
    part.mkdir()
    jobs = ("gradients", "evaluated", "trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "matplotlib", None)  # no curves: they take most of the time
        return {name: JOBS[name](part) for name in jobs}


@pytest.fixture(scope="module", params=SIZES)
def many(request, folder, one):
    """What 2 and 3 processes do; one process fewer has begun the run `resumed`, another one holds
    the run `held`.
    """
    part = folder / str(request.param)
    world(request.param - 1, {"begun": partial(stopped, after=5, name="resumed")}, part)
    assert (part / "resumed" / CHECKPOINT).is_file()
    (part / "held").mkdir()
    with FileLock(part / "held" / ".run.lock"):
        return world(request.param, JOBS, part)


def relative(ours: list, theirs: list) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(ours, theirs, strict=True))


def test_the_gradient_is_that_of_one_process(one, many):
    for case, (loss, gradient) in enumerate(one["gradients"]):
        for process in many:
            ours, parts = process["gradients"][case]
            tolerance = 1e-6 if case < len(GRADIENTS) else 2e-2
            assert (
                ours == pytest.approx(loss, abs=tolerance)
                and max(g.abs().max() for g in gradient) > 0.01
            )
            assert relative(parts, gradient) <= tolerance, case
            assert equal(parts, many[0]["gradients"][case][1])


def test_evaluation_in_shares_gives_the_same_metrics_bit_for_bit(one, many):
    assert one["evaluated"]["texts"] == 600
    assert all(process["evaluated"] == one["evaluated"] for process in many)


def near(run: tuple, other: tuple) -> None:
    """Two runs of the same steps, whose sums were rounded otherwise."""
    (ours, _, adapter, *_), (theirs, _, expected, *_) = run, other
    assert [entry["loss"] for entry in ours] == pytest.approx([e["loss"] for e in theirs], abs=1e-5)
    torch.testing.assert_close(adapter, expected, atol=1e-4, rtol=0)


def test_a_run_is_that_of_one_process_from_whatever_adapter_the_others_start(one, many):
    for process in many:
        near(process["trained"], one["trained"])
        _, found, own, count = process["trained"]
        assert count == len(many) and equal(own, many[0]["trained"][2])
        assert found["texts"] == 20 and found["split"] == "test"
        assert found["text_to_visual"] == pytest.approx(one["trained"][1]["text_to_visual"], abs=1)
        assert equal(process["finished"][2], own)


def test_a_resumed_run_of_several_processes_has_the_same_dropout(many):
    for process in many:
        assert equal(process["once"][2], many[0]["again"][2])
        assert process["once"][0][0]["loss"] != process["trained"][0][0]["loss"]


def test_another_number_of_processes_goes_on_in_the_same_order(one, many, folder):
    for process in many:
        assert process["resumed"][3] == len(many)
        near(process["resumed"], one["trained"])
    near(trained(folder / str(len(many)), name="by_many"), one["trained"])


def test_without_memory_in_one_all_halve_their_micro_batch(many):
    for process in many:
        near(process["crowded"], process["trained"])
        assert equal(process["crowded"][2], many[0]["crowded"][2])
    assert len(many[-1]["crowded"][4]) in (1, 2) and not many[0]["crowded"][4]


@pytest.mark.parametrize(
    "job, failing, kind, said",
    [
        (
            "without_memory",
            1,
            "MemoryError",
            "one pair at once does not fit .process 1 of .: no page",
        ),
        (
            "not_finite",
            0,
            "NotFinite",
            r"^step 4: loss nan.*last; the batch begins with: train\d+, ",
        ),
        ("unreadable", -1, "MediaError", r"train007\.png: cut short"),
        ("full_disk", 0, "OSError", r"checkpoint\.pt.*"),
        ("held", 0, "ValueError", "another run is being trained there now"),
        (
            "unlike",
            1,
            "ValueError",
            "process 1 has another run than process 0: lr 0.2 there, 0.1 here",
        ),
        (
            "few",
            0,
            "ValueError",
            "2 pairs for 3 processes: each needs one|one pair has no negatives",
        ),
        ("wrong", 0, "ValueError", "batch_size=-1: expected greater than or equal to 1"),
    ],
)
def test_an_error_ends_all_and_one_process_says_why(many, job, failing, kind, said):
    errors = [process[job] for process in many]
    kind_there, said_there, *_ = errors[failing]
    assert kind_there == kind and re.search(said, said_there), errors[failing]
    assert "\n" not in said_there
    for other, text, *_ in errors:  # each says what all have; else the others say why one is gone
        if job in SHARED or other == kind:
            assert other == kind
        else:
            assert other == "Stopped" and re.search(f"^process . failed: {kind}: .*{said}", text)


def test_a_process_that_is_killed_ends_the_others(folder):
    part = folder / "killed"
    with pytest.raises(FileNotFoundError, match=r"1\.pt"):
        world(
            2,
            {"killed": partial(broken, place="step.pairs_loss", breaking=killed, name="killed")},
            part,
        )
    (said,) = torch.load(part / "0.pt", weights_only=False).values()
    assert said[0] == "Stopped" and "another process of the run has ended" in said[1]


def test_a_process_that_fails_does_not_wait_for_one_that_exchanges_nothing(folder):
    part = folder / "silent"
    processes = begin(2, {"silent": silent}, part)
    processes[1].join(100)
    assert processes[1].exitcode == 1  # a launcher would now end the first one, too
    (part / "ended").touch()
    end(processes)
    assert not (part / "1.pt").exists()
    (said,) = torch.load(part / "0.pt", weights_only=False).values()
    assert said[0] == "Stopped" and "another process of the run has ended" in said[1]
