"""Files that are sent in parts, and files that are copied out."""

from pathlib import Path

import pytest

from explorer import transfer
from explorer.transfer import Arrivals, copy_into
from tests.toy_media import write_picture


@pytest.mark.parametrize(
    ("name", "number", "size", "said"),
    [
        ("notes.txt", 0, 1, "notes.txt: neither picture nor clip; choose one of .jpg"),
        ("late.png", 1, 1, "late.png: a part of the file is missing; choose it again"),
        ("large.png", 0, 1_000_001, "large.png: more than 1 MB; choose a smaller file"),
    ],
)
def test_files_that_cannot_ask_are_refused(name, number, size, said, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_MEGABYTES", 1)
    with pytest.raises(ValueError, match=said):
        Arrivals().add(name, number, 2, bytes(size))


def test_parts_become_one_file_of_which_few_are_kept():
    arrivals = Arrivals()
    for number in range(transfer.MAX_FILES + 3):
        assert not arrivals.add(f"../{number}.png", 0, 2, b"one ")
        assert arrivals.add(f"../{number}.png", 1, 2, b"two")
    assert not arrivals.parts, "a file that has arrived is on the disk alone"
    assert list(arrivals.kept) == [f"../{one}.png" for one in range(3, number + 1)]
    paths = [Path(file.media) for file, _ in arrivals.kept.values()]
    assert {path.read_bytes() for path in paths} == {b"one two"}
    arrivals.kept.clear()
    assert not any(path.exists() for path in paths)


def test_files_are_copied_into_a_folder_and_never_over_another(tmp_path):
    path = write_picture(tmp_path / "a.png", 1)
    frame = write_picture(tmp_path / "frames" / "0.png", 2)
    into = tmp_path / "new" / "chosen"
    for _ in range(2):
        assert copy_into([path, frame.parent], f" {into} ") == into
    names = ["a (2).png", "a.png", "frames", "frames (2)"]
    assert sorted(one.name for one in into.iterdir()) == names
    assert (into / "a (2).png").read_bytes() == path.read_bytes()
    assert (into / "frames" / "0.png").read_bytes() == frame.read_bytes()
    for wrong in ("", "not/whole"):
        with pytest.raises(ValueError, match="expected the absolute path of a folder"):
            copy_into([path], wrong)
    with pytest.raises(FileExistsError):
        copy_into([path], str(path))
    with pytest.raises(FileNotFoundError):
        copy_into([tmp_path / "gone.png"], str(into))
    assert sorted(one.name for one in into.iterdir()) == names
