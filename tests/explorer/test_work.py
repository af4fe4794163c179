"""The one thread of the explorers: it counts batches, stops at one, and waits while a cell runs."""

import threading
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from explorer import work


@pytest.fixture
def worker(monkeypatch):
    """A worker of its own, in a notebook whose cells the test runs."""
    events = {}
    shell = SimpleNamespace(events=SimpleNamespace(register=events.__setitem__))
    monkeypatch.setattr(work, "get_ipython", lambda: shell)
    worker = work.Worker()
    monkeypatch.setattr(work, "worker", lambda: worker)
    worker.begin, worker.end = events["pre_run_cell"], events["post_run_cell"]
    return worker


@pytest.fixture
def model(galleries):
    return galleries["pictures"].model


def finished(task_job):
    """A job that also sets an event when it has ended."""
    done = threading.Event()
    return lambda task: (task_job(task), done.set()), done


def test_nothing_is_computed_while_a_cell_runs(worker, model):
    job, done = finished(lambda task: None)
    worker.thread.submit(work.Task("test", model, job, print).run)
    assert not done.wait(0.3), "the cell that made the explorer still runs"
    worker.begin()  # a cell in a cell
    worker.end()
    assert not done.wait(0.3)
    worker.end()
    assert done.wait(20)


def test_a_blank_cell_and_one_that_was_interrupted_while_it_waited_do_not_count(
    worker, model, monkeypatch
):
    worker.end()
    worker.end()  # a blank cell ends without a beginning
    assert (worker.cells, worker.lock.locked()) == (0, False)
    lock = worker.lock
    interrupted = SimpleNamespace(acquire=Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr(worker, "lock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.begin()
    monkeypatch.setattr(worker, "lock", lock)
    with lock:  # the task that the cell waited for still computes
        worker.end()
        assert lock.locked()
    worker.begin()
    assert lock.locked()
    worker.end()
    assert not lock.locked()


def test_a_cell_goes_first_and_the_task_begins_again(worker, model):
    worker.end()
    started, seen = threading.Event(), []

    def embed(task):
        seen.append("begun")
        for _ in range(10_000 if len(seen) == 1 else 3):
            started.set()
            with model.using("a"):
                model.encode_text(["a cat"])
        seen.append("done")

    job, done = finished(embed)
    worker.thread.submit(work.Task("test", model, job, print).run)
    assert started.wait(20)
    worker.begin()  # returns at a batch
    assert seen == ["begun"] and model.active is None
    assert not model.clip.text_model._forward_pre_hooks, "a cell finds the model as it left it"
    worker.end()
    assert done.wait(20) and seen == ["begun", "begun", "done"]


def test_a_cancelled_task_that_waits_never_begins(worker, model):
    task = work.Task("test", model, lambda task: pytest.fail("it was cancelled"), print)
    task.cancelled = True
    worker.thread.submit(task.run)
    worker.end()
    worker.thread.shutdown(wait=True)
