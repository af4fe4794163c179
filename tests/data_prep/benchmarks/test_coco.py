import pytest

from data_prep.benchmarks import coco
from data_prep.readers import BadInput
from tests.data_prep.image_sources import albef, karpathy, told, write

FIVE = [f"caption {n}" for n in range(5)]
SIX = [*FIVE, "one more"]
TRAIN, REST = "train2014/COCO_train2014_000000000001.jpg", "val2014/COCO_val2014_000000000002.jpg"
VAL, TEST = "val2014/COCO_val2014_000000000003.jpg", "val2014/COCO_val2014_000000000004.jpg"
SPLITS = {TRAIN: ("train", FIVE), REST: ("restval", FIVE), VAL: ("val", FIVE), TEST: ("test", SIX)}


def as_karpathy(folder):
    write(folder / "caption_datasets" / "dataset_coco.json", karpathy(SPLITS))


def as_albef(folder, name="coco_karpathy_{}.json"):
    write(folder / name.format("train"), albef({TRAIN: FIVE, REST: FIVE}, train=True))
    write(folder / name.format("val"), albef({VAL: FIVE}))
    write(folder / name.format("test"), albef({TEST: SIX}))


def expected(restval="train"):
    splits = {TRAIN: "train", REST: restval, VAL: "val", TEST: "test"}
    return {
        file.rpartition("/")[2].removesuffix(".jpg"): (split, file, tuple(SPLITS[file][1]))
        for file, split in splits.items()
        if split
    }


def as_official(folder):
    """COCO's own files, with the hub's CSV of the split under another name."""
    for year in ("train2014", "val2014"):
        files = [file for file in SPLITS if year in file]
        rows = [
            {"image_id": n, "caption": text}
            for n, file in enumerate(files)
            for text in SPLITS[file][1]
        ]
        images = [{"id": n, "file_name": file} for n, file in enumerate(files)]
        write(folder / f"captions_{year}.json", {"images": images, "annotations": rows})
    rows = [f'"[]",{split},{file.rpartition("/")[2]}' for file, (split, _) in SPLITS.items()]
    write(folder / "split.csv", "\n".join(["raw,split,filename", *rows]))


def test_the_official_files_take_their_splits_from_karpathy(tmp_path):
    as_official(tmp_path)
    with pytest.raises(BadInput, match=r"captions_train2014\.json: .*no splits"):
        coco.BENCHMARK.read(tmp_path)
    for split, rest in (("restval", "train"), ("no-restval", None)):
        read = coco.BENCHMARK.read(tmp_path, split_from=tmp_path / "split.csv", split=split)
        assert told(read) == expected(restval=rest)


@pytest.mark.parametrize("make", [as_karpathy, as_albef])
def test_both_forms_hold_the_same_images_with_restval_or_without(tmp_path, make):
    make(tmp_path)
    whole, less = coco.BENCHMARK.read(tmp_path), coco.BENCHMARK.read(tmp_path, split="no-restval")
    assert told(whole) == expected() and told(less) == expected(restval=None)
    assert whole.expected["train"] == (113_287, 566_747) and less.expected["train"] == (
        82_783,
        414_113,
    )
    assert whole.expected["test"] == (5_000, 25_010)
    assert less.notes == ["images of the split restval, left out: 1"]
    assert not whole.notes


@pytest.mark.parametrize(
    "name",
    [
        "coco_{}.json",
        "coco_{}_karpathy.json",
        "annotations/{}.json",
        "MSCOCO2014-{}-v2.json",
        "coco/captions_{}_5k.json",
        "my coco, {}.json",
    ],
)
def test_the_files_of_a_split_have_other_names_too(tmp_path, name):
    as_albef(tmp_path, name)
    write(tmp_path / "flickr30k_val.json", albef({"1.jpg": FIVE}))  # another benchmark's
    write(tmp_path / "val.json", {"images": []})  # of another shape
    assert told(coco.BENCHMARK.read(tmp_path)) == expected()


def test_two_files_that_could_be_one_split_are_an_error_but_its_own_name_and_the_top_win(tmp_path):
    write(tmp_path / "val.json", albef({"7.jpg": FIVE}))
    write(tmp_path / "old" / "coco_val.json", albef({"8.jpg": FIVE}))
    assert coco.BENCHMARK.read(tmp_path).files == ["old/coco_val.json"]
    write(tmp_path / "coco_val.json", albef({VAL: FIVE}))
    assert [entry.file for entry in coco.BENCHMARK.read(tmp_path).entries] == [VAL]
    write(tmp_path / "coco_karpathy_val.json", albef({VAL: SIX}))
    with pytest.raises(BadInput, match=r"coco_karpathy_val\.json and .*coco_val\.json differ"):
        coco.BENCHMARK.read(tmp_path)
