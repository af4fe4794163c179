"""Ablations: which points there are, what is measured of the shared slice, and rows that go on."""

from types import SimpleNamespace

import pytest
import torch

from cma import AdapterConfig, RetrievalModel, data
from cma.adapter import CrossModalAdapters
from cma.files import read_json
from cma.training import Batch, Embeddings, batch_loss, epoch_size, loop
from experiments.__main__ import main
from experiments.ablations import Ablations, PointRow
from experiments.points import FULL, GROUPS, OURS, Point, equal_bottleneck, points, start
from experiments.rows import MethodRow, difference
from experiments.sharing import agreement, changed_slices, modality_gap, tower_gradients
from tests.conftest import build_clip
from tests.experiments.conftest import stopped_after
from tests.methods.conftest import FRAMES, MASK, embed, token_ids
from tests.training.conftest import equal, weights

DEFAULT = Point("default", "adapter", {"bottleneck_dim": 8, "shared_dim": 16}, "mean_pooled")


@pytest.fixture
def ablations(folder, config, toy_processor, tmp_path) -> Ablations:
    train_set, val_set = (data.load(folder, split) for split in ("train", "val"))
    config = config.merge({"epochs": 2, "batch_size": 16})
    rates = {OURS: 1e-2, FULL: 1e-4}
    return Ablations(build_clip(), toy_processor, train_set, val_set, config, rates, tmp_path / "ablations")


def by_name(model, dataset) -> dict[str, Point]:
    return {f"{p.group}-{p.name}": p for p in points(model, dataset, "mean_pooled")}


def count(adapters) -> int:
    return sum(parameter.numel() for parameter in adapters.parameters())


def test_no_point_stands_twice_and_the_default_is_the_first(ablations, toy_clip):
    model = RetrievalModel(toy_clip)
    found = by_name(model, ablations.training)
    assert list(found.values())[0] == DEFAULT
    assert len(found) == len({str(point.definition) for point in found.values()})
    assert list(dict.fromkeys(p.group for p in found.values())) == ["default", *GROUPS[:-1]]
    assert not {"sharing-d16", "data-adapter-100", "bottleneck-r8", "init-up-1", "where-last-3"} & set(found)
    assert {"sharing-d0", "sharing-d32", "data-full-100", "where-mlp", "where-last-2"} <= set(found)
    assert found["where-last-2"].sites == [2, 3, 4, 5] and found["where-mlp"].sites == [1, 3, 5]
    clips = data.RetrievalDataset(**{**vars(ablations.training), "kind": "video"})
    assert set(by_name(model, clips)) - set(found) == {"pooling-text-conditioned"}


@pytest.mark.parametrize("shared_dim", [0, 4, 64, 192])
def test_at_equal_parameters_no_other_bottleneck_is_nearer(shared_dim):
    widths, layers = {"vision": 256, "text": 192}, {"vision": 6, "text": 6}

    def size(r: int, shared: int) -> int:
        return count(CrossModalAdapters(AdapterConfig(r, shared), widths, layers))

    r = equal_bottleneck(448, 8, 16, shared_dim)
    far = [abs(size(r + step, shared_dim) - size(8, 16)) for step in (-1, 0, 1)]
    assert min(far) == far[1]


def test_the_gradients_of_the_towers_add_up(make_model, whole_config):
    model, batch = make_model(), Batch(token_ids(), FRAMES, MASK, torch.tensor([0, 1, 2, 2]))
    found = tower_gradients(model, batch, whole_config)
    batch_loss(model, batch, whole_config).backward()
    adapters = model.adapters["a"]
    whole = torch.cat([adapters.shared_weight.grad.flatten(1), adapters.shared_bias.grad], dim=1)
    torch.testing.assert_close(found["vision"] + found["text"], whole)
    assert all(gradient.any() for gradient in found.values())
    said = agreement(model, batch, whole_config)
    one, other = found["vision"][2], found["text"][2]
    assert said["sites"][2] == pytest.approx((one @ other / one.norm() / other.norm()).item(), abs=1e-5)
    assert len(said["sites"]) == 6 and said["cosine"] == pytest.approx(sum(said["sites"]) / 6)
    assert said["norms"]["text"] == pytest.approx(found["text"].norm().item())


def test_another_slice_is_a_copy_and_the_trained_one_stays(make_model):
    model = make_model()
    adapters = model.adapters["a"]
    adapters.shared_bias.data.normal_()
    trained, before = weights(model), embed(model)
    found = dict(changed_slices(adapters, seed=1))
    for name, changed in found.items():
        model.keep(name, changed)
        model.set_adapter(name)
        assert not torch.equal(embed(model)[0], before[0]), name
        own = {key: value for key, value in changed.named_parameters() if "shared" not in key}
        assert all(torch.equal(value, dict(adapters.named_parameters())[key]) for key, value in own.items())
    model.set_adapter("a")
    assert equal(weights(model), trained) and all(map(torch.equal, embed(model), before))
    rows = [torch.cat([a.shared_weight, a.shared_bias[..., None]], 2) for a in (adapters, found["shuffled"])]
    for one, other in zip(*rows, strict=True):
        assert sorted(one.tolist()) == sorted(other.tolist()) and not torch.equal(one, other)
    assert not found["zero"].shared_weight.any() and not found["re-initialised"].shared_bias.any()
    assert found["re-initialised"].shared_weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_the_modality_gap_takes_directions_and_leaves_padding_out():
    text, frames = torch.tensor([[5.0, 0.0]]), torch.tensor([[[0.0, 3.0], [9.0, 9.0]]])
    found = Embeddings(text, frames, torch.tensor([[1, 0]]), torch.tensor([0]), 0)
    assert modality_gap(found) == pytest.approx(2**0.5)


@pytest.mark.parametrize("sites", [[1, 3, 5], [4, 5]])
def test_beside_its_sites_an_adapter_adds_nothing_and_never_trains(ablations, sites):
    ablations.config = ablations.config.merge({"epochs": 1})
    point = Point("where", "some", DEFAULT.options, "mean_pooled", sites=sites)
    row = ablations.run(point)
    model = RetrievalModel(ablations.clip, ablations.processor)
    trained = model.load_adapter(ablations.config.runs_dir / row.name, "trained")
    fresh = model.add_adapter("fresh", AdapterConfig(8, 16))
    start(fresh, point)
    for name, parameter in trained.named_parameters():
        if "down" not in name:
            assert parameter[sites].any() and not parameter[[i for i in range(6) if i not in sites]].any()
            acting = fresh.get_parameter(name)
            assert "bias" in name or acting[sites].any()
    assert row.budget["sites"] == sites and row.parameters == count(fresh) * len(sites) // 6


def test_a_row_is_on_validation_and_read_back(ablations, seen):
    row = ablations.run(DEFAULT)
    assert set(seen) == {"val"} and row.records["42"]["select_on"] == "last"
    assert row == read_json(ablations.results / "toy-default-adapter.json", PointRow)
    assert list(row.agreement) == ["0", "1", "2"] and len(row.gap) == 2
    assert list(row.changed) == ["shuffled", "re-initialised", "zero"]
    recall = row.records["42"]["metrics"]["text_to_visual"]["R@1"]
    assert 100 * row.hits("text_to_visual").mean() == pytest.approx(recall)
    other = PointRow(**{**vars(row), "ranks": {"42": row.changed["zero"]}})
    assert len(difference(row, other, "visual_to_text")) == 4
    seen.clear()
    assert ablations.run(DEFAULT) == row and not seen
    ablations.config = ablations.config.merge({"epochs": 3})
    with pytest.raises(ValueError, match=r"toy-default-adapter\.json: its budget is .*or delete the file"):
        ablations.run(DEFAULT)


@pytest.mark.slow
def test_a_stopped_point_goes_on(ablations, tmp_path):
    whole = ablations.run(DEFAULT)
    ablations.results = tmp_path / "again"
    ablations.config = ablations.config.merge({"runs_dir": tmp_path / "other"})
    with stopped_after(4, loop, "train_step"), pytest.raises(KeyboardInterrupt):
        ablations.run(DEFAULT)
    assert not ablations.row(DEFAULT).records and list(ablations.row(DEFAULT).agreement) == ["0", "1"]
    row = ablations.run(DEFAULT)
    assert (row.ranks, row.agreement, row.gap) == (whole.ranks, whole.agreement, whole.gap)
    assert row.changed == whole.changed


def test_a_share_of_the_items_has_as_many_steps(ablations):
    half = Point("data", "full-50", {}, "mean_pooled", method=FULL, share=0.5)
    items, config = ablations.run_of(half)
    _, usual = ablations.run_of(DEFAULT)
    assert len(items) == 12 and config.lr == 1e-4 and usual.lr == 1e-2
    steps = [c.epochs * epoch_size(d, c)[1] for d, c in ((items, config), (ablations.training, usual))]
    assert steps == [6, 6]
    quarter, _ = ablations.run_of(Point("data", "q", DEFAULT.options, "mean_pooled", share=0.25))
    assert {item.id for item in quarter.items} < {item.id for item in items.items}
    row = ablations.run(half)
    assert len(row.records["42"]["history"]) == config.epochs and not row.agreement and not row.changed


@pytest.fixture
def command(ablations, folder, tmp_path, monkeypatch, capsys):
    recipe = SimpleNamespace(train_config=lambda: ablations.config)
    monkeypatch.setattr("experiments.study.recipe", lambda _: recipe)
    toy = lambda *_, **__: (ablations.clip, ablations.processor)  # noqa: E731
    monkeypatch.setattr("experiments.study.load_backbone", toy)

    def run(*words: str) -> tuple[int, list[str], list[str]]:
        places = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
        status = main(["ablations", str(folder), *places, *words])
        out, err = capsys.readouterr()
        return status, out.splitlines(), [line for line in err.splitlines() if "error" in line]

    return run


@pytest.mark.slow
def test_the_command_says_what_is_to_come_and_goes_on(command, tmp_path):
    words = ("--only", "init", "--epochs", "1", "--rate", "0.01")
    status, out, _ = command(*words, "--hours", "0")
    assert status == 0 and out == ["4 points: 4 to train, 12 steps"]
    status, out, _ = command(*words)
    assert status == 0 and "4/4 init-up-10: R@1" in out[-1]
    assert len(list((tmp_path / "results" / "ablations").glob("toy-*.json"))) == 4
    assert command(*words)[1] == ["4 points: 0 to train, 0 steps"]
    status, _, err = command("--only", "init", "--epochs", "1", "--rate", "0.02")
    assert status == 1 and len(err) == 1 and "toy-default-adapter.json: its budget is" in err[0]


def test_rates_are_those_of_the_study(command, tmp_path):
    status, _, err = command("--only", "data")
    assert status == 1
    assert "no rate of the cross-modal adapter on toy yet; run `python -m experiments study" in err[0]
    MethodRow("toy", OURS, {}, lr=0.01).save(tmp_path / "results" / "methods")
    status, out, _ = command("--only", "data", "--hours", "0")
    assert status == 0 and out[0].startswith("full fine-tuning is left out") and out[1].startswith("4 points")
    MethodRow("toy", FULL, {}, lr=1e-4).save(tmp_path / "results" / "methods")
    assert command("--only", "data", "--hours", "0")[1][0].startswith("8 points: 8 to train")
    status, _, err = command("--only", "share", "--rate", "0.01")
    said = "error: unknown group 'share': expected some of sharing, data, where, bottleneck, init, pooling"
    assert (status, err) == (1, [said])
