"""What stops a run from outside: media that vanish, a full disk, a signal. Nothing is lost, it goes
on.
"""

import errno
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

import cma
from cma.media import MediaError
from cma.training import __main__ as command
from cma.training import loop
from cma.training.stopping import Stopping
from tests.toy_data import write_images
from tests.training.conftest import at_step, same_run, weights

longer = pytest.mark.processes  # so that the fast suite stays fast
SIGNALS = [
    (signal.SIGINT, KeyboardInterrupt),
    pytest.param(signal.SIGTERM, SystemExit, marks=longer),
]


@pytest.fixture
def config(config):
    """A run of two epochs of three steps, that reads its media again and again."""
    return config.merge({"epochs": 2, "epoch_unit": "items", "cache": False})


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "data", {"train": 24, "val": 8, "test": 10})


@pytest.fixture(scope="module")
def kept() -> list:
    """The unbroken run, once it was needed."""
    return []


@pytest.fixture
def unbroken(train_set, config, make_model, kept):
    if not kept:
        model = make_model(dropout=0.2)
        record = cma.train(model, train_set, config.merge({"name": "whole"}))
        kept += [record, weights(model), files_of(record.folder)]
    return kept


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def goes_on(train_set, config, make_model, unbroken, capsys):
    """The same call resumes after what is `done`, and ends like the unbroken run; no other file is
    left.
    """

    def resumed(done: str) -> None:
        *whole, files = unbroken
        capsys.readouterr()
        model = make_model(dropout=0.2)
        record = cma.train(model, train_set, config)
        same_run(record, model, whole)
        said = capsys.readouterr().out
        assert f"resumed after epoch {done} of 2 epochs" in said if done else "resumed" not in said
        assert files_of(record.folder) == files

    return resumed


@pytest.mark.parametrize(
    "split, workers, number, done",
    [
        ("train", 0, 5, "1 and 2 steps"),
        pytest.param("train", 2, 3, "1 and 0 steps", marks=longer),
        pytest.param("val", 0, 5, "1 and 3 steps", marks=longer),
    ],
)
def test_media_that_vanish_stop_the_run_with_nothing_lost(
    folder, train_set, config, make_model, goes_on, split, workers, number, done, monkeypatch
):
    """The media go after an update; two workers have read the rest of its epoch by then."""
    settings, media = config.merge({"workers": workers}), folder / "media"

    def vanish() -> None:
        for path in media.glob(f"{split}*"):
            path.rename(folder / path.name)

    with monkeypatch.context() as patch:
        at_step(patch, number, vanish)
        with pytest.raises(MediaError) as error:
            cma.train(make_model(dropout=0.2), train_set, settings)
    said = str(error.value)
    assert f"{media}/{split}0" in said and "no such file" in said and "Traceback" not in said
    assert said.endswith("once it can be read, the same call continues where the run stopped")
    for path in folder.glob(f"{split}*"):
        path.rename(media / path.name)
    goes_on(done)


@pytest.mark.parametrize("number, error", SIGNALS)
def test_a_signal_ends_a_run_after_a_whole_step(
    train_set, config, make_model, goes_on, number, error, monkeypatch, capsys
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: os.kill(os.getpid(), number))
        with pytest.raises(error) as raised:
            cma.train(make_model(dropout=0.2), train_set, config)
    assert signal.getsignal(number) == before
    assert error is KeyboardInterrupt or raised.value.code == 143
    said = capsys.readouterr().out
    assert f"{number.name}: stopping after this step" in said
    assert "r: stopped, with a checkpoint; the same call continues from this step" in said
    goes_on("1 and 1 steps")


def test_a_worker_that_gets_the_signal_too_says_nothing(capfd):
    def act() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(0 if stopping.asked == signal.SIGINT else 1)

    with Stopping(print) as stopping:
        worker = multiprocessing.get_context("fork").Process(target=act)
        worker.start()
        worker.join()
    assert worker.exitcode == 0 and "".join(capfd.readouterr()) == ""


def test_the_command_ends_as_a_shell_expects_after_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(command, "read_json", Mock(side_effect=KeyboardInterrupt))
    assert command.main(["run.json"]) == 130 and capsys.readouterr().err == ""


@longer
def test_a_second_signal_ends_the_run_at_once(train_set, config, make_model, goes_on, monkeypatch):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("still here")

    with monkeypatch.context() as patch:
        at_step(patch, 2, twice)
        with pytest.raises(
            KeyboardInterrupt, match="at once; the run continues from its last checkpoint"
        ):
            cma.train(make_model(dropout=0.2), train_set, config)
    # from the start: there was no checkpoint
    goes_on("")


def test_a_run_in_another_thread_trains_without_signals(train_set, config, make_model):
    records = []

    def run() -> None:
        records.append(cma.train(make_model(), train_set, config.merge({"epochs": 1})))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert records[0].finished


@contextmanager
def no_room(size: int):
    """A function that fills the disk: then a file can grow to `size` bytes, and no further."""
    resource = pytest.importorskip("resource")
    before, limits = (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("done", [pytest.param(0, marks=longer), 5])
def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(
    train_set, config, make_model, goes_on, done, monkeypatch
):
    with monkeypatch.context() as patch, no_room(1000) as fill:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0)
        at_step(patch, done, fill) if done else fill()
        with pytest.raises(OSError) as error:
            cma.train(make_model(dropout=0.2), train_set, config)
    said, where = str(error.value), config.runs_dir / "r"
    assert os.strerror(errno.EFBIG) in said and "\n" not in said
    if done:
        assert said.startswith(f"{where}/last/adapter_model.safetensors: not written (")
        assert said.endswith("once there is room, the same call continues from there")
        assert not [name for name in files_of(where) if name.endswith(".tmp")]
    else:
        assert said.startswith(f"{where}: cannot be written to") and files_of(where) == set()
    goes_on("1 and 1 steps" if done else "")
