"""What the tests of the gallery and of the page share: a backbone and media in folders."""

import pytest

from explorer import pictures
from tests.toy_galleries import build_galleries
from tests.toy_media import write_clip, write_picture


@pytest.fixture(autouse=True)
def previews(tmp_path_factory, monkeypatch):
    """A cache folder of its own for the previews of each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(pictures, "cache_folder", lambda: folder)
    return folder / "previews"


@pytest.fixture(scope="module")
def galleries(tmp_path_factory):
    """The toy galleries of pictures and of clips, for all tests of a file."""
    return build_galleries(tmp_path_factory.mktemp("galleries"))


@pytest.fixture(scope="module")
def indexes(galleries):
    """Their zero-shot and adapted indexes, by gallery."""
    return {
        name: {"zero-shot": one.index(), "adapted": one.index("a")}
        for name, one in galleries.items()
    }


@pytest.fixture
def backbone(clip_folder):
    """A folder with the toy CLIP."""
    return str(clip_folder)


@pytest.fixture
def media(tmp_path, monkeypatch):
    """A folder of a clip and pictures, and the working folder beside it."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
    write_clip(tmp_path / "pictures" / "clip.mp4", 1)
    return tmp_path / "pictures"
