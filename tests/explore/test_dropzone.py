"""A dropped file arrives in parts and becomes one file again, or a message."""

import pytest

from cma.explore.dropzone import DropZone


@pytest.fixture
def zone():
    """A drop zone, and the (bytes, suffix, name) it has taken."""
    taken = []
    zone = DropZone(lambda path, name: taken.append((path.read_bytes(), path.suffix, name)))
    zone.had = taken
    return zone


def send(zone, name, parts):
    for part, content in enumerate(parts):
        zone.receive(zone, {"name": name, "part": part, "parts": len(parts)}, [memoryview(content)])


def test_parts_become_one_file(zone):
    send(zone, "café <b>.JPG", [b"one", b"two", b""])
    assert zone.had == [(b"onetwo", ".jpg", "café <b>.JPG")] and zone.message == "asked by café <b>.JPG"
    send(zone, "../../../etc/x.mp4", [b"three"])  # a name is never a path
    assert zone.had[1] == (b"three", ".mp4", "../../../etc/x.mp4")


def test_the_last_copy_is_there_until_the_next(zone):
    paths = []
    zone.taken = lambda path, name: paths.append(path)
    send(zone, "a.png", [b"1"])
    assert paths[0].is_file()
    send(zone, "b.png", [b"2"])
    assert not paths[0].exists() and paths[1].read_bytes() == b"2"


def test_what_cannot_be_searched_by_is_said(zone):
    send(zone, "notes.txt", [b"1"])
    assert not zone.had and zone.message == "notes.txt: neither picture nor clip"
    zone.most = 1
    send(zone, "large.png", [bytes(700_000)] * 2)
    assert not zone.had and zone.message == "large.png: more than 1 MB"
    send(zone, "small.png", [b"1"])
    assert len(zone.had) == 1


def test_a_part_out_of_order_is_refused_and_two_files_are_not_mixed(zone):
    sent = [
        ("a.png", 1, True),
        ("a.png", 0, False),
        ("b.png", 0, False),
        ("a.png", 1, True),
        ("b.png", 1, False),
    ]
    for number, (name, part, refused) in enumerate(sent):
        zone.receive(zone, {"name": name, "part": part, "parts": 2}, [b"%d" % number])
        assert part == 0 or ("missing; drop it again" in zone.message) == refused
    assert zone.had == [(b"24", ".png", "b.png")]
