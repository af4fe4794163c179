"""The demo: what its files are, that they open anywhere, and that one command builds them."""

import json
import shutil

import numpy as np
import pytest
import torch

import explorer.__main__ as command
from explorer import answers, pictures
from explorer.demo import HERE, MAX_BYTES, PARTS, demo_galleries, main
from explorer.index import MediaIndex
from tests import ROOT
from tests.explorer.browser.readme_pictures import missed_by_clip, ranks_by_both

INDEXES = "index-zero-shot", "index-adapter"


@pytest.fixture(scope="module")
def galleries():
    return demo_galleries()


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(HERE, tmp_path / "elsewhere")


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def both(gallery):
    return [gallery.index(), gallery.index(gallery.adapter)]


def test_it_is_small_and_says_its_licence_and_no_place_of_its_builder():
    files = [path for path in HERE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    said = (HERE / "LICENSE").read_text("utf-8")
    assert "MIT License" in said and "Copyright (c) Microsoft Corporation." in said
    for path in files:
        assert str(ROOT).encode() not in path.read_bytes(), path


def test_it_opens_without_embedding_or_writing_anything(copy, monkeypatch):
    monkeypatch.setattr(MediaIndex, "build", lambda *_, **__: pytest.fail("it is built already"))
    before = stamps(copy)
    opened = demo_galleries(copy)
    assert {name: len(one.index()) for name, one in opened.items()} == {
        "pictures": 200,
        "clips": 20,
    }
    for gallery in opened.values():
        for index in both(gallery):
            caption = index.captions[0]
            (best, *_) = answers.ask(index, caption, k=3).hits
            assert index.path(best.file).is_relative_to(copy)
            assert pictures.thumbnail(index.path(best.file), best.file)
            assert answers.why(index, caption, best.item).words
            assert index.now() is index and index.query(caption, k=1)
    assert stamps(copy) == before


def test_a_copy_without_its_files_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match="no demo in this copy; install"):
        demo_galleries(tmp_path / "gone")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_the_command_shows_it_and_takes_nothing_beside_it(monkeypatch):
    served = []
    monkeypatch.setattr(command, "serve", lambda *given: served.append(given))
    assert command.main(["--demo", "--port", "0", "--no-browser"]) == 0
    assert list(served[0][0]) == list(PARTS)
    with pytest.raises(SystemExit):
        command.main(["--demo", "--media", "pictures"])


@pytest.mark.minis
def test_one_command_builds_what_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["--out", str(tmp_path / "made")]) == 0
    made = tmp_path / "made"

    def plain(folder):
        found = (path for path in folder.rglob("*") if path.is_file())
        names = (path.relative_to(folder) for path in found)
        return {name for name in names if not {*INDEXES} & {*name.parts}}

    assert plain(made) == plain(HERE)
    for name in plain(made):
        assert (made / name).read_bytes() == (HERE / name).read_bytes(), name
    again, there = demo_galleries(made), demo_galleries()
    for name in PARTS:
        for new, old in zip(both(again[name]), both(there[name]), strict=True):
            assert new.header == old.header and new.captions == old.captions
            assert list(new.column("digest")) == list(old.column("digest"))
            assert torch.allclose(new.frames(), old.frames(), atol=1e-4)


def test_readmes_picture_shows_what_the_rule_chooses_and_readme_counts_both_ways(galleries):
    readme = (ROOT / "README.md").read_text("utf-8")
    ranked = ranks_by_both(galleries["pictures"])
    query = missed_by_clip(galleries["pictures"])
    (before,) = {first for text, first, after in ranked if text == query and after == 1}
    assert f'for "{query}", CLIP has the right picture at rank {before}, and' in readme
    found = sum(first > 10 and after == 1 for _, first, after in ranked)
    lost = sum(first == 1 and after > 10 for _, first, after in ranked)
    said = f"There are {found} such sentences of {len(ranked):,}, and {lost} the other way round."
    assert said in readme
    clip, *_ = ranks_of("zero-shot")
    adapted = ranks_of("cross-modal adapter")
    counts = [
        (adapted == 1) & (clip > 1),
        (clip == 1) & (adapted > 1),
        (clip == 1) & (adapted == 1),
    ]
    only, other, both_first = (round(one.sum(1).mean()) for one in counts)
    said = f"{only:,} find their picture first with the adapter alone, {other} with CLIP alone, and"
    assert f"{said} {both_first} with both (means over five seeds)" in readme and len(adapted) == 5


def ranks_of(method):
    """The recorded ranks of the whole test set [seed, text]."""
    row = json.loads(
        (
            ROOT / "results" / "methods" / f"mini-flickr30k-{method.replace(' ', '-')}.json"
        ).read_text("utf-8")
    )
    return np.array([ranks["text_to_visual"] for ranks in row["ranks"].values()])
