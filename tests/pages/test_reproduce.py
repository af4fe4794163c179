"""The page on reproducing says what the code does: its commands parse, its counts and
settings are those of the code.
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
from data_prep.dataset import count_table
from tests import ROOT
from tests.bench import budget

PAGE = (ROOT / "docs" / "reproduce.md").read_text("utf-8")
SECTIONS = {}
for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE):
    if named := re.search(r"data_prep/README\.md#([a-z0-9]+)\)\.$", section, re.MULTILINE):
        SECTIONS[named[1]] = section


def test_every_benchmark_of_the_paper_has_a_section():
    assert set(SECTIONS) == set(budget.NAMES) <= set(BENCHMARKS)
    assert {name for name in BENCHMARKS if recipes.recipe(name).paper} <= set(SECTIONS)


@pytest.mark.parametrize("name", budget.NAMES)
def test_the_counts_are_what_data_prep_prints(name):
    counts = {}
    for split in ("train", "val", "test"):
        if found := budget.COUNTS[name].get(split):
            items = {"found": found.items, "expected": found.items}
            captions = {"found": found.captions, "expected": found.captions}
            counts[split] = items | {"captions": captions, "media": items}
    assert "\n".join(["```", *count_table(counts), "```"]) in SECTIONS[name]


@pytest.mark.parametrize("name", budget.NAMES)
def test_the_settings_are_those_of_the_recipe(name):
    recipe, config = recipes.recipe(name), budget.config_of(name)
    steps = budget.epoch_steps(name)
    said = (
        f"Settings: r {recipe.bottleneck_dim}, d_s {recipe.shared_dim}; batch {config.batch_size}, "
    )
    said += f"{config.epochs} epochs of {steps:,} steps; {config.max_words} tokens"
    said += (
        f", {config.max_frames} frames at {config.fps:g} a second" if config.max_frames > 1 else ""
    )
    assert f"{said}; rate {config.lr:g}.\n" in SECTIONS[name]
    published, trained = budget.COUNTS[name]["train"].items, len(budget.training_set(name))
    held = f"{published - trained:,} of the {published:,} training items are held out"
    assert (held in SECTIONS[name]) == (trained < published)


@pytest.mark.parametrize("name", budget.NAMES)
def test_each_section_prepares_its_benchmark_and_trains_it_by_its_recipe(name, tmp_path):
    lines = re.findall(r"^python -m data_prep (.*)$", SECTIONS[name], re.MULTILINE)
    prepared, *frames = [
        build_parser().parse_args(shlex.split(line, comments=True)) for line in lines
    ]
    assert lines[0].startswith(f"{name} ") and prepared.out.name == name
    folder, recipe = name, recipes.recipe(name)
    assert bool(frames) == (recipe.config.max_frames > 1)
    for kept in frames:
        assert kept.dataset == prepared.out and kept.fps == recipe.config.fps
        folder = kept.out.name
    described, launched = re.findall(r"^((?:printf|accelerate) .*)$", SECTIONS[name], re.MULTILINE)
    _, text, data, _, file = shlex.split(described)
    assert shlex.split(launched) == ["accelerate", "launch", "-m", "cma.training", file]
    (tmp_path / file).write_text(text % data)
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


@pytest.mark.slow
def test_operations_and_bytes_are_measured_again_on_fewer_layers():
    """Each further layer adds what the second adds to the first."""
    one, two = budget.measure(layers=1), budget.measure(layers=2)
    for name in ("bytes kept", "bytes kept with checkpointing", *OPERATIONS):
        for unit, first in one[name].items():
            whole = first + (budget.LAYERS - 1) * (two[name][unit] - first)
            assert whole == pytest.approx(MEASURED[name][unit], rel=1e-3), (name, unit)
