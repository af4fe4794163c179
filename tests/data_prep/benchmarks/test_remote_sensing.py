import pytest

import cma.data
from data_prep.benchmarks import BENCHMARKS, remote_sensing
from tests.data_prep.fuzz_sources import (
    Item,
    albef_json,
    as_json,
    caption_lists,
    karpathy_json,
    run,
)
from tests.data_prep.image_sources import told, write

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


def test_lists_that_divide_train_go_before_the_whole_one(tmp_path):
    whole, split = {f"{n}.tif": [f"a {n}"] * 5 for n in range(3)}, {"train": [0, 2], "val": [1]}
    lists(tmp_path, "train", whole, once=True)
    lists(tmp_path, "test", {"9.tif": FIVE})
    expected = {f"{n}": (name, f"{n}.tif", (f"a {n}",) * 5) for name in split for n in split[name]}
    expected["9"] = ("test", "9.tif", tuple(FIVE))
    for name in ("val", "train"):
        lists(
            tmp_path, name, {f"{n}.tif": whole[f"{n}.tif"] for n in split[name]}, ending="_verify"
        )
        read = BENCHMARKS["rsitmd"].read(tmp_path)
        assert told(read) == expected
        left_out = ["images of val_caps_verify.txt left out of train, which holds them too: 1"]
        assert read.notes == (left_out if name == "val" else [])


@pytest.mark.parametrize("prefix", ["", "textaug_"])
def test_json_lines_of_rephrased_captions_are_read_and_said_to_be_so(folder, prefix):
    files = {
        f"{prefix}{split}_rsicd.jsonl": as_json({"filename": f"a/{split}.jpg", "captions": FIVE})
        + b"\n\n"
        for split in ("train", "valid", "test")
    }
    status, printed, _ = run("rsicd", files, folder, "--allow-missing")
    assert status == 0 and [item.id for item in cma.data.load(folder / "out", "val").items] == [
        "valid"
    ]
    said = "textaug_train_rsicd.jsonl, textaug_valid_rsicd.jsonl, textaug_test_rsicd.jsonl: "
    assert (said in printed) == bool(prefix)
