"""Whatever the files hold: never a traceback, and every annotated item is written, listed or
counted.
"""

import json
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cma.data
from cma.recipes import RECIPES
from data_prep.benchmarks import BENCHMARKS
from tests.any_json import any_json
from tests.data_prep.fuzz_sources import FIXED, SOURCES, Item, of_split, read_back, run
from tests.grey_media import write_clip, write_picture

TEXTS = st.text("ab \n\t\u2028,;\"'#é猫", max_size=6)
ITEMS = st.builds(
    Item, st.sampled_from(["train", "val", "test", None]), st.lists(TEXTS, max_size=3).map(tuple)
).filter(lambda item: item.split or item.captions)
ALL = st.lists(ITEMS, max_size=5).map(
    lambda items: FIXED | {f"c{n}_00000{n}_00001{n}": item for n, item in enumerate(items)}
)
JUNK = st.binary(max_size=4) | st.sampled_from(
    [
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b'"',
        b",",
        b";",
        b"\t",
        b"\r",
        b"\n",
        b"\n\n",
        b"[",
        b"}",
        b"null",
        b'"\\ud800"',
        b"../",
        b"/",
        b"1e999",
        b"-" * 40,
        "é".encode("latin-1"),
        b"\x80\x04c",
        b"[" * 5000,
    ]
)
STAND_INS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
    "a git-annex pointer": b"/annex/objects/MD5E-s12--4d7a.json\n",
    "a web page (HTML)": b"\xef\xbb\xbf\r\n<!-- saved -->\n<!DOCTYPE html>\n<html><head><title>Hi",
    "a web server's answer": b"404: Not Found",
}
JUNK |= st.text(max_size=30).map(lambda text: text.encode(errors="surrogatepass"))
JUNK |= any_json().map(lambda value: json.dumps(value).encode())
# all but the newline
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
WITH_JSON = [
    name for name in SOURCES if any(file.endswith(".json") for file in SOURCES[name].files)
]
quick = settings(suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The bytes of a clip."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", [40, 90]).read_bytes()


def check_one_line(source, files, folder):
    """Run, and hold what is said to its promise: success, or one line (returned) of an error."""
    status, out, errors = run(source.benchmark, files, folder, *source.options, "--allow-missing")
    if status == 0:
        assert errors == "" and (folder / "out" / "dataset.json").is_file()
        rows, _ = read_back(folder / "out")
        assert rows and all(row["captions"] for row in rows.values())
        assert not any(".." in Path(row["file_name"]).parts for row in rows.values())
    else:
        assert status == 1 and errors.startswith("error: ")
        assert errors.count("\n") == 1 and not CONTROL.search(errors) and str(folder) in errors
        assert not (folder / "out" / "dataset.json").exists()
    assert not CONTROL.search(out)
    return errors


def test_every_benchmark_is_fuzzed():
    assert {source.benchmark for source in SOURCES.values()} == set(BENCHMARKS)


@pytest.mark.parametrize("name", SOURCES)
def test_counts_unlike_the_published_are_an_error_that_names_the_splits(folder, name):
    source = SOURCES[name]
    status, out, errors = run(source.benchmark, source.files, folder, *source.options)
    splits = Counter(item.split for item in source.fit(FIXED).values())
    assert status == 1 and not (folder / "out" / "dataset.json").exists()
    assert all(re.search(rf"{split} {count} / \d", errors) for split, count in splits.items())
    assert out.count("WARNING: not the published counts") == len(splits)


@pytest.mark.parametrize("what", STAND_INS)
@pytest.mark.parametrize("name", SOURCES)
def test_what_lies_in_place_of_a_file_is_named_unless_the_file_is_there_too(folder, name, what):
    source, files = SOURCES[name], SOURCES[name].files
    for broken in files:
        errors = check_one_line(source, files | {broken: STAND_INS[what]}, folder)
        assert f"{folder / 'source' / broken}: is not the file, but {what}" in errors
        if source.benchmark != "vatex":  # of VATEX every JSON is read
            whole = {f"deeper/{file}": content for file, content in files.items()}
            assert check_one_line(source, whole | {broken: STAND_INS[what]}, folder) == ""


@pytest.mark.parametrize("name", SOURCES)
def test_copies_of_the_files_are_read_as_one_and_line_ends_and_a_byte_order_mark_change_nothing(
    folder, name
):
    source, files = SOURCES[name], SOURCES[name].files
    assert run(source.benchmark, files, folder, *source.options, "--allow-missing")[0] == 0
    once = read_back(folder / "out")
    copies = {f"{copy}/{file}": content for copy in "ab" for file, content in files.items()}
    texts = {
        file: content.replace(b"\r\n", b"\n")
        for file, content in files.items()
        if not file.endswith((".pkl", ".parquet"))
    }
    for same in (
        copies,
        files | texts,
        files | {file: b"\xef\xbb\xbf" + text.rstrip(b"\n") for file, text in texts.items()},
        files | {file: text.replace(b"\n", b"\r\n") for file, text in texts.items()},
    ):
        assert check_one_line(source, same, folder) == ""
        assert read_back(folder / "out") == once


@pytest.mark.parametrize("name", SOURCES)
def test_every_form_becomes_a_dataset_folder_with_its_media(folder, monkeypatch, name, clip):
    source, out, walks, walk = SOURCES[name], folder / "out", [], os.walk
    items = source.fit(FIXED)
    kind = "image" if RECIPES[source.benchmark].config.max_frames == 1 else "video"
    names = [
        f"{id.removesuffix('.mp4')}{source.suffix if kind == 'image' else '.mp4'}" for id in items
    ]
    content = (
        write_picture(folder / f"picture{source.suffix}").read_bytes() if kind == "image" else clip
    )
    files = source.files | {f"deep/er/{name}": content for name in names}
    monkeypatch.setattr(
        "os.walk", lambda path, **options: walks.append(path) or walk(path, **options)
    )
    status, _, _ = run(
        source.benchmark, files, folder, *source.options, "--allow-missing", media=True
    )
    assert status == 0 and not (out / "missing.txt").exists()
    # listed once, for annotations and media; what is written out is listed too
    written = [out / "pictures"] if any((out / "pictures").rglob("*.jpg")) else []
    assert walks == [folder / "source", *written]
    for split in {item.split for item in items.values()}:
        dataset = cma.data.load(out, split)
        ids = [item.id.removeprefix("v_") for item in dataset.items]
        assert ids == list(of_split(items, split))
        assert [dataset.path(item).stem for item in dataset.items] == [
            id.removesuffix(".mp4") for id in ids
        ]
        assert (dataset.name, dataset.kind, dataset.recipe) == (
            source.benchmark,
            kind,
            source.benchmark,
        )
        assert dataset.protocol == {
            "query": "paragraph" if source.paragraph else "caption",
            "visual_to_text": {"image": "captions", "video": "items"}[kind],
        }


@pytest.mark.parametrize("name", SOURCES)
def test_files_of_every_other_benchmark_beside_are_passed_over(folder, name):
    chosen = SOURCES[name]
    files = {"others/raw-captions.pkl": pickle.dumps({"video0": ["a cat"], "1@N02_3": ["a dog"]})}
    for source in SOURCES.values():
        # so that they look like ids of VATEX's alone
        ending = "" if source.benchmark == "vatex" else "x"
        items = source.fit({f"{source.benchmark}{id}{ending}": item for id, item in FIXED.items()})
        if source is chosen or source.benchmark != chosen.benchmark:
            files |= {
                f"{source.benchmark}/{file}": text for file, text in source.write(items).items()
            }
    own = {file: text for file, text in files.items() if file.startswith(f"{chosen.benchmark}/")}
    assert run(chosen.benchmark, own, folder, *chosen.options, "--allow-missing")[0] == 0
    alone = read_back(folder / "out")
    status, _, errors = run(chosen.benchmark, files, folder, *chosen.options, "--allow-missing")
    assert (status, errors) == (0, "") and read_back(folder / "out") == alone


@pytest.mark.parametrize("name", SOURCES)
@quick
@given(st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(folder, name, data):
    source, files = SOURCES[name], SOURCES[name].files
    broken = data.draw(st.sampled_from(sorted(files)))
    content = files[broken]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.sampled_from([start, start + 1, start + 8, len(content)]))
    files[broken] = content[:start] + data.draw(JUNK) + content[end:]
    check_one_line(source, files, folder)


@pytest.mark.parametrize("name", WITH_JSON)
@quick
@given(st.data())
def test_any_value_at_any_place_of_the_json_is_read_or_refused_in_one_line(folder, name, data):
    source, files = SOURCES[name], SOURCES[name].files
    broken = data.draw(st.sampled_from(sorted(file for file in files if file.endswith(".json"))))
    content = json.loads(files[broken])
    content = replaced(content, data, any_json(*keys_of(content)))
    check_one_line(source, files | {broken: json.dumps(content).encode()}, folder)


def keys_of(content):
    """Every key in the JSON, in order."""
    keys = set(content) if isinstance(content, dict) else set()
    inner = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else ()
    )
    return sorted(keys.union(*map(keys_of, inner)))


def replaced(content, data, values):
    """The JSON with the value at some place, or the whole, replaced by another, of the same
    keys.
    """
    if isinstance(content, dict | list) and content and data.draw(st.integers(0, 5)):
        keys = sorted(content) if isinstance(content, dict) else range(len(content))
        key = data.draw(st.sampled_from(keys))
        content[key] = replaced(content[key], data, values)
        return content
    return data.draw(values)


@pytest.mark.parametrize("name", SOURCES)
@quick
@given(ALL, st.sets(st.sampled_from(["train", "val", "test"]), max_size=2))
def test_every_item_is_written_or_listed_or_counted(folder, name, items, absent):
    source = SOURCES[name]
    items = source.fit(items)
    absent &= {item.split for item in items.values()}
    if absent == {item.split for item in items.values() if item.split}:
        absent = set()
    if name == "msrvtt" and "train" in absent:
        # the captions of clips in no list lie in a file that train alone needs
        absent = absent | {None}
    items = {id: item for id, item in items.items() if item.split not in absent}
    files = source.write(items)
    lists = {file: content * 2 for file, content in files.items() if file.endswith("_list.txt")}
    status, out, errors = run(
        source.benchmark, files | lists, folder, *source.options, "--allow-missing"
    )
    assert (status, errors) == (0, "")
    assert (
        set(re.findall(r"^  repeated ids of (.*), dropped: \d$", out, re.MULTILINE)) == lists.keys()
    )
    rows, missing = read_back(folder / "out")
    listed = {id: item for id, item in items.items() if item.split}
    texts = {
        id: [text for c in item.captions if (text := " ".join(c.split()))]
        for id, item in listed.items()
    }
    assert {id for id in listed if texts[id]} == rows.keys()
    assert {id for id in listed if not texts[id]} == missing
    for id, row in rows.items():
        assert row["split"] == listed[id].split
        assert row["captions"] == ([" ".join(texts[id])] if source.paragraph else texts[id])
    read = items if source.undivided else listed
    blank = sum(not caption.strip() for item in read.values() for caption in item.captions)
    counted = re.findall(r"^  blank captions dropped: ([\d,]+)$", out, re.MULTILINE)
    assert counted == ([str(blank)] if blank else [])
    said = [line for line in out.splitlines() if line.startswith("  no ")]
    assert sum("left out" in line for line in said) <= 1
    assert all(
        sum(bool(re.search(rf"\b{split}\b", line)) for line in said) == 1
        for split in absent - {None}
    )
    unlisted = items.keys() - listed.keys()
    # its file of captions is read for the training list alone
    if name == "msrvtt" and "train" in absent:
        unlisted = set()
    notes = [line for line in out.splitlines() if all(id in line for id in unlisted)]
    assert not unlisted or any(f": {len(unlisted)} (" in line for line in notes)
