import json

import pytest
from PIL import Image

import cma.data
from cma.files import write_whole
from data_prep.benchmarks import BENCHMARKS
from tests.data_prep.fuzz_sources import (
    FIXED,
    SOURCES,
    Item,
    as_lines,
    command_line,
    read_back,
)
from tests.data_prep.hub_datasets import DatasetRoutes
from tests.data_prep.image_sources import write
from tests.data_prep.toy_shards import SHARD, tar
from tests.hub_server import Repository

FORM_ON_HUB = {
    "flickr30k": "flickr30k parquet",
    "rsicd": "rsicd parquet",
    "msrvtt": "msrvtt hub",
    "msvd": "msvd hub",
    "didemo": "didemo hub",
    "vatex": "vatex parquet",
}


@pytest.fixture
def server(hub):
    """A hub with small datasets of the real layouts."""
    hub.RequestHandlerClass = DatasetRoutes
    for name, form in FORM_ON_HUB.items():
        files = SOURCES[form].files | {"README.md": b"# not fetched"}
        if name == "vatex":
            files = {file: files[file] for file in files if "_list" not in file}
        repository = hub.repositories[BENCHMARKS[name].hub[0].id] = Repository()
        repository.commit(files)
    return hub


def fetch(tmp_path, capsys, *words):
    """Run the command with the dataset of the hub; returns status, stdout, stderr and the seal."""
    out = tmp_path / "out"
    words = [words[0], "--out", str(out), *words[1:], "--allow-missing"]
    status = command_line.main([word for word in words if word])
    said = capsys.readouterr()
    seal = out / "dataset.json"
    return status, said.out, said.err, json.loads(seal.read_text()) if seal.exists() else {}


@pytest.mark.parametrize("name", FORM_ON_HUB)
def test_a_benchmark_is_fetched_by_name_listed_and_its_commit_recorded(
    server, tmp_path, capsys, name
):
    of_form, hub_id = SOURCES[FORM_ON_HUB[name]], BENCHMARKS[name].hub[0].id
    lists = tmp_path / "lists"
    write(lists / "test_list.txt", as_lines(of_form.fit(FIXED)).decode())
    more = ("--source", str(lists)) if name == "vatex" else ()
    pictures = name in ("flickr30k", "rsicd")
    words = (name, "--hub", "--yes", *more, "" if pictures else "--annotations-only")
    status, said, errors, seal = fetch(tmp_path, capsys, *words)
    commit = server.repositories[hub_id].branches["main"]
    assert (status, errors.strip().count("error")) == (0, 0)
    assert f"{hub_id} at {commit}: " in said and "licence: cc-by-4.0" in said
    assert pictures or "it lacks the" in said.split(f"{name}: ")[0]  # said before it is fetched
    assert seal["hub"] == {"repository": hub_id, "revision": "main", "commit": commit}
    assert len(read_back(tmp_path / "out")[0]) == len(of_form.fit(FIXED))
    assert not any("README" in asked for asked in server.asked)
    server.asked.clear()
    assert fetch(tmp_path, capsys, *words)[0] == 0
    assert not any("GET" in asked and "resolve" in asked for asked in server.asked)  # in the cache
    server.repositories.clear()
    status, said, _, again = fetch(tmp_path, capsys, *words)
    assert status == 0 and again == seal and "what is in its cache is used" in said


@pytest.mark.parametrize(
    ("name", "form", "placed"),
    [
        ("flickr30k", "flickr30k hub", "flickr_annotations_30k.csv"),
        ("coco", "coco karpathy", "mscoco_karpathy/karpathy_coco.json"),
    ],
)
def test_annotations_alone_are_fetched_for_pictures_that_are_here(
    server, tmp_path, capsys, name, form, placed
):
    hub_id = BENCHMARKS[name].hub[1].id
    items = {"a": Item("train", ("a boat",)), "b": Item("test", ("a ship", "a sail"))}
    (content,) = SOURCES[form].write(items).values()
    server.repositories[hub_id] = Repository()
    server.repositories[hub_id].commit({placed: content, "pictures.zip": b"zip"})
    here = tmp_path / "here"
    for other in ("flickr30k token", "coco official", "coco parquet"):
        for file, content in SOURCES[other].files.items():
            write_whole(here / other / file, content)
    for id in items:
        Image.new("RGB", (8, 8)).save(here / f"{id}.jpg")
    words = (name, "--hub", hub_id, "--yes", "--source", str(here))
    status, said, _, seal = fetch(tmp_path, capsys, *words)
    assert status == 0 and "it lacks the pictures: name their folder by --source" in said
    assert seal["annotations"] == [placed] and seal["hub"]["repository"] == hub_id
    assert set(read_back(tmp_path / "out")[0]) == set(items)
    assert not any("pictures.zip" in asked for asked in server.asked if "resolve" in asked)


def test_shards_of_the_hub_are_read_in_its_cache(server, tmp_path, capsys):
    server.repositories["a/wds_mscoco_captions"] = Repository()
    server.repositories["a/wds_mscoco_captions"].commit({"test/0.tar": tar(SHARD)})
    assert fetch(tmp_path, capsys, "coco", "--hub", "a/wds_mscoco_captions", "--yes")[0] == 0
    (item,) = cma.data.load(tmp_path / "out", "test").items
    assert item.file_name == "media/test/0.tar/s0.jpg"


def test_without_a_yes_nothing_is_fetched(server, tmp_path, capsys, monkeypatch):
    for answer in ("n", None):

        def reply(prompt, answer=answer):
            if answer is None:  # nobody is there
                raise EOFError
            return answer

        monkeypatch.setattr("builtins.input", reply)
        status, said, errors, _ = fetch(tmp_path, capsys, "msvd", "--hub")
        assert status == 1 and "nothing was fetched; answer y, or add --yes" in errors
        assert "msvd_train.json (" in said and not any("resolve" in it for it in server.asked)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("msvd",), "expected --source DIR with what you downloaded, or --hub"),
        (
            ("msvd", "--hub", "no/body", "--yes"),
            "no/body on the hub cannot be",
        ),
        (
            ("msvd", "--hub", "--yes", "--revision", "x"),
            "MSVD on the hub cannot be",
        ),
        (("didemo", "--hub", "a/empty", "--yes"), "and no test_data.json"),
        (("folder", "--source", "a/empty", "--yes"), "has none of *.parquet, *.tar"),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(server, tmp_path, capsys, words, message):
    server.repositories["a/empty"] = Repository()
    server.repositories["a/empty"].commit({"x.bin": b"x"})
    status, _, errors, _ = fetch(tmp_path, capsys, *words)
    assert status == 1 and message in errors and errors.count("error: ") == 1


def test_a_dataset_of_the_hub_is_a_folder_of_your_own(server, tmp_path, capsys):
    words = ("folder", "--source", "arampacha/rsicd", "--yes", "--caption-column", "captions")
    status, _, _, seal = fetch(tmp_path, capsys, *words)
    assert status == 0 and seal["hub"]["repository"] == "arampacha/rsicd"
    found, _ = read_back(tmp_path / "out")
    assert {row["split"] for row in found.values()} == {"train", "val", "test"}
