import pytest

import cma.data
from tests.data_prep.fuzz_sources import as_json, as_lines, read_back, run
from tests.grey_media import write_clip


def video(*sentences):
    return {"duration": 82.7, "timestamps": [[0, 1.5]] * len(sentences), "sentences": sentences}


TRAIN = {"v_-a": video("A man.", "  Then\nhe ", " \n"), "v__b": video("B")}
TEST = {"v_c-": video("One.", " Two."), "v_v_d": video(" Three. ")}
FILES = {"train.json": as_json(TRAIN), "val_1.json": as_json(TEST)}


def test_sentences_become_one_paragraph_and_val_1_is_the_test(folder):
    again = {"val_2.json": as_json({"v_c-": video("Again.")})}
    status, said, _ = run("activitynet", FILES | again, folder, "--allow-missing")
    train, test = (cma.data.load(folder / "out", split) for split in ("train", "test"))
    assert {item.id: item.captions for item in train.items} == {
        "v_-a": ("A man. Then he",),
        "v__b": ("B",),
    }
    assert {item.id: item.captions for item in test.items} == {
        "v_c-": ("One. Two.",),
        "v_v_d": ("Three.",),
    }
    assert (status, train.expected, test.expected) == (0, 10_009, 4_917)
    assert "activitynet: captions from train.json, val_1.json;" in said
    assert "val_2.json describes the videos of val_1.json again: not used" in said


@pytest.mark.parametrize("prefix", ["v_", ""])
@pytest.mark.parametrize("captions_with", [True, False])
def test_videos_are_found_with_and_without_v(folder, prefix, captions_with):
    test = TEST if captions_with else {id.removeprefix("v_"): one for id, one in TEST.items()}
    names = [f"{prefix}c-.mkv", f"{prefix}v_d.mp4"]
    files = dict.fromkeys(names, write_clip(folder / "clip.mp4", [40, 90]).read_bytes())
    files |= {"val_1.json": as_json(test), "flickr30k/train.json": b"[]"}
    assert run("activitynet", files, folder, "--allow-missing", media=True)[0] == 0
    items = cma.data.load(folder / "out", "test").items
    assert [item.id for item in items] == list(test)
    assert [item.file_name for item in items] == [f"media/{name}" for name in names]


@pytest.mark.parametrize("prefix", ["v_", ""])
@pytest.mark.parametrize(("name", "write"), [("val_ids.json", as_json), ("val_list.txt", as_lines)])
def test_a_list_of_ids_is_compared_and_its_ids_without_captions_left_out(
    folder, prefix, name, write
):
    listed = {name: write([f"{prefix}c-", f"{prefix}no captions"])}
    status, said, _ = run("activitynet", FILES | listed, folder, "--allow-missing")
    assert status == 0 and {"c-", "v_d"} <= read_back(folder / "out")[0].keys()
    assert f"ids of {name} without captions, left out: 1 ({prefix}no captions)" in said
    assert f"videos with captions that are not in {name}, kept: 1 (v_v_d)" in said
