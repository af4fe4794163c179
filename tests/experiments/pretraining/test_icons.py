"""What an icon's name says, which emoji it draws, and the drawing itself."""

import json

import pytest

from data_prep.mini.emoji import Words
from experiments.pretraining import icons

WORDING = {
    "1F98A": Words("1F98A", "fox", ("fox face",), ("animal",), ()),
    "1F50C": Words("1F50C", "electric plug", (), ("power",), ()),
    "1F1F9-1F1F9": Words("1F1F9-1F1F9", "flag: italy", (), ("it",), ()),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with one icon set, fetched instead of the real one."""
    folder = tmp_path / "package"
    (folder / "json").mkdir(parents=True)
    (folder / "collections.json").write_text(json.dumps({"some": {"license": {"spdx": "MIT"}}}))
    bodies = {"fox": '<path d="M0 0h16v16z" fill="red"/>', "plug": "<circle r='9'/>"}
    bodies |= {"empty": "", "no": "<g"}
    content = {"icons": {name: {"body": body} for name, body in bodies.items()}}
    (folder / "json" / "some.json").write_text(json.dumps(content))
    monkeypatch.setattr(icons, "SETS", {"colour": ["some"]})
    monkeypatch.setattr(icons, "emoji_wording", lambda: WORDING)
    monkeypatch.setattr(icons, "fetch", lambda name: folder)
    monkeypatch.setenv("CMA_CACHE", str(tmp_path / "cache"))
    return folder


def test_a_set_whose_licence_does_not_permit_it_is_refused(package):
    (package / "collections.json").write_text(
        json.dumps({"some": {"license": {"spdx": "GPL-3.0"}}})
    )
    with pytest.raises(ValueError, match=r"some: licence GPL-3\.0, expected one of"):
        icons.choose()


def test_the_artists_of_the_benchmarks_and_of_openmoji_stay_out():
    every = [source for sources in icons.SETS.values() for source in sources]
    assert not [source for source in every if source.startswith(("fluent-emoji", "openmoji"))]
