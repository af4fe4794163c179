"""The page on reproducing says what the code does: its commands parse, and its settings are
those of the code.
"""

import json
import re
import shlex

import pytest

from cma import recipes
from cma.files import read_json
from cma.training.__main__ import RunDescription
from data_prep.__main__ import build_parser
from data_prep.benchmarks import BENCHMARKS
from tests import ROOT
from tests.bench import budget

PAGE = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
LINES = dict(re.findall(r"^\| \[(\w+)\]\((?:\.\./data_prep/README\.md#\w+)\) \| (.*)", PAGE, re.M))
PICTURES, CLIPS = re.findall(r"^NAME=.*?(?=```)", PAGE, re.DOTALL | re.MULTILINE)


def test_every_benchmark_of_the_paper_has_a_line():
    assert tuple(LINES) == budget.NAMES and set(budget.NAMES) <= set(BENCHMARKS)
    assert {name for name in BENCHMARKS if recipes.recipe(name).paper} <= set(LINES)


@pytest.mark.parametrize("name", budget.NAMES)
def test_the_settings_are_those_of_the_recipe(name):
    recipe, config = recipes.recipe(name), budget.config_of(name)
    assert config.batch_size == 128 and config.fps == 1
    sizes = f"{recipe.bottleneck_dim}, {recipe.shared_dim}"
    steps = f"{config.epochs} × {budget.epoch_steps(name):,}"
    numbers = f"{config.max_words} | {config.max_frames} | {config.lr:g}"
    begins = f"`{budget.variant(name)}` | {sizes} | {steps} | {numbers} |"
    assert LINES[name].startswith(begins)
    published, trained = budget.COUNTS[name]["train"].items, len(budget.training_set(name))
    held = f"{published - trained:,} of the {published:,} training items are held out"
    assert (held in LINES[name]) == (trained < published)


@pytest.mark.parametrize("name", budget.NAMES)
def test_the_commands_prepare_each_benchmark_and_train_it_by_its_recipe(name, tmp_path):
    recipe = recipes.recipe(name)
    clips = recipe.config.max_frames > 1
    names = re.match(r"NAME=(.*)", CLIPS if clips else PICTURES)[1]
    assert name in re.findall(r"\w+", names)
    text = (CLIPS if clips else PICTURES).replace("$NAME", name)
    lines = re.findall(r"^python -m data_prep (.*)$", text, re.MULTILINE)
    prepared, *frames = [
        build_parser().parse_args(shlex.split(line, comments=True)) for line in lines
    ]
    assert lines[0].startswith(f"{name} ") and prepared.out.name == name
    assert bool(frames) == clips
    folder = name
    for kept in frames:
        assert kept.dataset == prepared.out and kept.fps == recipe.config.fps
        folder = kept.out.name
    described, launched = re.findall(r"^((?:printf|accelerate) .*)$", text, re.MULTILINE)
    _, written, data, _, file = shlex.split(described)
    if budget.variant(name) == "bf16":
        assert "bf16 in place of paper" in names
        written = written.replace("paper", "bf16")
    assert shlex.split(launched) == ["accelerate", "launch", "-m", "cma.training", file]
    (tmp_path / file).write_text(written % data)
    description = read_json(tmp_path / file, RunDescription)
    assert (description.data, description.recipe) == (f"~/datasets/{folder}", budget.variant(name))
    recipe.train_config(description.recipe).merge(description.config)


def test_the_tests_that_it_names_are_there():
    """The programs of all pages: tests/pages/test_commands.py."""
    (line,) = re.findall(r"^pytest (.*)$", PAGE, re.MULTILINE)
    files = shlex.split(line, comments=True)
    assert files and all((ROOT / file).is_file() for file in files)


MEASURED = json.loads(budget.FILE.read_text("utf-8"))
OPERATIONS = ("operations, forward", "operations, forward and backward")


def test_the_table_of_hours_is_that_of_the_measured_bytes():
    assert f"{budget.START}\n{budget.table(MEASURED)}\n{budget.END}" in PAGE


@pytest.mark.night
def test_operations_and_bytes_are_measured_again_on_fewer_layers():
    """Each further layer adds what the second adds to the first."""
    one, two = budget.measure(layers=1), budget.measure(layers=2)
    for name in ("bytes kept", "bytes kept with checkpointing", *OPERATIONS):
        for unit, first in one[name].items():
            whole = first + (budget.LAYERS - 1) * (two[name][unit] - first)
            assert whole == pytest.approx(MEASURED[name][unit], rel=1e-3), (name, unit)
