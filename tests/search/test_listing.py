"""Which files a folder holds for the search: those of a dataset, or all pictures and clips in it."""

import json

import pytest
from PIL import Image

from cma.search import listing
from tests.toy_data import write_images
from tests.toy_media import write_picture


def found(folder):
    """(name, captions) of its files, or why it is refused."""
    try:
        root, files, problems = listing.find(folder)
    except ValueError as error:
        return str(error)
    assert root == folder and problems == []
    return [(file.file_name, file.captions) for file in files]


def test_what_is_not_read_is_counted_by_kind(tmp_path):
    for name in ("a.png", "b.jfif", "deep/c.JPG", "d.psd", "e.PSD", "deep/f.svg", "notes.txt", ".g.psd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name, "jpeg")
    _, files, problems = listing.find(tmp_path)
    assert [(file.file_name, file.kind) for file in files] == [
        (name, "image") for name in ("a.png", "b.jfif", "deep/c.JPG")
    ]
    ((kinds, why),) = problems
    assert kinds == "2 .psd, 1 .svg" and why.startswith("not read") and "3 / 6" in why
    for file in files:
        (tmp_path / file.media).unlink()
    with pytest.raises(ValueError, match="no pictures or clips in it; 2 .psd, 1 .svg: not read"):
        listing.find(tmp_path)


@pytest.mark.parametrize(
    "name, content",
    [
        ("metadata.jsonl", {"file_name": "0001.png", "text": "a dog"}),  # as Hugging Face's image folders
        ("metadata.jsonl", {"file_name": "0001.png", "id": 1}),
        ("dataset.json", {"images": [{"filename": "0001.png"}], "dataset": "coco"}),  # as Karpathy's files
    ],
)
def test_the_file_of_another_program_does_not_make_a_dataset(tmp_path, name, content):
    write_picture(tmp_path / "0001.png", 1)
    write_picture(tmp_path / "deep" / "0002.png", 2)
    (tmp_path / name).write_text(json.dumps(content) + "\n")
    assert found(tmp_path) == [("0001.png", ()), ("deep/0002.png", ())]


def test_a_dataset_folder_brings_its_captions(tmp_path):
    folder = write_images(tmp_path / "d", {"test": 2}, captions=1)
    write_picture(folder / "media" / "left out.png", 1)
    assert found(folder) == [
        ("media/test000.png", ("a red cat",)),
        ("media/test001.png", ("a green cat",)),
    ]
