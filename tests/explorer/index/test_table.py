"""One table: damage is said and mended, a stop loses little, and a large one answers, too."""

import json
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from cma import RetrievalModel
from cma.config import ReadConfig
from explorer.index import MediaIndex, embed, table, weights
from tests import ROOT
from tests.conftest import build_clip, one_line
from tests.toy_index import drawn, holding, names, same
from tests.toy_media import write_clip, write_picture

# ---- damage


@pytest.fixture(scope="module")
def written(toy_processor, tmp_path_factory):
    """The folder of a small index of several batches, its files, its model and what it answers."""
    folder, model = tmp_path_factory.mktemp("written"), RetrievalModel(build_clip(), toy_processor)
    for i in range(5):
        write_picture(folder / "media" / f"p{i}.png", i * 5 + 1)
        write_clip(folder / "media" / f"c{i}.mp4", i, frames=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "BATCH_SECONDS", 0)
        patch.setattr(embed, "FILES", 4)
        index = MediaIndex.build(model, folder / "media", folder=folder / "index")
    files = [path for path in (folder / "index").rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files if path.stat().st_size}
    return folder / "index", contents, model, index.query("a dog", 10)


@given(choice=st.randoms(use_true_random=False), truncated=st.booleans())
def test_a_damaged_index_answers_as_before_or_is_refused(written, choice, truncated):
    """One byte is another one, or the end is missing."""
    folder, contents, model, answers = written
    file, content = choice.choice(sorted(contents.items()))
    place = choice.randrange(len(content))
    byte = (content[place] ^ choice.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])).to_bytes()
    file.write_bytes(content[:place] + (b"" if truncated else byte + content[place + 1 :]))
    try:
        assert MediaIndex.load(folder, model).query("a dog", 10) == answers
    except (OSError, ValueError) as error:
        assert str(error).startswith(f"{folder}: ") and "build the index again" in str(error)
        assert len(str(error)) < 600 and "\n" not in str(error)
    finally:
        file.write_bytes(content)


@pytest.fixture
def parts(model, pictures, rebuild, tmp_path, monkeypatch):
    """The index of `pictures`, and its files of a picture each."""
    monkeypatch.setattr(embed, "BATCH_SECONDS", 0)
    monkeypatch.setattr(embed, "FILES", 2)
    index = rebuild()
    data = sorted((tmp_path / "index" / "media.lance" / "data").iterdir())
    return index, {path: path.read_bytes() for path in data}


def test_a_flipped_byte_is_said_and_mended_by_a_build_that_reads_one_file(
    parts, model, rebuild, tmp_path, read, capsys
):
    index, files = parts
    assert len(files) == 6
    vector = index.frames(2).numpy().tobytes()
    (path,) = [path for path, content in files.items() if vector in content]
    content = bytearray(files[path])
    content[content.index(vector) + 9] ^= 1
    path.write_bytes(content)
    loaded = MediaIndex.load(tmp_path / "index", model)
    assert list(loaded.files) == list(index.files), "what is not damaged is there"
    for ask in (
        lambda: loaded.query("a dog"),
        lambda: loaded.query("a dog"),
        lambda: loaded.frames(2),
        lambda: loaded.save(tmp_path / "index") or loaded.query("a dog"),
    ):
        with one_line(ValueError, "index: the embedding of p2.png is damaged; build the index ag"):
            ask()
    read.clear()
    built = rebuild()
    assert read == ["p2.png"] and "not taken over: " in capsys.readouterr().out
    same(built, MediaIndex.build(model, built.media_root))
    same(MediaIndex.load(tmp_path / "index", model), built)


def test_a_part_that_is_lost_is_said_and_its_file_alone_is_read_again(
    parts, model, rebuild, pictures, tmp_path, read
):
    index, files = parts
    vector = index.frames(2).numpy().tobytes()
    (path,) = [path for path, content in files.items() if vector in content]
    path.unlink()
    for act in (
        lambda: MediaIndex.load(tmp_path / "index", model).query("a dog"),
        lambda: MediaIndex.build(model, pictures, store=tmp_path / "index", shard=(0, 2)),
    ):
        with one_line(OSError, "index: a part of it is damaged or lost; build the index again"):
            act()
    read.clear()
    built = rebuild()
    assert read == ["p2.png"]
    same(built, MediaIndex.build(model, pictures))


def test_a_table_of_somebody_else_or_of_another_version_is_refused_untouched(
    model, rebuild, tmp_path
):
    with one_line(FileNotFoundError, "nowhere: no index there; `MediaIndex.build` makes one"):
        MediaIndex.load(tmp_path / "nowhere", model)
    assert not (tmp_path / "nowhere").exists()
    theirs = lancedb.connect(tmp_path / "theirs")
    theirs.create_table("media", [{"vector": [1.0, 2.0]}])
    rebuild()
    ours = lancedb.connect(tmp_path / "index")
    rows = ours.open_table("media").to_arrow()
    _, text = json.loads(rows.schema.metadata[b"index"])
    text = text.replace('"format_version":7', '"format_version":8')
    about = {"index": json.dumps([weights.digest_of([], text), text])}
    ours.create_table("media", rows.replace_schema_metadata(about), mode="overwrite")
    for folder, said in (("theirs", "broken JSON"), ("index", "format_version.* 7, found 8")):
        for act in (
            lambda place: rebuild(folder=place),
            lambda place: MediaIndex.load(place, model),
        ):
            with one_line(ValueError, f"{folder}: .*{said}.*; no index of this version"):
                act(tmp_path / folder)
    assert theirs.open_table("media").count_rows() == 1
    assert ours.open_table("media").count_rows() == 6


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        (Path("s3://bucket/x"), "s3://bucket/x"),  # which is `s3:/bucket/x`
        ("C:/photos", str(Path.cwd() / "C:/photos")),
        (None, table.MEMORY),
    ],
)
def test_an_address_stays_one_and_a_folder_is_whole(uri, place):
    assert table.address(uri) == place


def test_without_the_extra_one_line_says_what_to_install(model, pictures, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = r"lancedb: not installed; run `pip install 'cross-modal-adapter\[explorer\]'`"
    for act in (
        lambda: MediaIndex.build(model, pictures),
        lambda: MediaIndex.load("s3://bucket/x", model),
    ):
        with one_line(ImportError, said):
            act()


# ---- stops

KILLED = """
import itertools, os, pathlib, sys
from datetime import timedelta
from tests import conftest
from cma import RetrievalModel
from explorer.index import MediaIndex, embed, table, weights
from tests.toy_media import write_picture

embed.BATCH_SECONDS, embed.FILES = 0, 2
table.PARTS, table.KEPT = 3, timedelta(seconds=1)
media, folder = map(pathlib.Path, sys.argv[1:])
model = RetrievalModel(conftest.build_clip(), conftest.build_processor())
for i in itertools.count():
    for j in range(3):
        write_picture(media.parent / "new.png", i + j)
        (media.parent / "new.png").replace(media / f"{os.getpid()}-{i}-{j}.png")
    MediaIndex.build(model, media, folder=folder)
    print("built", flush=True)
"""


@pytest.mark.processes
@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.night)])
def test_kills_at_random_moments_lose_nothing_and_give_no_wrong_answer(
    model, pictures, rebuild, tmp_path, read, capsys, kills
):
    """Of a process that builds, adds and tidies without pause."""
    folder, listed = tmp_path / "index", 0
    for seed in range(kills):
        command = [sys.executable, "-c", KILLED, str(pictures), str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            while process.stdout.readline() != "built\n":
                assert process.poll() is None
            time.sleep(random.Random(seed).uniform(0, 0.6))
            process.kill()
        index = MediaIndex.load(folder, model)
        files = list(index.files)
        assert len({file.media for file in files}) == len(files) >= listed
        listed = len(files)
        pixels = [
            embed.read_pixels(file, index.path(file), model, ReadConfig())[1] for file in files
        ]
        torch.testing.assert_close(index.frames(), torch.cat(embed.embed(model, pixels)))
    assert listed >= 6 + kills * 3
    read.clear()
    built = rebuild()
    assert {file.media for file in files}.isdisjoint(read)
    same(built, MediaIndex.build(model, pictures))
    assert "not taken over" not in capsys.readouterr().out


FULL = """
import resource, sys
from tests import conftest
from cma import RetrievalModel
from explorer.index import MediaIndex, embed

embed.BATCH_SECONDS, embed.FILES = 0, 2
media, folder, most = sys.argv[1:]
model = RetrievalModel(conftest.build_clip(), conftest.build_processor())
resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
try:
    MediaIndex.build(model, media, folder=folder)
except OSError as error:
    sys.exit(str(error))
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    "most", [2000, *(pytest.param(n, marks=pytest.mark.night) for n in (10, 5000))]
)
def test_a_disk_that_takes_no_more_keeps_what_was_written_and_says_one_line(
    model, pictures, rebuild, tmp_path, read, most
):
    """No file may have more bytes: of LanceDB's own files, or of a batch."""
    command = [sys.executable, "-c", FULL, str(pictures), str(tmp_path / "index"), str(most)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (line,) = [line for line in done.stderr.splitlines() if str(tmp_path / "index") in line]
    assert done.returncode == 1 and "make room if the disk is full, and start again" in line
    same(rebuild(), MediaIndex.build(model, pictures))


def test_a_reader_keeps_what_it_opened_while_others_write_and_tidy(
    model, pictures, rebuild, tmp_path, monkeypatch
):
    monkeypatch.setattr(table, "PARTS", 1)
    index = rebuild()
    before = list(index.files), index.query("a dog", 9)
    for number in range(4):
        write_picture(pictures / f"more {number}.png", 50 + number)
        rebuild()
        assert list(index.files) == before[0] and torch.equal(index.frames(2), index.frames(2))
    assert len(index.query("a dog", 99)) == 10 and dict(before[1]).keys() < {
        *dict(index.query("a dog", 99))
    }
    model.set_adapter("a")
    MediaIndex.build(model, pictures, folder=tmp_path / "index")
    assert list(index.files) == before[0]
    with one_line(ValueError, "built with adapter 'a', but now no adapter is active"):
        index.query("a dog")  # it is another index now


def test_what_is_old_or_in_pieces_is_tidied_and_adding_is_not_rewriting(
    model, pictures, rebuild, tmp_path, monkeypatch
):
    folder = tmp_path / "index" / "media.lance"

    def added(number):
        before = {*(folder / "data").iterdir()}
        write_picture(pictures / f"more {number}.png", 50 + number)
        index = rebuild()
        same(index, MediaIndex.build(model, pictures))
        after = {*(folder / "data").iterdir()}
        return len(after - before), len(before - after)

    rebuild()
    assert [added(number) for number in range(3)] == [(1, 0)] * 3
    monkeypatch.setattr(table, "PARTS", 4)
    monkeypatch.setattr(table, "KEPT", timedelta(0))
    assert added(3) == (1, 4), "one part of all, and no older version"
    assert len(list((folder / "_versions").glob("*.manifest"))) == 1


# ---- large ones


@pytest.fixture
def large(model, pictures, asked, tmp_path, monkeypatch):
    """An index in a folder of 2,000 items, which is large, and 40 queries "0", "1", …"""
    monkeypatch.setattr(table, "LARGE", 1500)
    monkeypatch.setattr(table, "PARTITION", 100)
    monkeypatch.setattr(table, "PROBES", 9)  # of 20, which LanceDB draws anew each time
    monkeypatch.setattr("explorer.index.ask.DEPTH", 100)
    index = MediaIndex.build(model, pictures)
    index = holding(index, *drawn(2000), uri=tmp_path / "large")
    index.table.tidy()
    return index.now()


def recall(index, files, embeddings, asked):
    """Of 400: how many of the true best ten of 40 queries are found."""
    best = (normalize(asked, dim=1) @ normalize(embeddings, dim=1).T).topk(10).indices.tolist()
    found = 0
    for number, items in enumerate(best):
        names_of = {*names(index.query(str(number), 10))}
        found += len(names_of & {files[item].file_name for item in items})
    return found


def test_a_large_table_has_an_index_of_its_own_which_follows_what_is_added(
    large, asked, monkeypatch
):
    files, embeddings = drawn(2100)
    newest = large.table._newest()

    def outside():
        return newest.index_stats("vector_idx").num_unindexed_rows

    assert large.table.large and outside() == 0
    assert (
        360 <= recall(large, files[:2000], embeddings[:2000], asked) < 400
    )  # some are elsewhere; its k-means has no seed
    items, scores = large.ranking("3")
    exact = normalize(embeddings[:2000], dim=1) @ normalize(asked[3], dim=0)
    assert len(items) == 100
    at = [int(file.file_name[:-4]) for file in large.files[items.tolist()]]
    torch.testing.assert_close(scores, exact[at], atol=1e-5, rtol=0)
    large.table.add(list(zip(files[2000:], embeddings[2000:, None], strict=True)))
    newest.checkout_latest()
    assert outside() == 100 and recall(large, files, embeddings, asked) >= 360
    monkeypatch.setattr(table, "OUTSIDE", 50)
    large.table.tidy()
    newest.checkout_latest()
    assert outside() == 0 and recall(large, files, embeddings, asked) >= 360


def test_a_flipped_byte_of_a_large_table_is_said_too(large):
    item = int(large.ranking("0")[0][0])
    vector = large.frames(item).numpy().tobytes()
    for path in Path(large.table.uri).rglob("data/*"):
        content = bytearray(path.read_bytes())
        if vector in content:
            content[content.index(vector)] ^= 1
            path.write_bytes(content)
    again = MediaIndex.load(large.table.uri, large.model)
    with one_line(ValueError, "the embedding of .*png is damaged; build the index again"):
        again.query("0")


def test_asking_needs_neither_widgets_nor_figures_nor_a_server():
    """And LanceDB is loaded by the first index alone."""
    code = """
import sys
lacking = "matplotlib", "ipywidgets", "anywidget", "tornado", "jupyter_core"
sys.modules |= dict.fromkeys(lacking)
from explorer import IndexConfig, MediaIndex
assert not {"lancedb.table", "pyarrow.lib"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
