"""The loop: seeded, chosen as told, and the authors' numbers after three steps."""

import dataclasses
import json
import math
import threading
from copy import deepcopy

import pytest
import torch
from huggingface_hub import ModelCard

import cma
from cma import TrainConfig
from cma.checkpoints import to_official
from cma.data import load
from cma.training import (
    Batch,
    NotFinite,
    loop,
    optim,
    plan,
    prepare,
    train_step,
)
from cma.training.step import batch_loss
from tests.conftest import same_state
from tests.parity_model import largest_difference, numbers, parity_model
from tests.toy_data import write_images
from tests.training.conftest import at_step, equal, same_run, weights


def test_a_run_learns_and_leaves_its_record(train_set, whole_config, make_model, capsys):
    config, model = whole_config, make_model()
    frozen = deepcopy(model.clip.state_dict())
    record = cma.train(model, train_set, config)
    assert record.history[-1]["loss"] < record.history[0]["loss"]
    assert same_state(model.clip.state_dict(), frozen)
    assert record.folder == config.runs_dir / "r"
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    names = adapter | {f"{place}/{name}" for place in ("best", "last") for name in adapter}
    found = {path.relative_to(record.folder).as_posix() for path in record.folder.rglob("*.*")}
    assert found == names | {"README.md", "run.json", "curve.png", "checkpoint.pt", ".run.lock"}

    written = json.loads((record.folder / "run.json").read_text())
    assert (written["seed"], written["config"]["lr"]) == (42, 1e-2)
    assert str(config.runs_dir) not in json.dumps(written)
    assert (written["steps_per_epoch"], written["total_steps"]) == (6, 18)
    assert written["trained_parameters"] == sum(p.numel() for p in model.trainable_parameters())
    assert [written["metrics"][key] for key in ("split", "texts", "items")] == ["test", 20, 10]
    assert all(written[field] for field in ("hardware", "versions", "finished", "seconds", "label"))
    said = capsys.readouterr().out
    assert "toy train: 24 items found / 24 expected, 0 held out\n" in said
    assert "an epoch counts 48 (item, caption) pairs, each once: 6 steps of 8 (0 left over)" in said
    assert "val R@1 in %: text-to-image" in said and "image-to-text" in said

    card = ModelCard.load(record.folder / "README.md")
    values = {
        one.metric_name: one.metric_value
        for one in card.data.eval_results
        if "to-im" in one.task_type
    }
    assert values == {
        key: written["metrics"]["text_to_visual"][key] for key in ("R@1", "R@5", "R@10")
    }

    fresh = make_model(seed=5)
    assert fresh.load_adapter(record.folder, "kept").reading == config.reading()
    assert equal(weights(fresh), weights(model))


def test_an_adapter_is_evaluated_as_it_was_trained_unless_told_otherwise(
    train_set, whole_config, make_model, capsys
):
    config, model = whole_config.merge({"max_words": 6, "epochs": 1}), make_model()
    name = model.active
    record = cma.train(model, train_set, config)
    test = train_set.splits["test"]
    capsys.readouterr()
    assert cma.evaluate(model, test) == record.metrics
    assert not capsys.readouterr().out
    other = cma.evaluate(model, test, cma.ReadConfig(), samples=0)
    assert other["cut_captions"] < record.metrics["cut_captions"]
    assert f"adapter {name!r} was trained with ReadConfig(" in capsys.readouterr().out
    model.get_adapter(name).reading = None  # as an older file
    assert cma.evaluate(model, test, samples=0) == other
    assert "its training read captions and media; using ReadConfig(" in capsys.readouterr().out
    with pytest.raises(TypeError, match="expected a cma.ReadConfig"):
        cma.evaluate(model, test, {"max_words": 6})


def test_the_same_seed_gives_the_same_run_and_another_does_not(
    train_set, config, make_model, monkeypatch
):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = make_model()
        torch.manual_seed(100 + len(runs))  # the caller's random state does not matter
        before = torch.get_rng_state()
        settings = config.merge({"name": name, "seed": seed, "epochs": 1})
        with monkeypatch.context() as patch:  # as on a machine with GPUs that others use
            patch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("all are seeded"))
            cma.train(model, train_set, settings)
        assert torch.equal(torch.get_rng_state(), before)
        runs.append(weights(model))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


@pytest.mark.parametrize(
    "counts, settings, broken, said",
    [
        (
            {"val": 4, "test": 4},
            {},
            "captions",
            r"\(test\): 1 of 4 items have no captions.*test002",
        ),
        (
            {"val": 4, "test": 4},
            {},
            "test002",
            r"\(test\): the media of 1 of 4 items are missing.*test002",
        ),
        (
            {"val": 4, "test": 4},
            {"report_on": "val"},
            "val002",
            r"\(val\): the media of 1 of 4 items",
        ),
        ({}, {"select_on": "last"}, "", "no split to report on"),
        ({"test": 4}, {"select_on": "test", "report_on": "val"}, "", "no split to report on"),
        ({"val": 4}, {"select_on": "test"}, "", "no test split; expected one for select_on"),
        (
            {"val": 4, "test": 4},
            {},
            "runs",
            "runs.r: cannot be written to.*choose another runs_dir",
        ),
    ],
)
def test_what_the_end_needs_is_looked_for_before_the_first_step(
    counts, settings, broken, said, config, make_model, tmp_path, monkeypatch
):
    folder = write_images(tmp_path / "data", {"train": 12, **counts})
    if broken == "captions":
        lines = [
            json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()
        ]
        lines = [line | ({"captions": []} if line["id"] == "test002" else {}) for line in lines]
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    elif broken == "runs":
        config.runs_dir.write_text("a file")
    elif broken:
        (folder / "media" / f"{broken}.png").unlink()
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises((ValueError, OSError), match=said):
        cma.train(make_model(), load(folder, "train"), config.merge(settings))


def test_bad_starts_are_refused(folder, train_set, config, make_model):
    model = make_model()
    model.set_adapter(None)
    one_item = config.merge({"epoch_unit": "items"})
    for start in (cma.train, plan):
        with pytest.raises(ValueError, match="no adapter is active.*set_adapter"):
            start(model, train_set, config)
        with pytest.raises(ValueError, match="expected a train split, .*, not toy's test"):
            start(make_model(), load(folder, "test"), config)
        with pytest.raises(ValueError, match="^toy: 48 captions in .* 1; one pair has no neg"):
            start(make_model(), train_set, config.merge({"batch_size": 1}))
        with pytest.raises(ValueError, match="^toy: 1 items in batches of 8; one pair has no neg"):
            start(make_model(), train_set.subset(1), one_item)
    model.set_adapter("a")
    model.trainable_parameters()[0].data.fill_(math.nan)
    with pytest.raises(ValueError, match="loss .* at rate"):
        cma.train(model, train_set, config)


@pytest.mark.parametrize("captions, items", [(("A cat", "a  cat"), 24), (None, 1)])
def test_training_on_nothing_is_refused(train_set, config, make_model, captions, items):
    """Without negatives the loss is 0 from the first step on."""
    dataset = train_set.subset(items)
    alike = [dataclasses.replace(i, captions=captions or i.captions) for i in dataset.items]
    dataset = dataclasses.replace(dataset, items=tuple(alike))
    for start in (cma.train, plan):
        with pytest.raises(ValueError, match="^toy: .*no pair has negatives"):
            start(make_model(), dataset, config.merge({"select_on": "last"}))
    assert not (config.runs_dir / "r").exists()


def test_queries_in_another_thread_change_nothing(train_set, config, make_model, monkeypatch):
    alone, model = make_model(dropout=0.2), make_model(dropout=0.2)
    expected = cma.train(alone, train_set, config.merge({"name": "alone"}))
    ended = threading.Event()

    def queries() -> None:
        while not ended.is_set():
            with model.using(None):
                model.encode_text(["a red cat"])
            with model.lock:
                model.set_adapter(None)

    thread = threading.Thread(target=queries)
    at_step(monkeypatch, 1, thread.start)
    try:
        record = cma.train(model, train_set, config)
    finally:
        ended.set()
        thread.join()
    assert model.active is None
    model.set_adapter("a")
    same_run(record, model, (expected, weights(alone)))


def test_a_folder_is_no_split_and_a_dict_no_config(folder, train_set, config, make_model):
    model = make_model()
    for wrong in (str(folder), folder):
        with pytest.raises(
            ValueError, match=r'load_dataset\(folder, "train"\) or .*, not .{9,40}$'
        ):
            cma.train(model, wrong, config)
        with pytest.raises(
            TypeError, match=r"expected a split, `cma.load_dataset\(folder, split\)`, not"
        ):
            cma.evaluate(model, wrong, config)
    for wrong in ({"epochs": 1}, None, cma.ReadConfig()):
        with pytest.raises(TypeError, match="expected a cma.TrainConfig, such as recipe"):
            cma.train(model, train_set, wrong)
    with pytest.raises(TypeError, match=r"expected a cma.RetrievalModel.*, not CLIPModel$"):
        cma.train(model.clip, train_set, config)


def test_an_adapter_that_diverges_in_the_last_step_says_so(train_set, config, make_model):
    config = config.merge(
        {"epochs": 1, "batch_size": 48, "lr": 1e20, "warmup": 0.0, "max_grad_norm": 1e9}
    )
    with pytest.raises(
        NotFinite, match="val: an embedding is infinite or NaN; train with a lower lr"
    ):
        cma.train(make_model(), train_set, config)


@pytest.mark.parametrize(
    "name, similarity", [("qscore", "text_conditioned"), ("meanp", "mean_pooled")]
)
def test_three_steps_of_the_authors(name, similarity):
    """Losses, norms, rates and every adapter tensor after each step, with their optimiser."""
    model, inputs, theirs = parity_model(), numbers("inputs"), numbers(f"train3_{name}")
    config = TrainConfig(optimizer="bert_adam", similarity=similarity, lr=1e-3)
    optimizer = prepare(model, config)
    batch = Batch(inputs["input_ids"], inputs["video"], inputs["video_mask"], torch.arange(4))
    for step in range(3):
        rate = config.lr * optim.rate_factor(config.optimizer, step, 10, config.warmup)
        assert rate == pytest.approx(theirs["lrs"][step].item(), abs=1e-12)
        loss, norm = train_step(model, optimizer, batch, rate, config)
        assert loss == pytest.approx(theirs["losses"][step].item(), abs=2e-6)
        assert norm == pytest.approx(theirs["grad_norms_before_clip"][step].item(), rel=1e-5)
        ours = to_official(model, "official")
        assert len(ours) == 10
        for key, value in ours.items():
            expected = theirs[f"step{step + 1}.{key.removeprefix('clip.')}"]
            assert largest_difference(value, expected) <= 2e-5, key
    assert batch_loss(model, batch, config).item() == pytest.approx(
        theirs["losses"][3].item(), abs=2e-6
    )
