import pytest

import cma.data
from tests.data_prep.fuzz_sources import as_json, as_lines, read_back, run
from tests.grey_media import write_clip

LISTS = {
    "train": ["-a_b_000001_000011", "-a_b_000012_000022"],
    "val": ["c_000003_000013"],
    "test": ["d_000000_000010", "e_000005_000015"],
}
CAPTIONS = {id: [f"{id} {n}" for n in range(10)] for ids in LISTS.values() for id in ids}
SPLIT_OF = {id: split for split, ids in LISTS.items() for id in ids}
WORDS = {"train": "training", "val": "validation", "test": "public_test"}
OFFICIAL = [{"videoID": id, "enCap": texts, "chCap": ["猫"]} for id, texts in CAPTIONS.items()]
SHAPES = {
    "official": OFFICIAL,
    "by id": CAPTIONS,
    "objects by id": {id: {"enCap": texts, "chCap": ["猫"]} for id, texts in CAPTIONS.items()},
    "desc": [{"video_id": id, "desc": texts, "url": "x"} for id, texts in CAPTIONS.items()],
    "rows": [{"video_id": id, "caption": text} for id, texts in CAPTIONS.items() for text in texts],
}
OWN_WORDS = {
    "field": [entry | {"split": SPLIT_OF[entry["videoID"]]} for entry in OFFICIAL],
    "key": {WORDS[split]: {id: CAPTIONS[id] for id in ids} for split, ids in LISTS.items()},
}


def files_of(content=OFFICIAL, lists=LISTS, name="anything at all.json"):
    return {name: as_json(content)} | {
        f"{split}_list.txt": as_lines(ids) for split, ids in lists.items()
    }


def check(files, folder, splits=SPLIT_OF):
    """Run, compare what is written, and return what is said."""
    status, said, errors = run("vatex", files, folder, "--allow-missing")
    assert (status, errors) == (0, "")
    rows, _ = read_back(folder / "out")
    assert {id: (row["split"], row["captions"]) for id, row in rows.items()} == {
        id: (split, CAPTIONS[id]) for id, split in splits.items()
    }
    return " ".join(said.split())


@pytest.mark.parametrize("shape", OWN_WORDS)
def test_without_lists_the_files_own_words_split_it(folder, shape):
    check(files_of(OWN_WORDS[shape], lists={}), folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_is_known_by_its_content_and_the_lists_split_it(folder, shape):
    durations = {"durations.json": as_json(dict.fromkeys(CAPTIONS, 10.0))}
    other = {"test1k5_sec_list.txt": as_lines(["f_000000_000010"])}
    said = check(files_of(SHAPES[shape]) | durations | other, folder)
    assert (
        "vatex: captions from anything at all.json, train_list.txt" in said
        and "durations" not in said
    )
    assert "test1k5_sec_list.txt is another split than the paper's: not used" in said
    assert "train 2 / 25,991 20 / 259,910" in said and "val 1 / 1,500 10 / 15,000" in said


def test_official_files_are_split_by_name_and_the_halves_of_validation_by_lists(folder):
    train = [entry for entry in OFFICIAL if SPLIT_OF[entry["videoID"]] == "train"]
    rest = [entry for entry in OFFICIAL if entry not in train]
    rest.append({"videoID": "f_000000_000010", "enCap": ["in neither half"]})
    files = files_of(train, {}, "vatex_training_v1.0.json")
    files |= files_of(
        rest, {"val": LISTS["val"], "test": LISTS["test"]}, "vatex_validation_v1.0.json"
    )
    said = check(files, folder)
    assert (
        "no train_list.txt with these ids: the files of captions say the split (clips in train: 2)"
        in said
    )
    assert "clips with captions that are in no split: 1 (f_000000_000010)" in said


def test_lists_under_other_names_are_known_by_their_ids(folder):
    files = files_of(lists={"train": LISTS["train"]}) | {
        "test notes.txt": "Prüfung\n".encode("latin-1")
    }
    for name, split in (("vatex_test_1500.txt", "test"), ("validation.txt", "val")):
        files[name] = as_lines(f"{id}.mp4" for id in LISTS[split])
    assert "train_list.txt, validation.txt, vatex_test_1500.txt;" in check(files, folder)


def test_a_clip_in_two_files_has_the_captions_of_the_first(folder):
    again = {"deeper/again.json": as_json(CAPTIONS | {"d_000000_000010": ["others"]})}
    said = check(files_of() | again, folder)
    assert (
        "clips with other captions in again.json than in an earlier file, not used: 1 (d_00" in said
    )


def test_trimmed_clips_come_first_and_source_videos_are_cut(folder):
    names = ("clips/-a_b_000001_000011.mp4", "whole/-a_b.mkv.mp4", "whole/e.mp4", "whole/-a_b.mp4")
    clips = dict.fromkeys(names, write_clip(folder / "clip.mp4", [40] * 130).read_bytes())
    assert run("vatex", files_of() | clips, folder, "--allow-missing", media=True)[0] == 0
    items = [
        item for split in ("train", "test") for item in cma.data.load(folder / "out", split).items
    ]
    assert {item.id: (item.file_name, item.start, item.end) for item in items} == {
        "-a_b_000001_000011": ("media/clips/-a_b_000001_000011.mp4", None, None),
        "-a_b_000012_000022": ("media/whole/-a_b.mp4", 12.0, 22.0),
        "e_000005_000015": ("media/whole/e.mp4", 5.0, 15.0),
    }
    # it ends before the part begins
    short = write_clip(folder / "short.mp4", [40] * 115).read_bytes()
    assert (
        run(
            "vatex", files_of() | clips | {names[-1]: short}, folder, "--allow-missing", media=True
        )[0]
        == 0
    )
    missing = (folder / "out/missing.txt").read_text()
    assert "-a_b.mp4\texpected a part from 12.0 s on, found 115 frames at 10.00 fps\n" in missing
