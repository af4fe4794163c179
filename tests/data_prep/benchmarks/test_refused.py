"""Files that are not as expected: one line that names the file, the place, and what was expected
there.
"""

import json
import pickle

import pytest

from tests.data_prep.fuzz_sources import FIXED, SOURCES, run
from tests.data_prep.image_sources import albef

A, B, C = FIXED  # of train, test and val
ENTRY = {"videoID": A, "enCap": ["a"]}
HUB = "raw,split,filename\n"


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('run')",)


def row(**changed):
    return {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "a"}]} | changed


ALONE = {  # by benchmark: a file that lies there alone, what is in it, and what is said of it
    "coco": [
        (
            "coco_val.json",
            [{"image": "1.jpg", "caption": []}, 7],
            "[1]: expected an object with image",
        ),
        ("coco_val.json", [{"image": " ", "caption": "a"}], "[0]: expected a file name, found ' '"),
        (
            "coco_val.json",
            [{"caption": 7, "image": "a" * 9_999}],
            "aaa): expected a caption (text)",
        ),
        ("coco_val.json", [{"image": "\ud800.jpg", "caption": "a"}], "[0]: expected a file name"),
        ("coco_val.json", albef({"1.jpg": ["a"]}) * 2, "[1] (1.jpg): this image has a row already"),
        ("coco_val.json", [], "coco_val.json: no item in this file"),
        ("dataset_coco.json", [], 'an object with a list "images"'),
        (
            "dataset_coco.json",
            {"images": [row(), {"filename": "2"}]},
            "[1]: expected filename, split",
        ),
        (
            "dataset_coco.json",
            {"images": [row(split="dev")]},
            "expected the split train, val, test, restval",
        ),
        (
            "other.json",
            [],
            "found none of dataset_coco.json, coco_karpathy_{train,val,test}.json, ",
        ),
    ],
    "flickr30k": [
        (
            "flickr_annotations_30k.csv",
            f"{HUB}[a,test,1.jpg\n",
            "csv:2: raw: expected a JSON list, found",
        ),
    ],
    "rsicd": [
        (
            "train_rsicd.jsonl",
            {"filename": "1.jpg", "captions": "a"},
            "jsonl:1: expected captions, a list",
        ),
        (
            "test_caps.txt",
            "a\n",
            "test_filename.txt: no such file; expected the images of the captions in",
        ),
    ],
    "msvd": [
        ("test_list.txt", A, "found no captions_msvd.json and no raw-captions.pkl and no All"),
        (
            "captions_msvd.json",
            {A: ["a"]},
            "found none of train_list.txt, val_list.txt, test_list.txt",
        ),
        *(
            ("raw-captions.pkl", pickle.dumps(content), message)
            for content, message in (
                (Harmful(), "pkl: holds builtins.exec; expected only lists, dicts, strings and"),
                ({A: [("a", "cat")]}, "holds a value of type tuple"),
                (["a cat"], "expected captions by id, found a value of type list"),
                ({7: "a cat"}, "7: expected a list of captions, found 'a cat'"),
                ({A: [{"a": "cat"}]}, f"{A}: expected a caption (text or a list of words)"),
            )
        ),
    ],
    "vatex": [
        ("a.json", [A], "found no JSON with captions of VATEX"),
        ("a.json", [ENTRY], "nothing in a.json names a split"),
        ("vatex.json", [ENTRY, ENTRY], f"entry 1: the id {A} is there more than once"),
        ("vatex.json", f'{{"{A}": ["a"], "{A}": ["b"]}}', f"'{A}' is there more than once"),
        (
            "vatex.json",
            [ENTRY | {"videoID": 7}],
            "entry 0: expected an id (one of videoID, video_id",
        ),
        ("vatex.json", [ENTRY | {"enCap": [7]}], f"({A}): expected a list of captions, found [7]"),
    ],
    "didemo": [("a.json", [], "expected two files of a split such as test_data.json")],
    "activitynet": [("a.json", [], "found neither train.json nor val_1.json")],
}
BESIDE = {  # by form: a file that replaces one of a good source, or is added
    "flickr30k token": [
        (
            "results_20130124.token",
            f"{A}.jpg#0\ta\n1.jpg#1 b\n",
            "token:2: expected image.jpg#0, a tab and",
        ),
    ],
    "rsitmd lists": [
        (
            "train_caps.txt",
            "a\nb\nc\n",
            "train_caps.txt: captions: 3, lines in train_filename.txt: 2",
        ),
    ],
    "msrvtt": [
        (
            "MSRVTT_JSFUSION_test.csv",
            "key,video\nret0,v\n",
            "csv:1: expected the columns video_id, sentence",
        ),
        ("MSRVTT_data.json", {"videos": []}, "expected lists videos (video_id) and sentences"),
        ("MSRVTT_data.json", {"videos": [], "sentences": []}, f"{A} ({A}: no caption)"),
    ],
    "msvd json": [
        ("captions_msvd.json", f'{{"{A}": ["a"], "{A}": ["b"]}}', f"'{A}' is there more than once"),
        ("captions_msvd.json", {A: ["a"], f"{A}.avi": ["b"]}, f"the clip {A} is there more than"),
        (
            "youtube_mapping.txt",
            f"{A} vid1\n{B}\n",
            "mapping.txt:2: expected an id and vid<number>",
        ),
        ("youtube_mapping.txt", f"{A} vid1\n{B} vid1\n", f"mapping.txt:2: '{B} vid1' repeats"),
        ("test_list.txt", "\n", "test_list.txt: no id in this list"),
    ],
    "msrvtt frozen": [
        (
            "jsfusion_val_caption_idx.pkl",
            pickle.dumps({B: 7}),
            f"{B}: expected the number of one of its 1 captions, found 7; use MSRVTT_JSFUSION",
        ),
    ],
    "msvd lines": [
        ("AllVideoDescriptions.txt", f"# a\n{A}\n", "txt:2: expected an id, a blank and a caption"),
    ],
    "flickr30k kaggle": [
        ("results.csv", "image_name| a\n1.jpg,0,a\n", "results.csv:2: expected image.jpg| 0| cap"),
    ],
    "coco coco-style": [
        (
            "coco_test_karpathy.json",
            {"annotations": [{"image_id": 7, "caption": "a"}], "images": []},
            "annotations[0]: expected images (id, file_name) and annotations (image_id",
        ),
    ],
    "didemo": [
        (
            "test_data.json",
            {},
            "test_data.json: expected a list of objects with video and description",
        ),
        ("test_data.json", [{"video": B}], "entry 0: expected video and description; KeyError"),
        (
            "test_data.json",
            [{"video": B, "description": 7}],
            f"entry 0: expected texts, found '{B}' and 7",
        ),
    ],
    "activitynet": [
        ("val_1.json", [], 'val_1.json: expected {"v_<id>": {"sentences"'),
        ("val_1.json", '{"v_c": {"sentences": []}, "v_c": {}}', "'v_c' is there more than once"),
        (
            "val_1.json",
            {"v_c": {"sentences": []}, "c": {"sentences": []}},
            "c is there with and without v_",
        ),
        (
            "val_1.json",
            {"v_c": {"sentences": "a"}},
            "v_c: expected sentences, a list of texts; found",
        ),
    ],
}
CASES = [(name, {}, *case) for name, cases in ALONE.items() for case in cases]
CASES += [(name, SOURCES[name], *case) for name, cases in BESIDE.items() for case in cases]


@pytest.mark.parametrize(("name", "source", "file", "content", "message"), CASES)
def test_a_file_that_is_not_as_expected_is_named_in_one_line(
    folder, name, source, file, content, message
):
    files = source.write(source.fit(FIXED)) if source else {}
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    files[file] = content.encode() if isinstance(content, str) else content
    status, _, errors = run(name.split()[0], files, folder)
    assert status == 1 and errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors and len(errors) < 2_100
