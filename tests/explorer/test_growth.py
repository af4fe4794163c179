"""A gallery that is shown while it is embedded, and the changes of a folder that it follows."""

from pathlib import Path

import pytest

from explorer.gallery import Gallery
from explorer.growth import Growth


@pytest.mark.parametrize(
    ("path", "concerns"),
    [
        ("a.jpg", True),
        ("new folder", True),
        ("index of 2019/a.jpg", True),  # its name begins as that of the gallery's own folder
        ("index/a.jpg", False),
        ("notes.txt", False),
        (".cache/a.jpg", False),
    ],
)
def test_a_change_of_media_is_followed_and_no_other(model, tmp_path, path, concerns):
    gallery = Gallery(model, tmp_path, folder=tmp_path / "index")
    assert Growth(gallery, []).concerns(tmp_path, tmp_path / Path(path)) == concerns
