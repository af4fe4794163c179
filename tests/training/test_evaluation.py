"""Evaluation is embedding, comparing and ranking, nothing more."""

import threading

import pytest
import torch

from cma import TrainConfig
from cma.data import load
from cma.training import (
    encode,
    evaluate,
    evaluate_and_record,
    evaluation,
)
from experiments.report import read_records

CONFIG = TrainConfig(max_frames=1)


@pytest.fixture(scope="module")
def dataset(folder):
    return load(folder, "test")


@pytest.fixture
def model(make_model):
    return make_model(dropout=0.5)


def test_it_counts_texts_and_items_and_brackets_every_recall(model, dataset):
    found = evaluate(model, dataset, CONFIG)
    assert (found["split"], found["texts"], found["items"], found["cut_captions"]) == (
        "test",
        20,
        10,
        0,
    )
    for direction in ("text_to_visual", "visual_to_text"):
        for key in ("R@1", "R@5", "R@10"):
            low, high = found["intervals"][direction][key]
            assert low <= found[direction][key] <= high
    assert evaluate(model, dataset, CONFIG, samples=0)["intervals"] == {}


def test_a_zero_shot_record_has_no_trained_parameters(model, dataset, tmp_path):
    config = TrainConfig(name="zero-shot", max_frames=1, runs_dir=tmp_path)
    model.set_adapter(None)
    written = evaluate_and_record(model, dataset, config)
    (read,) = read_records(tmp_path)
    assert (read.method, read.trained_parameters, read.select_on) == ("zero-shot", 0, "none")
    assert read.metrics["text_to_visual"] == written.metrics["text_to_visual"]
    again = evaluate(model, dataset, config, encoded=written.encoded)  # nothing is embedded twice
    assert again == written.metrics and read.encoded is None
    half = evaluate_and_record(model, dataset, config.merge({"precision": "fp16"}))
    # as it was computed
    assert half.config["precision"] == "float32" and half.metrics == written.metrics
    (tmp_path / "zero-shot" / "checkpoint.pt").touch()
    with pytest.raises(ValueError, match="holds a training run"):
        evaluate_and_record(model, dataset, config)
    model.set_adapter("a", 0.5)
    with pytest.raises(ValueError, match="at scale 1, not 0.5; use cma.evaluate"):
        evaluate_and_record(model, dataset, config)


def test_a_record_is_of_one_adapter_while_another_thread_chooses(
    model, dataset, tmp_path, monkeypatch
):
    expected = encode(model, dataset, CONFIG)
    other = threading.Thread(target=model.set_adapter, args=[None])

    def choose(*_) -> None:
        other.start()
        other.join(0.1)  # it waits for its turn

    monkeypatch.setattr(evaluation.resume, "require_writable", choose)
    record = evaluate_and_record(model, dataset, CONFIG.merge({"runs_dir": tmp_path}))
    other.join()
    assert torch.equal(record.encoded.text, expected.text) and model.active is None
