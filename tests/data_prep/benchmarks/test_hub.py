import json

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

import cma.data
from data_prep.benchmarks import BENCHMARKS, coco, flickr30k, hub
from tests.data_prep.fuzz_sources import (
    FIXED,
    SOURCES,
    Item,
    as_lines,
    command_line,
    read_back,
    run,
)
from tests.data_prep.hub_datasets import DatasetRoutes
from tests.data_prep.image_sources import write
from tests.data_prep.test_containers import SHARD, tar
from tests.hub_server import Repository, serving

FIVE = tuple(f"boat {n}" for n in range(5))
FORMS = {"flickr30k": "flickr30k hub", "coco": "coco karpathy"}
FROM_HUB = ("--from-hub", "--allow-missing")
REPOS = {"flickr30k": flickr30k.ON_HUB, "coco": coco.ON_HUB}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache as its library lays it out, and a downloader that puts files there from
    `online`.
    """
    online, asked = {}, []

    def download(repo, name, repo_type, local_files_only=False):
        path = (
            tmp_path
            / "cache"
            / f"datasets--{repo.replace('/', '--')}"
            / "snapshots"
            / "0a1b"
            / name
        )
        asked.append((repo, name, repo_type, local_files_only))
        if path.is_file():
            return str(path)
        if local_files_only or (repo, name) not in online:
            raise LocalEntryNotFoundError("it cannot be located\nin any cache")
        return str(write(path, online[repo, name]))

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return online, asked


def put(online, name):
    """Two images in the layout of each dataset on the hub; returns their ids."""
    items = {"a": Item("train", FIVE), "b": Item("test", FIVE)}
    (content,) = SOURCES[FORMS[name]].write(items).values()
    online[REPOS[name].repo, REPOS[name].name] = content.decode()
    return set(items)


@pytest.mark.parametrize("name", REPOS)
def test_annotations_come_from_the_hub_once_and_offline_one_line_says_what_to_do(
    name, cache, tmp_path
):
    online, asked = cache
    status, _, error = run(name, {}, tmp_path, *FROM_HUB)
    assert status == 1 and not (tmp_path / "out" / "dataset.json").exists()
    assert f"{REPOS[name].name} of the dataset {REPOS[name].repo} on the hub cannot be" in error
    assert "put the annotation file into --source" in error and error.count("\n") == 1
    asked.clear()
    items = put(online, name)
    assert run(name, {}, tmp_path, *FROM_HUB)[0] == 0
    assert set(read_back(tmp_path / "out")[0]) == items
    seal = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert seal["annotations"] == [f"{REPOS[name].repo}: {REPOS[name].name}"]
    online.clear()
    assert run(name, {}, tmp_path, *FROM_HUB)[0] == 0  # offline by now
    place = (REPOS[name].repo, REPOS[name].name, "dataset")
    assert asked == [(*place, True), (*place, False), (*place, True)]


FORM_ON_HUB = {
    "flickr30k": "flickr30k parquet",
    "rsicd": "rsicd parquet",
    "msrvtt": "msrvtt hub",
    "msvd": "msvd hub",
    "didemo": "didemo hub",
    "vatex": "vatex parquet",
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub with small datasets of the real layouts; the client talks to it alone."""
    with serving() as hub_server:
        hub_server.RequestHandlerClass = DatasetRoutes
        address = hub_server.address
        for name, value in (
            ("ENDPOINT", address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_HUB_OFFLINE", False),
        ):
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        for name, form in FORM_ON_HUB.items():
            files = SOURCES[form].files | {"README.md": b"# not fetched"}
            if name == "vatex":
                files = {file: files[file] for file in files if "_list" not in file}
            repository = hub_server.repositories[BENCHMARKS[name].hub.id] = Repository()
            repository.commit(files)
        yield hub_server


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
    of_form, hub_id = SOURCES[FORM_ON_HUB[name]], BENCHMARKS[name].hub.id
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
