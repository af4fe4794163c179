"""A large collection of photographs' size: listed, read, embedded and hashed, against simpler
programs.

The pictures are made of the drawings in data/mini-flickr30k (`python -m data_prep mini`): JPEGs of
1024 × 768 pixels with EXIF data, a quarter of them turned, and every twentieth of 12 megapixels.
100,000 of them need 25 GB in the folder for temporary files. The model is a ViT-B/32 of random
weights.
"""

import io
import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPProcessor

from cma import RetrievalModel, data
from cma.media import read_image
from explorer.index import MediaIndex, find, picture_hash
from tests import ROOT
from tests.bench.loader import embed
from tests.bench.measure import peak_gib, ratio, told
from tests.bench.step import build
from tests.conftest import build_clip, build_processor
from tests.toy_media import grainy

COUNT, TIMED = 2000, 200  # pictures that are made, and those of them that the model embeds
QUICK = 160, 32  # the same with --quick
# every so manyth picture has 12 megapixels; how many different ones there are
LARGE, DISTINCT = 20, 60
MEAN, STD = [
    np.array(values, np.float32) for values in ((0.481, 0.458, 0.408), (0.269, 0.261, 0.276))
]


def figures(quick: bool, count: int | None = None) -> dict:
    """Listing and memory of all `count` pictures; files a second of some of them, in interleaved
    pairs.
    """
    made, timed = QUICK if quick else (COUNT, TIMED)
    count = count or made
    pairs, timed = 1 if quick else 3, min(timed, count)
    model, half = build("adapter")[0].eval(), build("adapter")[0].eval()  # of the same weights
    half.clip.bfloat16()
    for one in (model, half):
        one.processor = CLIPProcessor(CLIPImageProcessorPil(), build_processor().tokenizer)
        one.set_adapter(None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "all"
        write_collection(folder, count)
        start = time.perf_counter()
        files = find(folder)[1]
        took = time.perf_counter() - start
        found = {
            "listed": f"{len(files):,} / {count:,}",
            "listing, µs a file": round(took / count * 1e6),
        }
        told("pictures", found)
        for function, part in itertools.product(("listed", "built"), (count // 4, count)):
            peak = peak_gib(f"pictures.{function}", str(folder), part)
            name = f"{part:,} pictures {function}, GiB above the loaded model"
            found[name] = peak.above
            told(name, peak.above)
        paths = [folder / file.media for file in files]
        samples = {"pictures": paths[:timed], "of 12 megapixels": paths[::LARGE][: timed // 2]}
        for name, some in samples.items():
            part = compared(model, half, some, f"{len(some)} {name}", pairs)
            found |= part
            told(name, part)
        opened = [read_image(path) for path in paths[1:33]]
        found["hashing ÷ embedding, time"] = ratio(
            lambda: [picture_hash(picture) for picture in opened],
            lambda: embed(model, len(opened), 1),
            pairs,
        )
    return found


def compared(
    model: RetrievalModel, half: RetrievalModel, paths: list[Path], told: str, pairs: int
) -> dict:
    """Files a second of an index divided by those of the model alone, and of plain loops in
    float32.

    `half` is the same model in bfloat16, which a CPU with instructions for it computes faster.
    """
    with tempfile.TemporaryDirectory() as name:
        for path in paths:
            (Path(name) / path.name).symlink_to(path)
        alone, index = partial(embed, model, len(paths), 1), partial(MediaIndex.build, model, name)
        found = {f"index ÷ model alone, {told} a second": ratio(alone, index, pairs)}
        indexes = {"index": index, "index in bfloat16": partial(MediaIndex.build, half, name)}
        for size, (kind, one) in itertools.product((1, 32), indexes.items()):
            plain = partial(plain_loop, model, paths, size)
            found[f"{kind} ÷ plain loop in batches of {size}, {told} a second"] = ratio(
                plain, one, pairs
            )
    return found


def write_collection(folder: Path, count: int) -> None:
    """The pictures, a thousand in a folder: `DISTINCT` ones, repeated, each with its EXIF data."""
    dataset, chance = data.load(ROOT / "data" / "mini-flickr30k", "test"), np.random.default_rng(0)
    grain = chance.normal(0, 6, (3000, 4000, 1)).astype(np.int16)
    contents = []
    for number, item in enumerate(dataset.items[: min(DISTINCT, count)]):
        width, height = (4000, 3000) if number % LARGE == 0 else (1024, 768)
        drawing = Image.open(dataset.path(item)).convert("RGB").crop((0, 24, 192, 168))
        content = io.BytesIO()
        grainy(drawing, grain[:height, :width]).save(content, "jpeg", quality=85)
        contents.append(content.getvalue())
    for number in range(count):
        exif = Image.Exif()
        exif[0x0112] = (1, 1, 1, 6)[number % 4]
        exif[0x010F] = "camera"
        exif[0x010E] = f"picture {number}"
        block, content = exif.tobytes(), contents[number % DISTINCT]
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block
        path.write_bytes(content[:2] + segment + content[2:])


def plain_loop(model: RetrievalModel, paths: list[Path], size: int) -> None:
    """The loop that is written first: open, resize, crop, normalise, as open_clip does, and embed a
    batch.
    """
    for start in range(0, len(paths), size):
        batch = [preprocessed(path) for path in paths[start : start + size]]
        with torch.no_grad():
            pooled = model.clip.vision_model(pixel_values=torch.stack(batch)).pooler_output
            torch.nn.functional.normalize(model.clip.visual_projection(pooled), dim=1)


def preprocessed(path: Path) -> torch.Tensor:
    """[3, 224, 224] as open_clip's transform makes it of a picture."""
    picture = Image.open(path).convert("RGB")
    scale = 224 / min(picture.size)
    picture = picture.resize(
        [round(side * scale) for side in picture.size], Image.Resampling.BICUBIC
    )
    x, y = ((side - 224) // 2 for side in picture.size)
    levels = np.asarray(picture.crop((x, y, x + 224, y + 224)), np.float32) / 255
    return torch.from_numpy((levels - MEAN) / STD).permute(2, 0, 1)


def built(folder: str, count: int) -> Callable[[], object]:
    """What builds an index over the first `count` pictures with a small model, so that reading
    decides.
    """
    model, part = RetrievalModel(build_clip(), build_processor()), first(folder, count)
    small = first(folder, 8)
    MediaIndex.build(model, small)  # what loads at first use is loaded now
    return lambda: MediaIndex.build(model, part)


def listed(folder: str, count: int) -> Callable[[], object]:
    """What lists the first `count` pictures."""
    part = first(folder, count)
    return lambda: find(part)


def first(folder: str, count: int) -> Path:
    """A folder of links to the first `count` pictures; it stays until the collection goes."""
    part = Path(folder).parent / f"first-{count}"
    part.mkdir(exist_ok=True)
    for path in sorted(Path(folder).rglob("*.jpg"))[:count]:
        if not (part / path.name).exists():
            (part / path.name).symlink_to(path)
    return part
