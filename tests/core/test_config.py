"""A run's settings are checked when they are made."""

import pickle
import re
from dataclasses import asdict

import pytest
import torch

from cma.config import MAX_SEED, NO_EFFECT, WHERE, TrainConfig
from cma.recipes import recipe


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"epoch": 3}, "'epoch'.*epochs"),
        ({"zzz": 3}, "'zzz'.*fields are similarity = .* name = 'run', epochs = "),
        ("{}", "must be a dictionary, not '{}'.*papermill"),
        ({"cache": True, "workers": 2}, "workers=2 with cache=True"),
    ],
)
def test_overrides_that_cannot_be_are_named(overrides, said):
    with pytest.raises(ValueError, match=said):
        TrainConfig().merge(overrides)


def test_merge_changes_what_it_is_told_and_nothing_else():
    config = TrainConfig(name="a", lr=0.5)
    merged = config.merge({"epochs": 3, "fps": None, "lr": 1})
    assert merged == TrainConfig(name="a", lr=1, epochs=3, fps=None)
    assert config == TrainConfig(name="a", lr=0.5)
    assert pickle.loads(pickle.dumps(config)) == config.merge({}) == config


def test_the_defaults_are_the_papers_but_for_the_fields_that_are_named():
    ours, theirs = asdict(TrainConfig()), asdict(recipe("msrvtt").train_config("paper"))
    differ = {name for name in ours if ours[name] != theirs[name]} - {*WHERE, *NO_EFFECT}
    said = re.search(r"the paper's.*?, except (.*?), which", TrainConfig.__doc__, re.DOTALL)[1]
    assert differ == set(re.findall(r"`(\w+)`", said))


WRONG = {
    "epochs": [0, 2.5, True],
    "lr": ["1e-3", -1e-3, float("nan"), float("inf")],
    "max_grad_norm": [float("inf")],
    "seed": [2**70, -1],
    "batch_size": [None],
    "optimizer": ["adam"],
    "similarity": ["max"],
    "select_on": ["train"],
    "epoch_unit": ["videos"],
    "precision": ["fp64"],
    "warmup": [1.5],
    "cache": [1],
    "fps": [0.0],
    "name": ["a/b", "", ".."],
    "eval_items": [0],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_is_an_error_that_names_its_field(field):
    for value in WRONG[field]:
        with pytest.raises(ValueError, match=rf"^{field}="):
            TrainConfig(**{field: value})


def test_the_highest_seed_is_named_and_fits_in_64_bits_whatever_is_derived_from_it():
    with pytest.raises(ValueError, match=f"expected less than or equal to {MAX_SEED}$"):
        TrainConfig(seed=MAX_SEED + 1)
    torch.Generator().manual_seed(TrainConfig(seed=MAX_SEED).seed * 1_000_003 + 10**9)
