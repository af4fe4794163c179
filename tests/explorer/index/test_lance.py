"""A LanceDB table answers as the index that it was made of, whoever fills it and whatever is
killed.
"""

import os
import subprocess
import sys
import time
from functools import partial
from unittest import mock

import pytest
import torch
from torch.nn.functional import normalize

from cma.config import ReadConfig
from explorer.index import lance
from explorer.index.compact import compact
from explorer.index.index import MediaIndex
from explorer.index.lance import Table
from tests import ROOT
from tests.conftest import one_line
from tests.explorer.index.conftest import drawn
from tests.explorer.index.test_index import holding
from tests.toy_data import write_dataset
from tests.toy_media import write_clip, write_picture

QUERIES = "a dog", "two boats at night", "red"


@pytest.fixture
def fill(model, media, tmp_path):
    """Fills a table with `media`, or brings it up to date."""
    return partial(MediaIndex.build, model, media, store=tmp_path / "table")


@pytest.fixture
def media(tmp_path):
    """Pictures, clips, and names that JSON or SQL would have to quote."""
    for i in range(6):
        write_picture(tmp_path / "media" / f"it's {i}.png", i * 7 + 1)
    for i in range(3):
        write_clip(tmp_path / "media" / f"clip {i}.mp4", i, frames=2 + 3 * i)
    write_picture(tmp_path / "media" / os.fsdecode(b"caf\xe9.png"), 50)
    return tmp_path / "media"


def alike(one, other, k=20):
    """Both give the same names, and cosines that differ by the batches they were embedded in."""
    for query in QUERIES:
        ours, theirs = dict(one.query(query, k)), dict(other.query(query, k))
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert [theirs[name] for name in ours] == pytest.approx(list(theirs.values()), abs=1e-5)


# ---- what it answers


def test_an_adapter_goes_with_its_table_and_replaces_what_another_made(
    model, media, fill, tmp_path
):
    MediaIndex.build(model, media).to_lance(tmp_path / "table")
    model.set_adapter("a")
    index = MediaIndex.build(model, media)
    table = index.to_lance(tmp_path / "table")
    assert MediaIndex.load(tmp_path / "table", model).query("a dog") == index.query("a dog")
    model.set_adapter(None)
    assert table.query("a dog") == index.query("a dog")
    for act in (
        lambda: MediaIndex.load(tmp_path / "table", model),
        fill,
    ):
        with one_line(ValueError, "built with adapter 'a', but now no adapter is active"):
            act()


def test_what_others_add_is_found_by_a_reader_that_was_there_before(media, fill):
    reader = fill()
    write_picture(media / "new.png", 90)
    fill()
    assert "new.png" in dict(reader.query("a dog", 20))
    assert (len(reader), len(reader.now())) == (10, 11) and reader.now().now() is not reader


def test_a_file_that_two_processes_added_is_given_once(fill, tmp_path):
    table = fill()
    Table(tmp_path / "table").add([(table.files[i], table.frames(i)) for i in range(4)])
    assert len(table.now()) == 14 and len(table.query("a dog", 20)) == 10


def test_a_large_table_is_searched_by_lists_and_so_is_what_was_added_since(
    model, media, asked, tmp_path, monkeypatch
):
    monkeypatch.setattr(lance, "LARGE", 2000)
    monkeypatch.setattr(lance, "LIST", 100)
    monkeypatch.setattr(lance, "LISTS", 9)  # of 20, which LanceDB draws anew each time
    monkeypatch.setattr("explorer.index.index.DEPTH", 100)
    files, embeddings = drawn(2100)
    index = holding(MediaIndex.build(model, media), files[:2000], embeddings[:2000])
    table = index.to_lance(tmp_path / "table")
    assert table.store._newest().index_stats("vector_idx").num_indexed_rows == 2000
    table.store.add(list(zip(files[2000:], embeddings[2000:, None], strict=True)))
    expected = (normalize(asked, dim=1) @ normalize(embeddings, dim=1).T).topk(10).indices.tolist()

    def found():
        answers = [{name for name, _ in table.query(str(text), 10)} for text in range(40)]
        wanted = [{files[item].file_name for item in best} for best in expected]
        return sum(len(one & other) for one, other in zip(answers, wanted, strict=True))

    assert 380 <= found() < 400  # some are in lists that were not looked through
    assert compact(tmp_path / "table") == 2100
    assert table.store._newest().index_stats("vector_idx").num_indexed_rows == 2100
    assert found() >= 380


# ---- what is written


def test_a_table_is_replaced_whole_or_not_at_all(model, media, tmp_path, monkeypatch):
    index = MediaIndex.build(model, media)
    table = index.to_lance(tmp_path / "table")
    answer = table.query("a dog", 20)
    monkeypatch.setattr(lance, "ROWS", 3)
    rows = Table._as_rows
    calls = []

    def failing(self, items):
        calls.append(items)
        if len(calls) == 3:
            raise OSError("No space left on device")
        return rows(self, items)

    other = holding(index, list(index.files)[:8], torch.ones(8, 32))
    with (
        mock.patch.object(Table, "_as_rows", failing),
        one_line(OSError, "No space left"),
    ):
        other.to_lance(tmp_path / "table")
    assert table.query("a dog", 20) == answer
    assert len(other.to_lance(tmp_path / "table")) == 8 == len(table.now())


# ---- refusals


def test_refusals_are_one_line_that_says_where(model, fill, tmp_path, monkeypatch):
    table = fill()
    with pytest.raises(
        ValueError, match=r"table: built with IndexConfig.*, now IndexConfig.* is wanted"
    ):
        fill(ReadConfig(max_frames=3))
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"shard=.*: expected \(number, how many\)"):
            fill(shard=shard)
    with pytest.raises(FileNotFoundError, match="elsewhere: no index there"):
        Table(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="table: a table; `save` it to a folder"):
        table.to_lance(tmp_path / "copy")
    for path in (tmp_path / "table" / "media.lance" / "data").iterdir():
        path.write_bytes(b"damaged")
    for act in (
        lambda: table.query("a dog"),
        lambda: MediaIndex.load(tmp_path / "table", model).query("a dog"),
    ):
        with one_line(OSError, "table: .*") as raised:
            act()
        assert len(str(raised.value)) < 400
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"lancedb: not installed; run `pip install 'cross-modal-adapter\[lance"
    ):
        fill()


def test_a_folder_that_was_moved_needs_no_new_embeddings(model, media, fill, tmp_path, read):
    table = fill()
    moved = media.rename(tmp_path / "moved")
    build_moved = partial(MediaIndex.build, model, moved)
    with pytest.raises(ValueError, match=r"table: built from .*media, not .*moved; `save` it"):
        build_moved(store=tmp_path / "table")
    read.clear()
    table.save(tmp_path / "index")
    build_moved(folder=tmp_path / "index").to_lance(tmp_path / "table")
    assert read == [] and build_moved(store=tmp_path / "table").media_root == moved


def test_a_table_without_items_says_so_and_one_that_no_file_could_replace_is_kept(media, fill):
    table = fill()
    for path in media.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="media: none of its 10 files can be read"):
        fill()
    assert table.now() is table
    table.store.delete([file.key for file in table.files])
    with pytest.raises(ValueError, match="table: no items in it yet"):
        table.query("a dog")


def test_a_table_of_somebody_else_is_no_index(fill, tmp_path):
    lance.lancedb.connect(tmp_path / "table").create_table("media", [{"vector": [1.0, 2.0]}])
    with pytest.raises(ValueError, match="table: .*its table is no index, use another"):
        fill()


def test_a_place_is_a_full_path_or_an_address(tmp_path, monkeypatch):
    assert lance.place("s3://bucket/a b") == "s3://bucket/a b" and lance.is_table("s3://bucket/a b")
    monkeypatch.chdir(tmp_path)
    assert lance.place("table") == str(tmp_path / "table") and not lance.is_table("table")


# ---- several processes

SHARD = """
import sys, time
from tests import conftest
from cma import RetrievalModel
from explorer.index import build
from explorer.index.index import MediaIndex

build.PART_SECONDS, build.FILES = 0, 2
media, store, number, count, pause = sys.argv[1:]
quick = build.read_pixels
build.read_pixels = lambda *given: (time.sleep(float(pause)), quick(*given))[1]
model = RetrievalModel(conftest.build_clip(), conftest.build_processor())
MediaIndex.build(model, media, store=store, shard=(int(number), int(count)))
"""


def start(media, place, number, count, pause=0.0):
    command = [sys.executable, "-c", SHARD, *map(str, (media, place, number, count, pause))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def many(media):
    for i in range(30):
        write_picture(media / "more" / f"{i}.png", i * 3 + 2)
    return media


@pytest.fixture(scope="module")
def s3():
    """The variables with which an S3 of our own is found, and the address of a bucket in it."""
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    running = server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    found = {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }
    found |= {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
    with mock.patch.dict(os.environ, found):
        client = boto3.client("s3", endpoint_url=found["AWS_ENDPOINT"], region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield "s3://bucket/photos"
    running.stop()


@pytest.mark.processes
@pytest.mark.parametrize("count, at", [(2, "folder"), (3, "s3")])
def test_several_processes_fill_one_table_as_one_does(model, many, tmp_path, s3, count, at):
    place = s3 if at == "s3" else tmp_path / "table"
    processes = [start(many, place, number, count) for number in range(count)]
    alone = MediaIndex.build(model, many)
    for number, process in enumerate(processes):
        ended = process.wait(timeout=300)
        # on S3, two that make the table at the same moment may meet; one then says "start again"
        if ended and at == "s3":
            ended = start(many, place, number, count).wait(timeout=300)
        assert ended == 0
    table = MediaIndex.load(place, model)
    assert len(table) == len(alone) == 40
    alike(table, alone, k=40)


@pytest.mark.processes
@pytest.mark.parametrize("at", ["folder", "s3"])
def test_a_process_that_was_killed_is_started_again(model, many, tmp_path, s3, at, capsys):
    place = f"{s3}/killed" if at == "s3" else tmp_path / "table"
    table, before = MediaIndex.build(model, many, store=place, shard=(0, 2)), 20
    for _ in range(2):
        with start(many, place, 1, 2, 0.2) as process:
            while len(table.now()) == before and process.poll() is None:
                time.sleep(0.02)
            process.kill()
        before = len(table.now())
    assert 20 + 2 <= before < 40  # something was kept each time
    capsys.readouterr()
    MediaIndex.build(model, many, store=place, shard=(1, 2))
    assert f"{40 - before} of them embedded now" in capsys.readouterr().out
    alike(table, MediaIndex.build(model, many), k=40)


def test_a_picture_of_two_ids_is_one_row_and_is_read_again_if_it_changes(model, media, tmp_path):
    lines = [
        {"file_name": "media/new.png", "id": name, "captions": [name], "split": "test"}
        for name in "ab"
    ]
    dataset = write_dataset(tmp_path / "data", lines, {"name": "toy", "kind": "image"})
    for level in (10, 200):
        write_picture(dataset / "media" / "new.png", level)
        table = MediaIndex.build(model, dataset, store=tmp_path / "table")
        assert len(table) == 1
