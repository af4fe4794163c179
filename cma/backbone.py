"""Load the CLIP that is to be frozen: the bundled `mini`, a model of the Hugging Face hub, or a folder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoTokenizer, CLIPModel, CLIPProcessor, PreTrainedTokenizerBase
from transformers.utils import logging

MINI = Path(__file__).parent / "mini_clip"
PHOTOGRAPHS = "openai/clip-vit-base-patch32"  # of the hub; the paper's, and the one to take for photographs
DIGEST_LENGTH = 12  # of a folder's revision; the hub's commits have 40 digits
NEEDED = (("config.json",), ("preprocessor_config.json", "processor_config.json"),
          ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
          ("tokenizer.json", "vocab.json"))  # fmt: skip


def load_backbone(
    name: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device | None = None
) -> tuple[CLIPModel, CLIPProcessor]:
    """A pre-trained CLIP and its processor: "mini", a hub id ("openai/clip-vit-base-patch32") or a folder.

    A hub model that lies whole in the cache is taken from there, without asking the hub for a newer revision.
    Images are prepared with Pillow whether torchvision is installed or not, so that recall does not depend on
    it. Raises FileNotFoundError for a folder that is missing or holds no model, OSError for a hub id that
    cannot be loaded, ValueError for a model that is no CLIP, lacks weights, or would pool the wrong token.
    """
    source = _source(name)
    called = str(source.absolute() if isinstance(source, Path) and name != "mini" else name)
    cached = _cached(source) if isinstance(source, str) else None
    source = cached or source
    try:
        if isinstance(source, str):
            huggingface_hub.model_info(source, timeout=10)  # transformers would try for half a minute
        config = AutoConfig.from_pretrained(source)
    except Exception as error:  # the client's errors differ from release to release
        raise OSError(
            f"{str(name)!r} is neither 'mini', nor a folder here, nor a hub model that can be had: {error}"
        ) from error
    if config.model_type != "clip":
        raise ValueError(f"{name}: a model of type {config.model_type!r}; expected a CLIP (`CLIPModel`)")
    clip, info = _quietly(source, dtype)
    if info["missing_keys"] or info["mismatched_keys"]:
        wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise ValueError(
            f"{name}: {len(wrong)} weights are missing or of another shape: {', '.join(wrong[:5])}"
        )
    processor = CLIPProcessor(_image_processor(source), AutoTokenizer.from_pretrained(source))
    check_tokenizer(clip, processor.tokenizer)
    clip.config.name_or_path = called
    if isinstance(source, Path):
        clip.config._commit_hash = cached.name if cached else _digest(source)
    return clip.to(device).eval(), processor


def load_first(
    names: Sequence[str], dtype: torch.dtype = torch.float32, device: str | torch.device | None = None
) -> tuple[CLIPModel, CLIPProcessor]:
    """The first of several backbones that can be had; prints which could not. Raises as `load_backbone`."""
    for name in names[:-1]:
        try:
            return load_backbone(name, dtype, device)
        except OSError:
            print(f"{name}: neither in the cache nor reachable")
    return load_backbone(names[-1], dtype, device)


def identity(clip: CLIPModel) -> dict[str, str | None]:
    """Name and revision of a backbone: the hub's commit, or a digest of a folder's weight files.

    The name of a folder is its absolute path.
    """
    return {"name": clip.config.name_or_path or None, "revision": getattr(clip.config, "_commit_hash", None)}


def known_by(identity: dict[str, str | None]) -> str | None:
    """What tells the weights of a backbone from others: its revision, or its name if it has none.

    The name of a folder does not count: the same weights may lie in two folders.
    """
    return identity["revision"] or identity["name"]


def loadable(identity: dict[str, str | None]) -> str:
    """The name by which `load_backbone` finds a backbone: a folder's as an absolute path.

    A relative path looks like a hub id; its revision tells that it is a folder, so that no hub is asked.
    """
    name, revision = identity["name"], identity["revision"]
    of_folder = name != "mini" and revision is not None and len(revision) == DIGEST_LENGTH
    return str(Path(name).expanduser().absolute()) if of_folder else name


def check_tokenizer(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless the text tower takes its embedding at the token that ends a caption.

    transformers pools at the first `text_config.eos_token_id`; the id 2 is a legacy value that means "at the
    highest id". With a tokenizer that ends its captions otherwise, words would silently be ignored.
    """
    end, pooled = tokenizer.eos_token_id, clip.config.text_config.eos_token_id
    highest = max(tokenizer.get_vocab().values())
    size = clip.config.text_config.vocab_size
    if highest >= size:
        raise ValueError(
            f"the tokenizer knows id {highest}, the text tower only {size} ids: they do not belong together"
        )
    if tokenizer("a")["input_ids"][-1] != end:
        raise ValueError(
            f"the tokenizer does not end a caption with its EOS (id {end}): no place to pool the text"
        )
    if pooled == 2 and end != highest:
        raise ValueError(
            f"text_config.eos_token_id 2 means 'pool at the highest id', but this tokenizer ends captions "
            f"with id {end} and goes up to {highest}: words after a higher id would never be seen. "
            f"Give EOS another id than 2 and set text_config.eos_token_id to it"
        )
    if pooled not in (2, end):
        raise ValueError(
            f"text_config.eos_token_id is {pooled}, the tokenizer ends captions with id {end}: "
            f"every text would be pooled at its first token. Set text_config.eos_token_id to {end}"
        )


def _source(name: str | Path) -> str | Path:
    """The folder that `name` stands for, or `name` itself where it is a hub id."""
    folder = MINI if name == "mini" else Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if name == "mini":
        raise FileNotFoundError(f"{folder}: the bundled CLIP is missing; reinstall cross-modal-adapter")
    if folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no config.json in it; expected what `CLIPModel.save_pretrained` writes"
        )
    if isinstance(name, Path) or name.count("/") > 1 or name.startswith(".") or folder.is_absolute():
        raise FileNotFoundError(
            f"{folder}: no such folder; expected 'mini', a hub id or a folder with a CLIP"
        )
    return name


def _cached(name: str) -> Path | None:
    """The folder of a hub model in the cache, if all its files are there; it is called by its revision."""
    try:
        folder = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None
    return folder if all(any((folder / file).is_file() for file in files) for files in NEEDED) else None


def _quietly(source: str | Path, dtype: torch.dtype) -> tuple[CLIPModel, dict]:
    """Load weights; the progress bar is for downloads, so a folder shows none."""
    bar = logging.is_progress_bar_enabled()
    if isinstance(source, Path):
        logging.disable_progress_bar()
    try:
        return CLIPModel.from_pretrained(source, dtype=dtype, output_loading_info=True)
    finally:
        if bar:
            logging.enable_progress_bar()


def _image_processor(source: str | Path) -> nn.Module:
    """The Pillow image processor, whose class newer releases of transformers call `…Pil`."""
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return kind.from_pretrained(source)


def _digest(folder: Path) -> str:
    """A short digest of the weight files of a folder, whatever their names."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:DIGEST_LENGTH]
