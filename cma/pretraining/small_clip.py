"""A small CLIP from nothing: tokenizer, random weights, preprocessor, and the folder it is saved in."""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import transformers
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's pixel statistics
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipShape:
    """Sizes of the model: pixels, widths, depth of both towers, tokens."""

    image_size: int = 72
    patch_size: int = 12
    vision_width: int = 256
    text_width: int = 192
    layers: int = 6
    projection: int = 256
    vocabulary: int = 4096
    context: int = 32


def build_tokenizer(texts: Sequence[str], shape: ClipShape) -> CLIPTokenizer:
    """A byte-level BPE trained on `texts`, in CLIP's own format; `<|endoftext|>` is the last id, never 2."""
    backend = CLIPTokenizer().backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary - 514,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    words = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    words = list(dict.fromkeys(words)) + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=shape.context)


def build_model(shape: ClipShape, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A randomly initialised `CLIPModel` for `tokenizer`."""
    tower = {
        "num_hidden_layers": shape.layers,
        "hidden_act": "quick_gelu",
        "projection_dim": shape.projection,
    }
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": 4 * shape.vision_width,
        "num_attention_heads": shape.vision_width // 64,
        "image_size": shape.image_size,
        "patch_size": shape.patch_size,
    }
    text = {
        "hidden_size": shape.text_width,
        "intermediate_size": 4 * shape.text_width,
        "num_attention_heads": shape.text_width // 64,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": shape.context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPModel(
        CLIPConfig(vision_config=vision | tower, text_config=text | tower, projection_dim=shape.projection)
    )


def processor_for(model: CLIPModel, tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """Tokenizer and picture preparation (resize, centre crop, CLIP's mean and deviation) of `model`."""
    size = model.config.vision_config.image_size
    kind = getattr(transformers, "CLIPImageProcessorPil", CLIPImageProcessor)  # needs no torchvision
    images = kind(size={"shortest_edge": size}, crop_size=size, image_mean=MEAN, image_std=STD)
    return CLIPProcessor(images, tokenizer)


def export(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save model (half precision), tokenizer and preprocessor in Hugging Face's folder format.

    An existing folder keeps its other files, such as the card; each file is replaced whole.
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
