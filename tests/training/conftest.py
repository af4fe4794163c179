"""What the tests of training share: a small dataset, seeded models, and settings of a quick run."""

import json
import sys
from pathlib import Path

import pytest
import torch

from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.data import RetrievalDataset, load
from cma.training import loop
from tests.conftest import build_clip
from tests.toy_data import write_images


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write_images(
        tmp_path_factory.mktemp("toy") / "data", {"train": 24, "val": 8, "test": 10}
    )


@pytest.fixture
def train_set(folder) -> RetrievalDataset:
    return load(folder, "train")


@pytest.fixture
def whole_config(tmp_path) -> TrainConfig:
    runs = tmp_path / "runs"
    return TrainConfig(
        name="r", epochs=3, batch_size=8, lr=1e-2, max_frames=1, runs_dir=runs, cache=True
    )


@pytest.fixture
def config(whole_config, monkeypatch) -> TrainConfig:
    """As `whole_config`, without the curve, which takes most of the time of a toy run."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    return whole_config


@pytest.fixture
def make_model(toy_processor):
    def make(dropout: float = 0.0, seed: int = 0) -> RetrievalModel:
        torch.manual_seed(seed)
        model = RetrievalModel(build_clip(), toy_processor)
        model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8, dropout=dropout))
        return model

    return make


def weights(model: RetrievalModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.trainable_parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stop_after(epoch: int):
    """An `on_epoch` that fails as a kill would, once the epoch is written."""

    def stop(record) -> None:
        if len(record.history) == epoch:
            raise KeyboardInterrupt

    return stop


def at_step(patch: pytest.MonkeyPatch, number: int, act) -> None:
    """Call `act` after the update `number` (from 1) of this process."""
    really, count = loop.train_step, iter(range(1, 10**6))

    def stepping(*arguments):
        found = really(*arguments)
        if next(count) == number:
            act()
        return found

    patch.setattr(loop, "train_step", stepping)


def interrupt() -> None:
    raise KeyboardInterrupt


def same_run(record, model, unbroken) -> None:
    whole, trained = unbroken
    assert equal(weights(model), trained)
    assert json.dumps(record.metrics) == json.dumps(whole.metrics)
    assert [{**e, "seconds": 0} for e in record.history] == [
        {**e, "seconds": 0} for e in whole.history
    ]
