"""A build goes on after a kill, follows a folder that changes, and says what it leaves aside."""

import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock
from unittest.mock import DEFAULT

import pytest
import torch

from cma import RetrievalModel
from cma.config import ReadConfig
from explorer.index import MediaIndex, embed
from tests.conftest import build_clip, one_line
from tests.toy_data import write_dataset, write_images, write_named
from tests.toy_index import same
from tests.toy_media import write_animation, write_clip, write_picture, write_shard

# ---- a build that is stopped


def test_what_stopped_builds_have_embedded_is_not_read_again(
    model, pictures, rebuild, read, monkeypatch
):
    monkeypatch.setattr(embed, "FILES", 1)
    for error in [KeyboardInterrupt, ImportError] * 2:
        reading = mock.patch.object(
            embed, "read_pixels", wraps=embed.read_pixels, side_effect=[DEFAULT, error]
        )
        with reading, pytest.raises(error):
            rebuild()
    read.clear()
    index = rebuild()
    assert sorted(read) == ["p4.png", "p5.png"]
    same(index, MediaIndex.build(model, pictures))


@pytest.mark.parametrize("of", ["folder", "link of a dataset"])
def test_a_disk_that_vanishes_costs_no_embeddings(model, pictures, tmp_path, monkeypatch, of):
    source = pictures
    if of != "folder":
        pictures.rename(disk := tmp_path / "disk")
        names = [f"media/p{i}.png" for i in range(6)]
        source = write_named(tmp_path / "data", names)
        pictures = disk
        (source / "media").symlink_to(disk)
    before = MediaIndex.build(model, source, folder=tmp_path / "index")
    away, really = tmp_path / "away", embed.listing.stamp

    def unplugged(file, path, old):
        if pictures.exists() and file.file_name.endswith("p2.png"):
            pictures.rename(away)
        return really(file, path, old)

    monkeypatch.setattr(embed.listing, "stamp", unplugged)
    with pytest.raises(FileNotFoundError, match="media: gone while being read; bring it back"):
        MediaIndex.build(model, source, folder=tmp_path / "index")
    same(MediaIndex.load(tmp_path / "index", model), before)
    away.rename(pictures)
    monkeypatch.undo()
    assert len(MediaIndex.build(model, source, folder=tmp_path / "index")) == 6


def test_a_dataset_whose_first_folder_was_never_there_is_indexed_without_it(
    model, pictures, tmp_path
):
    names = ["media/train/a.png", *(f"media/val/p{i}.png" for i in range(6))]
    dataset = write_named(tmp_path / "data", names)
    (dataset / "media").mkdir()
    pictures.rename(dataset / "media" / "val")
    index = MediaIndex.build(model, dataset)
    assert len(index) == 6 and [name for name, _ in index.skipped] == names[:1]


def test_without_the_extra_video_a_clip_stops_the_build(pictures, rebuild, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "cma.media.video_file", raising=False)
    write_animation(pictures / "moving.gif", [1, 10])
    index = rebuild()
    assert len(index) == 7 and index.query_media(pictures / "p1.png", 1)[0][0] == "p1.png"
    (pictures / "z.mp4").write_bytes(b"a clip")
    with pytest.raises(ImportError, match=r"^av: not installed; run `pip .*\[video\]'`$"):
        rebuild()


def test_a_folder_holds_the_index_of_one_adapter(model, rebuild, tmp_path, read, capsys):
    builds = [
        (None, 1.0, ReadConfig(), ""),
        ("a", 1.0, ReadConfig(), "built with no adapter, but now adapter 'a' is active"),
        ("a", 0.5, ReadConfig(), "with adapter 'a', but now adapter 'a' at scale 0.5 is active"),
        ("a", 0.5, ReadConfig(max_frames=3), "index: built with IndexConfig("),
        ("b", 1.0, ReadConfig(), "with adapter 'a' at scale 0.5, but now adapter 'b' is active"),
        ("a", 0.5, ReadConfig(), "with adapter 'b', but now adapter 'a' at scale 0.5 is active"),
    ]
    for adapter, scale, config, why in builds:
        model.set_adapter(adapter, scale)
        read.clear()
        index = rebuild(config)
        printed = capsys.readouterr().out
        assert len(read) == 6 and ("not taken over" in printed) == bool(why) and why in printed
        assert "indexed 6 / 6 files, 6 of them embedded now" in printed
        rebuild(config)
        assert "indexed 6 / 6 files, 0 of them embedded now" in capsys.readouterr().out
        assert (index.header.adapter, index.header.built_with.scale) == (adapter, scale)
        same(MediaIndex.load(tmp_path / "index", model), index)
    model.set_adapter("a", 1.0)
    assert index.query("a dog") and model.scale == 1.0  # it asks at its own scale
    with pytest.raises(
        ValueError, match="with adapter 'a' at scale 0.5, but now adapter 'a' is active"
    ):
        MediaIndex.load(tmp_path / "index", model)


# ---- reading ahead, as with a model on a GPU


def test_files_read_ahead_give_the_same_index(model, pictures, monkeypatch):
    (pictures / "p2.png").write_text("no picture")
    write_clip(pictures / "c.mp4", 1)
    monkeypatch.setattr(embed, "FILES", 2)
    monkeypatch.setattr(embed, "FRAMES", 2)
    plain = MediaIndex.build(model, pictures)
    monkeypatch.setattr(embed, "reads_ahead", lambda device: True)
    ours = MediaIndex.build(model, pictures)
    assert (
        list(ours.files) == list(plain.files)
        and len(ours) == 6
        and torch.equal(ours.frames(), plain.frames())
    )
    assert (
        ours.skipped == plain.skipped
        and "cannot be read as a picture" in dict(ours.skipped)["p2.png"]
    )


def test_on_a_cpu_each_core_embeds_a_share_and_torch_keeps_its_threads(model):
    pixels, before = [torch.rand(n, 3, 32, 32) for n in (1, 3, 2, 3)], torch.get_num_threads()
    wanted = model.encode_images(torch.cat(pixels)).split([1, 3, 2, 3])
    try:
        torch.set_num_threads(2)
        torch.testing.assert_close(embed.embed(model, pixels), list(wanted))
        with ThreadPoolExecutor(1) as pool:
            assert (torch.get_num_threads(), pool.submit(torch.get_num_threads).result()) == (2, 2)
    finally:
        torch.set_num_threads(before)


# ---- the folder of the index


def test_files_beside_an_index_are_kept(model, rebuild, tmp_path, monkeypatch):
    """Also while a build replaces an index of another config."""
    monkeypatch.setattr(embed, "BATCH_SECONDS", 0)
    folder = tmp_path / "index"
    rebuild()
    files = [folder / name for name in ("parts/1/index.json", "thesis.docx")]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.write_text("years of work")
    index = rebuild(ReadConfig(max_frames=3))
    index.save(folder)
    assert {file.read_text() for file in files} == {"years of work"}
    same(MediaIndex.load(folder, model), index)


@pytest.mark.parametrize("name", ["thesis.docx", "segment-1.safetensors", "parts/1/notes.txt"])
def test_a_folder_of_other_things_is_refused_untouched(model, pictures, tmp_path, read, name):
    index, folder = MediaIndex.build(model, pictures), tmp_path / "theirs"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("years of work")
    before = sorted(folder.rglob("*"))
    read.clear()
    for write in (
        lambda: MediaIndex.build(model, pictures, folder=folder),
        lambda: MediaIndex.build(model, pictures, store=folder),
        lambda: index.save(folder),
    ):
        with pytest.raises(ValueError, match=f"theirs.*{name.split('/')[0]}.*its own folder"):
            write()
    assert read == [] and sorted(folder.rglob("*")) == before
    assert (folder / name).read_text() == "years of work"


def test_a_file_is_no_folder_and_hidden_files_do_not_count(pictures, rebuild, tmp_path):
    with pytest.raises(ValueError, match="p0.png: a file, expected a folder"):
        rebuild(folder=pictures / "p0.png")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / ".DS_Store").touch()
    assert len(rebuild()) == 6


def test_an_index_of_before_is_refused_in_one_line(model, rebuild, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.safetensors").touch()
    for read in (rebuild, lambda: MediaIndex.load(tmp_path / "index", model)):
        with one_line(
            ValueError, "an index of an earlier version; delete it, then build the index"
        ):
            read()


def test_two_writers_take_turns(
    toy_processor, pictures, rebuild, tmp_path, read, monkeypatch, capsys
):
    """The second build waits for the first, then finds every file embedded."""
    really, started, released = embed.read_pixels, threading.Event(), threading.Event()

    def slow(file, *rest):
        started.set()
        released.wait(20)
        return really(file, *rest)

    monkeypatch.setattr(embed, "read_pixels", slow)
    twin = RetrievalModel(build_clip(), toy_processor)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rebuild)
        assert started.wait(20)
        second = pool.submit(MediaIndex.build, twin, pictures, folder=tmp_path / "index")
        time.sleep(0.3)
        released.set()
        same(second.result(), first.result())
    assert sorted(read) == [f"p{i}.png" for i in range(6)]
    assert (
        "index: another process is writing this index; waiting until it ends"
        in capsys.readouterr().out
    )


# ---- a folder that changes


@pytest.mark.parametrize("kept", ["folder", "store"])
def test_what_is_new_or_changed_is_embedded_and_what_is_gone_forgotten(
    model, pictures, tmp_path, read, kept
):
    write_clip(pictures / "clip.mp4", 1)
    place = {kept: tmp_path / "index"}
    MediaIndex.build(model, pictures, **place)
    (pictures / "p0.png").unlink()
    write_picture(pictures / "p1.png", 77)
    (pictures / "p2.png").write_bytes(b"damaged")
    os.utime(pictures / "clip.mp4", ns=(5, 5))  # another time, the same content
    write_picture(pictures / "new.png", 78)
    read.clear()
    updated = MediaIndex.build(model, pictures, **place)
    assert sorted(read) == ["new.png", "p1.png", "p2.png"]
    times = {file.media: file.modified for file in updated.files}
    assert times["clip.mp4"] == (pictures / "clip.mp4").stat().st_ctime_ns and len(times) == 6
    same(updated, MediaIndex.build(model, pictures))


def test_files_that_go_change_or_grow_while_they_are_read(model, pictures, rebuild, monkeypatch):
    really = embed.read_pixels

    def disturbed(file, path, *rest):
        if file.media == "p1.png":
            (pictures / "p2.png").unlink(missing_ok=True)
            path.unlink()
        if file.media == "p3.png":
            write_picture(path, 60)
        if file.media == "p4.png":
            path.write_bytes(path.read_bytes() + b"more")
        return really(file, path, *rest)

    monkeypatch.setattr(embed, "read_pixels", disturbed)
    monkeypatch.setattr(embed, "FILES", 1)
    index = rebuild()
    reason = "no such file; cannot be read as a picture"
    assert dict(index.skipped) == {"p1.png": reason, "p2.png": reason}
    monkeypatch.setattr(embed, "read_pixels", really)
    same(rebuild(), MediaIndex.build(model, pictures))


def test_pictures_that_exchange_names_exchange_embeddings(model, tmp_path):
    media, folder = tmp_path / "media", tmp_path / "index"
    for name, level in (("a.bmp", 40), ("b.bmp", 200)):
        write_picture(media / name, level)  # of equal size
        os.utime(media / name, (9, 9))  # as out of one archive
    MediaIndex.build(model, media, folder=folder)
    for old, new in (("a.bmp", "c"), ("b.bmp", "a.bmp"), ("c", "b.bmp")):
        (media / old).rename(media / new)
    same(MediaIndex.build(model, media, folder=folder), MediaIndex.build(model, media))


@pytest.mark.parametrize("kept", ["folder", "store"])
def test_a_folder_that_was_moved_needs_no_new_embeddings(model, pictures, tmp_path, read, kept):
    place = {kept: tmp_path / "index"}
    MediaIndex.build(model, pictures, **place)
    moved = pictures.rename(tmp_path / "moved")
    read.clear()
    index = MediaIndex.build(model, moved, **place)
    assert read == [] and index.media_root == moved
    assert MediaIndex.load(tmp_path / "index", model).media_root == moved
    same(index, MediaIndex.build(model, moved))


def test_lines_of_a_dataset_may_change_their_order_and_their_captions(
    model, pictures, tmp_path, read
):
    """And a picture may have two ids; what was embedded is not read again."""
    lines = [
        {"file_name": f"media/p{i}.png", "id": str(i), "captions": [f"dog {i}"], "split": "test"}
        for i in (3, 1, 2)
    ]
    about = {"name": "toy", "kind": "image"}
    source = write_dataset(tmp_path / "data", lines, about)
    shutil.copytree(pictures, source / "media", dirs_exist_ok=True)
    index = MediaIndex.build(model, source, folder=tmp_path / "index")
    assert index.captions == ["dog 3", "dog 1", "dog 2"]
    read.clear()
    lines = [lines[2] | {"captions": ["a cat", "a dog"]}, lines[0], lines[0] | {"id": "other"}]
    write_dataset(tmp_path / "data", lines, about)
    for _ in range(2):
        index = MediaIndex.build(model, source, folder=tmp_path / "index")
        assert index.captions == ["a cat", "a dog", "dog 3", "dog 3"]
        assert [file.id for file in index.files] == ["2", "3", "other"]
        assert index.text_to_item.tolist() == [0, 0, 1, 2]
    assert read == []
    same(index, MediaIndex.build(model, source))


def test_links(model, pictures, tmp_path):
    write_picture(tmp_path / "elsewhere" / "q.png", 9)
    (pictures / "linked").symlink_to(tmp_path / "elsewhere")
    (pictures / "twice").symlink_to(tmp_path / "elsewhere")
    (pictures / "loop").symlink_to(pictures)
    (pictures / "self.png").symlink_to(pictures / "self.png")
    (pictures / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(pictures / "pipe.png")
    index = MediaIndex.build(model, pictures)
    assert [file.media for file in index.files] == [
        "linked/q.png",
        *(f"p{i}.png" for i in range(6)),
    ]
    reasons = dict(index.skipped)
    assert reasons["dangling.png"].startswith("no such file") and reasons["pipe.png"].startswith(
        "no regular"
    )
    assert "self.png" in reasons and len(reasons) == 3


# ---- what a folder may hold


def test_animations_are_clips_in_a_folder_and_pictures_in_a_dataset(model, tmp_path):
    for suffix in ("gif", "webp", "png"):
        write_animation(tmp_path / "media" / f"a.{suffix}", [0, 9, 18, 27])
        write_picture(tmp_path / "media" / f"p.{suffix}", 9)
    index = MediaIndex.build(model, tmp_path / "media", ReadConfig(max_frames=3))
    assert [file.media[0] for file in index.files] == list("aaappp")
    assert [file.kind for file in index.files] == ["video"] * 3 + ["image"] * 3
    assert index.lengths.tolist() == [3, 3, 3, 1, 1, 1]
    assert index.query_media(tmp_path / "media" / "a.png", 1)[0][1] == pytest.approx(1, abs=1e-5)
    dataset = write_images(tmp_path / "dataset", {"test": 1})
    write_animation(dataset / "media" / "test000.png", [0, 9])
    assert MediaIndex.build(model, dataset).lengths.tolist() == [1]


def test_names_of_every_kind(model, tmp_path, capsys):
    folder = tmp_path / "media"
    names = [
        "é日本🦊.png",
        "x" * 251 + ".png",
        "a\nb'\"\x1b[31m.png",
        "z\xa0.mp4",
        "caf\udce9.png",
        "\udcff.mp4",
    ]
    clip, picture = write_clip(tmp_path / "c.mp4", 3), write_picture(tmp_path / "p.png", 3)
    folder.mkdir()
    try:
        for name in names:
            shutil.copy(clip if name.endswith("mp4") else picture, folder / name)
        (folder / "bad\n\udcff.jpg").write_text("no picture")
    except (OSError, UnicodeError):
        pytest.skip("this file system refuses some of the names")
    index = MediaIndex.build(model, folder, folder=tmp_path / "index")
    assert {file.media for file in index.files} == set(names)
    shown = [name for name, _ in index.query("a dog", 10)]
    assert sorted(shown) == sorted(
        name.replace("\udce9", "�").replace("\udcff", "�") for name in names
    )
    assert r"skipped bad\n�.jpg: cannot be read as a picture" in capsys.readouterr().out
    loaded = MediaIndex.load(tmp_path / "index", model)
    assert list(loaded.files) == list(index.files) and loaded.skipped == index.skipped
    for file in index.files:
        assert loaded.query_media(loaded.path(file), 1)[0][1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("of", ["folder", "dataset"])
def test_the_members_of_shards_are_indexed_where_they_are(model, tmp_path, read, of):
    """As the files that are in them; what goes with them, as their texts, is no media."""
    plain, source = tmp_path / "plain", tmp_path / "shards"
    paths = [write_picture(plain / "deep" / "a.png", 5), write_picture(plain / "c.jpg", 40)]
    paths += [write_clip(plain / "b.mp4", 1)] if of == "folder" else []
    contents = {path.relative_to(plain).as_posix(): path.read_bytes() for path in paths}
    others = dict.fromkeys(("c.txt", "c.json", "c.cls", "../out.jpg"), b"3")
    (source / "media").mkdir(parents=True)
    write_shard(source / "media" / "0.tar", contents | others)
    (source / "media" / "1.tar").write_bytes(b"no tar file" * 100)
    names = [f"media/0.tar/{name}" for name in contents]
    skipped = {"media/0.tar/../out.jpg": "points outside", "media/1.tar": "cannot be read as a tar"}
    if of == "dataset":
        skipped = {"media/0.tar/gone.jpg": "no such member", "media/1.tar/a.jpg": "as a tar file"}
        write_named(source, [*names, *skipped])
    index = MediaIndex.build(model, source, folder=tmp_path / "index")
    assert sorted(file.media for file in index.files) == sorted(names)
    assert dict(index.skipped).keys() == skipped.keys()
    assert all(skipped[name] in why for name, why in index.skipped)
    expected = {f"media/0.tar/{name}": of for name, of in MediaIndex.build(model, plain).query("a")}
    assert dict(index.query("a")) == pytest.approx(expected, abs=1e-5)
    assert index.query_media(source / names[1], 1)[0][0] == names[1]
    read.clear()
    same(MediaIndex.build(model, source, folder=tmp_path / "index"), index)
    assert read == []
