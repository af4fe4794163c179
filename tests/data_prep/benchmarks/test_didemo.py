import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma.data
from data_prep.__main__ import main
from data_prep.benchmarks import didemo
from data_prep.dataset import CaptionCleaner
from data_prep.readers import BadInput
from tests.grey_media import write_clip

MOV, DOT, MPG = "1@N01_2_ab.mov", "3@N02_4_cd.", "5@N03_6_ef.mpg"
ROWS = [
    {"video": DOT, "description": "first of\nthe dot ", "annotation_id": 9, "times": [[1, 1]]},
    {"video": MOV, "description": "second?", "annotation_id": 8},
    {"video": "unlisted.avi", "description": "not in the list", "annotation_id": 7},
    {"video": DOT, "description": "then this", "annotation_id": 1},
    {"video": MPG, "description": "one", "annotation_id": 2},
]


def source_of(folder, rows=ROWS, ids=(MOV, DOT, MPG), split="test"):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}_data.json").write_text(json.dumps(rows))
    (folder / f"{split}_list.txt").write_text("\n".join(ids))
    return folder


def run(*arguments):
    return main(["didemo", *map(str, arguments), "--workers", "1"])


def test_descriptions_become_one_paragraph_and_the_list_decides(tmp_path, capsys):
    source, out = source_of(tmp_path / "source"), tmp_path / "out"
    assert run("--source", source, "--out", out, "--annotations-only", "--allow-missing") == 0
    test = cma.data.load(out, "test")
    assert [(item.id, item.captions) for item in test.items] == [
        (MOV, ("second?",)),
        (DOT, ("first of the dot then this",)),
        (MPG, ("one",)),
    ]
    assert test.protocol == {"query": "paragraph", "visual_to_text": "items"}
    assert (test.kind, test.recipe, test.expected) == ("video", "didemo", 1_004)
    said = " ".join(capsys.readouterr().out.split())
    assert "didemo: test_data.json, test_list.txt under" in said
    assert "no train_data.json and no val_data.json: the train and val splits are left out" in said
    assert "clips of test_data.json that are not in test_list.txt, left out: 1 (unlisted.avi)" in said
    assert (
        "captions cleaned of line breaks and extra spaces: 1" in said and "test 3 / 1,004 3 / 1,004" in said
    )


@pytest.mark.parametrize("names", [
    (MOV, DOT, MPG),
    (f"{MOV}.mp4", f"{DOT}mp4", f"{MPG}.mp4"),
    ("1@N01_2_ab.mp4", f"{DOT}.mp4", "5@N03_6_ef.mp4"),
])  # fmt: skip
def test_clips_are_found_as_they_were_or_transcoded(tmp_path, names):
    source = source_of(tmp_path / "source")
    for name in names:
        write_clip(tmp_path / "clip.mp4", [40, 90]).rename(source / name)
    assert run("--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    test = cma.data.load(tmp_path / "out", "test")
    assert [item.file_name for item in test.items] == [f"media/{name}" for name in names]
    assert all(test.path(item).is_file() for item in test.items)


def test_a_split_lacking_a_file_is_left_out_and_none_is_an_error(tmp_path, capsys):
    source = source_of(source_of(tmp_path / "source"), split="val")
    (source / "val_list.txt").unlink()
    assert run("--source", source, "--out", tmp_path / "out", "--annotations-only", "--allow-missing") == 0
    assert cma.data.splits(tmp_path / "out") == ["test"]
    assert "no val_list.txt with the ids of val_data.json: the" in capsys.readouterr().out
    (source / "test_data.json").unlink()
    with pytest.raises(BadInput, match=r"expected two files of a split .*no test_data.json"):
        didemo.BENCHMARK.read(source)


@given(st.lists(st.text(), max_size=4))
def test_a_paragraph_is_all_the_words_in_order_with_single_blanks(texts):
    words = " ".join(texts).split()
    surrogates = any("\ud800" <= character <= "\udfff" for text in texts for character in text)
    if not surrogates:
        assert didemo.paragraph(texts, CaptionCleaner(), "here") == ((" ".join(words),) if words else ())
