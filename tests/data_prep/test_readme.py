"""The page on the nine benchmarks: its commands parse, its counts are the code's, its links lead
there.
"""

import re
import shlex

import pytest

from data_prep import benchmarks
from data_prep.__main__ import build_parser
from data_prep.benchmarks import BENCHMARKS, coco, didemo, msrvtt, remote_sensing
from data_prep.dataset import Counts
from tests import ROOT

PAGE = (ROOT / "data_prep" / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
OTHERS = ("mini", "folder", "frames")
ABOUT = ("What it says and what it writes", "Which benchmark is it?", "From the hub")
DIVISIONS = {"rsicd": remote_sensing.RSICD_DIVISIONS, "rsitmd": remote_sensing.RSITMD_DIVISIONS}


def counts_in_code(name):
    """The rows that the section of a benchmark should have, from the constants of its module."""
    if name == "coco":
        return {f"train ({choice})": counts for choice, counts in coco.TRAIN.items()} | coco.HELD
    if name == "msrvtt":
        rows = {
            "test": msrvtt.PUBLISHED_TEST,
            "val (--val)": Counts(msrvtt.VALIDATE, 20 * msrvtt.VALIDATE),
        }
        for choice, (_, items) in msrvtt.TRAIN_LISTS.items():
            rows[f"train ({choice})"] = Counts(items, 20 * items)
            left = items - msrvtt.VALIDATE
            rows[f"train ({choice}, --val)"] = Counts(left, 20 * left)
        return rows | {f"{split} (official)": counts for split, counts in msrvtt.PUBLISHED.items()}
    if name == "didemo":
        return didemo.PUBLISHED | {"train (hub)": didemo.HUB_TRAIN}
    if name not in DIVISIONS:
        return dict(getattr(benchmarks, name).PUBLISHED)
    rows = {"test": DIVISIONS[name]["official"]["test"]}
    for which, counts in DIVISIONS[name].items():
        rows |= {f"{split} ({which})": counts[split] for split in counts if split != "test"}
    return rows


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


def test_sections_are_the_benchmarks_and_links_lead_to_them():
    assert set(SECTIONS) == {*ABOUT, *OTHERS, *BENCHMARKS}
    links = {"mini", "folder", *BENCHMARKS, "which-benchmark-is-it", "from-the-hub"}
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE)) == links


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_form_and_each_dataset_of_the_hub_is_named(name):
    forms = BENCHMARKS[name].options.get("--form", {"choices": ()})["choices"]
    assert all(f"| `{form}` |" in SECTIONS[name] for form in forms)
    for repository in BENCHMARKS[name].hub:
        assert f"| {name} | {repository.id} |" in SECTIONS["From the hub"]
        assert repository.id in SECTIONS[name]
