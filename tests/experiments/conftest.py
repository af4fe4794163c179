"""What the tests of experiments share with those of training."""

import pytest

from cma.training import loop
from tests.training.conftest import config, folder, make_model, whole_config

__all__ = ["config", "folder", "make_model", "whole_config"]


@pytest.fixture
def seen(monkeypatch) -> list[str]:
    """The splits that training evaluates, in order."""
    splits, evaluate = [], loop.evaluate

    def watch(model, split, *values, **named):
        splits.append(split.split)
        return evaluate(model, split, *values, **named)

    monkeypatch.setattr(loop, "evaluate", watch)
    return splits
