"""The page on the nine benchmarks says what the code does: commands, options and counts."""

import re
import shlex

import pytest

from data_prep.__main__ import build_parser
from data_prep.benchmarks import (
    BENCHMARKS,
    activitynet,
    coco,
    didemo,
    flickr30k,
    msrvtt,
    msvd,
    remote_sensing,
    vatex,
)
from data_prep.dataset import Counts
from tests import ROOT

PAGE = (ROOT / "data_prep" / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PUBLISHED = {
    module.__name__.rpartition(".")[2]: module.PUBLISHED
    for module in (flickr30k, msvd, vatex, didemo, activitynet)
}
OTHERS = ("mini", "folder", "frames")
SHARED = {"--source", "--out", "--allow-missing", "--no-check", "--annotations-only", "--workers"}


def counts_in_code(name):
    """The rows that the section of a benchmark should have, from the constants of its module."""
    if name in PUBLISHED:
        return dict(PUBLISHED[name])
    if name == "coco":
        return {f"train ({choice})": counts for choice, counts in coco.TRAIN.items()} | coco.HELD
    if name == "msrvtt":
        rows = {"test": msrvtt.PUBLISHED_TEST, "val (--val)": Counts(msrvtt.VALIDATE, 20 * msrvtt.VALIDATE)}
        for choice, (_, items) in msrvtt.TRAIN_LISTS.items():
            rows[f"train ({choice})"] = Counts(items, 20 * items)
            left = items - msrvtt.VALIDATE
            rows[f"train ({choice}, --val)"] = Counts(left, 20 * left)
        return rows | {f"{split} (official)": counts for split, counts in msrvtt.PUBLISHED.items()}
    divisions = {"rsicd": remote_sensing.RSICD_DIVISIONS, "rsitmd": remote_sensing.RSITMD_DIVISIONS}[name]
    rows = {f"{split} ({which})": n for which, counts in divisions.items() for split, n in counts.items()}
    return {split: counts for split, counts in rows.items() if not split.startswith("test")} | {
        "test": divisions["official"]["test"]
    }


def counts_on_page(name):
    rows = re.findall(
        r"^\| ((?:train|val|test)[^|]*) \| ([\d,]+) \| ([\d,]+) \|$", SECTIONS[name], re.MULTILINE
    )
    assert len(rows) == len({split for split, _, _ in rows})
    return {split: Counts(*(int(n.replace(",", "")) for n in numbers)) for split, *numbers in rows}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_count_is_the_codes(name):
    assert counts_on_page(name) == counts_in_code(name)


@pytest.mark.parametrize("name", [*BENCHMARKS, *OTHERS])
def test_each_command_is_one_that_the_parser_takes(name):
    commands = re.findall(r"^python -m data_prep (.+)$", SECTIONS[name], re.MULTILINE)
    assert [shlex.split(command)[0] for command in commands] == [name]
    build_parser().parse_args(shlex.split(commands[0]))


@pytest.mark.parametrize("name", [*BENCHMARKS, *OTHERS])
def test_each_option_of_the_help_is_on_the_page_and_the_reverse(name, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([name, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    explained_above = SHARED | {"--form"}
    assert options - explained_above == set(re.findall(r"--[a-z][a-z-]+", SECTIONS[name])) - explained_above
    assert all(f"`{option}" in PAGE for option in options & explained_above)
    assert options >= SHARED or name in set(OTHERS) - {"folder"}


def test_sections_are_the_benchmarks_and_links_lead_to_them():
    assert set(SECTIONS) == {"What it says and what it writes", *OTHERS, *BENCHMARKS}
    assert set(re.findall(r"\]\(#([a-z0-9]+)\)", PAGE)) == {"mini", "folder", *BENCHMARKS}
