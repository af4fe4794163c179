"""A small CLIP with random weights: tokenizer, model, processor, and the folder it is saved in."""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import transformers
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer


@dataclass
class ClipShape:
    """The sizes of a CLIP."""

    image_size: int = 96  # pixels
    patch_size: int = 16
    vision_width: int = 256
    text_width: int = 192
    layers: int = 6  # of each tower
    projection: int = 256  # width of the embeddings
    vocabulary: int = 4096  # tokens
    context: int = 32  # tokens of a caption


def build_tokenizer(texts: Sequence[str], shape: ClipShape) -> CLIPTokenizer:
    """Train a byte-level BPE tokenizer on `texts`, in CLIP's own format.

    `<|endoftext|>` has the highest id, since transformers gives the id 2 another meaning.
    """
    backend = CLIPTokenizer().backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    how = {"initial_alphabet": alphabet, "end_of_word_suffix": "</w>", "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=shape.vocabulary - 514, **how)
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words = list(dict.fromkeys(words)) + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=shape.context)


def build_model(shape: ClipShape, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Return a randomly initialised `CLIPModel` for `tokenizer`."""

    def tower(width: int) -> dict:
        sizes = {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_attention_heads": width // 64,
        }
        sizes |= {"num_hidden_layers": shape.layers, "projection_dim": shape.projection}
        return sizes | {"hidden_act": "quick_gelu"}

    vision = tower(shape.vision_width) | {
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
    }
    text = tower(shape.text_width) | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": shape.context,
    }
    text |= {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    return CLIPModel(
        CLIPConfig(vision_config=vision, text_config=text, projection_dim=shape.projection)
    )


def processor_for(model: CLIPModel, tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """Return the processor of `model`: resize, centre crop, CLIP's mean and deviation, and the
    tokenizer.
    """
    size = model.config.vision_config.image_size
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return CLIPProcessor(kind(size={"shortest_edge": size}, crop_size=size), tokenizer)


def export(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save model (in half precision), tokenizer and preprocessor in the format of Hugging Face.

    Other files of an existing folder, such as the model card, stay; each file is replaced whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        half = copy.deepcopy(model).half()
        half.set_attn_implementation("sdpa")
        for part in (half, tokenizer, processor_for(model, tokenizer).image_processor):
            part.save_pretrained(temporary)
        folder.mkdir(exist_ok=True)
        for file in Path(temporary).iterdir():
            file.replace(folder / file.name)
