"""The paper in one file computes what the library computes, and what it saves the library loads."""

import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch

import cma
from cma import methods, metrics
from tests import ROOT
from tests.toy_data import write_dataset, write_images
from tests.toy_media import write_picture

FILE = ROOT / "examples" / "cross_modal_adapter.py"


def write_frames(folder: Path) -> Path:
    """A dataset of clips, each a folder of 1 to 20 frames."""
    lines = []
    for number in range(32):
        name, split = f"media/{number:02}", ("train", "train", "val", "test")[number % 4]
        for frame in range(1 + number * 7 % 20):
            write_picture(folder / name / f"{frame:02}.png", number + frame * frame)
        texts = [f"a {word} cat {number % 7}" for word in ("red", "blue")][: 1 + (split == "train")]
        lines.append({"file_name": name, "id": name, "captions": texts, "split": split})
    return write_dataset(folder, lines, {"kind": "video", "recipe": "msrvtt"})


def run(monkeypatch, data: Path, backbone: Path, *settings: str) -> dict:
    """What the file has defined after a run on `data`; the adapter is in the folder `saved`."""
    words = [str(data), "--backbone", str(backbone), "--out", str(data / "saved"), *settings]
    monkeypatch.setattr(sys, "argv", [FILE.name, *words])
    return runpy.run_path(str(FILE))


def library(data: Path, backbone: Path, runs: Path, **settings: object) -> list[float]:
    """The losses of the library's run on `data` with the default recipe."""
    model, train = cma.RetrievalModel.from_pretrained(backbone), cma.load_dataset(data, "train")
    methods.attach(model, "cross-modal adapter", "adapter", 42)
    usual = {"lr": 0.01, "epoch_unit": "items", "select_on": "last", "workers": 0}
    usual |= {"similarity": "text_conditioned", "runs_dir": str(runs)}
    config = cma.recipes.recipe(train.recipe).train_config().merge(usual | settings)
    epochs = cma.train(model, train, config).history
    return [loss for epoch in epochs for _, loss, _ in epoch["curve"]]


def recalls(data: Path, backbone: Path) -> list[dict]:
    """The library's recalls on test, zero-shot and of the adapter in `data / "saved"`."""
    model, test = cma.RetrievalModel.from_pretrained(backbone), cma.load_dataset(data, "test")
    found = [cma.evaluate(model, test, cma.ReadConfig(max_words=32), samples=0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that for another backbone
        model.load_adapter(data / "saved", "saved")
    found.append(cma.evaluate(model, test, cma.ReadConfig(max_words=32), samples=0))
    return found


def agree(said: str, found: list[dict]) -> bool:
    """Whether the file has printed exactly these recalls, before and after the training."""
    lines = []
    for name, one in zip(("zero-shot", "cross-modal adapter"), found, strict=True):
        for way in ("text_to_visual", "visual_to_text"):
            recall = ", ".join(f"{k} {one[way][k]:.1f} %" for k in metrics.RECALLS)
            lines.append(f"{name}: {way.replace('_', '-')} {recall}")
    return [line for line in said.splitlines() if "R@1" in line] == lines


@pytest.mark.parametrize("kind", ["pictures", "frames"])
def test_losses_and_recalls_are_the_librarys(kind, clip_folder, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    if kind == "frames":
        write_frames(data)
    else:  # with 3 captions, items of a batch have one in common
        write_images(data, {"train": 42, "val": 6, "test": 20}, captions=3)
    settings = {"epochs": 4 if kind == "pictures" else 10, "batch_size": 8}
    words = ["--epochs", str(settings["epochs"]), "--batch-size", "8"]
    defined = run(monkeypatch, data, clip_folder, *words)
    said = capsys.readouterr().out
    losses = library(data, clip_folder, tmp_path, **settings)
    assert len(losses) >= 20 and losses[0] - losses[-1] > 0.01
    torch.testing.assert_close(defined["losses"], losses, atol=1e-5, rtol=0)
    found = recalls(data, clip_folder)
    assert agree(said, found) and found[0] != found[1]
    assert f"step 20 of {len(losses)}: loss {losses[19]:.3f}" in said


def test_a_wrong_path_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, tmp_path)
    assert f"error: {tmp_path}: no metadata.jsonl there; " in capsys.readouterr().err


def test_it_needs_nothing_of_the_library():
    text = FILE.read_text("utf-8")
    assert not re.search(r"^\s*(import|from) (cma|explorer|data_prep|experiments)\b", text, re.M)
