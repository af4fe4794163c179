import json
import os

import pytest

from data_prep import media
from tests.grey_media import write_clip, write_picture


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in order."""
    files, problem = [], media.problem

    def watch(path, kind):
        if kind == "video":
            files.append(path.name)
        return problem(path, kind)

    monkeypatch.setattr(media, "problem", watch)
    return files


def clips(folder):
    paths = {name: write_clip(folder / f"{name}.mp4", [40, 90]) for name in ("a", "b")}
    (folder / "broken.mp4").write_bytes(b"no clip" * 50)
    frames = write_picture(folder / "frames" / "1.jpg").parent
    return paths | {"again": folder / "a.mp4", "broken": folder / "broken.mp4", "frames": frames}


def check(paths, folder):
    return media.check(paths, "video", 1, folder / "out" / "checked.json")


def test_the_second_check_decodes_nothing_and_says_the_same(tmp_path, decoded):
    paths = clips(tmp_path)
    first = check(paths, tmp_path)
    assert list(first) == ["broken"] and "cannot be decoded" in first["broken"]
    assert sorted(decoded) == ["a.mp4", "b.mp4", "broken.mp4", "frames"]  # a.mp4 once for its two ids
    decoded.clear()
    assert check(paths, tmp_path) == first and decoded == []


def test_what_has_changed_is_decoded_again(tmp_path, decoded):
    paths = clips(tmp_path)
    check(paths, tmp_path)
    decoded.clear()
    write_clip(paths["broken"], [40, 90])
    paths["b"].write_bytes(b"")
    (paths["frames"] / "2.jpg").write_bytes(b"no picture")
    problems = check(paths, tmp_path)
    assert sorted(decoded) == ["b.mp4", "broken.mp4", "frames"]
    assert problems["b"] == "empty file" and problems["frames"].startswith("2.jpg: cannot be decoded")
    assert set(problems) == {"b", "frames"}


def test_a_file_of_the_same_size_but_another_time_is_decoded_again(tmp_path, decoded):
    paths = clips(tmp_path)
    check(paths, tmp_path)
    decoded.clear()
    os.utime(paths["a"], ns=(1, 1))
    check(paths, tmp_path)
    assert decoded == ["a.mp4"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"FILE": 7}', '{"FILE": ["x", "fine"]}', '{"FILE": [1, 2, 3]}']
)
def test_results_that_cannot_be_read_are_made_anew(tmp_path, decoded, content):
    paths = clips(tmp_path)
    first = check(paths, tmp_path)
    kept = tmp_path / "out" / "checked.json"
    right = kept.read_text()
    kept.write_text(content.replace("FILE", str(paths["a"])))
    decoded.clear()
    assert check(paths, tmp_path) == first and len(decoded) == 4
    assert json.loads(kept.read_text()) == json.loads(right)
