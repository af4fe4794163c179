"""A gallery that is shown while it is embedded, and the changes of a folder that it follows."""

import threading
from pathlib import Path

import pytest

from explorer.gallery import Gallery
from explorer.growth import Growth
from explorer.index import embed
from tests.toy_media import write_picture


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


def test_what_was_kept_is_shown_before_the_folder_is_listed(model, tmp_path, monkeypatch):
    for number in range(3):
        write_picture(tmp_path / "media" / f"{number}.png", number)
    Gallery(model, tmp_path / "media", folder=tmp_path / "kept").index()
    write_picture(tmp_path / "media" / "3.png", 3)
    allowed, real = threading.Event(), embed.listing.find
    monkeypatch.setattr(embed.listing, "find", lambda *given: allowed.wait() and real(*given))
    gallery = Gallery(model, tmp_path / "media", folder=tmp_path / "kept")
    gallery.start()
    try:
        assert len(gallery.shown()) == len(gallery.index(so_far=True).query("a cat")) == 3
        gallery.ask_ahead(None)
        monkeypatch.setattr(type(gallery.index(so_far=True).table), "_search", None)
        assert len(gallery.index(so_far=True).query("a dog")) == 3  # nothing more is read
        monkeypatch.undo()
    finally:
        allowed.set()
    assert len(gallery.index()) == 4
    gallery.stop()
