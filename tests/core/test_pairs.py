"""A dataset of pairs: (path, caption), or a CSV."""

import pytest

from cma.data import from_pairs
from cma.media import MediaError
from tests.conftest import one_line
from tests.toy_media import write_clip, write_picture


@pytest.fixture
def pictures(tmp_path):
    return [write_picture(tmp_path / str(n % 2) / f"{n}.png", n) for n in range(20)]


def written(folder, text, encoding="utf-8"):
    file = folder / "mine.csv"
    file.write_text(text, encoding=encoding)
    return file


def test_captions_of_a_file_are_one_item_and_splits_are_drawn_once(pictures):
    pairs = [(path, f"{word} {path.stem}") for word in ("a", "the") for path in pictures]
    splits = from_pairs(pairs)
    assert {split: len(dataset) for split, dataset in splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    assert all(dataset.splits is splits["train"].splits for dataset in splits.values())
    items = [item for dataset in splits.values() for item in dataset.items]
    assert len({item.id for item in items}) == 20
    for dataset in splits.values():
        dataset.require_media()
        for item in dataset.items:
            stem = dataset.path(item).stem
            assert item.captions == (f"a {stem}", f"the {stem}")
    again = from_pairs(pairs)
    assert again["test"].items == splits["test"].items
    assert from_pairs(pairs, seed=1)["test"].items != splits["test"].items


def test_a_csv_says_its_splits_and_its_paths_start_at_its_folder(pictures, tmp_path, monkeypatch):
    rows = "".join(
        f'{n % 2}/{n}.png,"a cat, no. {n}",{"test" if n < 5 else "train"}\n' for n in range(20)
    )
    file = written(tmp_path, f"\ufefffile_name,caption,split\n{rows}")
    monkeypatch.chdir("/")
    splits = from_pairs(file)
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 15, "test": 5}
    assert splits["test"].name == "mine" and splits["test"].captions[0] == "a cat, no. 0"
    assert splits["test"].path(splits["test"].items[0]) == pictures[0]
    assert len(from_pairs([(path, "x") for path in pictures], split="val")) == 20


def test_clips_are_videos_and_a_mixture_is_chosen_from(pictures, tmp_path):
    clips = [write_clip(tmp_path / f"{n}.mp4", n) for n in range(3)]
    found = from_pairs([(path, "a clip") for path in clips], split="test")
    assert (found.kind, found.protocol["visual_to_text"], found.recipe) == (
        "video",
        "items",
        "msrvtt",
    )
    both = [(path, "something") for path in (*pictures, *clips)]
    with one_line(ValueError, "20 pictures and 3 clips"):
        from_pairs(both)
    assert len(from_pairs(both, "test", kind="video")) == 3
    with one_line(ValueError, "no video among 20 files"):
        from_pairs([(path, "x") for path in pictures], kind="video")


def test_what_is_wrong_with_pairs_is_named(pictures, tmp_path):
    good = [(path, "a cat") for path in pictures]
    with one_line(MediaError, r"pairs: 1 of 21 files do not exist, the first is .*gone\.png"):
        from_pairs([*good, (tmp_path / "gone.png", "x")])
    with one_line(ValueError, r"pair 20: .*0\.png: expected a caption, found '  '"):
        from_pairs([*good, (pictures[0], "  ")])
    with one_line(ValueError, r"pair 1: expected \(path, caption\), found 7"):
        from_pairs([good[0], 7])
    for pair in ({"file_name": pictures[0], "caption": "a cat"}, "ab"):
        with one_line(ValueError, r"pair 0: expected \(path, caption\), found"):
            from_pairs([pair])
    with one_line(ValueError, "0 pairs found"):
        from_pairs([])
    with one_line(ValueError, "2 of the 3 files needed .* split='train'"):
        from_pairs(good[:2])
    with one_line(ValueError, "no split 'all'; expected one of train, val, test"):
        from_pairs(good, "all")


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("image,text\n0/0.png,a cat\n", "utf-8", r"mine\.csv: expected the columns file_name, cap"),
        ("", "utf-8", r"mine\.csv: expected the columns file_name"),
        ("file_name;caption\n0/0.png;a cat\n", "utf-8", "commas between .*'file_name;caption'"),
        ("file_name,caption\n0/0.png,a cat, asleep\n", "utf-8", ":2: more cells than the 2 colum"),
        (
            'file_name,caption\n0/0.png,"a cat\n',
            "utf-8",
            "row after line 1: unexpected end .* to be ended",
        ),
        (
            "file_name,caption\n0/0.png,ein Kätzchen\n",
            "latin-1",
            r"mine\.csv:2: not UTF-8 text .*; expected a CSV file in UTF-8",
        ),
        ("file_name,caption\n0/0.png,\n", "utf-8", r"mine\.csv:2: .*0\.png: expected a caption"),
        ("file_name,caption\n0/0.png\n", "utf-8", r"mine\.csv:2: .*0\.png: expected a caption"),
        ("file_name,caption,split\n0/0.png,a,dev\n", "utf-8", r":2: 'split': .* found 'dev'"),
        (
            "file_name,caption,split\n0/0.png,a,train\n0/0.png,b,test\n",
            "utf-8",
            r"mine\.csv:3: .*0\.png: in split 'test' here and 'train' above",
        ),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(pictures, tmp_path, text, encoding, message):
    with one_line(ValueError, message):
        from_pairs(written(tmp_path, text, encoding))


def test_a_csv_that_is_not_there_is_named(tmp_path):
    with one_line(FileNotFoundError, r"gone\.csv: no such file; expected a CSV file"):
        from_pairs(tmp_path / "gone.csv")
    with one_line(FileNotFoundError, "no such file; expected a CSV file"):
        from_pairs(tmp_path)
