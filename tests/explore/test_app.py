"""The page of its own: what it shows, for whom, and what is said where something is missing."""

import json
import re
import shutil
import socket
from pathlib import Path

import nbformat
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import AdapterConfig, RetrievalModel, load_backbone
from cma.explore import app
from tests.toy_data import write_images
from tests.toy_media import write_clip, write_picture


@pytest.fixture
def backbone(toy_clip, toy_processor, tmp_path):
    """A folder with the toy CLIP."""
    folder = tmp_path / "clip"
    toy_clip.save_pretrained(folder)
    toy_processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def media(tmp_path, monkeypatch):
    """A folder of a clip and pictures, and the working folder beside it."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
    write_clip(tmp_path / "pictures" / "clip.mp4", 1)
    return tmp_path / "pictures"


def save_adapter(folder, backbone, seed=0):
    """An adapter of that backbone that changes what is found."""
    torch.manual_seed(seed)
    model = RetrievalModel(*load_backbone(backbone))
    model.add_adapter("one", AdapterConfig(bottleneck_dim=4, shared_dim=4, init_std=0.5))
    model.save_adapter("one", folder)
    return folder


def test_folders_are_searched_with_the_adapters_given(media, backbone, tmp_path):
    trained = save_adapter(tmp_path / "runs" / "mine.v2-cross-modal", backbone)
    explorer = app.build([media], [trained], backbone, k=3)
    (gallery,) = explorer.galleries.values()
    assert list(explorer.galleries) == ["pictures"] and gallery.adapter == "mine·v2"
    assert len(gallery.index()) == len(gallery.index("mine·v2")) == 4
    assert explorer.k == 3 and "mine·v2" in str(explorer.adapters[1].options)


def test_the_backbone_is_the_adapters_own_or_one_for_the_media(
    media, backbone, tmp_path, capsys, monkeypatch
):
    trained = save_adapter(tmp_path / "mine", backbone)
    capsys.readouterr()
    app.build([media], [trained])
    assert f"backbone {Path(backbone).name}\n" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.model_info", None)  # no hub
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    app.build([media])
    said = capsys.readouterr().out
    assert f"{app.PHOTOGRAPHS}: neither in the cache nor reachable" in said
    assert "backbone mini: knows drawings, not photographs" in said


def test_folders_of_one_name_are_told_apart(media, backbone, tmp_path):
    other = shutil.copytree(media, tmp_path / "other" / "pictures")
    for number, run in enumerate(("one", "two")):
        save_adapter(tmp_path / run / "mine-cross-modal", backbone, number)
    explorer = app.build(
        [media, other],
        [tmp_path / "one" / "mine-cross-modal", tmp_path / "two" / "mine-cross-modal"],
        backbone,
        tmp_path / "kept",
    )
    assert list(explorer.galleries) == [f"{tmp_path.name}/pictures", "other/pictures"]
    assert list(explorer.gallery.model.adapters) == ["one/mine-cross-modal", "two/mine-cross-modal"]
    before = {path for path in tmp_path.rglob("*") if tmp_path / "kept" not in path.parents}
    explorer.adapters[1].value = "two/mine-cross-modal"
    explorer.text.value = "a cat"
    assert {path for path in tmp_path.rglob("*") if tmp_path / "kept" not in path.parents} == before
    kept = [path.relative_to(tmp_path / "kept").parts for path in (tmp_path / "kept").rglob("*.safetensors")]
    assert len(kept) == 5 and all(len(parts) == 3 for parts in kept), "three models, two folders, one asked"


PATHS = st.lists(st.sampled_from(["a", "b", "a-run", ".."]), min_size=1).map(lambda parts: Path("/", *parts))


@given(paths=st.lists(PATHS, min_size=1))
def test_names_are_short_and_each_folder_has_its_own(paths):
    named = app.named(paths, "-run")
    assert set(named.values()) == set(paths) and all(named)
    short = {path.name.removesuffix("-run") for path in paths}
    assert (set(named) == short) == (len(short) == len(set(paths)))


def test_the_offline_benchmarks_are_the_default(backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in app.BENCHMARKS:
        write_images(tmp_path / "data" / name, {"train": 1, "test": 5})
    save_adapter(tmp_path / "runs" / "mini-msrvtt-cross-modal", backbone)
    explorer = app.build(backbone=backbone)
    adapters = {name: gallery.adapter for name, gallery in explorer.galleries.items()}
    assert adapters == {"mini-flickr30k": None, "mini-msrvtt": "mini-msrvtt"}
    assert {len(gallery.index()) for gallery in explorer.galleries.values()} == {5}
    said = capsys.readouterr().out
    assert "mini-flickr30k: CLIP alone; `python notebooks/run.py 03` trains an adapter" in said
    assert "mini-msrvtt: CLIP alone" not in said


def test_without_benchmarks_the_command_that_builds_them_is_named(backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"mini-flickr30k: no such folder.*data_prep mini.*--media"):
        app.build(backbone=backbone)


def test_an_adapter_of_another_backbone_is_refused(media, backbone, tmp_path):
    trained = save_adapter(tmp_path / "one", backbone)
    config = trained / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"backbone": {"name": "some/clip", "revision": "0" * 40}}))
    with pytest.raises(ValueError, match=r"one: trained on .*some/clip.*--backbone"):
        app.build([media], [trained], backbone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--media", "nowhere"], r"nowhere: no such folder"),
        (["--media", "empty"], r"empty: no pictures or clips in it"),
        (["--media", "pictures", "--adapter", "empty"], r"adapter_config.json is missing"),
        (["--media", "pictures", "-k", "0"], r"k=0: expected at least one"),
        (["--media", "pictures", "--backbone", "./none"], r"none: no such folder; expected 'mini'"),
    ],
)
def test_what_is_missing_is_named(arguments, message, media, backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(app, "serve", lambda *_: pytest.fail("nothing to serve"))
    (tmp_path / "empty").mkdir()
    assert app.main(["--backbone", backbone, "--port", "0", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and re.search(message, said), said


def test_a_port_in_use_is_an_error_before_anything_is_embedded(media, monkeypatch, capsys):
    monkeypatch.setattr(app, "build", lambda **_: pytest.fail("the port comes first"))
    with socket.socket() as taken:
        taken.bind((app.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.main(["--media", "pictures", "--port", str(port)]) == 1
    assert f"error: port {port}: " in capsys.readouterr().err
    assert app.free_port(0) > 0


def test_the_page_is_built_where_the_command_was_given(media, backbone, tmp_path, monkeypatch):
    served = {}
    monkeypatch.setattr(app, "serve", lambda notebook, port, browser: served.update(
        cells=nbformat.read(notebook, as_version=4).cells, port=port, browser=browser))  # fmt: skip
    assert app.main(["--media", "pictures", "--backbone", backbone, "--port", "0", "--no-browser"]) == 0
    assert served["port"] and not served["browser"]
    code = [cell.source for cell in served["cells"] if cell.cell_type == "code"]
    monkeypatch.chdir(tmp_path.parent)  # the kernel starts elsewhere
    kept, last = {}, code[0].splitlines()[-1]
    exec(code[0].replace(last, f"shown = {last}"), kept)
    assert list(kept["shown"].galleries) == ["pictures"]


@given(where=st.text(), settings=st.dictionaries(st.text(), st.text() | st.lists(st.text()) | st.integers()))
def test_settings_reach_the_page_as_they_are(where, settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("notebook") / "explorer.ipynb"
    app.write_notebook(path, where, settings)
    nbformat.validate(nbformat.read(path, as_version=4))
    (code,) = (c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    got = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "page", lambda *arguments: got.append(arguments))
        exec(code, {})
    assert got == [(where, settings)]
