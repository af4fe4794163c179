"""A CLIP of ViT-B/32's dimensions with random weights, in Hugging Face's format: no hub is needed.

It takes the time and the memory of `openai/clip-vit-base-patch32`, and retrieves nothing. Its tokenizer is
the bundled mini's, with room for 77 tokens; of the 49,408 ids of the text tower, as many as OpenAI's, that
uses 3,781.
"""

import shutil
from pathlib import Path

WORDS, CONTEXT = 49_408, 77
WHOLE = "preprocessor_config.json"  # written last


def save_random_clip(folder: Path, seed: int) -> None:
    """Write the backbone into `folder`, unless it is there. Takes about 300 MB, in half precision."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from cma import load_backbone

    if (folder / WHOLE).is_file():
        return
    _, processor = load_backbone("mini")
    tokenizer, images = processor.tokenizer, processor.image_processor
    end, begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    config = CLIPConfig()  # whose defaults are ViT-B/32's
    text = {"vocab_size": WORDS, "max_position_embeddings": CONTEXT, "bos_token_id": begin}
    config.text_config.update(text | {"eos_token_id": end, "pad_token_id": tokenizer.pad_token_id})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = CLIPModel(config).half()
    shutil.rmtree(folder, ignore_errors=True)
    clip.save_pretrained(folder)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(folder)
    side = config.vision_config.image_size
    images.size, images.crop_size = {"shortest_edge": side}, {"height": side, "width": side}
    images.save_pretrained(folder)
