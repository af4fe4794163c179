"""What a GPU has to show, meant for less than eight minutes: `python -m tests.bench gpu`.

The weights are random, of ViT-B/32's shape, and the numbers to compare with are those of the
authors' code under tests/parity. Only the check of norms takes OpenAI's ViT-B/32, which is
downloaded if it is not in the cache. It prints JSON and a table for docs/reproduce.md. A check that
fails says so in one line, and the others go on. Without a GPU one line says so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

import cma
import explorer
from cma import RetrievalModel, TrainConfig
from cma.checkpoints import OFFICIAL
from cma.training import Batch, encode, plan, prepare, restore, step, train_step
from tests import ROOT
from tests.conftest import build_processor
from tests.parity_model import largest_difference, numbers, parity_model
from tests.toy_data import write_dataset
from tests.training.thirty_steps import follow, is_close

GIB = 2**30
REAL = "openai/clip-vit-base-patch32"
PICTURES = ROOT / "data" / "mini-flickr30k"
VIDEO = TrainConfig(similarity="text_conditioned", lr=1e-5, batch_size=128)


@dataclass(frozen=True)
class Size:
    """How much is measured: layers of each tower, pairs of a step, of a batch, pictures of an
    index.
    """

    layers: int = 12
    pairs: int = 16
    batches: tuple[tuple[int, int], ...] = ((128, 12), (64, 64))  # pairs, frames
    pictures: int = 512
    repeats: int = 5


TOY = Size(layers=2, pairs=2, batches=((4, 2),), pictures=6, repeats=1)


# ---- what is checked: each function returns its figures, and raises AssertionError for a wrong one


def float32(device: torch.device, size: Size) -> dict:
    """Features, similarities, losses and gradients of the authors' code."""
    model, inputs, theirs = parity_model().to(device), numbers("inputs"), numbers("outputs")
    ids, video, mask = (inputs[key].to(device) for key in ("input_ids", "video", "video_mask"))
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        text, frames = model.encode_text(ids), model.encode_videos(video, mask)
        logits = model.logit_scale * cma.similarity.text_conditioned(text, frames, mask)
        cma.losses.symmetric_cross_entropy(logits).backward()
    finally:
        torch.backends.cudnn.allow_tf32 = before
    parameters = dict(model.adapters["official"].named_parameters())
    off = {
        "features": largest_difference(frames.flatten(0, 1).cpu(), theirs["encode_image"]),
        "similarity": largest_difference(logits.cpu(), theirs["qscore.sim"]),
        "gradient": max(
            largest_difference(parameters[ours].grad.cpu(), theirs[f"qscore.grad.{name}"])
            for ours, name in OFFICIAL.items()
        ),
    }
    allowed = {"features": 2e-5, "similarity": 2e-5, "gradient": 5e-6}
    assert all(off[key] <= allowed[key] for key in off), f"{off}, allowed {allowed}"
    return off


def bf16(device: torch.device, size: Size) -> dict:
    """The loss in bfloat16 beside the authors' in float32."""
    model, inputs, theirs = parity_model().to(device), numbers("inputs"), numbers("outputs")
    batch = Batch(inputs["input_ids"], inputs["video"], inputs["video_mask"], torch.arange(4)).to(
        device
    )
    loss = step.batch_loss(model, batch, VIDEO.merge({"precision": "bf16"})).item()
    off = abs(loss / theirs["qscore.loss"].item() - 1)
    assert off <= 0.02, f"loss off by {off:.4f} of it, allowed 0.02"
    return {"loss, part": off}


def fp16(device: torch.device, size: Size) -> dict:
    """Thirty steps of the authors' half precision, in one process and as their four leave the
    gradient.
    """
    figures = {}
    for run, divisor in (("one", 1), ("ddp4", 4)):
        steps = follow(run, divisor, str(device))
        figures |= {
            f"{run}, loss": max(off.loss for off in steps),
            f"{run}, norm, part": max(off.norm for off in steps),
            f"{run}, movement, part": max(off.moved for off in steps if off.moved is not None),
            f"{run}, missed, part": max(off.missed for off in steps if off.missed is not None),
        }
        far = [off for off in steps if not is_close(off)]
        assert not far, (
            f"{run}: {len(far)} of 30 steps are too far from theirs, the first: {far[0]}"
        )
    return figures


def micro_batches(device: torch.device, size: Size) -> dict:
    """The gradient in micro-batches, with and without checkpointing, beside that of the whole
    batch.
    """
    model, batch = build(size, device), noise(size.pairs, 4, device)
    whole = gradient(model, batch, VIDEO)
    off = {}
    for name, settings in {
        "micro": {},
        "micro and checkpointed": {"checkpoint_activations": True},
    }.items():
        config = VIDEO.merge({"micro_batch": max(1, size.pairs // 3)} | settings)
        off[f"{name}, part"] = (
            (gradient(model, batch, config) - whole).norm() / whole.norm()
        ).item()
    assert max(off.values()) <= 1e-3, f"{off}, allowed 1e-3"
    return off


def planned(device: torch.device, size: Size) -> dict:
    """What `plan` says of a run, beside the memory and the seconds of its first steps."""
    with tempfile.TemporaryDirectory() as name:
        pairs, frames = size.batches[0]
        dataset = cma.load_dataset(write_clips(Path(name), pairs // 2, frames), "train")
        config = VIDEO.merge(
            {"batch_size": pairs, "max_frames": frames, "fps": None, "micro_batch": "auto"}
        )
        config = config.merge({"select_on": "last", "precision": "bf16", "runs_dir": name})
        model = build(size, device)
        needed = plan(model, dataset, config)
        config = config.merge({"micro_batch": needed.pairs})
        seconds, peak = measured(model, noise(pairs, frames, device), config, size.repeats)
    figures = {
        "pairs at once": needed.pairs,
        "seconds": seconds,
        "planned ÷ seconds": needed.step_seconds / seconds,
    }
    if peak is not None:
        figures |= {"GiB": peak, "planned ÷ GiB": needed.peak / peak}
        assert 0.7 <= needed.peak / peak <= 1.5, (
            f"planned {needed.peak:.2f} GiB, measured {peak:.2f}"
        )
        ratio = needed.step_seconds / seconds
        assert 0.5 <= ratio <= 2, f"planned {needed.step_seconds:.2f} s, measured {seconds:.2f}"
    return figures


def large_batches(device: torch.device, size: Size) -> dict:
    """One step of the largest batches of the paper, in as many parts as memory wants."""
    figures, model = {}, build(size, device)
    for precision in ("bf16", "fp16"):
        for pairs, frames in size.batches:
            config = VIDEO.merge({"precision": precision, "micro_batch": pairs})
            while True:
                try:
                    seconds, peak = measured(model, noise(pairs, frames, device), config, 1)
                    break
                except MemoryError as error:
                    if config.micro_batch == 1:
                        raise AssertionError(
                            f"{pairs} × {frames}: one pair does not fit: {error}"
                        ) from error
                    config = config.merge({"micro_batch": config.micro_batch // 2})
                    empty(device)
            name = f"{precision}, {pairs} × {frames}"
            figures |= {f"{name}, pairs at once": config.micro_batch, f"{name}, seconds": seconds}
            figures |= {} if peak is None else {f"{name}, GiB": peak}
            empty(device)
    return figures


def adapter_against_all(device: torch.device, size: Size) -> dict:
    """A step of the adapter ÷ one of full fine-tuning: time and memory (the paper: about two
    thirds).
    """
    figures = {}
    for precision in ("float32", "bf16"):
        config = VIDEO.merge({"precision": precision})
        ours, theirs = build(size, device), build(size, device, "full fine-tuning")
        batch = noise(size.pairs, 12, device)
        pairs = [
            (measured(ours, batch, config, 1), measured(theirs, batch, config, 1))
            for _ in range(size.repeats)
        ]
        figures[f"{precision}, time"] = statistics.median(one[0] / other[0] for one, other in pairs)
        if pairs[0][0][1] is not None:
            figures[f"{precision}, memory"] = pairs[-1][0][1] / pairs[-1][1][1]
    return figures


def indexed(device: torch.device, size: Size) -> dict:
    """An index of random pictures: files a second, and a picture is the nearest to itself."""
    model = build(size, device).eval()
    with tempfile.TemporaryDirectory() as name:
        folder, chance = Path(name), np.random.default_rng(0)
        for i in range(size.pictures):
            colours = Image.fromarray(chance.integers(0, 255, (6, 8, 3), np.uint8))
            colours.resize((1600, 1200), Image.Resampling.BICUBIC).save(
                folder / f"{i:04}.jpg", quality=85
            )
        start = time.perf_counter()
        index = explorer.MediaIndex.build(model, folder)
        seconds = time.perf_counter() - start
        first, _ = index.query_media(folder / "0003.jpg", 1)[0]
    assert first == "0003.jpg", f"the nearest to 0003.jpg is {first}"
    return {"files a second": size.pictures / seconds}


def killed(device: torch.device, size: Size) -> dict:
    """A run that is killed after its first epoch and goes on, beside the same run unbroken."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clips(folder, 8, 2)
        run = f"small_run(Path({name!r}), 'killed', {str(device)!r}, dies=True)"
        code = f"from tests.bench.gpu import *; {run}"
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=2)
        assert ended.returncode < 0, "the run was not killed"
        resumed = small_run(folder, "killed", str(device))
        whole = small_run(folder, "whole", str(device))
    off = max(abs(one - other) for one, other in zip(resumed, whole, strict=True))
    assert off <= 1e-3, f"losses differ by {off}, allowed 1e-3"
    return {"losses": off}


def real_norms(device: torch.device, size: Size) -> dict:
    """Mean norms of the embeddings of a real CLIP, on val pictures: τ = 5 is made for about 10."""
    try:
        model = RetrievalModel(*cma.load_backbone(REAL, device=device))
        val = cma.load_dataset(PICTURES, "val").subset(size.pictures)
    except OSError as error:  # no network, or the pictures are not built
        return {"of a real CLIP": f"not measured: {str(error).splitlines()[0]}"}
    encoded = encode(model, val, TrainConfig(similarity="mean_pooled", max_frames=1))
    of_kinds = {"text": encoded.text, "frames": encoded.frames}
    return {kind: of.float().norm(dim=-1).mean().item() for kind, of in of_kinds.items()}


CHECKS: dict[str, Callable[[torch.device, Size], dict]] = {
    "float32 ÷ authors": float32,
    "bf16 ÷ authors": bf16,
    "fp16 ÷ authors": fp16,
    "gradient, off": micro_batches,
    "plan": planned,
    "step": large_batches,
    "adapter ÷ full fine-tuning": adapter_against_all,
    "index": indexed,
    "killed and resumed, off": killed,
    "mean norm": real_norms,
}


# ---- what they share


def build(size: Size, device: torch.device, method: str = "cross-modal adapter") -> RetrievalModel:
    """ViT-B/32 of random weights with a method that acts, and a tokenizer of the tests."""
    torch.manual_seed(0)
    config = CLIPConfig()
    config.vision_config.num_hidden_layers = config.text_config.num_hidden_layers = size.layers
    processor = CLIPProcessor(CLIPImageProcessorPil(), build_processor().tokenizer)
    config.text_config.eos_token_id = processor.tokenizer.eos_token_id
    model = RetrievalModel(CLIPModel(config), processor).to(device)
    cma.methods.attach(model, method, "a")
    return model.train()


def noise(pairs: int, frames: int, device: torch.device) -> Batch:
    """Captions of 32 tokens and frames of noise."""
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 400, (pairs, 32), generator=chance)
    ids[:, -1] = 499
    pixels = torch.randint(
        0, 255, (pairs, frames, 3, 224, 224), generator=chance, dtype=torch.uint8
    )
    return Batch(ids, pixels, torch.ones(pairs, frames), torch.arange(pairs)).to(device)


def gradient(model: RetrievalModel, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """The gradient of the trained parameters, in one vector."""
    model.zero_grad(set_to_none=True)
    with step.recomputed(model, config):
        step.batch_gradient(model, batch, config)
    return torch.cat([parameter.grad.flatten() for parameter in model.trainable_parameters()])


def measured(
    model: RetrievalModel, batch: Batch, config: TrainConfig, repeats: int
) -> tuple[float, float | None]:
    """(median seconds of a step, GiB at its peak beyond the model or None on a CPU), after one to
    warm up.
    """
    on_gpu = model.device.type == "cuda"
    optimizer = prepare(model, config)
    try:
        train_step(model, optimizer, batch, 1e-5, config)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(model.device)
            before = torch.cuda.memory_allocated(model.device)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            train_step(model, optimizer, batch, 1e-5, config)  # it waits for the GPU, for its loss
            seconds.append(time.perf_counter() - start)
        peak = (torch.cuda.max_memory_allocated(model.device) - before) / GIB if on_gpu else None
    finally:
        restore(model)
    return statistics.median(seconds), peak


def empty(device: torch.device) -> None:
    """Give back what torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def write_clips(folder: Path, count: int, frames: int) -> Path:
    """A dataset folder of `count` clips, folders of frames, with two captions each."""
    chance, lines = np.random.default_rng(0), []
    for i in range(count):
        (folder / "media" / f"{i}").mkdir(parents=True)
        for frame in range(frames):
            pixels = Image.fromarray(chance.integers(0, 255, (7, 7, 3), np.uint8))
            pixels.resize((224, 224)).save(folder / "media" / f"{i}" / f"{frame:03}.jpg")
        texts = [f"a red cat {i}", f"two dogs {i}"]
        lines.append({"file_name": f"media/{i}", "id": str(i), "captions": texts, "split": "train"})
    lines += [line | {"id": f"t{i}", "split": "test"} for i, line in enumerate(lines[:4])]
    return write_dataset(folder, lines, {"name": "clips", "kind": "video", "recipe": "msrvtt"})


def small_run(folder: Path, name: str, device: str, dies: bool = False) -> list[float]:
    """The losses of a run of two epochs, after the first of which its process may die."""

    def end(record: object) -> None:
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = {"batch_size": 4, "max_frames": 2, "fps": None, "epochs": 2, "select_on": "last"}
    config = VIDEO.merge(settings | {"lr": 1e-4, "name": name, "runs_dir": str(folder)})
    model, clips = build(TOY, torch.device(device)), cma.load_dataset(folder, "train")
    return [entry["loss"] for entry in cma.train(model, clips, config, end).history]


def run(device: torch.device, size: Size) -> dict:
    """The figures of every check, or what is wrong with it."""
    results = {}
    for name, check in CHECKS.items():
        start = time.perf_counter()
        try:
            results[name] = check(device, size)
        except Exception as error:  # one that fails says so, and the others go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"failed: {name}: {reason}", file=sys.stderr)
            results[name] = {"failed": reason}
        empty(device)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return results


def table(results: dict, machine: str) -> str:
    """The figures as Markdown, a line each."""
    lines = [f"| on {machine} | figure |", "|---|---|"]
    for name, figures in results.items():
        for key, value in figures.items():
            shown = f"{value:.3g}" if isinstance(value, float) else value
            lines.append(f"| {name}: {key} | {shown} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, and print JSON and the table; returns 1 if a check has failed."""
    parser = argparse.ArgumentParser("python -m tests.bench gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--toy", action="store_true", help="sizes at which a CPU takes seconds")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU is visible to torch: nothing was measured")
        return 0
    device = torch.device(options.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    start = time.perf_counter()
    results = run(device, TOY if options.toy else Size())
    about = {
        "machine": machine,
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - start),
    }
    print(json.dumps(about | results, indent=1, ensure_ascii=False))
    print(table(results, f"{machine}, torch {torch.__version__}"))
    return int(any("failed" in figures for figures in results.values()))
