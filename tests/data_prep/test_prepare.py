import json

import pytest

import cma.data
from data_prep.__main__ import main
from data_prep.dataset import Annotations, Counts, Entry, Place
from data_prep.prepare import prepare
from data_prep.readers import BadInput
from tests.grey_media import write_clip, write_picture

PROTOCOL = {"query": "caption", "visual_to_text": "items"}


def annotations(*entries, kind="video", published=(9, 18)):
    expected = {"test": Counts(*published)}
    return Annotations("toy", kind, PROTOCOL, expected, list(entries), "msvd", ["toy.json"])


def entry(id, captions=("a cat",), file=None, instead=None):
    return Entry(id, file or id, captions, "test", instead=instead)


@pytest.mark.parametrize(
    ("kept", "why"), [(0.0, "empty file"), (0.5, "cannot be"), (None, "not found")]
)
@pytest.mark.parametrize("kind", ["image", "video"])
def test_media_that_cannot_be_used_are_named_and_can_be_left_out(tmp_path, capsys, kind, kept, why):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in "ab":
        path = source / "deep" / "er" / name
        if kind == "image":
            damaged = write_picture(path.with_suffix(".jpg"))
        else:
            damaged = write_clip(path.with_suffix(".mp4"), [40, 90, 140])
    content = damaged.read_bytes()
    if kept is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content[: int(kept * len(content))])
    read = annotations(entry("a"), entry("b"), kind=kind, published=(2, 2))
    with pytest.raises(
        BadInput, match=rf"1 of 2 items .* the first is b \(.*{why}.*add --allow-missing"
    ):
        prepare(read, source, out)
    (line,) = (out / "missing.txt").read_text().splitlines()
    assert line.split("\t")[0] == "b" and why in line
    with pytest.raises(FileNotFoundError):
        cma.data.load(out, "test")
    prepare(read, source, out, allow_missing=True)
    assert [item.id for item in cma.data.load(out, "test").items] == ["a"]
    assert "test 1 / 2 1 / 2 1 / 2" in " ".join(capsys.readouterr().out.split())
    if kept is not None:
        prepare(read, source, out, check=False)  # media is only looked for
        assert len(cma.data.load(out, "test")) == 2 and not (out / "missing.txt").exists()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("", "no item in these files"),
        ("aba", "repeated ids: 1, the first is a"),
        ("a", "1 of 1 items"),
    ],
)
def test_no_items_repeated_ids_and_nothing_usable_are_refused(tmp_path, ids, message):
    with pytest.raises(BadInput, match=message):
        prepare(annotations(*map(entry, ids)), tmp_path, tmp_path / "out", allow_missing=True)
    with pytest.raises(FileNotFoundError):
        cma.data.load(tmp_path / "out", "test")


@pytest.mark.parametrize("file", ["../a", "/a", "b/../../a", "C:/a", r"b\..\..\a"])
def test_a_file_name_that_leads_out_is_refused_also_where_it_is_used_instead(tmp_path, file):
    for bad in (entry("a", file=file), entry("a", instead=Place(file))):
        with pytest.raises(BadInput, match="points outside the media folder"):
            prepare(annotations(bad), tmp_path, tmp_path / "out")


@pytest.mark.parametrize("id", ["a\nb", "a\tb", "a\0", "\ud800"])
def test_ids_that_cannot_be_written_in_one_line_are_refused_in_one(tmp_path, capsys, id):
    (tmp_path / "val_1.json").write_text(json.dumps({id: {"sentences": ["a cat"]}}))
    assert main(["activitynet", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "holds what no file name should" in error
    assert not (tmp_path / "out").exists()
