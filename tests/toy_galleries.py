"""Galleries of pictures and of clips for the explorer's tests."""

from pathlib import Path

from explorer.gallery import Gallery
from tests.conftest import build_clip, build_processor, with_adapters
from tests.toy_data import write_dataset, write_images
from tests.toy_media import write_picture, write_videos

HOSTILE = '<img src=x onerror="alert(1)"> $x_ & "cat\''


def build_galleries(folder: Path) -> dict[str, Gallery]:
    """14 pictures and 5 clips under one model with the adapters a and b, of which a belongs to
    them.
    """
    sources = {
        "pictures": write_images(folder / "pictures", {"test": 14}),
        "clips": write_videos(folder / "clips", {"test": 5}),
    }
    model = with_adapters(build_clip(), build_processor())
    return {name: Gallery(model, source, adapter="a") for name, source in sources.items()}


def write_hostile(folder: Path) -> Path:
    """A dataset folder whose captions and file name try to be markup."""
    name = "a'b\"c<i>&d.png"
    write_picture(folder / "media" / name, 3)
    line = {
        "file_name": f"media/{name}",
        "id": "1",
        "captions": [HOSTILE, HOSTILE * 2],
        "split": "test",
    }
    return write_dataset(folder, [line], {"kind": "image"})
