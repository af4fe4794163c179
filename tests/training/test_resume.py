"""A broken run goes on bitwise; another run, a damaged checkpoint and foreign files stay as they
are.
"""

from contextlib import suppress
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch

import cma
from cma import AdapterConfig
from cma.data import load
from cma.training import loop, resume, step
from tests.toy_data import write_images
from tests.training.conftest import (
    at_step,
    contents,
    equal,
    interrupt,
    same_run,
    stop_after,
    weights,
)


def test_the_best_epoch_survives_a_break(train_set, config, make_model, monkeypatch):
    """Recall falls after the first epoch: its adapter is the one kept, though the run stops in
    between.
    """
    recalls, true_evaluate, seen = iter([30.0, 20.0, 10.0]), loop.evaluate, []

    def evaluate(model, dataset, *rest, **options):
        found = true_evaluate(model, dataset, *rest, **options)
        if dataset.split == "val":
            seen.append(weights(model))
            found["text_to_visual"]["R@1"] = next(recalls)
        return found

    monkeypatch.setattr(loop, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        cma.train(make_model(), train_set, config, on_epoch=stop_after(2))
    model = make_model()
    record = cma.train(model, train_set, config)
    assert record.selected_epoch == 1
    assert equal(weights(model), seen[0])
    assert not equal(weights(model), seen[2])
    for place, expected in (("best", seen[0]), ("last", seen[2])):
        model.load_adapter(record.folder / place, place)
        assert equal(weights(model), expected)


def test_a_finished_run_is_returned_and_another_is_refused(train_set, config, make_model, capsys):
    config, model = config.merge({"epochs": 1}), make_model()
    record = cma.train(model, train_set, config)
    again = make_model()
    capsys.readouterr()
    same = cma.train(again, train_set, config.merge({"workers": 1, "cache": False}))
    assert "this run was finished" in capsys.readouterr().out
    assert same.to_json() == record.to_json() and equal(weights(again), weights(model))

    with pytest.raises(ValueError, match=r"another run \(lr 0.01 there, 0.5 here\)"):
        cma.train(make_model(), train_set, config.merge({"lr": 0.5}))
    with pytest.raises(ValueError, match="train_items 24 there, 12 here"):
        cma.train(make_model(), train_set.subset(12), config)
    corrected = train_set.splits | {"test": train_set.splits["test"].subset(5)}
    with pytest.raises(ValueError, match="another run .evaluated_digest '.{33}' there"):
        cma.train(make_model(), replace(train_set, splits=corrected), config)
    model.add_adapter("b", AdapterConfig(bottleneck_dim=2, shared_dim=8))
    with pytest.raises(ValueError, match="another run .adapter {'bottleneck_dim': 4"):
        cma.train(model, train_set, config)


def test_other_initial_weights_are_another_run(train_set, config, make_model):
    config = config.merge({"epochs": 1})
    record = cma.train(make_model(), train_set, config)
    other = make_model(seed=4)
    before = weights(other)
    with pytest.raises(
        ValueError, match=r"\(initial weights .{16} there, .{16} here\).*load_adapter"
    ):
        cma.train(other, train_set, config)
    assert equal(weights(other), before)
    other.load_adapter(record.folder / "last", "last")  # its own may go on
    assert cma.train(other, train_set, config).to_json() == record.to_json()


def test_replacing_deletes_nothing_of_anothers_and_nothing_before_all_is_found(
    config, make_model, tmp_path
):
    folder = write_images(tmp_path / "data", {"train": 12, "val": 4, "test": 4})
    config = config.merge({"epochs": 1, "if_exists": "replace"})
    record = cma.train(make_model(), load(folder, "train"), config)
    for mine in (record.folder / "mine.txt", record.folder / "best" / "mine.txt"):
        mine.write_text("kept")
    before = contents(record.folder)
    (folder / "media" / "test003.png").rename(tmp_path / "test003.png")
    with pytest.raises(ValueError, match=r"test003\.png"):
        cma.train(make_model(), load(folder, "train"), config)
    assert contents(record.folder) == before
    (tmp_path / "test003.png").rename(folder / "media" / "test003.png")
    other = cma.train(make_model(), load(folder, "train"), config.merge({"lr": 0.5}))
    assert other.config["lr"] == 0.5
    assert sorted(path.parent.name for path in record.folder.rglob("mine.txt")) == ["best", "r"]


def test_a_broken_checkpoint_is_named(train_set, config, make_model):
    config = config.merge({"epochs": 1})
    record = cma.train(make_model(), train_set, config)
    checkpoint = record.folder / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    other = whole.replace(b'"train_items": 24', b'"train_items": ""')
    assert other != whole
    # of an older version
    torch.save(torch.load(checkpoint, weights_only=True) | {"format": 2}, checkpoint)
    contents = (
        checkpoint.read_bytes(),
        b"",
        b"not a checkpoint",
        b"junk",
        whole[: len(whole) // 2],
        other,
    )
    for content in contents:
        checkpoint.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt: no checkpoint.*delete"):
            cma.train(make_model(), train_set, config)
        assert checkpoint.read_bytes() == content
    checkpoint.unlink()
    with pytest.raises(ValueError, match=r"run\.json without checkpoint\.pt"):
        cma.train(make_model(), train_set, config)


@pytest.fixture
def dropping(config, monkeypatch):
    """Settings of a run of three epochs of three steps, with a checkpoint after each step."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    return config.merge({"epoch_unit": "items", "select_on": "last"})


@pytest.fixture
def unbroken(train_set, dropping, make_model):
    model = make_model(dropout=0.2)
    return cma.train(model, train_set, dropping.merge({"name": "whole"})), weights(model)


@pytest.mark.parametrize(
    "first, optimizer", [(2, "adamw"), (3, "bert_adam"), (5, "bert_adam"), (9, "adamw")]
)
def test_a_run_goes_on_bitwise_from_any_step(
    train_set, dropping, make_model, first, optimizer, capsys, monkeypatch
):
    config, whole = dropping.merge({"optimizer": optimizer}), make_model(0.2)
    unbroken = cma.train(whole, train_set, config.merge({"name": "whole"})), weights(whole)
    # again, one step later, or not at all after the last ones
    held, save = [], resume.RunState.save
    monkeypatch.setattr(
        resume.RunState, "save", lambda state, *now: held.extend(state.last) or save(state, *now)
    )
    broken = make_model(0.2)
    for updates in (first, 2):
        with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
            at_step(patch, updates, interrupt)
            cma.train(broken, train_set, config)  # the second time from where it was broken off
    model = make_model(dropout=0.2)
    same_run(cma.train(model, train_set, config), model, unbroken)
    assert not held  # what is saved is in the model, and not kept twice
    assert ("resumed after epoch 1 and 1 steps of 3 epochs" in capsys.readouterr().out) == (
        first == 5
    )


def test_without_memory_the_micro_batch_is_halved_and_the_step_tried_again(
    train_set, dropping, make_model, monkeypatch, capsys
):
    really, sizes = step.embed, []

    def crowded(model, batch, config):
        sizes.append(len(batch.input_ids))
        if sizes[-1] > 2:
            kind = torch.OutOfMemoryError if len(sizes) == 1 else RuntimeError
            raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return really(model, batch, config)

    model, plain = make_model(), make_model()
    cma.train(plain, train_set, dropping.merge({"name": "plain"}))
    monkeypatch.setattr(step, "embed", crowded)
    record = cma.train(model, train_set, dropping)
    assert sizes[:3] == [8, 4, 2] and set(sizes[2:]) == {2}
    printed = capsys.readouterr().out
    assert (
        "out of memory with 8 pairs at once; continuing with 4" in printed and "with 2\n" in printed
    )
    assert record.config["micro_batch"] is None
    for one, other in zip(weights(model), weights(plain), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_another_error_or_one_pair_without_memory_ends_the_run(
    train_set, dropping, make_model, monkeypatch
):
    monkeypatch.setattr(
        loop, "train_step", Mock(side_effect=RuntimeError("shapes cannot be multiplied"))
    )
    with pytest.raises(RuntimeError, match="shapes cannot"):
        cma.train(make_model(), train_set, dropping)
    steps = [(2.0, 1.0)] * 4 + [MemoryError("full")]
    monkeypatch.setattr(loop, "train_step", Mock(side_effect=steps))
    one = dropping.merge({"micro_batch": 1, "name": "one"})
    with pytest.raises(
        MemoryError, match="one pair at once does not fit .full.; set checkpoint_act"
    ):
        cma.train(make_model(), train_set, one)
    saved = torch.load(one.runs_dir / "one" / "checkpoint.pt", weights_only=True)
    assert len(saved["epoch"]["losses"]) == 1  # of the second epoch


def not_finite(loss: torch.Tensor, model) -> torch.Tensor:
    return loss * float("nan")


def diverged(loss: torch.Tensor, model) -> torch.Tensor:
    model.trainable_parameters()[0].data.fill_(float("inf"))
    return loss * float("nan")


@pytest.mark.parametrize("spoil", [not_finite, diverged])
def test_a_loss_that_is_not_finite_ends_the_run_before_its_step(
    train_set, dropping, make_model, unbroken, monkeypatch, spoil
):
    really, count = step.batch_gradient, iter(range(100))

    def broken(model, batch, config, team):
        loss = really(model, batch, config, team)
        return spoil(loss, model) if next(count) == 4 else loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "batch_gradient", broken)
        with pytest.raises(
            ValueError,
            match=r"^step 5: loss nan.*last; .*(train\d+, ){7}",
        ):
            cma.train(make_model(dropout=0.2), train_set, dropping)
    saved = make_model(seed=3)
    saved.load_adapter(dropping.runs_dir / "r" / "last", "last")
    assert all(p.isfinite().all() for p in saved.adapters["last"].parameters())
    model = make_model(dropout=0.2)
    same_run(cma.train(model, train_set, dropping), model, unbroken)


def test_an_update_that_was_broken_off_is_not_tried_again(
    train_set, dropping, make_model, unbroken, monkeypatch
):
    really, count = torch.optim.AdamW.step, iter(range(100))

    def crowded(optimizer, *arguments):
        done = really(optimizer, *arguments)
        if next(count) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", crowded)
        with pytest.raises(
            ValueError, match="in the optimiser's update, so the run ends: CUDA out of"
        ):
            cma.train(make_model(dropout=0.2), train_set, dropping)
    model = make_model(dropout=0.2)
    same_run(cma.train(model, train_set, dropping), model, unbroken)


def test_a_second_run_in_one_folder_is_refused_and_half_a_card_of_a_killed_one_removed(
    train_set, config, make_model
):
    folder = config.runs_dir / "r"
    with resume.writing(folder), pytest.raises(ValueError, match="another run is being"):
        cma.train(make_model(), train_set, config)
    (folder / ".README.md.123.tmp").touch()
    assert cma.train(make_model(), train_set, config.merge({"epochs": 1})).finished
    assert not list(folder.glob("*.tmp"))
