import pytest

from data_prep.benchmarks import remote_sensing
from tests.data_prep.fuzz_sources import (
    Item,
    albef_json,
    caption_lists,
    karpathy_json,
    run,
)
from tests.data_prep.image_sources import write

DIVISIONS = {"rsicd": remote_sensing.RSICD_DIVISIONS, "rsitmd": remote_sensing.RSITMD_DIVISIONS}
FIVE = [f"river {n} ." for n in range(5)]


def lists(folder, split, images, once=False, ending=""):
    """A pair of AMFMN's lists; each image `once`, or once for each of its captions."""
    names = [
        file for file, captions in images.items() for _ in (captions[:1] if once else captions)
    ]
    write(folder / f"{split}_filename{ending}.txt", "".join(f"{name}\n" for name in names))
    captions = [text for captions in images.values() for text in captions]
    write(folder / f"{split}_caps{ending}.txt", "".join(f"{text}\n" for text in captions))


@pytest.mark.parametrize(("name", "captions"), [("rsicd", 54_605), ("rsitmd", 23_715)])
def test_published_counts_of_each_division_add_up_to_the_whole_benchmark(name, captions):
    for division in DIVISIONS[name].values():
        assert sum(counts.captions for counts in division.values()) == captions
        assert all(counts.captions == 5 * counts.items for counts in division.values())
        assert division["test"] == DIVISIONS[name]["official"]["test"]


@pytest.mark.parametrize(
    "write_form", [karpathy_json("dataset_RSITMD.json"), albef_json("rsitmd"), caption_lists]
)
@pytest.mark.parametrize("which", DIVISIONS["rsitmd"])
def test_every_published_division_is_known_in_every_form(folder, write_form, which):
    division = DIVISIONS["rsitmd"][which]
    counts = {split: range(counts.items) for split, counts in division.items()}
    items = {f"{split}_{n}": Item(split, tuple(FIVE)) for split in counts for n in counts[split]}
    status, said, _ = run("rsitmd", write_form(items), folder)
    assert status == 0 and "WARNING" not in said
    assert ("its images are in train" in said) == ("val" not in division)
