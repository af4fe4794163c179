"""Reading against the model's appetite: clips from files and from kept frames, and large JPEGs into
an index.

The clips are H.264 of 240 × 320 pixels and 10 to 30 s, the pictures JPEGs of 12 megapixels; both
are made here. The model is a ViT-B/32 of random weights.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPProcessor

from cma import RetrievalModel, TrainConfig, data
from cma.training import Pixels, model_frames
from cma.training.reading import load_media
from data_prep.frames import Extraction, extract
from explorer.index import MediaIndex
from explorer.index.weights import identify
from tests.bench.measure import ratio
from tests.bench.step import build
from tests.conftest import build_processor
from tests.toy_data import write_dataset
from tests.toy_media import encode, grainy

BATCH, FRAMES = 4, 12  # clips of a batch, frames of a clip


def figures(quick: bool) -> dict:
    """Frames a second that are read ÷ those that the model embeds, above 1 where it never waits;
    JPEGs.
    """
    pairs, found = 1 if quick else 3, {}
    model, processor = build("adapter")[0].eval(), build_processor()
    model.processor = CLIPProcessor(CLIPImageProcessorPil(), processor.tokenizer)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_clips(folder / "clips", 4 if quick else 16)
        extract(clips, folder / "kept", Extraction(fps=1.0), workers=2)
        for kind, source in (("files", clips), ("kept frames", folder / "kept")):
            dataset = data.load(source, "train")
            for workers in (2,) if quick else (0, 2):
                name = f"model ÷ reading from {kind} with {workers} workers, time"
                found[name] = ratio(
                    lambda: embed(model, len(dataset)),  # noqa: B023 (called at once)
                    lambda: read(model, dataset, workers),  # noqa: B023
                    pairs,
                )
            found[f"share of the time that the model waits for {kind}, 2 workers"] = waiting(
                model, dataset
            )
        pictures = write_pictures(folder / "pictures", 8 if quick else 96)
        count = len(list(pictures.iterdir()))
        found[f"model ÷ index over {count} JPEGs of 12 megapixels, time"] = ratio(
            lambda: (identify(model), embed(model, count, 1)),
            lambda: MediaIndex.build(model, pictures),
            pairs,
        )
    return found


def write_clips(folder: Path, count: int) -> Path:
    """A dataset folder of clips with moving content, 10 to 30 s at 25 frames a second."""
    chance, lines = np.random.default_rng(0), []
    scene = Image.fromarray(chance.integers(0, 255, (30, 40, 3), np.uint8)).resize((960, 720))
    for i in range(count):
        places = [
            ((2 * t + 37 * i) % 640, (t + 11 * i) % 480) for t in range(25 * (10 + 20 * i // count))
        ]
        pictures = [scene.crop((x, y, x + 320, y + 240)) for x, y in places]
        encode(folder / "media" / f"{i}.mp4", pictures, rate=25, preset="veryfast")
        lines.append(
            {"file_name": f"media/{i}.mp4", "id": str(i), "captions": ["a"], "split": "train"}
        )
    return write_dataset(folder, lines, {"name": "clips", "kind": "video"})


def write_pictures(folder: Path, count: int) -> Path:
    """JPEGs of 4000 × 3000 pixels with some grain, about 3 MB each."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    grain = chance.normal(0, 6, (3000, 4000, 1)).astype(np.int16)
    for i in range(count):
        colours = Image.fromarray(chance.integers(0, 255, (30, 40, 3), np.uint8))
        grainy(colours, grain).save(folder / f"{i}.jpg", quality=85)
    return folder


def read(model: RetrievalModel, dataset: data.RetrievalDataset, workers: int) -> None:
    """Read every clip once, as training does."""
    pixels = Pixels(model.processor, TrainConfig(max_frames=FRAMES))
    batches = [part.tolist() for part in torch.arange(len(dataset)).split(BATCH)]
    for _ in load_media(dataset, pixels, batches, workers):
        pass


def waiting(model: RetrievalModel, dataset: data.RetrievalDataset, workers: int = 2) -> float:
    """The share of an epoch, from its second batch on, in which the model waits for frames to
    embed.
    """
    pixels = Pixels(model.processor, TrainConfig(max_frames=FRAMES))
    batches = [part.tolist() for part in torch.arange(len(dataset)).split(BATCH)] * 2
    media, waited = iter(load_media(dataset, pixels, batches, workers)), 0.0
    next(media)
    began = start = time.perf_counter()
    for frames, mask in media:
        waited += time.perf_counter() - start
        with torch.no_grad():
            model.encode_videos(model_frames(model, frames, mask), mask)
        start = time.perf_counter()
    return round(waited / (start - began), 3)


def embed(model: RetrievalModel, items: int, frames: int = FRAMES) -> None:
    """What the model does with so many items that are in memory already, without gradients."""
    size = BATCH * FRAMES // frames
    for start in range(0, items, size):
        count = min(size, items - start)
        raw = torch.zeros(count, frames, 3, 224, 224, dtype=torch.uint8)
        mask = torch.ones(count, frames)
        with torch.no_grad():
            model.encode_videos(model_frames(model, raw, mask), mask)
