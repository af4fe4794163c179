import json
import shutil
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import cma.data
from cma.media.video import read_frames
from data_prep.mini import build, emoji
from data_prep.mini.emoji import Emoji, assign_splits, emoji_code, has_skin_tone, make_captions, twin_key
from tests import ROOT

DATA = ROOT / "data"
CODES = [f"1f{number:03x}" for number in range(0x400, 0x428)]

# captions


def test_captions_start_with_the_label_and_do_not_repeat_a_spelling():
    found = make_captions(
        "flag: Åland",
        ["flag_åland", "åland", "flag_ax", "ax", "flag_ax2"],
        ["AX", "flag"],
        ["flag_aland", "island", ":D", "flag", "baltic", "nordic"],
    )
    assert found == ("flag: Åland", "åland", "flag ax", "island, flag, baltic, nordic")


def test_tags_that_both_sources_name_come_first_and_long_lists_are_cut():
    tags = ["animal", "barn", "cat", "deer", "elk", "fox", "goat", "horse"]
    found = make_captions("fox", [], tags, ["fox", "goat", "horse"])
    assert found == ("fox", "goat, horse, animal, barn, cat, deer", "goat, horse", "elk, fox")


words = st.text("ab c_", max_size=6)


@given(words, st.lists(words, max_size=8), st.lists(words, max_size=20), st.lists(words, max_size=20))
def test_at_most_five_different_captions(label, shortcodes, tags, keywords):
    found = make_captions(label, shortcodes, tags, keywords)
    assert found[0] == label and len(found) <= 5 and len(set(found)) == len(found)
    given_words = {
        word for text in [*shortcodes, *tags, *keywords] for word in text.replace("_", " ").split()
    }
    assert all(
        set(caption.replace(",", " ").split()) <= given_words for caption in found[1:]
    )  # none invented


# twins


@pytest.mark.parametrize(
    "twins",
    [
        ["waving hand", "waving hand: light skin tone", "waving hand: medium-dark skin tone"],
        ["person walking", "man walking", "woman walking: facing right", "man walking: dark skin tone"],
        ["man: red hair", "woman: medium skin tone, red hair", "person: red hair"],
        ["kiss", "kiss: man, man", "kiss: woman, man, light skin tone, dark skin tone"],
        ["people holding hands", "men holding hands", "woman and man holding hands: medium skin tone"],
        ["left arrow", "up-right arrow", "left-right arrow"],
        ["leftwards pushing hand", "rightwards pushing hand: light skin tone"],
        ["family", "family: man, woman, girl, boy"],
        ["boy", "girl: dark skin tone", "child"],
        ["merman", "mermaid", "merperson"],
        ["prince", "princess", "person with crown"],
        ["Santa Claus", "Mrs. Claus", "Mx Claus: light skin tone"],
        ["older person", "old man", "old woman"],
        ["men’s room", "women’s room"],
        ["magnifying glass tilted left", "magnifying glass tilted right"],
    ],
)
def test_twins_have_one_key(twins):
    assert len({twin_key(label) for label in twins}) == 1


def test_what_only_sounds_alike_is_no_twin():
    labels = ["light bulb", "dark", "woman’s hat", "woman’s shoe", "cat", "cat face", "student", "teacher"]
    assert len({twin_key(label) for label in labels}) == len(labels)


@given(st.lists(st.sampled_from(["", "man ", "woman "]), min_size=1), st.integers(0, 400))
def test_twins_share_a_split_whatever_their_groups(people, number):
    labels = [f"{who}profession {number}" for who in people]
    twins = {str(i): Emoji(str(i), label, (label,), i % 9) for i, label in enumerate(labels)}
    assert len(set(assign_splits(twins).values())) == 1


def test_the_shares_of_the_splits():
    many = {str(i): Emoji(str(i), f"thing {i}", (), 0 if i % 2 else 6) for i in range(8000)}
    splits = assign_splits(many)

    def share(split, moving):
        return sum(splits[str(i)] == split for i in range(moving, 8000, 2)) / 4000

    for moving, test_share in ((1, emoji.TEST_SHARE_MOVING), (0, emoji.TEST_SHARE_OTHER)):
        assert share("test", moving) == pytest.approx(test_share, abs=0.02)
        assert share("val", moving) == pytest.approx(emoji.VAL_SHARE, abs=0.02)


def test_one_code_for_the_many_spellings_of_a_file_name():
    assert emoji_code("23-FE0F-20E3") == emoji_code("0023-20e3") == "0023-20e3"
    assert emoji_code("1F3F4-E0067-E0062-E007F") == emoji_code("1f3f4-e0067_e0062") == "1f3f4-e0067-e0062"
    assert has_skin_tone("1f44b-1f3fd") and not has_skin_tone("1f44b")


# the build, on packages drawn here


def draw(path, number, frames):
    pictures = []
    for frame in range(frames):
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        ImageDraw.Draw(picture).ellipse(
            (8 + 6 * frame, 8, 40 + 6 * frame, 40), fill=(5 * number, 90, 200, 255)
        )
        pictures.append(picture)
    more = {"save_all": True, "append_images": pictures[1:], "duration": 40} if frames > 1 else {}
    pictures[0].save(path, lossless=True, **more)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folders of five small packages, by name: forty emoji, half of them in skin tones too."""
    root = tmp_path_factory.mktemp("packages")
    labels = [f"{who}profession {i // 2}" for i, who in enumerate(["man ", "woman "] * 20)]
    english = root / "emojibase-data" / "en"
    (english / "shortcodes").mkdir(parents=True)
    entries = [
        {"label": label, "hexcode": code.upper(), "tags": ["work", "busy"], "group": i % 9}
        | (
            {"skins": [{"label": f"{label}: dark skin tone", "hexcode": f"{code.upper()}-1F3FF"}]}
            if i % 2
            else {}
        )
        for i, (code, label) in enumerate(zip(CODES, labels, strict=True))
    ]
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
    return root


@pytest.fixture
def packages(drawn, monkeypatch):
    for module in (emoji, build):
        monkeypatch.setattr(module, "fetch", lambda name: drawn / name)
    return drawn


@pytest.fixture(scope="module")
def built(drawn, tmp_path_factory):
    """The two benchmarks, built once from `drawn`."""
    out = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        for module in (emoji, build):
            patch.setattr(module, "fetch", lambda name: drawn / name)
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
    karpathy = json.loads((built / "sources/mini-flickr30k/dataset_flickr30k.json").read_text())
    image = karpathy["images"][0]
    assert set(image) == {"sentids", "imgid", "sentences", "split", "filename"}
    assert set(image["sentences"][0]) == {"tokens", "raw", "imgid", "sentid"}
    source = built / "sources/mini-msrvtt"
    data = json.loads((source / "MSRVTT_data.json").read_text())
    assert {"video_id", "url", "start time", "end time", "split"} <= set(data["videos"][0])
    assert set(data["sentences"][0]) == {"sen_id", "video_id", "caption"}
    assert (source / "MSRVTT_train.9k.csv").read_text().splitlines()[0] == "video_id"
    assert (source / "MSRVTT_JSFUSION_test.csv").read_text().splitlines()[
        0
    ] == "key,vid_key,video_id,sentence"


def test_one_emoji_and_its_twins_are_in_one_split_of_both(built):
    owners = defaultdict(set)
    for name in ("mini-flickr30k", "mini-msrvtt"):
        for item in every_item(built / name):
            owners[twin_key(item.captions[0])].add(item.split)
    assert len(owners) == 20 and all(len(splits) == 1 for splits in owners.values())


def test_building_again_gives_the_same_bytes_and_what_is_there_is_kept(built, packages, tmp_path, capsys):
    build.build_minis(tmp_path, workers=1)
    for name in ("mini-flickr30k", "mini-msrvtt"):
        written = (tmp_path / name / "metadata.jsonl").read_bytes()
        assert written == (built / name / "metadata.jsonl").read_bytes() and written
    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    build.build_minis(tmp_path, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert sum("already in" in line for line in said) == 2


def test_a_killed_build_is_begun_again(packages, built, tmp_path, monkeypatch):
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


def test_other_packs_replace_the_clips(packages, built, tmp_path):
    shutil.copytree(built, tmp_path / "data", symlinks=True)
    build.build_minis(tmp_path / "data", packs=1, workers=1)
    assert len(every_item(tmp_path / "data" / "mini-msrvtt")) == 16
    assert len(list((tmp_path / "data/sources/mini-msrvtt/videos").iterdir())) == 16


# the real ones


def real(name):
    if not (DATA / name / "dataset.json").is_file():
        pytest.skip(f"{DATA / name} is not built: python -m data_prep mini")
    return DATA / name


@pytest.mark.minis
@pytest.mark.parametrize(("name", "items", "test"), [("mini-flickr30k", 1800, 350), ("mini-msrvtt", 350, 90)])
def test_the_real_minis_are_large_enough(name, items, test):
    sizes = {split: len(cma.data.load(real(name), split)) for split in ("train", "val", "test")}
    assert sum(sizes.values()) >= items and sizes["test"] >= test and sizes["val"] >= 30
    for split in sizes:
        dataset = cma.data.load(DATA / name, split)
        assert dataset.expected == len(dataset)
        for item in dataset.items:
            assert (
                dataset.path(item).stat().st_size > 0 and len(set(item.captions)) == len(item.captions) <= 5
            )


def base_of(code):
    """The code points of an emoji without skin tone, gender sign and direction, men and women as persons."""
    ignored = {*emoji.SKIN_TONES, "200d", "2640", "2642", "27a1"}
    points = ["1f9d1" if point in ("1f468", "1f469") else point for point in code.split("-")]
    return "-".join(point for point in points if point not in ignored)


@pytest.mark.minis
def test_the_real_twins_never_straddle_a_split():
    codes = {item.id: item.split for item in every_item(real("mini-flickr30k"))}
    data = json.loads((real("mini-msrvtt") / "media" / "MSRVTT_data.json").read_text())
    files = {video["video_id"]: video["url"].rpartition("/")[2] for video in data["videos"]}
    clips = [
        (emoji_code(files[item.id].removesuffix(".webp")), item.split)
        for item in every_item(DATA / "mini-msrvtt")
    ]
    owners = defaultdict(set)
    for code, split in [*codes.items(), *clips]:
        owners[base_of(code)].add(split)
    assert len(owners) > 1500 and max(map(len, owners.values())) == 1
