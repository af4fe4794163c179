"""A gallery builds each index once, again when the adapter changed; folders become galleries."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from cma import AdapterConfig, ReadConfig, RetrievalModel, load_backbone
from explorer import Gallery, open_galleries
from explorer.gallery import BENCHMARKS, PHOTOGRAPHS, TRAINED
from explorer.index import IndexConfig, MediaIndex
from tests.toy_data import write_images
from tests.toy_galleries import build_galleries


@pytest.fixture
def gallery(tmp_path):
    return build_galleries(tmp_path)["pictures"]


@pytest.fixture
def built(monkeypatch):
    """How often an index was built."""
    calls, build = [], MediaIndex.build.__func__
    counted = classmethod(lambda cls, *a, **k: calls.append(k) or build(cls, *a, **k))
    monkeypatch.setattr(MediaIndex, "build", counted)
    return calls


def test_each_index_is_built_once(gallery, built, monkeypatch):
    zero_shot = gallery.index()
    assert gallery.index() is zero_shot and gallery.index("a", 0) is zero_shot
    adapted, half = gallery.index("a"), gallery.index("a", 0.5)
    assert gallery.index("a", 0.5) is half and gallery.index("a", 1) is adapted and len(built) == 3
    assert tuple(one.header.adapter for one in (zero_shot, adapted, half)) == (None, "a", "a")
    assert [one.header.built_with.scale for one in (adapted, half)] == [1.0, 0.5]
    assert list(gallery.indexes([None, "b", "a"], 0.5)) == ["zero-shot", "b × 0.5", "a × 0.5"]
    assert gallery.model.active is None and gallery.model.scale == 1.0
    monkeypatch.setattr("explorer.index.weights.identify", None)  # nor are weights read again
    assert gallery.index("a").query("a cat") and gallery.index() is zero_shot


def test_an_adapter_that_was_trained_since_gets_a_new_index(gallery, built):
    before = gallery.index("a").query("a cat")
    with torch.no_grad():
        gallery.model.get_adapter("a").shared_weight.add_(0.5)
    assert gallery.index("a").query("a cat") != before and len(built) == 2


def test_indexes_are_kept_in_a_folder(gallery, tmp_path, monkeypatch):
    first = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    expected = {scale: first.index("a", scale).query("a cat") for scale in (0.0, 0.5, 1.0)}
    again = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    monkeypatch.setattr(type(gallery.model), "encode_frames", None)  # nothing is embedded again
    assert {scale: again.index("a", scale).query("a cat") for scale in expected} == expected


def test_an_adapter_and_clip_beside_it_are_read_as_it_was_trained(gallery, tmp_path):
    def configs(**given):
        opened = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept", **given)
        return [opened.index(name).config for name in (None, "a", "b")]

    usual = IndexConfig()
    assert configs() == [usual] * 3
    gallery.model.get_adapter("a").reading = own = ReadConfig(max_words=9)
    assert configs() == [usual, IndexConfig.of(own), usual]
    assert configs(adapter="a") == [IndexConfig.of(own)] * 2 + [usual]
    folders = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "kept").glob("[!.]*"))
    assert folders == ["a", "b", "zero-shot", "zero-shot"], "neither takes the other's place"
    assert configs(config=ReadConfig(max_words=7)) == [IndexConfig(max_words=7)] * 3


@pytest.mark.parametrize(
    "name", ["/elsewhere", "one/mine", "a\\b", "zero", "ünï ·", "x" * 300, "?*:"]
)
def test_an_index_is_kept_in_a_plain_folder_of_its_own(gallery, built, tmp_path, name):
    gallery.model.add_adapter(name, gallery.model.get_adapter("a").config)
    kept = Gallery(gallery.model, gallery.source, folder=tmp_path / "kept")
    kept.indexes([None, name, "a"])
    kept.indexes([name], 0.5)
    folders = [call["folder"] for call in built]
    assert len(set(folders)) == 4 and {folder.parent for folder in folders} == {tmp_path / "kept"}
    assert all(re.fullmatch(r"[\w-]{1,50}", folder.name) for folder in folders)


def test_an_adapter_that_is_not_there_is_an_error(gallery):
    for ask in (
        lambda: Gallery(gallery.model, gallery.source, adapter="c"),
        lambda: gallery.index("c"),
    ):
        with pytest.raises(ValueError, match="no adapter 'c'; there are: a, b"):
            ask()
    gallery.model.add_adapter("zero-shot", gallery.model.get_adapter("a").config)
    with pytest.raises(
        ValueError, match="'zero-shot': CLIP without an adapter has this name; rename"
    ):
        gallery.indexes([None, "zero-shot"])


# ---- galleries of folders


def save_adapter(folder, backbone, seed=0):
    """An adapter of that backbone that changes what is found."""
    torch.manual_seed(seed)
    model = RetrievalModel(*load_backbone(backbone))
    model.add_adapter("one", AdapterConfig(bottleneck_dim=4, shared_dim=4, init_std=0.5))
    model.save_adapter(folder, "one")
    return folder


def test_the_backbone_is_the_adapters_own_or_one_for_the_media(
    media, backbone, tmp_path, capsys, monkeypatch
):
    trained = save_adapter(tmp_path / "runs" / "mine.v2-cross-modal", backbone)
    capsys.readouterr()
    ((name, gallery),) = open_galleries([media], [trained]).items()
    assert name == "pictures" and gallery.adapter == "mine·v2"
    assert len(gallery.index()) == len(gallery.index("mine·v2")) == 4
    assert list(open_galleries(str(media), trained)) == ["pictures"]  # one path is one folder
    assert f"backbone {Path(backbone).name}\n" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.model_info", None)  # no hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    open_galleries([media])
    said = capsys.readouterr().out
    assert f"{PHOTOGRAPHS}: neither in the cache nor reachable" in said
    assert "backbone mini: knows simple drawn scenes, not photographs" in said


def test_folders_of_one_name_are_told_apart(media, backbone, tmp_path):
    other = shutil.copytree(media, tmp_path / "other" / "pictures")
    for number, run in enumerate(("one", "two")):
        save_adapter(tmp_path / run / "mine-cross-modal", backbone, number)
    adapters = [tmp_path / run / "mine-cross-modal" for run in ("one", "two")]
    kept = tmp_path / "kept"
    galleries = open_galleries([media, other], adapters, backbone, kept)
    assert list(galleries) == [f"{tmp_path.name}/pictures", "other/pictures"]
    first = next(iter(galleries.values()))
    assert list(first.model.adapters) == ["one/mine-cross-modal", "two/mine-cross-modal"]
    before = {path for path in tmp_path.rglob("*") if kept not in path.parents}
    for gallery in galleries.values():
        gallery.indexes([None, *gallery.model.adapters])
    assert {path for path in tmp_path.rglob("*") if kept not in path.parents} - {kept} == before
    parts = [path.relative_to(kept).parts for path in kept.rglob("media.lance")]
    assert list(map(len, parts)) == [3] * 6, "three models, two folders"


@pytest.mark.parametrize("place", TRAINED)
def test_the_offline_benchmarks_are_the_default(place, backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"mini-flickr30k: no such folder.*data_prep mini.*--media"
    ):
        open_galleries(backbone=backbone)
    for name in BENCHMARKS:
        write_images(tmp_path / "data" / name, {"train": 1, "test": 5})
    save_adapter(tmp_path / place.format("mini-msrvtt"), backbone)
    galleries = open_galleries(backbone=backbone)
    adapters = {name: gallery.adapter for name, gallery in galleries.items()}
    assert adapters == {"mini-flickr30k": None, "mini-msrvtt": "adapter for images"}
    assert {len(gallery.index()) for gallery in galleries.values()} == {5}
    said = capsys.readouterr().out
    assert (
        "mini-flickr30k: CLIP without an adapter; `python notebooks/run.py 03` trains one" in said
    )
    assert "mini-msrvtt: CLIP without an adapter" not in said


def test_an_index_is_opened_as_it_is(media, backbone, tmp_path):
    """Of CLIP or of an adapter that is loaded, with what it skipped and where its media are."""
    trained = save_adapter(tmp_path / "mine", backbone)
    model = RetrievalModel(*load_backbone(backbone))
    model.load_adapter(trained, "mine")
    for name, folder in ((None, "plain"), ("mine", "adapted")):
        model.set_adapter(name)
        MediaIndex.build(model, media).save(tmp_path / folder)
    places = [tmp_path / "plain", tmp_path / "adapted", media]
    galleries = open_galleries(places, [trained], backbone, tmp_path / "kept")
    assert [one.is_open for one in galleries.values()] == [True, True, False]
    expected = galleries["pictures"].index().query("a cat", 9)
    assert list(galleries["plain"].indexes(["mine"])) == ["zero-shot"]
    assert galleries["plain"].first().query("a cat", 9) == expected
    assert list(galleries["adapted"].indexes([None])) == ["mine"]
    found = galleries["adapted"].first().query("a cat", 9)
    assert found == galleries["pictures"].index("mine").query("a cat", 9)
    assert galleries["adapted"].frames([None, "mine"]) == 0
    with pytest.raises(ValueError, match="adapted"):
        open_galleries([tmp_path / "adapted"], [], backbone, tmp_path / "kept")
