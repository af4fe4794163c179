import json
import os
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma
from cma import RetrievalModel, TrainConfig
from data_prep import own
from data_prep.__main__ import main
from data_prep.readers import BadInput
from explorer.index import MediaIndex
from tests.data_prep.fuzz_sources import PICTURE, inside, parquet
from tests.data_prep.toy_shards import SHARD, tar
from tests.grey_media import write_clip, write_picture

SPLIT_TOO = "file_name,caption,split"


def run(*arguments):
    return main(["folder", *map(str, arguments), "--workers", "1"])


def pictures(source, *names):
    for number, name in enumerate(names):
        write_picture(source / name, 40 + 20 * number)
    return source


def csv(path, *rows, header="file_name,caption"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def items(out):
    every = [item for split in cma.data.splits(out) for item in cma.data.load(out, split).items]
    return {item.id: (item.split, item.captions) for item in every}


def test_pictures_without_captions_can_be_searched_and_nothing_else(
    tmp_path, toy_clip, toy_processor, capsys
):
    source = pictures(tmp_path / "source", "a.jpg", "deep/a.png", ".hidden/b.jpg", "._a.jpg")
    (source / "notes.txt").write_text("no picture")
    assert run("--source", source, "--out", tmp_path / "out") == 0
    assert items(tmp_path / "out") == {"a.jpg": ("test", ()), "deep/a.png": ("test", ())}
    said = " ".join(capsys.readouterr().out.split())
    assert "it can only be searched" in said and "test 2 / ? 0 / ? 2 / 2" in said
    assert "no train split: nothing can be trained on it next:" in said
    assert f"next: python -m explorer --media {tmp_path / 'out'}" in said
    model = RetrievalModel(toy_clip, toy_processor)
    assert len(MediaIndex.build(model, tmp_path / "out").query("a cat", 2)) == 2
    dataset, config = cma.data.load(tmp_path / "out", "test"), TrainConfig(name="toy")
    with pytest.raises(ValueError, match=r"2 of 2 items .*a\.jpg"):
        cma.evaluate(model, dataset, config)


def test_captions_from_csv_and_jsonl_are_the_same(tmp_path, capsys):
    source = pictures(tmp_path / "source", *(f"deep/{n}.jpg" for n in range(20)))
    rows = [(f"deep/{n}.jpg" if n % 2 else f"{n}.jpg", [f"cat {n}", "a, b"]) for n in range(20)]
    of_csv = csv(
        tmp_path / "c.csv", *(f'{name},"{text}"' for name, texts in rows for text in [*texts, " "])
    )
    lines = [{"file_name": name, "captions": texts} for name, texts in rows[1:]]
    lines += [{"file_name": rows[0][0], "caption": text} for text in rows[0][1]]
    of_jsonl = tmp_path / "c.jsonl"
    of_jsonl.write_text("\n".join(map(json.dumps, lines)))
    for captions, out in ((of_csv, tmp_path / "one"), (of_jsonl, tmp_path / "other")):
        assert run("--source", source, "--out", out, "--captions", captions) == 0
    found = items(tmp_path / "one")
    assert found == items(tmp_path / "other")
    assert {id: texts for id, (_, texts) in found.items()} == {
        f"deep/{n}.jpg": (f"cat {n}", "a, b") for n in range(20)
    }
    assert Counter(split for split, _ in found.values()) == {"train": 16, "val": 2, "test": 2}
    assert "blank captions dropped: 20" in capsys.readouterr().out


def test_accents_may_be_written_in_two_ways_and_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    pictures(tmp_path / "source", *(f"deep/cafe\u0301 {n}.jpg" for n in range(2)))  # as a Mac does
    csv(tmp_path / "c.csv", "deep/caf\u00e9 0.jpg,a cup", "caf\u00e9 1.jpg,a pot")
    words = ["--source=~/source", "--captions=~/c.csv", "--out=~/out"]
    assert run(*words) == 0
    assert {texts for _, texts in items(tmp_path / "out").values()} == {("a cup",), ("a pot",)}
    (tmp_path / "out" / ".DS_Store").touch()  # somebody has looked at it
    assert run(*words) == 0


def test_paths_may_start_at_the_captions_folder_and_it_is_said_what_was_done(tmp_path, capsys):
    source = pictures(tmp_path / "pictures", *(f"{n}.jpg" for n in range(3)))
    captions = csv(tmp_path / "c.csv", *(f"pictures/{n}.jpg,cat {n}" for n in range(3)))
    out = tmp_path / "out"
    assert run("--source", source, "--out", out, "--captions", captions) == 0
    assert {id: texts for id, (_, texts) in items(out).items()} == {
        f"{n}.jpg": (f"cat {n}",) for n in range(3)
    }
    said = capsys.readouterr().out
    assert f"captions from c.csv; media in {source}" in said and f"written: {out} (" in said
    described = json.dumps({"data": str(out), "few_items": True})
    assert f"next: write {described} into run.json, and type python -m cma.training" in said
    assert "no val split" not in said
    other = csv(tmp_path / "d.csv", "0.jpg,a,train", "1.jpg,b,train", header=SPLIT_TOO)
    assert run("--source", source, "--out", out, "--captions", other, "--allow-missing") == 0
    said = capsys.readouterr().out
    assert "no val split: a run holds out" in said and "no test split: a run reports" in said


def test_captions_of_other_files_are_said_to_be_so(tmp_path, capsys):
    source = pictures(tmp_path / "pictures", "a.jpg", "b.jpg")
    captions = csv(tmp_path / "c.csv", "x.jpg,a cat", "y.jpg,a dog")
    words = ("--source", source, "--out", tmp_path / "out", "--captions", captions)
    assert run(*words, "--allow-missing") == 1
    said = capsys.readouterr().err
    assert "c.csv: 0 of 2 files are there, the first is x.jpg; expected paths" in said


@given(st.sets(st.text(min_size=1, max_size=3), max_size=60), st.integers(0, 3))
def test_drawn_splits_depend_on_the_names_and_the_seed_alone(names, seed):
    drawn = own.draw_splits(list(names), seed)
    assert drawn == own.draw_splits(sorted(names, reverse=True), seed) and set(drawn) == names
    counts, held = Counter(drawn.values()), max(1, len(names) // 10)
    if len(names) >= 3:
        assert counts == {"train": len(names) - 2 * held, "val": held, "test": held}
    else:
        assert counts["test"] == len(names)


def test_files_without_captions_and_captions_without_a_file_are_counted_and_listed(
    tmp_path, capsys
):
    source = pictures(tmp_path / "source", "a.jpg", "deep/b.jpg", "c.jpg")
    captions = csv(tmp_path / "c.csv", "a.jpg,x", "other/b.jpg,y", "d.jpg,z")
    arguments = ("--source", source, "--out", tmp_path / "out", "--captions", captions)
    assert run(*arguments) == 1
    said = capsys.readouterr()
    assert "files without captions in c.csv: 2 (c.jpg, deep/b.jpg)" in said.out
    assert "files named in c.csv that are not there: 2 (d.jpg, other/b.jpg)" in said.out
    assert "4 of 5 items cannot be used" in said.err
    assert run(*arguments, "--allow-missing") == 0
    assert items(tmp_path / "out").keys() == {"a.jpg"}  # deep/b.jpg is not other/b.jpg
    missing = [
        line.split("\t") for line in (tmp_path / "out" / "missing.txt").read_text().splitlines()
    ]
    assert {id: why for id, _, why in missing} == {
        "c.jpg": "no caption",
        "deep/b.jpg": "no caption",
        "d.jpg": "not found",
        "other/b.jpg": "not found",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_a_name_that_cannot_be_written_down_is_left_out_and_said(tmp_path, capsys):
    source = pictures(tmp_path / "source", "a.png", "b.png", "two\nlines.png")
    (source / "b.png").rename(source / os.fsdecode(b"b\xff.png"))
    assert run("--source", source, "--out", tmp_path / "out") == 0
    assert list(items(tmp_path / "out")) == ["a.png"]
    said = capsys.readouterr().out
    assert (
        r"whose names hold a line break or are not UTF-8: 2 (b\udcff.png, two\nlines.png)" in said
    )


def test_kinds_that_are_not_read_are_counted_and_folders_that_cannot_be_opened_need_a_word(
    tmp_path, capsys, monkeypatch
):
    def scandir(path, really=os.scandir):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    source = pictures(tmp_path / "source", "a.jpg", "shut/b.jpg")
    write_picture(source / "c.jpg").rename(source / "c.jfif")
    for name in ("d.psd", "e.psd", "f.svg", "g.jxl", "words.txt"):
        (source / name).touch()
    monkeypatch.setattr(os, "scandir", scandir)
    arguments = ("--source", source, "--out", tmp_path / "out")
    assert run(*arguments) == 1
    said = capsys.readouterr()
    shut = "folders that cannot be read: 1 (shut: Permission denied)"
    assert f"{shut}. Mend or remove the unusable files, or add --allow-missing" in said.err
    assert "2 .psd, 1 .svg, 1 .jxl: not read" in said.out and "2 / 6" in said.out
    assert run(*arguments, "--allow-missing") == 0 and shut in capsys.readouterr().out
    assert items(tmp_path / "out").keys() == {"a.jpg", "c.jfif"}


def test_pictures_beside_clips_need_a_choice(tmp_path, capsys):
    source = pictures(tmp_path / "source", "a.jpg", "stills/b.jpg")
    write_clip(source / "c.mp4", [40, 90])
    assert run("--source", source, "--out", tmp_path / "out") == 1
    assert "2 pictures and 1 clips, but a dataset has one kind" in capsys.readouterr().err
    for kind, found, left in (
        ("image", {"a.jpg", "stills/b.jpg"}, "clips left out, as --kind image says: 1"),
        ("video", {"c.mp4"}, "pictures left out, as --kind video says: 2"),
    ):
        assert run("--source", source, "--out", tmp_path / kind, "--kind", kind) == 0
        assert items(tmp_path / kind).keys() == found
        assert cma.data.load(tmp_path / kind, "test").kind == kind
        assert left in capsys.readouterr().out


def test_folders_of_frames_are_clips_where_there_are_no_others(tmp_path):
    source = pictures(tmp_path / "source", "one/1.jpg", "one/2.jpg", "deep/two/1.jpg")
    (source / "one" / "@eaDir").mkdir()
    (source / "one" / "Thumbs.db").touch()
    words = ("--source", source, "--out", source / "out", "--kind", "video")
    assert run(*words) == run(*words) == 0  # what was written holds no captions of the source
    assert items(source / "out").keys() == {"one", "deep/two"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "c.csv",
            "file;text\na.jpg;x",
            "c.csv:1: expected the columns file_name, caption; found file, text",
        ),
        ("c.csv", "file_name,caption\n", "no captions in this file"),
        ("c.csv", 'file_name,caption\na.jpg,"x"y\n', "c.csv:2: broken CSV"),
        ("c.csv", 'file_name,caption\n\na.jpg,"x\ny",z', "c.csv:3: expected 2 fields"),
        ("c.csv", "file_name,caption\nc.jpg,x", "c.csv:2: c.jpg may be deep/c.jpg or deeper/c.jpg"),
        (
            "c.csv",
            "file_name,caption,split\na.jpg,x,dev",
            "c.csv:2: expected split train, val, test, found",
        ),
        (
            "c.csv",
            "file_name,caption,split\na.jpg,x,val\na.jpg,x,test",
            "c.csv:3: a.jpg is in split val",
        ),
        (
            "c.jsonl",
            '{"file_name": "a.jpg"}',
            "c.jsonl:1: expected file_name and caption or captions, found",
        ),
        ("c.jsonl", '\n{"file_name": "a.jpg"', "c.jsonl:2:22: broken JSON"),
        (
            "c.jsonl",
            '{"file_name": "a.jpg", "captions": "x"}',
            "c.jsonl:1: expected captions to be a list",
        ),
        (
            "c.jsonl",
            '{"file_name": "a.jpg", "caption": "x", "split": "val"}\n'
            '{"file_name": "b.jpg", "caption": "y"}',
            "c.jsonl: files without a split: 1, the first is b.jpg",
        ),
        ("c.txt", "a.jpg x", "ends in .csv or .jsonl"),
    ],
)
def test_captions_that_are_not_as_expected(tmp_path, capsys, name, content, message):
    source = pictures(tmp_path / "source", "a.jpg", "b.jpg", "deep/c.jpg", "deeper/c.jpg")
    (tmp_path / name).write_text(content)
    assert run("--source", source, "--out", tmp_path / "out", "--captions", tmp_path / name) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error


@pytest.mark.parametrize(
    ("there", "more", "message"),
    [
        ([], {"source": "gone"}, "gone: no such folder"),
        ([], {}, "no pictures or clips in it"),
        (["a.jpg"], {"kind": "video"}, "leave out --kind video"),
        (["a.jpg"], {"captions": "c.csv"}, "no such file; expected a .csv or .jsonl"),
    ],
)
def test_no_folder_no_media_no_captions(tmp_path, there, more, message):
    paths = {"source": tmp_path} | {
        key: tmp_path / name for key, name in more.items() if key != "kind"
    }
    pictures(tmp_path, *there)
    with pytest.raises(BadInput, match=message):
        own.read(**more | paths)


@given(st.binary(max_size=60), st.sampled_from(["c.csv", "c.jsonl"]), st.booleans())
def test_any_file_of_captions_is_read_or_refused_in_one_line(
    tmp_path_factory, content, name, begun
):
    source = tmp_path_factory.mktemp("source")
    (source / "a.jpg").write_bytes(b"picture")
    start = {
        "c.csv": b"file_name,caption\na.jpg,",
        "c.jsonl": b'{"file_name": "a.jpg", "caption": "',
    }[name]
    (source / name).write_bytes(start * begun + content)
    try:
        assert own.read(source, source / name).entries[0].id == "a.jpg"
    except BadInput as error:
        assert str(source) in str(error)


def test_captions_inside_containers_and_an_imagefolder_are_read(tmp_path, capsys):
    source = pictures(tmp_path / "source", "train/a.jpg", "validation/b.jpg")
    for split, name in (("train", "a"), ("validation", "b")):
        row = {"file_name": f"{name}.jpg", "text": f"a {name}"}
        (source / split / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    (source / "test").mkdir()
    (source / "test" / "0.tar").write_bytes(tar({"._s0.jpg": b"a Mac's"} | SHARD))
    out = tmp_path / "out"
    words = ("--source", source, "--out", out, "--allow-missing")
    assert run(*words, "--caption-column", "text") == 0
    assert items(out) == {
        "train/a.jpg": ("train", ("a a",)),
        "validation/b.jpg": ("val", ("a b",)),
        "test/0.tar/s0.jpg": ("test", ("a boat", "two boats")),
    }
    assert (out / "missing.txt").read_text().startswith("test/0.tar/s1.jpg\t")
    alone = ("--source", source / "test" / "0.tar", "--out", tmp_path / "one", "--allow-missing")
    assert run(*alone) == 0 and items(tmp_path / "one").keys() == {"0.tar/s0.jpg"}
    (source / "test" / "1.tar").write_bytes(b"no tar" * 200)
    assert run(*words) == 1 and "1.tar: cannot be read as a tar" in capsys.readouterr().err
    assert len((tmp_path / "one" / "missing.txt").read_text().splitlines()) == 1  # the cut picture


def test_an_unrelated_parquet_and_a_macs_hidden_files_do_not_stop_own_media(
    tmp_path, capsys, monkeypatch
):
    source = pictures(tmp_path / "source", "a.jpg")
    (source / "0.tar").write_bytes(tar({"s0.jpg": PICTURE.getvalue(), "s0.txt": b"a boat"}))
    for name in ("._0.tar", "._sales.parquet"):
        (source / name).write_bytes(b"\0\5\26\7")  # as a Mac begins them
    (source / "sales.parquet").write_bytes(parquet([{"text": "a", "price": 1}]))
    words = ("--source", source, "--out", tmp_path / "out", "--allow-missing")
    assert run(*words) == 0
    assert items(tmp_path / "out").keys() == {"0.tar/s0.jpg"}
    said = capsys.readouterr().out
    assert "files without captions in the captions inside: 1 (a.jpg)" in said
    assert "parquet files without pictures, not read: 1 (sales.parquet)" in said
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    assert run(*words) == 0
    said = capsys.readouterr().out
    assert "parquet files, not looked at: pyarrow: not installed; run `pip install" in said
    assert run("--source", source / "sales.parquet", "--out", tmp_path / "o") == 1
    assert "pyarrow: not installed" in capsys.readouterr().err


def test_a_parquet_file_with_columns_of_any_name_is_read(tmp_path, capsys):
    rows = [{"photo": inside(f"{n}"), "said": f"cat {n}", "n": n} for n in range(10)]
    (tmp_path / "cats.parquet").write_bytes(parquet(rows))
    words = ("--source", tmp_path / "cats.parquet", "--out", tmp_path / "out")
    for columns, message in (
        ((), "no column of captions ; give --caption-column of photo, said, n"),
        (("--caption-column", "n"), "row 0: expected a caption (text), found 0"),
        (("--image-column", "said"), "no column of pictures said; give --image-column of photo"),
    ):
        assert run(*words, *columns) == 1 and message in capsys.readouterr().err
    assert run(*words, "--image-column", "photo", "--caption-column", "said") == 0
    found = items(tmp_path / "out")
    assert Counter(split for split, _ in found.values()) == {"train": 8, "val": 1, "test": 1}
    assert found["3.jpg"][1] == ("cat 3",)
    assert cma.data.load(tmp_path / "out", "val").name == "cats"
    for split in ("holdout", ["test"]):
        (tmp_path / "cats.parquet").write_bytes(parquet([rows[0] | {"split": split}]))
        assert run(*words, "--caption-column", "said") == 1
        message = f"cats.parquet: row 0: expected split train, val, test, found {split!r}"
        assert message in capsys.readouterr().err
    for name in ("train", "test"):  # one name in two files is two pictures
        (tmp_path / "two" / name).mkdir(parents=True)
        (tmp_path / "two" / name / "0.parquet").write_bytes(parquet(rows[:1]))
    words = ("--source", tmp_path / "two", "--out", tmp_path / "o", "--caption-column", "said")
    assert run(*words) == 1
    assert "the picture 0.jpg has a row already" in capsys.readouterr().err
