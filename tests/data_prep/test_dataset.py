import json
from contextlib import nullcontext

import pytest

import cma.data
from cma import files
from data_prep.dataset import (
    Entry,
    is_whole,
    refuse_other_content,
    write_dataset,
)
from data_prep.readers import BadInput

ENTRIES = [
    Entry("1", "1.mp4", ("a cat", "the cat"), "train"),
    Entry("2", "deep/2.mp4", ("naïve 猫",), "test", 1.0, 2.5),
]
SEAL = {"name": "toy", "kind": "video", "protocol": {"query": "caption", "visual_to_text": "items"}}


def write(tmp_path):
    (tmp_path / "source" / "deep").mkdir(parents=True, exist_ok=True)
    write_dataset(tmp_path / "out", tmp_path / "source", ENTRIES, SEAL)
    return tmp_path / "out"


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_is_read_back_also_where_links_cannot_be_made(tmp_path, monkeypatch, links):
    def refuse(*_, **__):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    out = write(tmp_path)
    assert is_whole(out, "toy") and not is_whole(out, "other") and (out / "media").exists() == links
    for entry in ENTRIES:
        dataset = cma.data.load(out, entry.split)
        (item,) = dataset.items
        assert (item.id, item.captions, item.start, item.end) == (
            entry.id,
            entry.captions,
            entry.start,
            entry.end,
        )
        assert dataset.path(item).resolve() == tmp_path / "source" / entry.file
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert write(tmp_path) == out
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("fatal", ["metadata.jsonl", "dataset.json"])
def test_a_killed_writer_leaves_no_folder_that_is_taken_for_whole(tmp_path, monkeypatch, fatal):
    def die(path, text, write=files.write_whole):
        if path.name == fatal:
            path.with_name(f".{path.name}.1.tmp").write_text(text[: len(text) // 2])
            raise KeyboardInterrupt
        write(path, text)

    out = write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path)
    assert not is_whole(out, "toy")
    with pytest.raises(FileNotFoundError, match="no finished dataset"):
        cma.data.load(out, "train")
    refuse_other_content(out, "toy")
    assert is_whole(write(tmp_path), "toy")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({}, None),
        (
            {
                "dataset.json": {"name": "toy", "format_version": 1},
                "missing.txt": "",
                "checked.json": "",
            },
            None,
        ),
        ({"dataset.json": {"name": "toy", "format_version": 0}}, "found toy in version 0"),
        (
            {"dataset.json": {"name": "coco", "format_version": 1}},
            "nothing, found coco in version 1",
        ),
        ({"letter.txt": "mine"}, "holds letter.txt"),
        ({"media/a.jpg": "mine"}, "holds media"),
    ],
)
def test_an_output_folder_with_other_content_is_refused(tmp_path, there, message):
    for name, content in there.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BadInput, match=message) if message else nullcontext():
        refuse_other_content(tmp_path, "toy")
