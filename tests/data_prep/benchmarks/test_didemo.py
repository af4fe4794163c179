import cma.data
from tests.data_prep.fuzz_sources import as_json, as_lines, run

MOV, DOT, MPG = "1@N01_2_ab.mov", "3@N02_4_cd.", "5@N03_6_ef.mpg"
ROWS = [
    {"video": DOT, "description": "first of\nthe dot ", "annotation_id": 9, "times": [[1, 1]]},
    {"video": MOV, "description": "second?", "annotation_id": 8},
    {"video": "unlisted.avi", "description": "not in the list", "annotation_id": 7},
    {"video": DOT, "description": "then this", "annotation_id": 1},
    {"video": MPG, "description": "one", "annotation_id": 2},
]


FILES = {"test_data.json": as_json(ROWS), "test_list.txt": as_lines([MOV, DOT, MPG])}


def test_descriptions_become_one_paragraph_in_the_order_of_the_file(folder):
    assert run("didemo", FILES, folder, "--allow-missing")[0] == 0
    assert [(item.id, item.captions) for item in cma.data.load(folder / "out", "test").items] == [
        (MOV, ("second?",)),
        (DOT, ("first of the dot then this",)),
        (MPG, ("one",)),
    ]


def test_a_split_without_its_list_is_left_out(folder):
    status, said, _ = run(
        "didemo", FILES | {"val_data.json": as_json(ROWS)}, folder, "--allow-missing"
    )
    assert status == 0 and cma.data.splits(folder / "out") == ["test"]
    assert "no val_list.txt with the ids of val_data.json (https://" in said
