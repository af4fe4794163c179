"""The command that writes a page without a server: what it writes, asks and refuses."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cma import AdapterConfig
from explorer import Gallery, MediaIndex, site, site_files
from explorer.index import embed
from tests.conftest import build_clip, one_line, with_adapters
from tests.toy_media import write_clip, write_picture


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Neither the packages of npm nor the text tower are written: this takes a network, or long."""
    package = tmp_path / "package"
    (package / "dist").mkdir(parents=True)
    for name in sum(site_files.PACKAGES.values(), ()):
        (package / name).write_text("")
    monkeypatch.setattr(site_files, "fetch", lambda _: package)
    monkeypatch.setattr(site_files, "write_model", lambda *_: {"adapters": ["a", "b"]})


def test_it_holds_all_media_and_embeddings_and_replaces_an_older_page(quick, galleries, tmp_path):
    out = tmp_path / "sites" / "page"
    assert site.publish(galleries, out, preview=24)
    assert len(list(out.glob("media0/*-small.jpg"))) > 4
    assert site.publish(galleries, out, max_files=4, preview=24)
    assert len(list(out.glob("media0/*-small.jpg"))) == 4
    assert [path.name for path in out.parent.iterdir()] == ["page"]
    found = json.loads((out / "site.json").read_text("utf-8"))
    assert found["setup"]["media"] == ["pictures", "clips"] and not found["setup"]["suffixes"]
    labels = ["zero-shot", "a × 0.25", "b × 0.25", "a × 0.5", "b × 0.5", "a × 0.75", "b × 0.75"]
    for number, (name, gallery) in enumerate(galleries.items()):
        folder = out / f"media{number}"
        assert found["media"][name]["labels"] == [*labels, "a", "b"]
        items = json.loads((folder / "items.json").read_text("utf-8"))
        whole = gallery.index("b", 0.5)
        chosen = [i * len(whole) // 4 for i in range(4)]
        assert [one["path"] for one in items] == [whole.files[i].file_name for i in chosen]
        kept = load_file(folder / "4.safetensors")
        frames = torch.cat([whole.frames(i) for i in chosen])
        torch.testing.assert_close(kept["vectors"].float(), frames, atol=2e-3, rtol=2e-3)
        assert kept["lengths"].tolist() == [len(whole.frames(i)) for i in chosen]
        assert Image.open(folder / "3-small.jpg").width <= 24
        assert (folder / "3.webm").is_file() == (name == "clips")
        missed = found["media"][name]["missed"]
        assert missed["zero-shot"]["count"] == 0 and missed["a"]["count"] > 0
        caption, before, after = missed["a"]["changes"][0]
        assert caption in sum((one["captions"] for one in items), []) and after < before


def test_a_film_is_written_once_in_parts_that_do_not_overlap(quick, tmp_path, model, monkeypatch):
    made, part = [], site_files.playing.part

    def spied(path, file, *more):
        made.append((file.start, file.end))
        return part(path, file, *more)

    monkeypatch.setattr(site_files.playing, "part", spied)
    write_clip(tmp_path / "media" / "film.mp4", 0, frames=130, rate=2)  # 65 s: five moments
    write_clip(tmp_path / "media" / "short.mp4", 1)
    gallery = Gallery(model, tmp_path / "media")
    model.set_adapter(None)
    assert site.publish({"mine": gallery}, tmp_path / "page")
    assert made == [(0, 30), (30, 60), (60, 90), (None, None)]
    parts = sorted(path.name for path in tmp_path.glob("page/media0/*.webm"))
    assert parts == ["0-0.webm", "0-1.webm", "0-2.webm", "5.webm"]


@pytest.mark.parametrize("asked", [False, True])
def test_cameras_are_published_only_if_that_is_asked(quick, tmp_path, model, asked, capsys):
    exif = Image.Exif()
    exif[0x0110] = "Lumen 7"
    path = write_picture(tmp_path / "media" / "one.jpg", 1)
    Image.open(path).save(path, exif=exif)
    model.set_adapter(None)
    site.publish({"mine": Gallery(model, path.parent)}, tmp_path / "page", with_camera=asked)
    (item,) = json.loads((tmp_path / "page" / "media0" / "items.json").read_text("utf-8"))
    assert ("Lumen 7" in item["facts"].values()) == asked
    said = "dates, cameras and places" if asked else "dates; without cameras and places"
    assert said in capsys.readouterr().out


def test_neither_whole_paths_nor_places_are_written(quick, tmp_path, model):
    taken = Image.Exif()
    taken.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    path = write_picture(tmp_path / "secret folder" / "one.jpg", 1)
    Image.open(path).save(path, exif=taken)
    gallery = Gallery(model, path.parent)
    gallery.model.set_adapter(None)
    assert site.publish({"mine": gallery}, tmp_path / "page")
    for file in (tmp_path / "page").rglob("*.json"):
        text = file.read_text("utf-8")
        assert "secret folder" not in text and "52.5" not in text
    for file in (tmp_path / "page").rglob("*.jpg"):
        assert not Image.open(file).getexif()


def test_what_is_not_on_the_page_is_not_embedded(quick, tmp_path, media, backbone, monkeypatch):
    """10,000 pictures were embedded at each strength to keep 2,000."""
    for number in range(3, 9):
        write_picture(media / f"{number}.png", number)
    read, really = set(), embed.read_pixels
    monkeypatch.setattr(
        embed, "read_pixels", lambda file, *rest: read.add(file.media) or really(file, *rest)
    )
    arguments = ["--media", "pictures", "--backbone", backbone, "--max-files", "2", "--yes"]
    assert site.main(arguments) == 0 and read == {"0.png", "5.png"}
    assert site.main([*arguments[:-2], "100", "--yes", "--out", "all"]) == 0 and len(read) == 10


def test_a_large_page_is_kept_only_if_that_is_agreed(
    quick, galleries, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(site, "ASKED", 1000)
    one = {"pictures": galleries["pictures"]}
    for answer, kept in (("n", False), ("y", True)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert (
            site.publish(one, tmp_path / "page", max_files=2)
            == kept
            == (tmp_path / "page").exists()
        )
        said = capsys.readouterr().out
        assert all(f" MB  {part}\n" in said for part in (".jpg", ".safetensors", "in all"))
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("not asked"))
    assert site.publish(one, tmp_path / "page", max_files=2, yes=True)


def test_what_is_there_already_stays(quick, galleries, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="photos: exists and is not such a page"):
        site.publish(galleries, tmp_path / "photos")
    assert site.publish({"pictures": galleries["pictures"]}, tmp_path / "page", max_files=2)
    before = (tmp_path / "page" / "site.json").read_bytes()
    monkeypatch.setattr(site_files, "write_media", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        site.publish(galleries, tmp_path / "page")
    assert (tmp_path / "page" / "site.json").read_bytes() == before
    assert not list(tmp_path.glob(".site-*"))


@pytest.mark.parametrize("other", [".git/HEAD", "CNAME", "media0/mine.jpg", "empty/"])
def test_a_folder_that_holds_anything_else_is_left_alone(quick, galleries, tmp_path, other):
    one, out = {"pictures": galleries["pictures"]}, tmp_path / "page"
    assert site.publish(one, out, max_files=2)
    path = out / other
    (path if other.endswith("/") else path.parent).mkdir(exist_ok=True)
    if not other.endswith("/"):
        path.write_text("mine")
    before = {path: path.is_file() and path.read_bytes() for path in out.rglob("*")}
    first = "mine.jpg" if "mine" in other else Path(other).parts[0]
    with one_line(ValueError, f"page: holds {first}, which is not part of the page"):
        site.publish(one, out)
    assert {path: path.is_file() and path.read_bytes() for path in out.rglob("*")} == before


def test_an_open_index_and_other_adapters_are_refused(quick, model, tmp_path, toy_processor):
    write_picture(tmp_path / "media" / "1.png", 1)
    index = MediaIndex.build(model, tmp_path / "media")
    with pytest.raises(ValueError, match="an open index belongs to one model; give the folder"):
        site.publish({"mine": Gallery(model, index)}, tmp_path / "page")


@pytest.mark.parametrize(
    ("added", "options", "said"),
    [
        (AdapterConfig(activation="gelu"), {}, "adapters of gelu, quick_gelu; expected"),
        ("LoRA", {}, "adapters of LoRA, quick_gelu; expected cross-modal ones"),
    ],
)
def test_adapters_that_one_graph_cannot_serve_are_refused(
    added, options, said, toy_processor, tmp_path
):
    model = with_adapters(build_clip(), toy_processor)
    model.add_adapter("other", added, **options)
    with pytest.raises(ValueError, match=said):
        site_files.write_model(model, tmp_path)
    assert not list(tmp_path.iterdir())
