"""Several processes fill one index, in a folder or on S3, whoever is killed meanwhile."""

import os
import subprocess
import sys
import time
from functools import partial

import pytest

from explorer.index import MediaIndex
from tests import ROOT
from tests.toy_index import same
from tests.toy_media import write_clip, write_picture
from tests.toy_s3 import serving_s3


@pytest.fixture
def media(tmp_path):
    """Pictures, clips, and names that SQL would have to quote or that are no text."""
    for i in range(6):
        write_picture(tmp_path / "media" / f"it's {i}.png", i * 7 + 1)
    for i in range(3):
        write_clip(tmp_path / "media" / f"clip {i}.mp4", i, frames=2 + 3 * i)
    write_picture(tmp_path / "media" / os.fsdecode(b"caf\xe9.png"), 50)
    return tmp_path / "media"


@pytest.fixture
def fill(model, media, tmp_path):
    """Fills an index with `media`, or brings it up to date."""
    return partial(MediaIndex.build, model, media, store=tmp_path / "table")


@pytest.fixture(scope="module")
def s3():
    with serving_s3() as address:
        yield address


def test_shards_one_after_the_other_make_the_index_of_one_build(model, media, fill, read):
    for number in range(3):
        built = fill(shard=(number, 3))
    same(built, MediaIndex.build(model, media))
    read.clear()
    for shard in ((1, 3), (0, 1), (1, 2)):
        same(fill(shard=shard), built)
    assert read == []
    (media / "it's 3.png").unlink()
    for number in range(3):
        built = fill(shard=(number, 3))
    assert len(built) == 9 and read == []


def test_what_could_not_be_read_is_listed_once(model, media, fill, tmp_path):
    (media / "n.png").write_text("no picture")
    for number in (0, 1, 0, 1):
        built = fill(shard=(number, 2))
    for index in (built, MediaIndex.load(tmp_path / "table", model)):
        ((name, why),) = index.skipped
        assert name == "n.png" and "cannot be read as a picture" in why
    assert len(fill().skipped) == 1, "of another division"
    write_picture(media / "n.png", 5)
    assert fill().skipped == ()


def test_what_others_add_is_found_by_a_reader_that_was_there_before(media, fill):
    reader = fill()
    before = list(reader.files)
    write_picture(media / "new.png", 90)
    fill()
    assert "new.png" in dict(reader.query("a dog", 20))
    assert (len(reader), len(reader.now())) == (10, 11) and reader.now().now() is not reader
    assert list(reader.files) == before


def test_an_item_that_two_processes_added_is_given_once(fill):
    index = fill()
    newest = index.now().table
    items = [(index.files[i], index.frames(i)) for i in range(4)]
    newest.add(items)
    for one in (index.now(), fill()):
        assert one.table.rows == 14 and len(one) == 10
        assert one.query("a dog", 20) == index.query("a dog", 20)
        same(one, index)


# ---- several processes

SHARD = """
import sys, time
from tests import conftest
from cma import RetrievalModel
from explorer.index import MediaIndex, embed

embed.BATCH_SECONDS, embed.FILES = 0, 2
media, store, number, count, pause = sys.argv[1:]
quick = embed.read_pixels
embed.read_pixels = lambda *given: (time.sleep(float(pause)), quick(*given))[1]
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


@pytest.mark.processes
@pytest.mark.parametrize(
    "count, at", [(2, "folder"), pytest.param(3, "s3", marks=pytest.mark.night)]
)
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
    same(MediaIndex.load(place, model), alone)


@pytest.mark.processes
@pytest.mark.parametrize("at", [pytest.param("folder", marks=pytest.mark.night), "s3"])
def test_a_process_that_was_killed_is_started_again(model, many, tmp_path, s3, at, capsys):
    place = f"{s3}/killed" if at == "s3" else tmp_path / "table"
    index, before = MediaIndex.build(model, many, store=place, shard=(0, 2)), 20
    for _ in range(2):
        with start(many, place, 1, 2, 0.2) as process:
            while len(index.now()) == before and process.poll() is None:
                time.sleep(0.02)
            process.kill()
        before = len(index.now())
    assert 20 + 2 <= before < 40  # something was kept each time
    capsys.readouterr()
    index = MediaIndex.build(model, many, store=place, shard=(1, 2))
    assert f"{40 - before} of them embedded now" in capsys.readouterr().out
    same(index, MediaIndex.build(model, many))
