"""A member of a shard is read as the file that it was, and what may not be read is one line."""

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cma.media import (
    MediaError,
    exists,
    is_animation,
    members,
    open_media,
    read_media,
    seconds,
    stamp,
)
from tests.toy_media import write_animation, write_clip, write_picture, write_shard


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    """A shard beside the files that are in it, with members more that are refused."""
    folder = tmp_path_factory.mktemp("shards")
    paths = [write_picture(folder / "p.jpg", 11), write_animation(folder / "a.gif", [1, 10, 19])]
    paths += [write_picture(folder / "some" / "q.png", 3), write_clip(folder / "c.mp4", 1)]
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return write_shard(folder / "s-000.tar", contents | {"../out.jpg": b"x", "empty.jpg": b""})


@pytest.mark.parametrize("name", ["p.jpg", "a.gif", "some/q.png", "c.mp4"])
def test_a_member_is_the_file_that_it_was(shard, name):
    path, file = shard / name, shard.parent / name
    assert exists(path) and stamp(path).size == file.stat().st_size
    with open_media(path) as stream:
        assert stream.read() == file.read_bytes()
    assert is_animation(path) == is_animation(file) == (name == "a.gif")
    for kind in ("video",) if name == "c.mp4" else ("image", "video"):
        found, expected = (read_media(one, kind, 4, None) for one in (path, file))
        assert found == expected
    assert seconds(path) == seconds(file) or name not in ("a.gif", "c.mp4")


def test_members_are_read_by_threads_and_seen_to_change(shard, tmp_path):
    contents = {f"{number}.txt": str(number).encode() * number for number in range(300)}
    path = write_shard(tmp_path / "t.tar", contents)
    with ThreadPoolExecutor(4) as pool:
        read = pool.map(lambda name: open_media(path / name).read(), contents)
    assert list(read) == list(contents.values()) and list(members(path)) == [*contents, "link"]
    write_shard(path, {"0.txt": b"new"})
    assert open_media(path / "0.txt").read() == b"new" and not exists(path / "1.txt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("link", "a link or no regular file"),
        ("../out.jpg", "a name that points outside its shard"),
        ("gone.jpg", "no such member of the shard"),
        ("empty.jpg", "empty file; cannot be read as a picture"),
        ("c.mp4/p.jpg", "no such member of the shard"),
    ],
)
def test_what_is_refused_is_one_line_with_shard_and_member(shard, name, message):
    with pytest.raises(MediaError) as error:
        read_media(shard / name, "image", 1, None)
    assert str(error.value) == f"{shard / name}: {message}"
    assert exists(shard / name) == (name == "empty.jpg")


def test_a_name_that_is_in_a_shard_twice_is_refused(tmp_path):
    """A reader of the whole shard would give both, and `tar` the last one."""
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name in ("a.jpg", "b.jpg", "./a.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    said = "its name is in the shard twice, so we cannot know which one counts"
    assert members(tmp_path / "s.tar") == {
        "a.jpg": (2 * 512 + 512, 0, said),
        "b.jpg": (1024, 0, ""),
    }
    with pytest.raises(MediaError, match=rf"s\.tar/a\.jpg: {said}$"):
        open_media(tmp_path / "s.tar" / "a.jpg")


def test_a_shard_that_is_cut_short_or_hostile(shard, tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, size in (("a.jpg", 700), ("/etc/b.jpg", 1), ("c.jpg", 5000)):
            header = tarfile.TarInfo(name)
            header.size = size
            archive.addfile(header, io.BytesIO(bytes(size)))
    path = tmp_path / "cut.tar"
    path.write_bytes(content.getvalue()[: 512 * 7])
    problems = {name: one.problem for name, one in members(path).items()}
    said = "cut short: the shard ends within its 5,000 bytes"
    led = "a name that points outside its shard"
    assert problems == {"a.jpg": "", "/etc/b.jpg": led, "c.jpg": said}
    with pytest.raises(MediaError, match=r"cut\.tar/c\.jpg: cut short"):
        open_media(path / "c.jpg")
    # tarfile would read this header again and again; from Python 3.13 on it stops before it
    header.size = -1024
    path.write_bytes(header.tobuf() + bytes(1024))
    for content in (path.read_bytes(), b"no tar file" * 100, b""):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r"cut\.tar(: cannot be read as a tar|.*: no such)"):
            open_media(path / "a.jpg")
