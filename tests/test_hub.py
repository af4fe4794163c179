"""Adapters on the hub: pushed, fetched by name, described; a stranger's file can do nothing but compute."""

import json
import shutil
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from cma import AdapterConfig, RetrievalModel
from cma.checkpoints import CONFIG, WEIGHTS
from tests import ROOT
from tests.conftest import build_clip
from tests.hub_server import Repository, serving

IDS = torch.tensor([[498, 5, 6, 499]])
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def embed(model):
    with torch.no_grad():
        return model.encode_text(IDS), model.encode_images(PIXELS)


def same(ours, theirs):
    return all(map(torch.equal, ours, theirs))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub in this process; the client talks to it alone and keeps what it fetches in `tmp_path`."""
    with serving() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", server.address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "no-token")),
        ):
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_was_pushed_is_loaded_by_name_and_the_second_time_without_a_request(hub, model, monkeypatch):
    model.clip.config.name_or_path, model.clip.config._commit_hash = "some/clip", "1" * 40
    model.set_adapter("a")
    assert model.push_adapter("a", "user/scenes") == f"{hub.address}/user/scenes"
    (files,) = list(hub.repositories["user/scenes"].commits.values())[1:]
    assert files.keys() == {".gitattributes", CONFIG, WEIGHTS, "README.md"}
    assert hub.cards == [files["README.md"].decode()]
    monkeypatch.delenv("HF_TOKEN")  # it is public
    other = RetrievalModel(model.clip)
    other.load_adapter("user/scenes", "one")
    assert other.active == "one" and same(embed(other), embed(model))
    asked = len(hub.asked)
    assert not any("README" in one for one in hub.asked if one.startswith("GET"))
    other.load_adapter("user/scenes", "two")
    commit = hub.repositories["user/scenes"].branches["main"]
    other.load_adapter("user/scenes", "three", revision=commit)
    assert len(hub.asked) == asked and same(embed(other), embed(model))
