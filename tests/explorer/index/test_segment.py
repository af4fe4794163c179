"""Segments: what is written when files come and go, half precision, kills and a full disk."""

import errno
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch.nn.functional import normalize

from cma.config import ReadConfig
from explorer.index import build, segment, store
from explorer.index.compact import compact
from explorer.index.index import MediaIndex
from explorer.index.segment import Segment
from tests import ROOT
from tests.conftest import one_line
from tests.explorer.index.conftest import drawn
from tests.explorer.index.test_index import holding, ordered, same, vectors
from tests.toy_media import write_clip, write_picture


@pytest.fixture
def index(rebuild):
    return rebuild()


# ---- what is written


def test_adding_writes_what_is_new_and_deleting_writes_no_embedding(
    index, model, pictures, rebuild, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "SMALL", 0)
    folder = tmp_path / "index"

    def written(change):
        before = {path: path.stat().st_mtime_ns for path in folder.glob("segment-*")}
        change()
        updated = rebuild()
        same(updated, MediaIndex.build(model, pictures))
        same(updated, MediaIndex.load(folder, model))
        new = [
            path
            for path in folder.glob("segment-*")
            if before.pop(path, None) != path.stat().st_mtime_ns
        ]
        return [len(Segment.open(path)) for path in new], len(before)

    assert written(lambda: write_picture(pictures / "a.png", 60)) == ([1], 0)
    assert written((pictures / "p3.png").unlink) == ([], 0)
    assert written(lambda: os.utime(pictures / "p2.png", ns=(1, 1))) == (
        [1],
        0,
    )  # and its old row is not used
    assert written(lambda: None) == ([], 0)
    for i in (0, 1):
        (pictures / f"p{i}.png").unlink()
    assert written(lambda: None) == ([2], 1)  # more than half of the first segment was not in use


def test_compact_joins_and_answers_as_before(
    index, model, pictures, rebuild, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "SMALL", 0)
    for i in range(5):
        write_clip(pictures / f"c{i}.mp4", i)
        (pictures / f"p{i}.png").unlink()
        index = rebuild()
    answers, parts = index.query("a red cat", 10), len(index.store.segments)
    size = sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compact("~/index") == len(index) and parts > 2
    assert index.query("a red cat", 10) == answers  # of a reader that has it open
    compacted = MediaIndex.load(tmp_path / "index", model)
    assert len(compacted.store.segments) == 1
    same(compacted, index)
    assert compacted.query("a red cat", 10) == answers
    assert size > sum(path.stat().st_size for path in (tmp_path / "index").iterdir())


@pytest.mark.slow
def test_the_command_that_compacts_says_how_many_or_one_line(index, tmp_path):
    index.to_lance(tmp_path / "table")
    for words, code, said in (
        (["table"], 0, "table: 6 files"),
        (["index"], 0, "index: 6 files"),
        (["index", "--approximate"], 0, "index: 6 files: too few, so answers stay exact"),
        (["nowhere"], 1, "nowhere/index.json: no such f"),
    ):
        command = [sys.executable, "-m", "explorer.index.compact"]
        command += [str(tmp_path / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        told = (done.stdout + done.stderr).splitlines()
        assert done.returncode == code and len(told) == 1 and said in told[0]
    assert not (tmp_path / "nowhere").exists()


def test_a_reader_that_opens_while_another_process_joins_finds_the_new_index(
    index, model, tmp_path
):
    really, folder = Segment.open, tmp_path / "index"

    def replaced(path):
        with mock.patch.object(Segment, "open", really):
            ordered(index, index.store.order[:3]).save(folder)
        return really(path)

    with mock.patch.object(Segment, "open", replaced):
        assert len(MediaIndex.load(folder, model)) == 3
    next(folder.glob("segment-*")).unlink()
    with pytest.raises(
        ValueError, match="index.json: a segment is not there .*; build the index again"
    ):
        MediaIndex.load(folder, model)


def test_damage_is_found_when_it_is_used_and_mended_by_a_build(index, model, rebuild, tmp_path):
    path = next((tmp_path / "index").glob("segment-*"))
    content = bytearray(path.read_bytes())
    place = content.index(index.store.frames(torch.tensor([2])).numpy().tobytes())
    path.unlink()
    content[place] ^= 1
    path.write_bytes(content)
    loaded = MediaIndex.load(tmp_path / "index", model)
    assert [file.media for file in loaded.files] == [file.media for file in index.files]
    for ask in (
        lambda: loaded.query("a dog"),
        lambda: loaded.query("a dog"),
        lambda: loaded.frames(0),
    ):
        with pytest.raises(
            ValueError, match="its vectors do not have their digest; build the index again"
        ):
            ask()
    with pytest.raises(ValueError, match="its vectors do not have their digest"):
        compact(tmp_path / "index")
    same(rebuild(), index)
    same(MediaIndex.load(tmp_path / "index", model), index)


def test_columns_are_read_without_parsing_the_files(index, monkeypatch):
    files, embeddings = drawn(3)
    files[1] = replace(files[1], kind="video", captions=("a dog", "A  Dog", "a cat"))
    held = holding(index, files, torch.cat([embeddings, embeddings]), torch.tensor([2, 3, 1]))
    assert held.text_to_item.tolist() == [1, 1, 1] and held.right(" a DOG ") == [1]
    monkeypatch.setattr(Segment, "file", None)
    assert "2 pictures, 1 clips" in repr(held) and held.lengths.tolist() == [2, 3, 1]


# ---- large ones


@pytest.fixture
def large(index, asked, monkeypatch, tmp_path):
    """An index in a folder of 1,500 items, which is large, and 40 queries "0", "1", …"""
    for module in ("segment", "store", "build", "index"):
        monkeypatch.setattr(f"explorer.index.{module}.LARGE", 900, raising=False)
    monkeypatch.setattr("explorer.index.index.DEPTH", 100)
    monkeypatch.setattr(store, "FULL", 600)
    holding(index, *drawn(1500)).save(tmp_path / "large")
    return MediaIndex.load(tmp_path / "large", index.model)


def cosines(index, text):
    """Of all items."""
    return normalize(vectors(index), dim=1) @ normalize(index._encode([text])[0], dim=0)


def test_a_large_index_is_in_half_precision_and_gives_the_best(large):
    assert [len(part) for part in large.store.segments] == [600, 600, 300]
    assert {part["vectors"].dtype for part in large.store.segments} == {torch.float16}
    torch.testing.assert_close(vectors(large), drawn(1500)[1], atol=0, rtol=2**-11)
    order = large.store.order
    without = ordered(large, order[order % 3 > 0])
    for index in (large, without):
        for text in map(str, range(40)):
            items, scores = index.ranking(text)
            exact = cosines(index, text)
            assert len(items) == 100 and items[:10].tolist() == exact.topk(10).indices.tolist()
            torch.testing.assert_close(scores, exact[items], atol=1e-3, rtol=0)


def test_an_approximate_index_finds_nearly_all_of_the_best(large, tmp_path):
    pytest.importorskip("faiss")  # not on macOS
    folder = tmp_path / "large"

    def recall(index):
        found = 0
        for text in map(str, range(40)):
            items, scores = index.ranking(text)
            exact = cosines(index, text)
            assert len(items.unique()) == 100
            torch.testing.assert_close(scores, exact[items], atol=1e-3, rtol=0)
            found += len({*items[:10].tolist()} & {*exact.topk(10).indices.tolist()})
        return found / 400

    def codes(index):
        return [part.about.digests.get("codes") is not None for part in index.store.segments]

    compact(folder, approximate=True)
    index = MediaIndex.load(folder, large.model)
    assert codes(index) == [True, True, True] and 0.9 < recall(index) < 1
    best = index.ranking("0")[0]
    kept = torch.ones(1500, dtype=torch.bool).scatter(0, best[:50], False)
    assert recall(less := ordered(index, index.store.order[kept])) > 0.9  # of what is not deleted
    files, more = drawn(20, 2)
    more[0] = index._encode(["0"])[0]  # an item that was added since is found by its exact cosine
    added = Segment.of(
        [replace(one, media=f"new/{one.media}") for one in files], more, torch.ones(20), half=True
    )
    order = torch.cat([less.store.order, torch.arange(1500, 1520)])
    parts = (*less.store.segments, added)
    grown = replace(less, store=replace(less.store, segments=parts, order=order))
    assert recall(grown) > 0.9 and grown.ranking("0")[0][0] == 1450
    small = ordered(index, index.store.order[:800])
    items, scores = small.ranking("0")  # all of them, by none of the codes
    torch.testing.assert_close(scores, cosines(small, "0")[items], atol=2e-3, rtol=0)
    compact(folder)
    exact = MediaIndex.load(folder, large.model)
    assert codes(exact) == [False, False, False] and recall(exact) == 1


def test_codes_need_an_extra_and_without_it_the_index_stays(large, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match="faiss: not installed; run `pip install .*faiss"):
            compact(tmp_path / "large", approximate=True)
    same(MediaIndex.load(tmp_path / "large", large.model), large)


# ---- kills, and a disk that is full

KILLED = """
import itertools, os, pathlib, sys
from tests import conftest
from cma import RetrievalModel
from explorer.index import build
from explorer.index.compact import compact
from explorer.index.index import MediaIndex
from tests.toy_media import write_picture

build.PART_SECONDS, build.FILES, build.SMALL = 0, 2, 3
media, folder = map(pathlib.Path, sys.argv[1:])
model = RetrievalModel(conftest.build_clip(), conftest.build_processor())
print("ready", flush=True)
for i in itertools.count():
    for j in range(3):
        write_picture(media.parent / "new.png", i + j)
        (media.parent / "new.png").replace(media / f"{os.getpid()}-{i}-{j}.png")
    MediaIndex.build(model, media, folder=folder)
    if i % 2:
        compact(folder)
"""


@pytest.mark.processes
def test_ten_kills_at_random_moments_lose_nothing_and_give_no_wrong_answer(
    model, pictures, rebuild, tmp_path, read, capsys
):
    """Of a process that builds, adds and compacts without pause."""
    folder, listed = tmp_path / "index", 0
    for seed in range(10):
        command = [sys.executable, "-c", KILLED, str(pictures), str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(random.Random(seed).uniform(0.02, 0.6))
            process.kill()
        if not (folder / "index.json").exists():
            continue
        index = MediaIndex.load(folder, model)
        files = list(index.files)
        assert len({file.media for file in files}) == len(files) >= listed
        listed = len(files)
        pixels = [
            build.read_pixels(file, index.path(file), model, ReadConfig())[1] for file in files
        ]
        torch.testing.assert_close(vectors(index), torch.cat(build.embed(model, pixels)))
    assert listed > 6
    parts = map(Segment.open, store.written(folder))
    kept = {file.media for part in parts for file in store.Files(part)}
    read.clear()
    built = rebuild()
    assert kept.isdisjoint(read)
    same(built, MediaIndex.build(model, pictures))
    assert len(list(folder.glob("[!.]*"))) < 5 and not list(folder.glob(".*.tmp"))
    assert "not taken over" not in capsys.readouterr().out


@pytest.mark.parametrize("full_after", range(4))
def test_a_full_disk_keeps_what_was_embedded_and_says_one_line(
    model, pictures, rebuild, tmp_path, read, monkeypatch, full_after
):
    """Each of three parts fails to be written, or the list of them."""
    monkeypatch.setattr(build, "PART_SECONDS", 0)
    monkeypatch.setattr(build, "FILES", 2)
    really, writes = store.write_whole, []

    def write_whole(path, content):
        writes.append(path)
        if len(writes) > 2 * full_after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        really(path, content)

    with (
        monkeypatch.context() as patch,
        one_line(OSError, "No space left on device") as raised,
    ):
        for module in (segment, store):
            patch.setattr(module, "write_whole", write_whole)
        rebuild()
    assert str(tmp_path / "index") in str(raised.value)
    read.clear()
    index = rebuild()
    assert len(read) == 6 - min(6, 2 * full_after)
    same(index, MediaIndex.build(model, pictures))
