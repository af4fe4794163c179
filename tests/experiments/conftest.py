"""What the tests of experiments share, some of it with those of training."""

import hashlib
from unittest import mock

import pytest

from cma.training import loop
from tests.training.conftest import config, folder, make_model, whole_config

__all__ = ["config", "folder", "make_model", "whole_config"]


def revision(weights: str) -> str:
    """Return what `cma.backbone.identity` calls a backbone whose weights have this digest."""
    return hashlib.sha256(bytes.fromhex(weights)).hexdigest()[:12]


def stopped_after(calls: int, place, name: str):
    """A context in which a module's function `name` works `calls` times; then comes a Ctrl-C."""
    effects = [mock.DEFAULT] * calls + [KeyboardInterrupt]
    return mock.patch.object(place, name, wraps=getattr(place, name), side_effect=effects)


@pytest.fixture
def seen(monkeypatch) -> list[str]:
    """The splits that training evaluates, in order."""
    splits, evaluate = [], loop.evaluate

    def watch(model, split, *values, **named):
        splits.append(split.split)
        return evaluate(model, split, *values, **named)

    monkeypatch.setattr(loop, "evaluate", watch)
    return splits
