"""Write the files of the page without a server, where `static/partner.js` is the partner."""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save
from tqdm import tqdm

from cma.adapter import ACTIVATIONS, AdapterConfig
from cma.files import write_whole
from cma.method import CrossModalAdapter
from cma.model import RetrievalModel
from data_prep.mini.packages import fetch
from explorer.index import MediaIndex
from explorer.index.embed import spread

from . import answers, facts, pictures, playing
from .attention import crop_box
from .gallery import ZERO_SHOT, Gallery, backbone_text
from .session import STRENGTHS, Session, keeps, missed
from .tower import adapter_tensors, black_and_white, export
from .widget import STATIC

LARGER = 3  # how many times as long the sides of the large view are as a preview's
FRONT = ("index.html", "explorer.js", "explorer.css", "partner.js", "worker.js")
# pictures that a browser reads; with the vision tower, the page takes them as queries
ASKING = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
PACKAGES = {  # npm packages that the page runs: MIT and Apache 2.0
    "onnxruntime-web": (
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
    "@huggingface/tokenizers": ("dist/tokenizers.min.mjs", "LICENSE"),
}


def chosen(index: MediaIndex, max_files: int) -> MediaIndex:
    """Return an index of at most `max_files` of the items, evenly spread."""
    return index.part(spread(len(index), max_files))


def record(index: MediaIndex, item: int, with_camera: bool) -> dict:
    """Return an item's record for the page, without whole paths; `with_camera`: with the camera and
    the place of a picture.
    """
    file = index.files[item]
    path = index.path(file)
    clip = file.kind == "video"
    about = facts.about(path, file)
    if not with_camera:
        about = {name: fact for name, fact in about.items() if name not in ("camera", "place")}
    times = None
    if clip:
        times = playing.times(path, file, index.length(item), index.config)
    return {
        "path": file.file_name,
        "kind": file.kind,
        "captions": file.captions,
        "start": file.start,
        "end": file.end,
        "moment": file.is_moment,
        "ratio": pictures.ratio(path, file),
        "date": file.date,
        "facts": about,
        "times": times,
    }


def write_media(index: MediaIndex, item: int, folder: Path, preview: int, first: bool) -> None:
    """Write an item's preview, a larger copy and the model's view; of a clip also a part to play,
    of a film that was cut into moments all parts, with its first moment.

    Raises MediaError for a file that has changed since it was embedded.
    """
    file = index.files[item]
    path = index.path(file)
    picture = pictures.copy_of(path, file, LARGER * preview)
    seen = picture.crop(crop_box(picture.size, index.model.processor))
    write_whole(folder / f"{item}-large.jpg", pictures.jpeg(picture))
    for name, one in (("seen", seen), ("small", picture)):
        one.thumbnail((preview, preview))
        write_whole(folder / f"{item}-{name}.jpg", pictures.jpeg(one))
    if file.kind == "image":
        return
    parts = {f"{item}.webm": file}
    if file.is_moment:
        seconds = file.seconds or playing.LONG
        starts = [playing.LONG * number for number in range(math.ceil(seconds / playing.LONG))]
        parts = {
            f"{item}-{number}.webm": replace(file, start=start, end=start + playing.LONG)
            for number, start in enumerate(starts)
            if first
        }
    for name, clip in parts.items():
        part, _ = playing.part(path, clip, clip.start or 0.0, "webm", lambda: True)
        write_whole(folder / name, part)


def write_gallery(
    gallery: Gallery, folder: Path, max_files: int, preview: int, with_camera: bool = False
) -> dict:
    """Write a gallery's media, embeddings and records; return its description for the page.

    Raises ValueError for a gallery that is one open index, since that belongs to one model.
    """
    if gallery.is_open:
        raise ValueError("an open index belongs to one model; give the folder of its media instead")
    folder.mkdir()
    gallery = gallery.at_most(max_files)  # else everything would be embedded first
    indexes: dict[str, MediaIndex] = {}
    for strength in STRENGTHS:
        indexes |= gallery.indexes([None, *gallery.model.adapters], strength)
    indexes = {label: chosen(index, max_files) for label, index in indexes.items()}
    first = indexes[ZERO_SHOT]
    changes = {}
    for number, (label, index) in enumerate(indexes.items()):
        hashes = torch.tensor(index.column("copy_hash"))
        tensors = {"lengths": index.lengths.int(), "hashes": hashes}
        tensors["vectors"] = index.frames().half()
        write_whole(folder / f"{number}.safetensors", save(tensors))
        changes[label] = missed(first, index)
    records = [record(first, item, with_camera) for item in range(len(first))]
    write_whole(folder / "items.json", json.dumps(records))
    begun: set[str] = set()  # files of which a moment is written
    for item in tqdm(range(len(first)), f"copies of {folder.name}", unit="file", leave=False):
        name = first.files[item].media
        write_media(first, item, folder, preview, name not in begun)
        begun.add(name)
    return {
        "folder": folder.name,
        "labels": list(indexes),
        "missed": changes,
        "config": asdict(first.config),
        "about": backbone_text(gallery.model.clip.config.name_or_path),
        "adapter": gallery.adapter,
        "keeps": keeps(gallery.model),
        "folders": answers.folders(first),
        "examples": answers.examples(first),
    }


def write_vision(
    model: RetrievalModel, adapters: Sequence[CrossModalAdapter], folder: Path
) -> dict:
    """Write the vision tower and the adapters' vision part; return how to prepare a picture.

    That is the size to resize it to, the sides [H, W] of the centre crop, and the values of black
    and white in each channel.
    """
    for number, adapter in enumerate(adapters):
        tensors = adapter_tensors(adapter, "vision")
        write_whole(folder / f"{number}-vision.safetensors", save(tensors))
    write_whole(folder / "vision.onnx", export(model, adapters[0], "vision"))
    pixels = black_and_white(model)
    black, white = pixels[:, :, 0, 0].tolist()
    size = dict(model.processor.image_processor.size)
    return {"size": size, "sides": [*pixels.shape[2:]], "black": black, "white": white}


def write_model(model: RetrievalModel, folder: Path, with_vision: bool = False) -> dict:
    """Write the text tower, its tokenizer and the adapters; return their description for the page.

    `with_vision`: also call `write_vision`. Raises ValueError for adapters that are not
    cross-modal, or have different activations.
    """
    methods = [model.get_adapter(name) for name in model.adapters]
    kinds = {getattr(one.options, "activation", one.NAME) for one in methods}
    if len(kinds) > 1 or not kinds <= ACTIVATIONS.keys():
        found = ", ".join(sorted(kinds))
        raise ValueError(f"adapters of {found}; expected cross-modal ones with one activation")
    # any adapter at strength 0 is CLIP alone
    adapters = cast(list[CrossModalAdapter], methods)
    if not adapters:
        adapters = [CrossModalAdapter(model, AdapterConfig(shared_dim=0))]
    for number, adapter in enumerate(adapters):
        write_whole(folder / f"{number}.safetensors", save(adapter_tensors(adapter, "text")))
    write_whole(folder / "tower.onnx", export(model, adapters[0], "text"))
    write_whole(folder / "tokenizer.json", model.processor.tokenizer.backend_tokenizer.to_str())
    places = model.clip.config.text_config.max_position_embeddings
    picture = write_vision(model, adapters, folder) if with_vision else None
    return {"adapters": list(model.adapters), "places": places, "picture": picture}


def write_site(
    galleries: Mapping[str, Gallery],
    folder: Path,
    max_files: int,
    preview: int,
    with_vision: bool,
    with_camera: bool,
) -> None:
    """Write the whole page into an empty folder. Raises as `MediaIndex.build`, `write_media` and
    `write_model`, and ValueError if an npm package cannot be fetched.
    """
    for package, names in PACKAGES.items():
        for name in names:
            shutil.copy(fetch(package) / name, folder)
    for name in FRONT:
        shutil.copy(STATIC / name, folder)
    model = next(iter(galleries.values())).model
    site = write_model(model, folder, with_vision) | {"media": {}}
    for number, (name, gallery) in enumerate(galleries.items()):
        place = folder / f"media{number}"
        site["media"][name] = write_gallery(gallery, place, max_files, preview, with_camera)
    here = {"suffixes": ASKING if with_vision else [], "texts": False}
    site["setup"] = Session(galleries).setup | here
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    site["digest"] = digest.hexdigest()[:16]  # of this version of the page
    site["bytes"] = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_whole(folder / "site.json", json.dumps(site))
