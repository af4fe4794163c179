"""The loop: seeded, resumed bitwise, chosen as told, and the authors' numbers after three steps."""

import json

import pytest
import torch

import cma
from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.checkpoints import to_official
from cma.data import load
from cma.training import sampling
from cma.training.batches import Batch, make_pixels, read_batches
from cma.training.loop import batch_loss, train_step
from cma.training.optim import build_optimizer, parameter_groups, rate_factor
from cma.training.record import ON_TEST, RunRecord
from tests.conftest import build_clip
from tests.parity_model import largest_difference, numbers, parity_model
from tests.toy_data import write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("toy") / "data", {"train": 24, "val": 8, "test": 10})


@pytest.fixture
def whole_config(tmp_path) -> TrainConfig:
    return TrainConfig(name="r", epochs=3, batch_size=8, lr=1e-2, max_frames=1, runs_dir=tmp_path, cache=True)


@pytest.fixture
def config(whole_config, monkeypatch) -> TrainConfig:
    """As `whole_config`, for runs whose curve and intervals nobody looks at: they take most of a toy run."""
    monkeypatch.setattr(cma.training.loop.plots, "save", lambda figure, path: None)
    monkeypatch.setattr(cma.training.loop.plots, "training_curve", lambda record: None)
    monkeypatch.setattr(cma.training.evaluation.metrics, "bootstrap_interval", lambda *_, **__: (0.0, 100.0))
    return whole_config


@pytest.fixture
def make_model(toy_processor):
    def make(dropout: float = 0.0, seed: int = 0) -> RetrievalModel:
        torch.manual_seed(seed)
        model = RetrievalModel(build_clip(), toy_processor)
        model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8, dropout=dropout))
        model.set_adapter("a")
        return model

    return make


def weights(model: RetrievalModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.trainable_parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def stop_after(epoch: int):
    """An `on_epoch` that fails as a kill would, once the epoch is written."""

    def stop(record: RunRecord) -> None:
        if len(record.history) == epoch:
            raise KeyboardInterrupt

    return stop


def test_a_run_learns_and_leaves_its_record(folder, whole_config, make_model, capsys):
    config, model = whole_config, make_model()
    frozen = {key: value.clone() for key, value in model.clip.state_dict().items()}
    record = cma.train(model, load(folder, "train"), config)
    assert record.history[-1]["loss"] < record.history[0]["loss"]
    assert all(torch.equal(value, frozen[key]) for key, value in model.clip.state_dict().items())
    assert record.folder == config.runs_dir / "r"
    names = {path.name for path in record.folder.iterdir()}
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    assert names == {"run.json", "curve.png", "checkpoint.pt", "best", "last"} | adapter
    for place in ("best", "last"):
        assert {path.name for path in (record.folder / place).iterdir()} == adapter

    written = json.loads((record.folder / "run.json").read_text())
    assert written["seed"] == 42
    assert written["config"]["lr"] == 1e-2
    assert str(config.runs_dir) not in json.dumps(written)
    assert written["total_steps"] == 18
    assert written["steps_per_epoch"] == 6
    assert written["trained_parameters"] == sum(p.numel() for p in model.trainable_parameters())
    assert (written["metrics"]["split"], written["metrics"]["texts"], written["metrics"]["items"]) == (
        "test",
        20,
        10,
    )
    low, high = written["metrics"]["intervals"]["visual_to_text"]["R@10"]
    assert low <= written["metrics"]["visual_to_text"]["R@10"] <= high
    for field in ("hardware", "versions", "finished", "seconds", "label"):
        assert written[field]
    said = capsys.readouterr().out
    assert "an epoch counts 48 (item, caption) pairs, each once: 6 steps of 8 (0 left over)" in said
    assert "18 steps" in said

    fresh = make_model(seed=5)
    fresh.load_adapter(record.folder, "kept")
    fresh.set_adapter("kept")
    assert equal(weights(fresh), weights(model))


def test_the_same_seed_gives_the_same_run_and_another_does_not(folder, config, make_model):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(runs))  # the caller's random state does not matter
        model = make_model()
        torch.manual_seed(100 + len(runs))
        before = torch.get_rng_state()
        cma.train(model, load(folder, "train"), config.merge({"name": name, "seed": seed, "epochs": 1}))
        assert torch.equal(torch.get_rng_state(), before)
        runs.append(weights(model))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


@pytest.mark.parametrize("optimizer", ["adamw", "bert_adam"])
def test_a_resumed_run_is_bitwise_the_unbroken_one(folder, config, make_model, optimizer):
    config = config.merge({"optimizer": optimizer, "epoch_unit": "items", "select_on": "last"})
    whole = make_model(dropout=0.2)
    unbroken = cma.train(whole, load(folder, "train"), config.merge({"name": "whole"}))

    with pytest.raises(KeyboardInterrupt):
        cma.train(make_model(dropout=0.2), load(folder, "train"), config, on_epoch=stop_after(1))
    assert not (config.runs_dir / "r" / "run.json").exists()
    resumed = make_model(dropout=0.2, seed=9)  # another process begins from any adapter
    record = cma.train(resumed, load(folder, "train"), config)
    assert equal(weights(resumed), weights(whole))
    assert record.metrics == unbroken.metrics
    timeless = [[{**e, "seconds": 0} for e in r.history] for r in (record, unbroken)]
    assert timeless[0] == timeless[1]


def test_the_best_epoch_survives_a_break(folder, config, make_model, monkeypatch):
    """Recall falls after the first epoch: its adapter is the one kept, though the run stops in between."""
    recalls = iter([30.0, 20.0, 10.0])
    true_evaluate = cma.training.loop.evaluate
    first = []

    def evaluate(model, dataset, *rest, **options):
        found = true_evaluate(model, dataset, *rest, **options)
        if dataset.split == "val":
            first.append(weights(model))
            found["text_to_visual"]["R@1"] = next(recalls)
        return found

    monkeypatch.setattr(cma.training.loop, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        cma.train(make_model(), load(folder, "train"), config, on_epoch=stop_after(2))
    model = make_model(seed=3)
    record = cma.train(model, load(folder, "train"), config)
    assert record.selected_epoch == 1
    assert equal(weights(model), first[0])
    assert not equal(weights(model), first[2])
    for place, expected in (("best", first[0]), ("last", first[2])):
        model.load_adapter(record.folder / place, place)
        model.set_adapter(place)
        assert equal(weights(model), expected)


def test_a_finished_run_is_returned_and_another_is_refused(folder, config, make_model, capsys):
    config = config.merge({"epochs": 1})
    model = make_model()
    record = cma.train(model, load(folder, "train"), config)
    again = make_model(seed=4)
    capsys.readouterr()
    same = cma.train(again, load(folder, "train"), config.merge({"workers": 0}))
    assert "finished" in capsys.readouterr().out
    assert same.finished == record.finished
    assert equal(weights(again), weights(model))

    with pytest.raises(ValueError, match=r"another run \(lr 0.01 there, 0.5 here\).*another name.*replace"):
        cma.train(make_model(), load(folder, "train"), config.merge({"lr": 0.5}))
    with pytest.raises(ValueError, match="train_items 24 there, 12 here"):
        cma.train(make_model(), load(folder, "train").subset(12), config)
    (record.folder / "mine.txt").write_text("kept")
    other = cma.train(make_model(), load(folder, "train"), config.merge({"lr": 0.5, "if_exists": "replace"}))
    assert other.config["lr"] == 0.5
    assert (record.folder / "mine.txt").read_text() == "kept"


@pytest.fixture
def steps(monkeypatch) -> list:
    """Gets an entry at every step of training."""
    taken, true_step = [], cma.training.loop.train_step

    def step(*arguments):
        taken.append(1)
        return true_step(*arguments)

    monkeypatch.setattr(cma.training.loop, "train_step", step)
    return taken


BOTH = {"val": 4, "test": 4}


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
            "media",
            r"\(test\): the media of 1 of 4 items are missing.*test002\.png",
        ),
        (BOTH, {"report_on": "val"}, "media val", r"\(val\): the media of 1 of 4 items"),
        ({}, {"select_on": "last"}, "", "no split to report on"),
        (BOTH, {}, "folder", "runs.r: cannot be written to.*choose another runs_dir"),
    ],
)
def test_what_the_end_needs_is_looked_for_before_the_first_step(
    counts, settings, broken, said, config, make_model, tmp_path, steps
):
    folder = write_images(tmp_path / "data", {"train": 12, **counts})
    config = config.merge({"epochs": 1, "runs_dir": tmp_path / "runs", **settings})
    if broken == "captions":
        lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
        lines = [line | ({"captions": []} if line["id"] == "test002" else {}) for line in lines]
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    if broken.startswith("media"):
        (folder / "media" / f"{'val' if 'val' in broken else 'test'}002.png").unlink()
    if broken == "folder":
        (tmp_path / "runs").write_text("a file")
    with pytest.raises((ValueError, OSError), match=said):
        cma.train(make_model(), load(folder, "train"), config)
    assert not steps


def test_replacing_deletes_nothing_of_anothers_and_nothing_before_all_is_found(config, make_model, tmp_path):
    folder = write_images(tmp_path / "data", {"train": 12, "val": 4, "test": 4})
    config = config.merge({"epochs": 1, "if_exists": "replace"})
    record = cma.train(make_model(), load(folder, "train"), config)
    (record.folder / "best" / "mine.txt").write_text("kept")
    before = {path: path.read_bytes() for path in record.folder.rglob("*") if path.is_file()}
    (folder / "media" / "test003.png").rename(tmp_path / "test003.png")
    with pytest.raises(ValueError, match=r"test003\.png"):
        cma.train(make_model(), load(folder, "train"), config)
    assert {path: path.read_bytes() for path in record.folder.rglob("*") if path.is_file()} == before
    (tmp_path / "test003.png").rename(folder / "media" / "test003.png")
    cma.train(make_model(), load(folder, "train"), config)
    assert (record.folder / "best" / "mine.txt").is_file()


def test_a_broken_checkpoint_is_named(folder, config, make_model):
    config = config.merge({"epochs": 1})
    record = cma.train(make_model(), load(folder, "train"), config)
    whole = (record.folder / "checkpoint.pt").read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        (record.folder / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt: no checkpoint.*delete"):
            cma.train(make_model(), load(folder, "train"), config)
    (record.folder / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"run\.json without checkpoint\.pt"):
        cma.train(make_model(), load(folder, "train"), config)


def test_a_choice_on_test_is_labelled_everywhere(folder, config, make_model, capsys):
    config = config.merge({"epochs": 1, "select_on": "test"})
    record = cma.train(make_model(), load(folder, "train"), config)
    assert record.history[0]["validation"]["split"] == "test"
    assert ON_TEST in capsys.readouterr().out
    assert json.loads((record.folder / "run.json").read_text())["label"] == ON_TEST


def test_validation_items_are_held_out_where_there_is_no_split(config, make_model, tmp_path):
    folder = write_images(tmp_path / "data", {"train": 24, "test": 6})
    config = config.merge({"epochs": 1, "val_items": 4})
    record = cma.train(make_model(), load(folder, "train"), config)
    assert (record.train_items, record.held_out_items) == (20, 4)
    assert record.history[0]["validation"]["items"] == 4
    last = cma.train(make_model(), load(folder, "train"), config.merge({"name": "l", "select_on": "last"}))
    assert (last.train_items, last.held_out_items) == (24, 0)
    assert "validation" not in last.history[0]


def test_report_on_val_never_reads_the_test_split(config, make_model, tmp_path):
    folder = write_images(tmp_path / "data", {"train": 12, "val": 5, "test": 5})
    for path in (folder / "media").glob("test*"):
        path.unlink()
    record = cma.train(make_model(), load(folder, "train"), config.merge({"epochs": 1, "report_on": "val"}))
    assert record.metrics["split"] == "val"


def test_captions_that_are_cut_are_counted(folder, config, make_model, capsys):
    model = make_model()
    with pytest.warns(UserWarning, match="cut"):
        record = cma.train(model, load(folder, "train"), config.merge({"epochs": 1, "max_words": 5}))
    rows = model.processor.tokenizer(load(folder, "train").captions)["input_ids"]
    long = sum(len(row) > 5 for row in rows)
    assert 0 < long < 48
    assert f"{long} of 48 captions were cut to 5 tokens" in capsys.readouterr().out
    assert record.metrics["cut_captions"] > 0


def test_tiny_runs_evaluate_on_few_items(folder, config, make_model):
    record = cma.train(make_model(), load(folder, "train"), config.merge({"epochs": 1, "eval_items": 4}))
    assert (record.metrics["items"], record.history[0]["validation"]["items"]) == (4, 4)


def test_bad_starts_are_refused(folder, config, make_model, monkeypatch):
    model = make_model()
    model.set_adapter(None)
    with pytest.raises(ValueError, match="no adapter is active.*set_adapter"):
        cma.train(model, load(folder, "train"), config)
    with pytest.raises(ValueError, match="expected its train split, found test"):
        cma.train(make_model(), load(folder, "test"), config)
    with pytest.raises(ValueError, match="loss .* at rate"):
        model = make_model()
        model.trainable_parameters()[0].data.fill_(float("nan"))
        cma.train(model, load(folder, "train"), config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="WORLD_SIZE=2.*one process"):
        cma.train(make_model(), load(folder, "train"), config.merge({"name": "w"}))


def test_bf16_trains_near_float32(folder, config, make_model):
    losses = {}
    for precision in ("float32", "bf16"):
        settings = config.merge({"name": precision, "precision": precision, "epochs": 1})
        losses[precision] = cma.train(make_model(), load(folder, "train"), settings).history[0]["loss"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bf16"] != losses["float32"]


def test_workers_change_nothing(folder, config, make_model):
    results = []
    for workers in (0, 1):
        model = make_model()
        settings = config.merge({"name": f"w{workers}", "cache": False, "workers": workers, "epochs": 1})
        cma.train(model, load(folder, "train"), settings)
        results.append(weights(model))
    assert equal(*results)


def test_captions_of_one_item_are_no_negatives(folder, make_model, config):
    """Every caption of three items in one batch: the loss of a loop that skips an item's other captions."""
    model, dataset = make_model(), load(folder, "train").subset(3)
    ids, _ = model.tokenize(dataset.captions, 32)
    (batch,) = read_batches(dataset, ids, make_pixels(model, config), [torch.arange(6)], workers=0)
    assert batch.item_ids.tolist() == [0, 0, 1, 1, 2, 2]
    text = torch.nn.functional.normalize(model.encode_text(ids), dim=-1)
    image = torch.nn.functional.normalize(model.encode_images(batch.frames[:, 0]), dim=-1)
    logits = model.logit_scale * text @ image.T
    total = 0.0
    for way in (logits, logits.T):
        for i in range(6):
            others = [j for j in range(6) if j == i or j // 2 != i // 2]
            total += way[i, others].logsumexp(0) - way[i, i]
    torch.testing.assert_close(batch_loss(model, batch, config), total / 12)


@pytest.mark.parametrize("name, similarity", [("qscore", "text_conditioned"), ("meanp", "mean_pooled")])
def test_three_steps_of_the_authors(name, similarity):
    """Losses, gradient norms, rates and every adapter tensor after each step, with their optimiser."""
    model, inputs, theirs = parity_model(), numbers("inputs"), numbers(f"train3_{name}")
    config = TrainConfig(optimizer="bert_adam", similarity=similarity, lr=1e-3)
    groups = parameter_groups(model, model.trainable_parameters(), config.weight_decay)
    optimizer = build_optimizer(config.optimizer, groups, config.lr)
    batch = Batch(inputs["input_ids"], inputs["video"], inputs["video_mask"], torch.arange(4))
    for step in range(3):
        rate = config.lr * rate_factor(config.optimizer, step, 10, config.warmup)
        assert rate == pytest.approx(theirs["lrs"][step].item(), abs=1e-12)
        loss, norm = train_step(model, optimizer, batch, rate, config)
        assert loss == pytest.approx(theirs["losses"][step].item(), abs=2e-6)
        assert norm == pytest.approx(theirs["grad_norms_before_clip"][step].item(), rel=1e-5)
        ours = to_official(model, "official")
        assert len(ours) == 10
        for key, value in ours.items():
            assert largest_difference(value, theirs[f"step{step + 1}.{key.removeprefix('clip.')}"]) <= 2e-5, (
                key
            )
    assert batch_loss(model, batch, config).item() == pytest.approx(theirs["losses"][3].item(), abs=2e-6)


def test_msrvtt_counts_180000_pairs_and_1406_steps():
    class Many:
        captions = range(180_000)

        def __len__(self):
            return 9_000

    words = sampling.describe_epoch(Many(), TrainConfig(batch_size=128, epochs=5))
    assert "180,000 (item, caption) pairs" in words
    assert "1,406 steps of 128 (32 left over)" in words
    assert "7,030 steps" in words
    assert "9,000 items, one caption each: 70 steps" in sampling.describe_epoch(
        Many(), TrainConfig(epoch_unit="items")
    )
