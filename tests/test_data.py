import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cma import data
from tests.any_json import any_json
from tests.toy_data import write_dataset

ITEM = {"file_name": "media/a.jpg", "id": "a", "captions": ["a cat"], "split": "train"}


def write_folder(folder, lines, kind="image", **about):
    return write_dataset(folder, lines, {"name": "toy", "kind": kind} | about)


def numbered(splits, captions=1):
    return [
        {
            "id": f"i{n}",
            "file_name": f"media/{n}.jpg",
            "split": split,
            "captions": [f"{n}.{c}" for c in range(captions)],
        }
        for n, split in enumerate(splits)
    ]


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\"), min_size=1, max_size=8
).filter(lambda name: name not in ("..", "."))
captions = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), max_size=3
)
items = st.builds(
    lambda id, captions, split, span: data.Item(id, f"media/{id}", tuple(captions), split, *span),
    names,
    captions,
    st.sampled_from(["train", "val", "test"]),
    st.tuples(st.none() | st.floats(0, 10), st.none() | st.floats(11, 20)),
)


@settings(max_examples=40)
@given(st.lists(items, min_size=1, max_size=8, unique_by=lambda item: item.id))
def test_what_is_written_is_read_back(tmp_path_factory, items):
    folder = write_folder(
        tmp_path_factory.mktemp("folder"), [dataclasses.asdict(item) for item in items]
    )
    present = [
        split for split in ("train", "val", "test") if any(item.split == split for item in items)
    ]
    assert data.splits(folder) == present
    for split in present:
        dataset = data.load(folder, split)
        assert list(dataset.items) == [item for item in items if item.split == split]
        pairs = [(caption, item.id) for item in dataset.items for caption in item.captions]
        owners = [dataset.items[i].id for i in dataset.text_to_item.tolist()]
        assert list(zip(dataset.captions, owners, strict=True)) == pairs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "broken JSON: EOF while parsing an object at line 1 column 1"),
        (
            ITEM | {"file_name": "media/../../b.jpg"},
            "'file_name': expected a path inside the folder",
        ),
        (ITEM | {"captions": ["a cat", " \n"]}, "'captions.1': expected text that is not blank"),
        (ITEM | {"split": "dev"}, "'split': expected 'train', 'val' or 'test', found 'dev'"),
        (ITEM | {"start": 3, "end": 3}, "expected start (3.0 s) before end (3.0 s)"),
        (ITEM, "the id 'a' is there twice"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    folder = write_folder(tmp_path / "toy", [ITEM, line])
    with pytest.raises(ValueError, match="metadata.jsonl:2: ") as error:
        data.load(folder, "train")
    assert message in str(error.value)


ABOUT = ("kind", "format_version", "name", "protocol", "recipe", "counts", "media_root")


@settings(max_examples=100, deadline=None)
@given(
    any_json(*ITEM, *ABOUT, "start", "train", "expected", "visual_to_text"), st.sampled_from(ABOUT)
)
def test_any_json_is_read_or_a_value_error_that_names_the_file(tmp_path_factory, value, key):
    for about, line in [
        ({"kind": "image"}, value),
        (value, ITEM),
        ({"kind": "image"} | {key: value}, ITEM),
    ]:
        folder = write_folder(tmp_path_factory.mktemp("json"), [line])
        (folder / "dataset.json").write_text(json.dumps(about))
        try:
            data.load(folder, "train")
        except Exception as error:
            assert type(error) is ValueError and len(str(error).splitlines()) == 1
            assert str(error).startswith(
                (f"{folder / 'dataset.json'}: ", f"{folder / 'metadata.jsonl'}:1: ")
            )


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"kind": "audio"}, "'kind': expected 'image' or 'video', found 'audio'"),
        ({"format_version": 2}, "'format_version': expected 1, found 2"),
        ({"protocol": {"visual_to_text": "best"}}, "expected 'captions' or 'items', found 'best'"),
        (
            {"counts": {"test": {"expected": "9"}}},
            "'counts.test.expected': expected a valid integer",
        ),
    ],
)
def test_a_dataset_json_that_is_not_understood(tmp_path, about, message):
    folder = write_folder(tmp_path / "toy", [ITEM], **about)
    with pytest.raises(
        ValueError, match=f"dataset.json: .*{message}.*prepare it by `python -m data_prep`"
    ):
        data.load(folder, "train")


def test_what_dataset_json_tells(tmp_path):
    counts = {"test": {"found": 1, "expected": 1000}}
    lines = numbered(["test", "train"])
    folder = write_folder(tmp_path / "a", lines, "video", counts=counts, recipe="msrvtt")
    dataset = data.load(str(folder), "test")
    assert (dataset.name, dataset.recipe, dataset.expected, len(dataset)) == (
        "toy",
        "msrvtt",
        1000,
        1,
    )
    assert dataset.protocol == {"query": "caption", "visual_to_text": "items"}
    assert data.load(folder, "train").expected is None
    with pytest.raises(ValueError, match=r"no split 'val'; it has train, test"):
        data.load(folder, "val")
    root, protocol = (
        str(tmp_path / "elsewhere"),
        {"query": "paragraph", "visual_to_text": "captions"},
    )
    write_folder(folder, numbered(["val"]), protocol=protocol, media_root=root)
    dataset = data.load(folder, "val")
    assert dataset.protocol == protocol
    assert dataset.path(dataset.items[0]) == tmp_path / "elsewhere" / "0.jpg"
    write_folder(folder, numbered(["val"]), media_root="../elsewhere")
    dataset = data.load(folder, "val")
    assert dataset.path(dataset.items[0]).resolve() == tmp_path / "elsewhere" / "0.jpg"
    (folder / "dataset.json").unlink()  # the seal
    with pytest.raises(
        FileNotFoundError, match="dataset.json: no such file; the folder is no finished"
    ):
        data.load(folder, "val")


@settings(max_examples=30)
@given(n=st.integers(1, 12), seed=st.integers(0, 3))
def test_subsets_are_seeded_nested_and_keep_captions_with_their_items(tmp_path_factory, n, seed):
    folder = write_folder(tmp_path_factory.mktemp("folder"), numbered(["test"] * 10, captions=3))
    whole = data.load(folder, "test")
    some = whole.subset(n, seed)
    assert some.items == whole.subset(12, seed).items[:n] and len(some) == min(n, 10) == len(
        set(some.items)
    )
    assert some.captions == [c for item in some.items for c in item.captions]
    assert some.text_to_item.tolist() == [i for i in range(len(some)) for _ in range(3)]
    assert whole.subset(None) is whole
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 item, not {wrong}"):
            whole.subset(wrong)
