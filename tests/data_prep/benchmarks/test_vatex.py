import json

import pytest

import cma.data
from data_prep.__main__ import main
from tests.grey_media import write_clip

LISTS = {
    "train": ["-a_b_000001_000011", "-a_b_000012_000022"],
    "val": ["c_000003_000013"],
    "test": ["d_000000_000010", "e_000005_000015"],
}
CAPTIONS = {id: [f"{id} {n}" for n in range(10)] for ids in LISTS.values() for id in ids}
SPLIT_OF = {id: split for split, ids in LISTS.items() for id in ids}
WORDS = {"train": "training", "val": "validation", "test": "public_test"}

SHAPES = {
    "official": [{"videoID": id, "enCap": texts, "chCap": ["猫"]} for id, texts in CAPTIONS.items()],
    "by id": CAPTIONS,
    "objects by id": {id: {"enCap": texts, "chCap": ["猫"]} for id, texts in CAPTIONS.items()},
    "desc": [{"video_id": id, "desc": texts, "url": "x"} for id, texts in CAPTIONS.items()],
    "rows": [{"video_id": id, "caption": text} for id, texts in CAPTIONS.items() for text in texts],
}
OWN_WORDS = {
    "field": [{"videoID": id, "enCap": texts, "split": SPLIT_OF[id]} for id, texts in CAPTIONS.items()],
    "key": {WORDS[split]: {id: CAPTIONS[id] for id in ids} for split, ids in LISTS.items()},
}


def source_of(folder, content=SHAPES["official"], lists=LISTS, name="anything at all.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    for split, ids in lists.items():
        (folder / f"{split}_list.txt").write_text("\n".join(ids))
    return folder


def run(*arguments):
    return main(["vatex", *map(str, arguments), "--workers", "1"])


def read_back(out):
    return {
        split: {item.id: list(item.captions) for item in cma.data.load(out, split).items}
        for split in cma.data.splits(out)
    }


EXPECTED = {split: {id: CAPTIONS[id] for id in ids} for split, ids in LISTS.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_is_known_by_its_content_and_the_lists_split_it(tmp_path, shape, capsys):
    source = source_of(tmp_path / "source", SHAPES[shape])
    (source / "test1k5_sec_list.txt").write_text("f_000000_000010\n")
    (source / "durations.json").write_text(json.dumps(dict.fromkeys(CAPTIONS, 10.0)))
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert read_back(tmp_path / "out") == EXPECTED
    said = " ".join(capsys.readouterr().out.split())
    assert "vatex: anything at all.json, train_list.txt" in said and "durations" not in said
    assert "test1k5_sec_list.txt is another split than the paper's: not used" in said
    assert "train 2 / 25,991 20 / 259,910" in said and "val 1 / 1,500 10 / 15,000" in said
    test = cma.data.load(tmp_path / "out", "test")
    assert test.protocol == {"query": "caption", "visual_to_text": "items"}
    assert (test.kind, test.recipe, test.expected) == ("video", "vatex", 1_500)


@pytest.mark.parametrize("shape", OWN_WORDS)
def test_without_lists_the_files_own_words_split_it(tmp_path, shape):
    source = source_of(tmp_path / "source", OWN_WORDS[shape], lists={})
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert read_back(tmp_path / "out") == EXPECTED


def test_official_files_are_split_by_name_and_the_halves_of_validation_by_lists(tmp_path, capsys):
    official = [entry for entry in SHAPES["official"] if SPLIT_OF[entry["videoID"]] == "train"]
    source = source_of(tmp_path / "source", official, lists={}, name="vatex_training_v1.0.json")
    rest = [entry for entry in SHAPES["official"] if entry not in official]
    rest.append({"videoID": "f_000000_000010", "enCap": ["in neither half"]})
    source_of(source, rest, {"val": LISTS["val"], "test": LISTS["test"]}, "vatex_validation_v1.0.json")
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert read_back(tmp_path / "out") == EXPECTED
    said = capsys.readouterr().out
    assert "no train_list.txt with these ids: the files of captions say the split (clips in train: 2)" in said
    assert "clips with captions that are in no split: 1 (f_000000_000010)" in said


def test_lists_under_other_names_are_known_by_their_ids(tmp_path, capsys):
    source = source_of(tmp_path / "source", lists={"train": LISTS["train"]})
    for name, ids in (("vatex_test_1500", LISTS["test"]), ("validation", LISTS["val"])):
        (source / f"{name}.txt").write_text("".join(f"{id}.mp4\n" for id in ids))
    (source / "test notes.txt").write_bytes("Prüfung\n".encode("latin-1"))
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert read_back(tmp_path / "out") == EXPECTED
    assert "train_list.txt, validation.txt, vatex_test_1500.txt under" in capsys.readouterr().out


def test_trimmed_clips_come_first_and_source_videos_are_cut(tmp_path):
    source = source_of(tmp_path / "source")
    write_clip(source / "clips" / "-a_b_000001_000011.mp4", [40, 90])
    write_clip(source / "whole" / "-a_b.mkv.mp4", [40, 90])
    write_clip(source / "whole" / "e.mp4", [40, 90])
    write_clip(source / "whole" / "-a_b.mp4", [40, 90])
    assert run("--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    places = {
        item.id: (item.file_name, item.start, item.end)
        for split in ("train", "test")
        for item in cma.data.load(tmp_path / "out", split).items
    }
    assert places == {
        "-a_b_000001_000011": ("media/clips/-a_b_000001_000011.mp4", None, None),
        "-a_b_000012_000022": ("media/whole/-a_b.mp4", 12.0, 22.0),
        "e_000005_000015": ("media/whole/e.mp4", 5.0, 15.0),
    }


def test_a_clip_in_two_files_has_the_captions_of_the_first(tmp_path, capsys):
    source = source_of(tmp_path / "source")
    (source / "deeper").mkdir()
    (source / "deeper" / "again.json").write_text(json.dumps(CAPTIONS | {"d_000000_000010": ["others"]}))
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert read_back(tmp_path / "out") == EXPECTED
    assert "clips with other captions in again.json than in an earlier file, not used: 1 (d_00" in (
        capsys.readouterr().out
    )


def test_a_list_without_any_caption_leaves_its_split_out(tmp_path, capsys):
    captions = {id: texts for id, texts in CAPTIONS.items() if SPLIT_OF[id] != "train"}
    source = source_of(tmp_path / "source", captions)
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert cma.data.splits(tmp_path / "out") == ["val", "test"]
    assert "no train_list.txt with these ids: the train split is left out" in capsys.readouterr().out


def test_a_clip_without_captions_is_listed_not_dropped(tmp_path, capsys):
    content = [*SHAPES["official"], {"videoID": "g_000000_000010"}, {"videoID": "h_000000_000010"}]
    lists = LISTS | {"test": [*LISTS["test"], "g_000000_000010"]}
    source, out = source_of(tmp_path / "source", content, lists), tmp_path / "out"
    options = ("--source", source, "--out", out, "--annotations-only")
    assert run(*options) == 1
    assert "clips with captions that are in no split: 1 (h_000000_000010)" in capsys.readouterr().out
    assert "g_000000_000010\t" in (out / "missing.txt").read_text()
    assert run(*options, "--allow-missing") == 0
    assert len(cma.data.load(out, "test")) == 2
