import pytest

import cma.data
from tests.data_prep.fuzz_sources import as_json, as_lines, run
from tests.grey_media import write_clip

MOV, DOT, MPG = "1@N01_2_ab.mov", "3@N02_4_cd.", "5@N03_6_ef.mpg"
ROWS = [
    {"video": DOT, "description": "first of\nthe dot ", "annotation_id": 9, "times": [[1, 1]]},
    {"video": MOV, "description": "second?", "annotation_id": 8},
    {"video": "unlisted.avi", "description": "not in the list", "annotation_id": 7},
    {"video": DOT, "description": "then this", "annotation_id": 1},
    {"video": MPG, "description": "one", "annotation_id": 2},
]


FILES = {"test_data.json": as_json(ROWS), "test_list.txt": as_lines([MOV, DOT, MPG])}


def test_descriptions_become_one_paragraph_and_the_list_decides(folder):
    status, said, _ = run("didemo", FILES, folder, "--allow-missing")
    test = cma.data.load(folder / "out", "test")
    assert [(item.id, item.captions) for item in test.items] == [
        (MOV, ("second?",)),
        (DOT, ("first of the dot then this",)),
        (MPG, ("one",)),
    ]
    said = " ".join(said.split())
    assert status == 0 and "didemo: test_data.json, test_list.txt under" in said
    assert "no train_data.json and no val_data.json: the train and val splits are left out" in said
    assert "clips of test_data.json that are not in test_list.txt, left out: 1 (unlisted.avi)" in said
    assert "test 3 / 1,004 3 / 1,004" in said


@pytest.mark.parametrize("names", [
    (MOV, DOT, MPG),
    (f"{MOV}.mp4", f"{DOT}mp4", f"{MPG}.mp4"),
    ("1@N01_2_ab.mp4", f"{DOT}.mp4", "5@N03_6_ef.mp4"),
])  # fmt: skip
def test_clips_are_found_as_they_were_or_transcoded(folder, names):
    clips = dict.fromkeys(names, write_clip(folder / "clip.mp4", [40, 90]).read_bytes())
    assert run("didemo", FILES | clips, folder, "--allow-missing", media=True)[0] == 0
    test = cma.data.load(folder / "out", "test")
    assert [item.file_name for item in test.items] == [f"media/{name}" for name in names]
    assert all(test.path(item).is_file() for item in test.items)


def test_a_split_without_its_list_is_left_out(folder):
    status, said, _ = run("didemo", FILES | {"val_data.json": as_json(ROWS)}, folder, "--allow-missing")
    assert status == 0 and cma.data.splits(folder / "out") == ["test"]
    assert "no val_list.txt with the ids of val_data.json: the" in said
