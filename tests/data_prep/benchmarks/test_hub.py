import json

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from data_prep.benchmarks import coco, flickr30k, hub
from tests.data_prep.fuzz_sources import SOURCES, Item, read_back, run
from tests.data_prep.image_sources import write

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
