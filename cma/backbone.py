"""Load a backbone: the bundled `mini`, a model from the hub, or one from a folder."""

import hashlib
import json
import re
from pathlib import Path

import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.utils import logging

from . import require
from .families import family_of

Device = str | torch.device | None
MINI = Path(__file__).parent / "mini_clip"
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+", re.ASCII)
# a hub id: the paper's backbone, to be used for photographs
PHOTOGRAPHS = "openai/clip-vit-base-patch32"
NEEDED = (  # a complete model's folder has at least one file of each group
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model"),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
)


def load_backbone(
    name: str | Path,
    dtype: torch.dtype = torch.float32,
    device: Device = None,
    revision: str | None = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load a backbone and its processor from the bundled "mini", the hub or a folder.

    A complete hub model in the cache is loaded from there, without asking the hub for a newer one.
    No code of a model is executed; only tensors are read. Pictures are prepared with Pillow even if
    torchvision is installed, so that recall does not depend on it.

    Args:
        name: "mini", a hub id such as "openai/clip-vit-base-patch32", or a folder.
        dtype: the precision of the backbone.
        device: where the backbone goes; the CPU by default.
        revision: the hub's commit, branch or tag.

    Returns:
        The model and its processor.

    Raises:
        FileNotFoundError: the folder is missing or holds no model.
        OSError: the hub model cannot be loaded.
        ValueError: the device does not exist, or the model is in no family (`cma.families`), lacks
            weights, or would pool the wrong token.

    >>> clip, processor = cma.load_backbone("mini")
    >>> model = cma.RetrievalModel(clip, processor)
    >>> model.layers
    {'vision': 6, 'text': 6}
    """
    dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(
            f"dtype={dtype!r}: expected torch.float32, torch.bfloat16 or torch.float16"
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # which one depends on torch's build
        reason = str(error).splitlines()[0]
        if "device type at start" in reason:  # torch lists twenty that it knows
            reason = "no kind of device"
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({reason}); expected 'cpu', or with such "
            "a GPU 'cuda', 'cuda:1', … or 'mps'"
        ) from error
    found = _source(name)
    cached = _cached(found, revision) if isinstance(found, str) else None
    source = cached or found
    # else transformers asks the user
    at = {"revision": revision or "main", "trust_remote_code": False}
    try:
        if isinstance(source, str):
            # transformers would wait 30 s
            huggingface_hub.model_info(source, revision=revision, timeout=10)
        config = AutoConfig.from_pretrained(source, **at)
    except Exception as error:  # the client's errors differ from release to release
        tried = "neither 'mini', nor a folder here, nor a hub model that can be loaded"
        raise OSError(f"{str(name)!r} is {tried}: {' '.join(str(error).split())}") from error
    family = family_of(config, name)
    model_class = getattr(transformers, family.model)
    bar = logging.is_progress_bar_enabled()
    if isinstance(source, Path):
        logging.disable_progress_bar()  # the bar is meant for downloads
    try:
        about = {"dtype": dtype, "output_loading_info": True}
        clip, info = model_class.from_pretrained(source, **about, **at)
    except SafetensorError as error:
        raise ValueError(
            f"{name}: its weights are damaged ({error}); save or fetch them again"
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if wrong:
        raise ValueError(
            f"{name}: {len(wrong)} weights are missing or misshaped: {', '.join(wrong[:5])}"
        )
    try:
        processor = AutoProcessor.from_pretrained(source, backend="pil", **at)
    except ImportError:  # transformers' message has many lines
        require("siglip", "sentencepiece")
        raise
    check_tokenizer(clip, processor.tokenizer)
    clip.config.name_or_path = (
        name if name == "mini" or isinstance(found, str) else str(found.absolute())
    )
    if isinstance(source, str):  # just downloaded; transformers does not always give the commit
        cached = _cached(source, revision)
    if cached or isinstance(source, Path):
        clip.config._commit_hash = cached.name if cached else _digest(Path(source))
    return clip.to(device).eval(), processor


def identity(clip: PreTrainedModel) -> dict[str, str | None]:
    """Return name (a folder's absolute path) and revision (a commit, or the weights' digest)."""
    return {
        "name": clip.config.name_or_path or None,
        "revision": getattr(clip.config, "_commit_hash", None),
    }


def known_by(identity: dict[str, str | None]) -> str | None:
    """Return a backbone's revision, which a copied folder keeps, or else its name."""
    return identity["revision"] or identity["name"]


def check_tokenizer(clip: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless the text tower takes its embedding at the token that ends a caption.

    transformers pools at the first `text_config.eos_token_id`; in CLIP the id 2 is a legacy value
    that means "at the highest id". With a tokenizer that ends captions differently, words would
    silently be ignored.
    """
    family = family_of(clip.config)
    config = clip.config.text_config
    pooled = config.eos_token_id
    ids = tokenizer("a")["input_ids"]
    end = family.end_of(tokenizer)
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        message = f"but the text tower only {config.vocab_size} ids"
        raise ValueError(f"the tokenizer has ids up to {highest}, {message}")
    if ids[-1] != end:
        raise ValueError(
            f"the tokenizer does not end a caption with its EOS (id {end}): nowhere to pool"
        )
    if family.mask and (ids[0], config.pad_token_id) != (
        tokenizer.cls_token_id,
        tokenizer.pad_token_id,
    ):
        message = f"starts a caption with id {ids[0]} and pads with {tokenizer.pad_token_id}"
        raise ValueError(f"the tokenizer {message}; expected [CLS] and text_config.pad_token_id")
    if family.pooled == "end" and end != (highest if family.legacy_end and pooled == 2 else pooled):
        message = (
            f"text_config.eos_token_id is {pooled}, but the tokenizer ends captions with id {end}"
        )
        raise ValueError(
            f"{message}: words would never be seen. Give EOS another id than 2, and set it to that"
        )


def _source(name: str | Path) -> str | Path:
    """Return the folder that `name` means, or `name` itself if it is a hub id."""
    folder = MINI if name == "mini" else Path(name).expanduser()
    if (folder / "config.json").is_file():
        if b'"model_type": "cma"' in (folder / "config.json").read_bytes():
            raise ValueError(
                f"{folder}: written by cma.export, for sentence-transformers; load its backbone, "
                "and the adapter that it was made from"
            )
        return folder
    if (old := folder / "0_CLIPModel" / "config.json").is_file():  # of sentence-transformers
        return old.parent
    if folder.is_dir() or not (isinstance(name, str) and HUB_ID.fullmatch(name)):
        wanted = "expected 'mini', 'user/name' on the hub, or a folder with its config.json"
        raise FileNotFoundError(f"{folder}: no model there; {wanted}")
    return name


def _cached(name: str, revision: str | None) -> Path | None:
    """Return a hub model's folder in the cache, named by its revision; None if incomplete."""
    try:
        folder = Path(
            huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True)
        )
    except (OSError, ValueError):
        return None
    there = all(any((folder / file).is_file() for file in files) for files in NEEDED)
    return folder if there and not _missing_shards(folder) else None


def _missing_shards(folder: Path) -> bool:
    """Whether files are missing that the index of a model in several files lists."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():
        return False
    try:
        shards = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return not all((folder / shard).is_file() for shard in shards)
    except (AttributeError, KeyError, TypeError, ValueError):  # a damaged index
        return True


def _digest(folder: Path) -> str:
    """Return a short digest of the contents of a folder's weight files, but not of their names."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]  # 12 digits; the hub's commits have 40
