"""Pictures inside shards and parquet files, as they are on the hub: read, checked and refused."""

import json
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cma.data
from cma.media import read_image
from data_prep import containers
from tests.data_prep.fuzz_sources import as_lines, inside, parquet, read_back, run
from tests.data_prep.toy_shards import CUT, JPEG, SHARD, tar

LENIENT = ("--allow-missing",)


JSON = {"1.png": JPEG, "1.json": json.dumps({"captions": ["a cat"], "cocoid": 7}).encode()}


def test_members_of_shards_stay_where_they_are_and_a_cut_picture_is_named(folder):
    files = {"wds_mscoco_captions/test/0.tar": tar(SHARD), "coco-train-00.tar": tar(JSON)}
    files["flickr30k/test-0.tar"] = b"another benchmark's"
    files["test2014.tar"] = tar({"a.jpg": JPEG})  # pictures alone
    status, _, errors = run("coco", files, folder, media=True)
    assert status == 1 and "1 of 3 items cannot be used, the first is wds_mscoco" in errors
    status, _, errors = run("coco", files, folder, *LENIENT, media=True)
    rows, missing = read_back(folder / "out")
    assert missing == {"wds_mscoco_captions/test/0.tar/s1"}
    whole = rows["wds_mscoco_captions/test/0.tar/s0"]
    assert whole["file_name"] == "media/wds_mscoco_captions/test/0.tar/s0.jpg"
    assert whole["captions"] == ["a boat", "two boats"] and whole["split"] == "test"
    assert rows["coco-train-00.tar/1"]["captions"] == ["a cat"]
    dataset = cma.data.load(folder / "out", "test")
    assert read_image(dataset.path(dataset.items[0])).size == (8, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            tar({"a.jpg": b""}, kind=tarfile.SYMTYPE, target="/etc/passwd"),
            "a.jpg: a link",
        ),
        (tar({"../a.jpg": JPEG}), "a name that points outside its shard; download the shard again"),
        (tar({"a.jpg": JPEG * 9})[:2000], "test.tar/a.jpg: cut short: the shard ends within"),
        (
            tar({"a.jpg": JPEG} | SHARD),
            "test.tar/a.jpg: no captions beside it; expected a .txt, or a .json",
        ),
        (
            tar({"a.jpg": JPEG, "a.png": JPEG, "a.txt": b""}),
            "test.tar/a: expected one picture or clip in",
        ),
        (tar({"a.jpg": JPEG, "a.json": b"{"}), "test.tar/a.json: broken JSON"),
        (tar({"a.jpg": JPEG, "a.json": b'"a caption"'}), "a.jpg: no captions beside it"),
        (tar({"a.jpg": JPEG, "a.txt": b"\xff"}), "test.tar/a.txt: not UTF-8 text"),
        (tar({"a.jpg": JPEG, "a.txt": b"a" * 2**21}), "a.txt: 2,097,152 bytes; expected captions"),
        (b"no tar" * 200, "test.tar: cannot be read as a tar file"),
    ],
)
def test_a_shard_that_is_not_as_expected_is_refused_in_one_line(folder, content, message):
    status, _, errors = run("coco", {"test.tar": content}, folder, *LENIENT)
    assert status == 1 and message in errors and errors.count("\n") == 1


@given(st.integers(0, 3000), st.binary(max_size=20))
def test_any_damage_of_a_shard_or_a_parquet_file_is_read_or_refused_in_one_line(folder, at, junk):
    for name, content in (("test.tar", tar(SHARD)), ("test.parquet", parquet(rows("a", "b")))):
        at %= len(content)
        broken = content[:at] + junk + content[at + len(junk) :]
        status, _, errors = run(
            "rsicd" if "par" in name else "coco", {name: broken}, folder, *LENIENT
        )
        assert (status, errors) == (0, "") or (status == 1 and errors.count("\n") == 1)


def rows(*names, **changed):
    """Rows in the layout of arampacha/rsicd."""
    row = {"captions": ["a", "b"], "image": inside()} | changed
    return [{"filename": f"rsicd_images/{name}.jpg"} | row for name in names]


def test_pictures_of_parquet_files_are_written_once_with_unchanged_bytes(folder):
    files = {
        "data/train-00000-of-00002.parquet": parquet(rows("a")),
        "data/train-00001-of-00002.parquet": parquet(rows("b", image=inside(content=CUT))),
        "data/valid-00000-of-00001.parquet": parquet(rows("c")),
    }
    status, said, _ = run("rsicd", files, folder, *LENIENT, media=True)
    out = folder / "out"
    found, missing = read_back(out)
    assert status == 0 and "pictures: 3 / 3, 0 of them before" in said and missing == {"b"}
    assert {id: row["split"] for id, row in found.items()} == {"a": "train", "c": "val"}
    picture = cma.data.load(out, "val").path(cma.data.load(out, "val").items[0])
    assert picture.read_bytes() == JPEG and picture.is_relative_to(out)
    written = out / "pictures/rsicd_images/a.jpg"
    written.unlink()  # as if it had been stopped
    before = picture.stat().st_mtime_ns
    again = containers.Pictures(
        tuple((folder / "source/data").iterdir()),
        containers.Layout("captions", "image", "filename"),
        {"rsicd_images/a.jpg", "rsicd_images/c.jpg"},
    )
    again.write(out / "pictures")
    assert written.read_bytes() == JPEG
    assert picture.stat().st_mtime_ns == before
    for path in again.paths:
        path.write_bytes(parquet(rows("a", image=inside(content=CUT))))
        os.utime(path, (1, 1))  # as `cp -p` leaves it
    again.write(out / "pictures")
    assert written.read_bytes() == CUT and not picture.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.parquet", parquet(rows("a"))[:-9], "test.parquet: cannot be read as parquet ("),
        ("test.parquet", parquet([{"filename": "a"}]), "expected the columns of a known copy (cap"),
        ("holdout.parquet", parquet(rows("a")), "neither its name nor its folders say train, val"),
        (
            "test.parquet",
            parquet(rows("a", "a")),
            "row 1 (rsicd_images/a.jpg): this image has a row",
        ),
        ("test.parquet", parquet(rows("../../a")), "points outside the media folder"),
        ("test.parquet", parquet(rows("a", captions=[7])), "expected a caption (text), found 7"),
    ],
)
def test_a_parquet_file_that_is_not_as_expected_is_refused_in_one_line(
    folder, name, content, message
):
    status, _, errors = run("rsicd", {name: content}, folder, *LENIENT, media=True)
    assert status == 1 and message in errors and errors.count("\n") == 1
    assert not (folder / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("limit", "maximum", "message"),
    [
        ("MAX_BYTES", 500, "row group 0, column image.bytes: declares"),
        ("MAX_ROWS", 1, "declares 2 rows"),
    ],
)
def test_what_a_parquet_file_declares_is_checked_before_it_is_read(
    folder, monkeypatch, limit, maximum, message
):
    monkeypatch.setattr(containers, limit, maximum)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.iter_batches", None)  # it is not reached
    same = [row | {"captions": ["a"]} for row in rows("a", "b")]
    files = {"test.parquet": parquet(same), "a.txt": as_lines("a")}
    status, _, errors = run("rsicd", files, folder, *LENIENT)
    assert status == 1 and message in errors and errors.count("\n") == 1
