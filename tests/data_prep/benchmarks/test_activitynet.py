import json

import pytest

import cma.data
from data_prep.__main__ import main
from data_prep.benchmarks import activitynet
from tests.grey_media import write_clip


def video(*sentences, times=None):
    times = [[0, 1.5]] * len(sentences) if times is None else times
    return {"duration": 82.7, "timestamps": times, "sentences": list(sentences)}


TRAIN = {"v_-a": video("A man.", "  Then\nhe ", " \n", times=[[0, 4.1], [9, 3], [5, 6]]), "v__b": video("B")}
TEST = {"v_c-": video("One.", " Two."), "v_v_d": video(" Three. ")}


def source_of(folder, train=TRAIN, test=TEST):
    folder.mkdir(exist_ok=True)
    for name, content in (("train.json", train), ("val_1.json", test)):
        (folder / name).write_text(json.dumps(content))
    return folder


def run(*arguments):
    return main(["activitynet", *map(str, arguments), "--workers", "1"])


def test_sentences_become_one_paragraph_and_val_1_is_the_test(tmp_path, capsys):
    source, out = source_of(tmp_path / "source"), tmp_path / "out"
    (source / "val_2.json").write_text(json.dumps({"v_c-": video("Again.")}))
    assert run("--source", source, "--out", out, "--annotations-only", "--allow-missing") == 0
    train, test = cma.data.load(out, "train"), cma.data.load(out, "test")
    assert {item.id: item.captions for item in train.items} == {"v_-a": ("A man. Then he",), "v__b": ("B",)}
    assert {item.id: item.captions for item in test.items} == {"v_c-": ("One. Two.",), "v_v_d": ("Three.",)}
    assert test.protocol == {"query": "paragraph", "visual_to_text": "items"}
    assert (test.kind, test.recipe, test.expected, train.expected) == ("video", "activitynet", 4_917, 10_009)
    assert cma.data.splits(out) == ["train", "test"]
    said = capsys.readouterr().out
    assert "activitynet: train.json, val_1.json under" in said
    assert "val_2.json describes the videos of val_1.json again: not used" in said
    assert (
        "captions cleaned of line breaks and extra spaces: 3" in said and "blank captions dropped: 1" in said
    )


@pytest.mark.parametrize("prefix", ["v_", ""])
@pytest.mark.parametrize("captions_with", [True, False])
def test_videos_are_found_with_and_without_v(tmp_path, prefix, captions_with):
    test = TEST if captions_with else {id.removeprefix("v_"): one for id, one in TEST.items()}
    source = source_of(tmp_path / "source", {}, test)
    (source / "train.json").unlink()
    names = [prefix + id.removeprefix("v_") for id in TEST]
    for name, suffix in zip(names, (".mkv", ".mp4"), strict=True):
        write_clip(tmp_path / "clip.mp4", [40, 90]).rename(source / (name + suffix))
    assert run("--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    items = cma.data.load(tmp_path / "out", "test").items
    assert [item.id for item in items] == list(test)
    assert [item.file_name for item in items] == [f"media/{names[0]}.mkv", f"media/{names[1]}.mp4"]


@pytest.mark.parametrize("prefix", ["v_", ""])
@pytest.mark.parametrize("name", ["val_ids.json", "val_list.txt"])
def test_a_list_of_ids_is_compared_and_its_ids_without_captions_left_out(tmp_path, capsys, prefix, name):
    source = source_of(tmp_path / "source")
    ids = [f"{prefix}{id}" for id in ("c-", "no captions")]
    (source / name).write_text(json.dumps(ids) if name.endswith("json") else "\n".join(ids))
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert [item.id for item in cma.data.load(tmp_path / "out", "test").items] == ["v_c-", "v_v_d"]
    said = capsys.readouterr().out
    assert f"ids of {name} without captions, left out: 1 ({prefix}no captions)" in said
    assert f"videos with captions that are not in {name}, kept: 1 (v_v_d)" in said


def test_another_benchmarks_file_of_the_same_name_is_passed_over(tmp_path):
    source_of(tmp_path / "z", test={})
    (tmp_path / "a").mkdir()
    (tmp_path / "z" / "val_1.json").unlink()
    (tmp_path / "a" / "train.json").write_text(json.dumps([{"image": "1.jpg", "caption": "a cat"}]))
    assert [entry.id for entry in activitynet.BENCHMARK.read(tmp_path).entries] == list(TRAIN)
