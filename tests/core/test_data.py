import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma
from cma import data
from cma.media import MediaError, read_media
from tests.any_json import any_json
from tests.conftest import one_line
from tests.toy_data import write_dataset
from tests.toy_media import halves, write_picture

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
    root = str(tmp_path / "elsewhere")
    protocol = {"query": "paragraph", "visual_to_text": "captions"}
    write_folder(folder, numbered(["val"]), protocol=protocol, media_root=root)
    dataset = data.load(folder, "val")
    assert dataset.protocol == protocol
    assert dataset.path(dataset.items[0]) == tmp_path / "elsewhere" / "0.jpg"
    write_folder(folder, numbered(["val"]), media_root="../elsewhere")
    dataset = data.load(folder, "val")
    assert dataset.path(dataset.items[0]).resolve() == tmp_path / "elsewhere" / "0.jpg"
    write_folder(folder, [ITEM, ITEM | {"id": "b", "file_name": "b.jpg"}], media_root=root)
    with pytest.raises(ValueError, match="jsonl:2: 'file_name': .*below media/, found 'b.jpg'"):
        data.load(folder, "train")
    (folder / "dataset.json").unlink()  # the seal
    with pytest.raises(
        FileNotFoundError, match="dataset.json: no such file; the folder is no finished"
    ):
        data.load(folder, "val")


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


class Rows:
    """As much of a `datasets.Dataset` as is used: two pictures with two captions each."""

    column_names = ("image", "captions", "name", "twice", "none")

    def __init__(self, pictures: list) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | str) -> object:
        if isinstance(key, int):
            return {"image": self.pictures[key]}
        captions = [[f"a {name}", f"the {name}"] for name in ("cat", "dog")]
        return {"captions": captions, "name": ["c", "d"], "twice": [7, 7], "none": [[], [" "]]}[key]


def test_a_dataset_in_memory_is_a_split(model, tmp_path):
    rows = Rows([halves(9).convert("RGBA"), halves(19)])
    dataset = cma.load_dataset(rows, "test", caption_column="captions", id_column="name")
    assert dataset.captions == ["a cat", "the cat", "a dog", "the dog"]
    assert [item.id for item in dataset.items] == ["c", "d"]
    lines = [
        {"id": id, "file_name": f"{id}.png", "captions": [f"a {name}", f"the {name}"]}
        for id, name in (("c", "cat"), ("d", "dog"))
    ]
    folder = write_folder(tmp_path, [line | {"split": "test"} for line in lines])
    for number, name in enumerate("cd"):
        halves((9, 19)[number]).save(folder / f"{name}.png")
    dataset.require_media()
    config = cma.ReadConfig()
    found, expected = (
        cma.evaluate(model, one, config, samples=0)
        for one in (dataset, cma.load_dataset(folder, "test"))
    )
    assert found == expected
    assert cma.load_dataset(rows, "train", caption_column="name").captions == ["c", "d"]
    broken = cma.load_dataset(Rows([None, b"x"]), "train", caption_column="name")
    for item, said in zip(broken.items, ("None", "b'x'"), strict=True):
        with pytest.raises(MediaError, match=f"^'image' of row {item.id}: .* image, found {said}$"):
            read_media(broken.path(item), "image", 1, None)


@pytest.mark.parametrize(
    ("given", "named", "message"),
    [
        (5, {}, "expected a dataset folder or a datasets.Dataset with rows, not 5"),
        (Rows([]), {}, "a datasets.Dataset with rows, not <"),
        (Rows([1, 2]), {}, "no column 'caption'; those of the dataset are ('image', 'captions', "),
        (Rows([1, 2]), {"caption_column": "name", "id_column": "id"}, "no column 'id'; those"),
        (Rows([1, 2]), {"caption_column": "name", "id_column": "twice"}, "row 1: the id '7' is"),
        (Rows([1, 2]), {"caption_column": "none"}, "row 1: 'captions.0': expected text that is"),
        (Rows([1, 2]), {"caption_column": "twice"}, "row 0: 'captions': expected a valid array"),
    ],
)
def test_what_is_no_dataset_in_memory_says_why(given, named, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        cma.load_dataset(given, "train", **named)


def test_a_folder_of_pictures_is_no_dataset_and_what_makes_one_is_said(tmp_path):
    write_picture(tmp_path / "pictures" / "a.png", 1)
    with one_line(
        FileNotFoundError, r"pictures: no dataset.json in it; .*from_pairs.*data_prep fo"
    ):
        cma.load_dataset(tmp_path / "pictures", "train")
    with one_line(FileNotFoundError, r"a\.png: a file, not a dataset folder; .*from_pairs"):
        cma.load_dataset(tmp_path / "pictures" / "a.png", "train")
    with one_line(FileNotFoundError, r"gone: no such folder; `python -m data_prep` makes"):
        cma.load_dataset(tmp_path / "gone", "train")
