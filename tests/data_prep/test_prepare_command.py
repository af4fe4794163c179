import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma.data
from cma import files
from data_prep.__main__ import main
from data_prep.benchmarks import msrvtt
from data_prep.dataset import CaptionCleaner
from data_prep.readers import BadInput, read_csv, read_json
from tests.grey_media import write_clip, write_picture


def karpathy(filename="1.jpg", split="train", captions=("a cat", "the cat"), **more):
    return {"filename": filename, "split": split, "sentences": [{"raw": text} for text in captions]} | more


def flickr_source(folder, images=None):
    images = images or [
        karpathy(f"{n}.jpg", split) for n, split in enumerate(("train", "train", "val", "test"))
    ]
    for image in images:
        write_picture(folder / "flickr30k-images" / image["filename"])
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    return folder


def msrvtt_source(
    folder, train=("video1", "video2", "video3"), test=("video7", "video9"), newline="\n", separator=","
):
    for id in (*train, *test):
        write_clip(folder / "videos" / "all" / f"{id}.mp4", [40, 90, 140])
    videos = [{"video_id": id, "split": "validate" if id == "video3" else "train"} for id in train]
    sentences = [{"video_id": id, "caption": f"{id} is {what}"} for id in train for what in ("here", "there")]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    rows = {"MSRVTT_train.9k.csv": ["video_id", *train]}
    header = separator.join(("key", "vid_key", "video_id", "sentence"))
    rows["MSRVTT_JSFUSION_test.csv"] = [
        header,
        *(separator.join(("ret0", "msr0", id, f"see {id}")) for id in test),
    ]
    for name, lines in rows.items():
        (folder / name).write_bytes("".join(line + newline for line in lines).encode())
    return folder


def run(*arguments):
    return main([*map(str, arguments), "--workers", "1"])


def error_of(capsys):
    text = capsys.readouterr().err.splitlines()[-1]
    assert text.startswith("error: ")
    return text


# Flickr30K


def test_flickr30k_becomes_a_dataset_folder(tmp_path, capsys):
    source, out = flickr_source(tmp_path / "source"), tmp_path / "out"
    assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0
    train = cma.data.load(out, "train")
    assert [(item.id, item.captions) for item in train.items] == [
        (n, ("a cat", "the cat")) for n in ("0", "1")
    ]
    assert train.path(train.items[1]).read_bytes() == (source / "flickr30k-images" / "1.jpg").read_bytes()
    assert (train.name, train.kind, train.recipe, train.expected) == (
        "flickr30k",
        "image",
        "flickr30k",
        29_000,
    )
    assert train.protocol == {"query": "caption", "visual_to_text": "captions"}
    assert cma.data.splits(out) == ["train", "val", "test"]
    table = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "train 2 / 29,000 4 / 145,000 2 / 2" in table and "test 1 / 1,000 2 / 5,000 1 / 1" in table


def test_preparing_twice_changes_nothing_and_another_dataset_is_refused(tmp_path, capsys):
    source, out = flickr_source(tmp_path / "source"), tmp_path / "out"
    assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert run("msrvtt", "--source", msrvtt_source(tmp_path / "other"), "--out", out) == 1
    assert "expected msrvtt in format version 1 or nothing, found flickr30k" in error_of(capsys)
    seal = json.loads((out / "dataset.json").read_text()) | {"format_version": 0}
    (out / "dataset.json").write_text(json.dumps(seal))
    assert run("flickr30k", "--source", source, "--out", out) == 1
    assert "found flickr30k in version 0" in error_of(capsys)


@pytest.mark.parametrize("make", ["file", "folder with a letter", "media of its own"])
def test_an_output_folder_with_other_content_is_refused_and_kept(tmp_path, capsys, make):
    source, out = flickr_source(tmp_path / "source"), tmp_path / "out"
    if make == "file":
        out.write_text("mine")
    else:
        (out / "media").mkdir(parents=True) if make == "media of its own" else out.mkdir()
        (out / "letter.txt").write_text("mine") if make == "folder with a letter" else None
    assert run("flickr30k", "--source", source, "--out", out) == 1
    assert str(out) in error_of(capsys)
    assert not (out / "dataset.json").exists() and not (out / "metadata.jsonl").exists()


def test_a_killed_preparation_is_never_taken_for_whole(tmp_path, monkeypatch):
    source, out = flickr_source(tmp_path / "source"), tmp_path / "out"
    write = files.write_whole
    for fatal in ("metadata.jsonl", "dataset.json"):
        assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0

        def die(path, text, fatal=fatal):
            if path.name == fatal:
                path.with_name(f".{path.name}.1.tmp").write_text(text[: len(text) // 2])
                raise KeyboardInterrupt
            write(path, text)

        monkeypatch.setattr(files, "write_whole", die)
        with pytest.raises(KeyboardInterrupt):
            run("flickr30k", "--source", source, "--out", out, "--allow-missing")
        with pytest.raises(FileNotFoundError, match="no finished dataset"):
            cma.data.load(out, "train")
        monkeypatch.setattr(files, "write_whole", write)
    assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0
    assert len(cma.data.load(out, "train")) == 2


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(b"no media at all" * 50)


DAMAGES = {
    "missing": "not found",
    "empty": "empty file",
    "truncated": "cannot be decoded",
    "other": "cannot be decoded",
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["flickr30k", "msrvtt"])
def test_media_that_cannot_be_used_are_named_and_can_be_left_out(tmp_path, capsys, name, how):
    source, out = tmp_path / "source", tmp_path / "out"
    if name == "flickr30k":
        flickr_source(source)
        path, id, split = source / "flickr30k-images" / "1.jpg", "1", "train"
    else:
        msrvtt_source(source)
        path, id, split = source / "videos" / "all" / "video9.mp4", "video9", "test"
    damage(path, how)
    assert run(name, "--source", source, "--out", out) == 1
    message = error_of(capsys)
    assert f"the first is {id} (" in message and DAMAGES[how] in message and "--allow-missing" in message
    (line,) = (out / "missing.txt").read_text().splitlines()
    assert line.split("\t")[0] == id and DAMAGES[how] in line
    with pytest.raises(FileNotFoundError):
        cma.data.load(out, split)
    assert run(name, "--source", source, "--out", out, "--allow-missing") == 0
    dataset = cma.data.load(out, split)
    assert len(dataset) == 1 and id not in [item.id for item in dataset.items]
    counts = json.loads((out / "dataset.json").read_text())["counts"][split]
    assert counts["found"] == 1 and counts["media"] == {"found": 1, "expected": 2}


def test_without_a_check_the_media_are_only_looked_for(tmp_path):
    source = flickr_source(tmp_path / "source")
    damage(source / "flickr30k-images" / "1.jpg", "empty")
    assert (
        run("flickr30k", "--source", source, "--out", tmp_path / "out", "--no-check", "--allow-missing") == 0
    )


def test_nothing_usable_is_an_error_even_when_missing_media_are_allowed(tmp_path, capsys):
    source = flickr_source(tmp_path / "source", [karpathy()])
    damage(source / "flickr30k-images" / "1.jpg", "missing")
    assert run("flickr30k", "--source", source, "--out", tmp_path / "out", "--allow-missing") == 1
    assert "1 of 1 items" in error_of(capsys)


def test_captions_are_cleaned_dropped_and_counted(tmp_path, capsys):
    captions = [" two\nlines ", "\t ", "fine", "fine"]
    source = flickr_source(
        tmp_path / "source", [karpathy("1.jpg", captions=captions), karpathy("2.jpg", captions=["", "\n"])]
    )
    assert run("flickr30k", "--source", source, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert (
        "captions cleaned of line breaks and extra spaces: 1" in said.out
        and "blank captions dropped: 3" in said.out
    )
    assert "2 (" in said.err and "no caption" in said.err
    assert run("flickr30k", "--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    (item,) = cma.data.load(tmp_path / "out", "train").items
    assert item.captions == ("two lines", "fine", "fine")  # repeated captions stay


@given(st.lists(st.text(), max_size=4))
def test_cleaned_captions_are_words_with_single_blanks(captions):
    kept = CaptionCleaner()(captions, "here")
    assert kept == tuple(" ".join(text.split()) for text in captions if text.strip())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n  {"filename": }', "dataset_flickr30k.json:2:16: broken JSON"),
        ("[" * 100_000, "JSON that cannot be read"),
        ("[]", 'an object with a list "images"'),
        (json.dumps({"images": []}), "no item in this file"),
        (json.dumps({"images": [karpathy(), {"filename": "2.jpg"}]}), "images[1]: expected filename, split"),
        (json.dumps({"images": [karpathy(split="dev")]}), "expected the split train, val, test; found 'dev'"),
        (json.dumps({"images": [karpathy(), karpathy()]}), "(1.jpg): this image has a row already"),
        (json.dumps({"images": [karpathy("../1.jpg")]}), "'../1.jpg' of 1 leads out of the media folder"),
        (json.dumps({"images": [karpathy("/etc/1.jpg")]}), "leads out of the media folder"),
        (json.dumps({"images": [karpathy(captions=[7])]}), "images[0] (1.jpg): expected a caption"),
    ],
)  # fmt: skip
def test_a_json_that_is_not_as_expected(tmp_path, capsys, content, message):
    (tmp_path / "dataset_flickr30k.json").write_text(content)
    assert run("flickr30k", "--source", tmp_path, "--out", tmp_path / "out") == 1
    assert message in error_of(capsys)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there(tmp_path, capsys):
    assert run("flickr30k", "--source", tmp_path / "gone", "--out", tmp_path / "out") == 1
    assert "gone: no such folder" in error_of(capsys)
    assert run("flickr30k", "--source", tmp_path, "--out", tmp_path / "out") == 1
    assert "none of dataset_flickr30k.json" in error_of(capsys)


# MSR-VTT

TEST = "MSRVTT_JSFUSION_test.csv"


@pytest.mark.parametrize(("separator", "newline"), [(",", "\n"), (";", "\r\n")])
def test_msrvtt_becomes_a_dataset_folder(tmp_path, separator, newline, capsys):
    source, out = msrvtt_source(tmp_path / "source", separator=separator, newline=newline), tmp_path / "out"
    assert run("msrvtt", "--source", source, "--out", out, "--allow-missing") == 0
    train, test = cma.data.load(out, "train"), cma.data.load(out, "test")
    assert [item.id for item in train.items] == ["video1", "video2", "video3"]
    assert train.items[0].captions == ("video1 is here", "video1 is there")
    assert test.captions == ["see video7", "see video9"]
    assert test.path(test.items[0]) == out / "media" / "videos" / "all" / "video7.mp4"
    assert (train.expected, test.expected, test.kind) == (9_000, 1_000, "video")
    assert test.protocol == {"query": "caption", "visual_to_text": "items"}
    assert cma.data.splits(out) == ["train", "test"]  # 1k-A has no validation split …
    assert run("msrvtt", "--source", source, "--out", out, "--val", "--allow-missing") == 0
    (held,) = cma.data.load(out, "val").items  # … but the clips that MSR-VTT calls "validate" can be one
    assert held.id == "video3" and len(cma.data.load(out, "train")) == 2
    assert cma.data.load(out, "val").expected == 497 and cma.data.load(out, "train").expected == 8_503


def test_a_list_that_is_absent_leaves_its_split_out(tmp_path, capsys):
    source = msrvtt_source(tmp_path / "source")
    (source / "MSRVTT_train.9k.csv").unlink()
    (source / "MSRVTT_data.json").unlink()  # only the training captions are in it
    assert run("msrvtt", "--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    assert cma.data.splits(tmp_path / "out") == ["test"]
    assert "no MSRVTT_train.9k.csv: the train split is left out" in capsys.readouterr().out
    (source / "MSRVTT_JSFUSION_test.csv").unlink()
    assert run("msrvtt", "--source", source, "--out", tmp_path / "out") == 1
    assert "no MSRVTT_train.9k.csv and no MSRVTT_JSFUSION_test.csv in this folder" in error_of(capsys)


def test_training_lists_without_the_captions_leave_the_train_split_out(tmp_path, capsys):
    source = msrvtt_source(tmp_path / "source")
    (source / "MSRVTT_data.json").unlink()
    assert run("msrvtt", "--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    assert cma.data.splits(tmp_path / "out") == ["test"]
    assert "no MSRVTT_data.json, which has the captions of MSRVTT_train.9k.csv" in capsys.readouterr().out
    assert run("msrvtt", "--source", source, "--out", tmp_path / "held", "--val") == 1
    assert "no MSRVTT_data.json in this folder or below it; --val needs" in error_of(capsys)


def test_where_only_the_other_training_list_is_there_its_option_is_told(tmp_path, capsys):
    source = msrvtt_source(tmp_path / "source")
    (source / "MSRVTT_train.9k.csv").rename(source / "MSRVTT_train.7k.csv")
    command = ("msrvtt", "--source", source, "--out", tmp_path / "out", "--annotations-only")
    assert run(*command, "--allow-missing") == 0
    assert "MSRVTT_train.7k.csv is there: --split 7k reads it" in capsys.readouterr().out
    (source / TEST).unlink()
    assert run(*command) == 1
    assert "MSRVTT_train.7k.csv is there: --split 7k reads it" in error_of(capsys)
    assert run(*command, "--split", "7k", "--allow-missing") == 0


def test_a_folder_of_frames_is_a_clip(tmp_path):
    source = msrvtt_source(tmp_path / "source")
    (source / "videos" / "all" / "video7.mp4").unlink()
    for name in ("00.jpg", "01.jpg"):
        write_picture(source / "videos" / "all" / "video7.mp4" / name)
    assert run("msrvtt", "--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    test = cma.data.load(tmp_path / "out", "test")
    assert test.path(test.items[0]).is_dir()


@pytest.mark.parametrize("name", [TEST, "MSRVTT_train.9k.csv", "MSRVTT_data.json"])
def test_two_different_files_of_one_name_are_refused_and_copies_are_not(tmp_path, capsys, name):
    source = msrvtt_source(tmp_path / "source")
    copy = source / "videos" / name
    copy.write_bytes((source / name).read_bytes())
    assert (
        run("msrvtt", "--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing")
        == 0
    )
    copy.write_bytes((source / name).read_bytes() + b"\n")
    assert run("msrvtt", "--source", source, "--out", tmp_path / "again", "--annotations-only") == 1
    assert f"{source / name} and {copy} differ" in error_of(capsys)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TEST, "key,video\nret0,video7\n", "csv:1: expected the columns video_id, sentence; found key"),
        (TEST, "", "found none"),
        (TEST, "video_id,sentence\n", "test.csv: no item in this file"),
        ("MSRVTT_train.9k.csv", "video_id\n", "9k.csv: no item in this file"),
        (TEST, "video_id,sentence\nvideo7,see it\nvideo9\n", "test.csv:3: expected 2 fields"),
        (TEST, "video_id,sentence\nvideo7,see,it\n", "test.csv:2: expected 2 fields"),
        (TEST, 'video_id,sentence\nvideo7,"see it\n', "broken CSV"),
        (TEST, "video_id,sentence\nvideo7,one\nvideo7,two\n", "the first is video7"),
        ("MSRVTT_data.json", '{"videos": []}', "expected lists videos (video_id) and sentences"),
        ("MSRVTT_data.json", "[1]", "expected lists videos (video_id) and sentences"),
        ("MSRVTT_data.json", '{"videos": [], "sentences": []}', "video1 (video1: no caption)"),
    ],
)  # fmt: skip
def test_msrvtt_files_that_are_not_as_expected(tmp_path, capsys, name, content, message):
    source = tmp_path / "source"
    source.mkdir()
    (source / "MSRVTT_data.json").write_text('{"videos": [], "sentences": []}')
    (source / "MSRVTT_train.9k.csv").write_text("video_id\nvideo1\n")
    (source / name).write_text(content)
    assert run("msrvtt", "--source", source, "--out", tmp_path / "out") == 1
    assert message in error_of(capsys)


def test_nothing_to_hold_out(tmp_path):
    with pytest.raises(BadInput, match="validate"):
        msrvtt.read(msrvtt_source(tmp_path, train=("video1",)), val=True)


# what they share


def test_csv_and_json_with_a_byte_order_mark_or_in_another_encoding(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes("\ufeffid,text\n1,naïve\n\n2,b\n".encode())
    assert [(line, row["text"]) for line, row in read_csv(path, ("id",))] == [(2, "naïve"), (4, "b")]
    path.write_bytes("id,text\n1,naïve\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"list\.csv:2: not UTF-8"):
        list(read_csv(path, ("id",)))
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_where_links_cannot_be_made_the_folder_says_where_the_media_are(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    source, out = flickr_source(tmp_path / "source"), tmp_path / "out"
    assert run("flickr30k", "--source", source, "--out", out, "--allow-missing") == 0
    train = cma.data.load(out, "train")
    assert train.path(train.items[0]) == source.resolve() / "flickr30k-images" / "0.jpg"
    assert not (out / "media").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["flickr30k"], ["msrvtt", "--split", "8k"], ["mini", "--packs", "5"]]
)
def test_wrong_arguments_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "usage: " in capsys.readouterr().err
