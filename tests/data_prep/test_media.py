import os

import pytest

from data_prep import media
from data_prep.__main__ import main
from data_prep.dataset import Annotations, Entry
from data_prep.media import VIDEO_SUFFIXES, MediaFiles, check, problem
from data_prep.prepare import prepare
from tests.data_prep.toy_shards import tar
from tests.grey_media import write_clip, write_picture


@pytest.mark.parametrize(
    ("kind", "there", "expected"),
    [
        (
            "image",
            ["a/1.jpg", "b/1.jpg", "b/deep/2.png"],
            {"b/1.jpg": "b/1.jpg", "val2014/1.jpg": "a/1.jpg"},
        ),
        ("image", ["deep/2.png", "3.txt"], {"2.jpg": "deep/2.png", "3.jpg": None, "3.txt": None}),
        ("video", ["a.mp4", "a.mov.mp4", "deep/a.mov"], {"a.mov": "deep/a.mov"}),
        ("video", ["a.mp4", "a.mov.mp4"], {"a.mov": "a.mov.mp4", "a": "a.mp4"}),  # transcoded
        ("video", ["a.b.mov.mp4"], {"a.b": "a.b.mov.mp4", "a": None}),
        # DiDeMo has names that end in a dot
        ("video", ["1@N01_2_b."], {"1@N01_2_b.": "1@N01_2_b."}),
        ("video", ["1@N01_2_b.mp4"], {"1@N01_2_b.": "1@N01_2_b.mp4"}),
        ("video", ["1@N01_2_b..mp4"], {"1@N01_2_b.": "1@N01_2_b..mp4"}),
        ("video", ["deep/-b_1_2/0001.jpg"], {"-b_1_2": "deep/-b_1_2"}),  # a folder of frames
        ("video", ["thumbs/a/1.jpg", "b/c/a.mp4"], {"a": "b/c/a.mp4"}),  # a file before a folder
        *(
            ("video", [f"deep/a{end.upper()}"], {"a": f"deep/a{end.upper()}"})
            for end in (*VIDEO_SUFFIXES, ".null", ".qt", ".3gpp", ".divx")  # those of DiDeMo
        ),
    ],
)
def test_media_are_found_by_path_then_name_then_name_without_extension(
    tmp_path, kind, there, expected
):
    for file in there:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    index = MediaFiles(tmp_path, kind)
    for file, found in expected.items():
        assert index.locate(file) == (found and tmp_path / found)
        assert index.at(file) == (tmp_path / file if file == found else None)


def test_media_that_may_be_others_than_those_meant(tmp_path, capsys):
    for file, size in {
        "1.jpg": 8,
        "b/2.jpg": 8,
        "a/2.jpg": 9,
        "b/3.png": 8,
        "a/4.jpg": 8,
        "b/4.jpg": 8,
    }.items():
        write_picture(tmp_path / file, size=(size, 8))
    index = MediaFiles(tmp_path, "image")
    files = ("1.jpg", "2.jpg", "x/2.jpg", "b/2.jpg", "3.tif", "4.jpg")  # the two 4.jpg are copies
    assert [index.is_doubtful(file, index.locate(file)) for file in files] == [0, 1, 1, 0, 1, 0]
    (tmp_path / "b" / "1.jpg").symlink_to(tmp_path / "gone.jpg")
    assert MediaFiles(tmp_path, "image").is_doubtful("x/1.jpg", tmp_path / "1.jpg") is False
    entries = [Entry(file, file, ("a caption",), "test") for file in files if file != "b/2.jpg"]
    protocol = {"query": "caption", "visual_to_text": "captions"}
    prepare(
        Annotations("flickr30k", "image", protocol, {}, entries, "flickr30k", []),
        tmp_path,
        tmp_path / "o",
    )
    said = "check that they are the right ones: files of another extension, or one of several"
    assert (
        f"WARNING: {said} with that name: 3 (a/2.jpg, a/2.jpg, b/3.png)" in capsys.readouterr().out
    )


def test_a_part_has_to_begin_in_its_clip_and_a_folder_holds_nothing_but_frames(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", [40, 90] * 5)
    assert problem((path, 0.5), "video") is None
    assert (
        problem((path, 1.0), "video")
        == "expected a part from 1.0 s on, found 10 frames at 10.00 fps"
    )
    frames = write_picture(tmp_path / "frames" / "1.jpg").parent
    assert problem((frames, None), "video") is None
    (frames / "deeper").mkdir()
    assert (
        problem((frames, None), "video") == "deeper: no regular file; cannot be read as a picture"
    )


@pytest.mark.parametrize("faststart", [True, False])
def test_a_clip_is_checked_at_both_ends(tmp_path, faststart):
    path = write_clip(tmp_path / "clip.mp4", [0, 250, 10, 240] * 20, faststart)
    assert problem((path, None), "video") is None
    content = path.read_bytes()
    for kept in (0.1, 0.6, 0.8, 0.95):
        path.write_bytes(content[: int(kept * len(content))])
        assert "cannot be decoded" in problem((path, None), "video")
    shard = tmp_path / "deep" / "clips.tar"
    shard.parent.mkdir()
    shard.write_bytes(tar({"a/whole.mp4": content, "cut.mp4": content[: len(content) * 3 // 5]}))
    index = MediaFiles(tmp_path, "video")
    assert index.locate("whole") == index.at("deep/clips.tar/a/whole.mp4") == shard / "a/whole.mp4"
    assert problem((index.locate("whole.avi"), 0.5), "video") is None
    assert "cannot be decoded" in problem((index.locate("cut"), None), "video")


@pytest.fixture
def decoded(monkeypatch):
    """The clips that were decoded, in order."""
    names, problem = [], media.problem

    def watch(part, kind):
        if kind == "video":
            names.append(part[0].name)
        return problem(part, kind)

    monkeypatch.setattr(media, "problem", watch)
    return names


@pytest.fixture
def paths(tmp_path):
    """Two clips, one of them for two ids, a broken one and a folder of frames."""
    found = {name: write_clip(tmp_path / f"{name}.mp4", [40, 90]) for name in ("a", "b")}
    (tmp_path / "broken.mp4").write_bytes(b"no clip" * 50)
    frames = write_picture(tmp_path / "frames" / "1.jpg").parent
    found |= {"again": tmp_path / "a.mp4", "broken": tmp_path / "broken.mp4", "frames": frames}
    return {id: (path, None) for id, path in found.items()}


def test_only_what_has_changed_is_decoded_again(tmp_path, paths, decoded):
    kept = tmp_path / "out" / "checked.json"
    first = check(paths, "video", 1, kept)
    assert list(first) == ["broken"] and "cannot be decoded" in first["broken"]
    # a.mp4 once for its two ids
    assert sorted(decoded) == ["a.mp4", "b.mp4", "broken.mp4", "frames"]
    decoded.clear()
    assert check(paths, "video", 1, kept) == first and decoded == []
    os.utime(paths["a"][0], ns=(1, 1))
    write_clip(paths["broken"][0], [40, 90])
    paths["b"][0].write_bytes(b"")
    (paths["frames"][0] / "2.jpg").write_bytes(b"no picture")
    problems = check(paths, "video", 1, kept)
    assert sorted(decoded) == ["a.mp4", "b.mp4", "broken.mp4", "frames"]
    assert problems["b"] == "empty file" and problems["frames"].startswith("2.jpg: cannot be read")
    assert set(problems) == {"b", "frames"}


def test_ctrl_c_is_one_line_and_what_was_checked_is_kept(tmp_path, monkeypatch, capsys):
    for number in range(3):
        write_picture(tmp_path / "source" / f"{number}.jpg")

    def stopped(part, kind, really=media.problem):
        if part[0].name == "2.jpg":
            raise KeyboardInterrupt
        return really(part, kind)

    words = ["folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(media, "problem", stopped)
        assert main(words) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("stopped") and "kept" in said[-1]
    assert not any("Traceback" in line for line in said)
    monkeypatch.setattr(media, "problem", lambda part, kind: checked.append(part[0].name))
    checked = []
    assert main(words) == 0 and checked == ["2.jpg"]


def test_a_process_that_dies_is_one_line():
    with pytest.raises(OSError, match="^check: a process died: .*; try fewer --workers$"):
        list(media.one_by_one(os._exit, [1] * 40, 2, "check"))
