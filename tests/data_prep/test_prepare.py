import json
from contextlib import nullcontext, redirect_stdout
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma.data
from data_prep.__main__ import main
from data_prep.dataset import Annotations, Counts, Entry, Place
from data_prep.prepare import prepare
from data_prep.readers import BadInput
from tests.grey_media import write_clip

PROTOCOL = {"query": "caption", "visual_to_text": "items"}


def annotations(*entries):
    return Annotations("toy", "video", PROTOCOL, {"test": Counts(9, 18)}, list(entries), "msvd", ["toy.json"])


def entry(id, instead=None, captions=("a cat",), file=None):
    return Entry(id, file or id, captions, "test", instead=instead)


def test_what_is_used_instead_brings_its_own_start_and_end(tmp_path):
    write_clip(tmp_path / "whole.mp4", [10, 20, 30])
    write_clip(tmp_path / "cut_1_3.mp4", [10, 20, 30])
    entries = (
        entry("cut_1_3", Place("whole", 1.0, 3.0)),
        entry("cut_4_6", Place("whole", 4.0, 6.0)),
        entry("gone", Place("far")),
    )
    prepare(annotations(*entries), tmp_path, tmp_path / "out", allow_missing=True)
    items = cma.data.load(tmp_path / "out", "test").items
    assert [(item.file_name, item.start, item.end) for item in items] == [
        ("media/cut_1_3.mp4", None, None),
        ("media/whole.mp4", 4.0, 6.0),
    ]
    assert (tmp_path / "out" / "missing.txt").read_text() == "gone\tgone\tnot found\n"


def test_annotations_only_writes_every_item_and_looks_for_no_media(tmp_path, capsys):
    out = tmp_path / "out"
    both = annotations(entry("a"), entry("b"))
    prepare(both, tmp_path, out, allow_missing=True, annotations_only=True)
    assert [item.id for item in cma.data.load(out, "test").items] == ["a", "b"]
    counts = json.loads((out / "dataset.json").read_text())["counts"]["test"]
    assert counts["found"] == 2 and counts["expected"] == 9
    assert counts["media"] == {"found": None, "expected": 2}
    assert "test 2 / 9 2 / 18 not looked for / 2" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(BadInput, match="b: no caption"):
        prepare(annotations(entry("a"), entry("b", captions=())), tmp_path, out, annotations_only=True)


@given(st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, max_size=6), st.data())
def test_counts_unlike_the_published_are_said_and_need_allow_missing(tmp_path_factory, splits, data):
    source = tmp_path_factory.mktemp("source")
    found = {split: Counts(splits.count(split), 2 * splits.count(split)) for split in splits}
    near = {
        split: st.builds(Counts, st.integers(n, n + 1), st.integers(m, m + 1))
        for split, (n, m) in found.items()
    }
    published = data.draw(st.fixed_dictionaries(near)) | {"other": Counts(3, 3)}  # a split without a list
    entries = [Entry(f"{n}", f"{n}", ("a", "b"), split) for n, split in enumerate(splits)]
    read = Annotations("toy", "image", PROTOCOL, published, entries, "coco", ["toy.json"])
    unlike = [split for split in found if found[split] != published[split]]
    said = StringIO()
    with redirect_stdout(said), pytest.raises(BadInput) if unlike else nullcontext() as stopped:
        prepare(read, source, source / "out", annotations_only=True)
    assert (source / "out" / "dataset.json").exists() == (not unlike)
    for text in (said.getvalue(), *([str(stopped.value)] if unlike else [])):
        for split, (items, captions) in found.items():
            of_items = f"{split} {items} / {published[split].items} items, "
            line = of_items + f"{captions} / {published[split].captions} captions"
            assert (line in text) == (split in unlike)
    with redirect_stdout(said):
        prepare(read, source, source / "out", allow_missing=True, annotations_only=True)
    assert (source / "out" / "dataset.json").exists() and said.getvalue().count("WARNING") == 2 * len(unlike)


@pytest.mark.parametrize("file", ["../a", "/a", "b/../../a", "C:/a", r"b\..\..\a"])
def test_a_file_name_that_leads_out_is_refused_also_where_it_is_used_instead(tmp_path, file):
    for bad in (entry("a", file=file), entry("a", Place(file))):
        with pytest.raises(BadInput, match="leads out of the media folder"):
            prepare(annotations(bad), tmp_path, tmp_path / "out")


@pytest.mark.parametrize("id", ["a\nb", "a\tb", "a\0", "\ud800"])
def test_ids_that_cannot_be_written_in_one_line_are_refused_in_one(tmp_path, capsys, id):
    (tmp_path / "val_1.json").write_text(json.dumps({id: {"sentences": ["a cat"]}}))
    assert main(["activitynet", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "holds what no file name should" in error
    assert not (tmp_path / "out").exists()
