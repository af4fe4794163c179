"""The sweep looks at validation alone."""

import json

import torch

from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.data import load
from cma.training import sweep_rates
from tests.conftest import build_clip
from tests.toy_data import write_images


def test_a_sweep_records_validation_and_never_reads_test(tmp_path, toy_processor):
    folder = write_images(tmp_path / "data", {"train": 12, "val": 5, "test": 5})
    for path in (folder / "media").glob("test*"):
        path.unlink()

    def make_model() -> RetrievalModel:
        torch.manual_seed(0)
        model = RetrievalModel(build_clip(), toy_processor)
        model.add_adapter("a", AdapterConfig(4, 8))
        model.set_adapter("a")
        return model

    config = TrainConfig(name="s", epochs=1, batch_size=8, max_frames=1, runs_dir=tmp_path, select_on="test")
    results = sweep_rates(make_model, load(folder, "train"), config, [1e-4, 1e-2], tmp_path / "sweep.json")
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert written["rates"] == results
    assert [one["lr"] for one in results] == [1e-4, 1e-2]
    assert {one["split"] for one in results} == {"val"}
    assert written["config"]["select_on"] == "val"
    assert "lr" not in written["config"]
    assert (tmp_path / "s-lr0.01" / "run.json").exists()
