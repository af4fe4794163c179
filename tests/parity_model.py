"""The authors' numbers under tests/parity, and the same tiny CLIP and adapter in our form.

The authors' code (commit 07b2203, unedited) gave them in float32 on one CPU thread; the keys are
theirs. `state_dict`: CLIP and adapter; `inputs`: 4 texts, 4 videos of 3 frames, video 2 with one
padded frame; `outputs`: features, similarities times exp(logit_scale), losses and gradients, for
the text-conditioned ("qscore") and the mean-pooled ("meanp") similarity; `train3_*`: three steps of
their optimiser. `half_*` are of half-precision training, as they train: six batches of 8; thirty
steps from adapters times 1/16 in one process ("one"), with gradients divided by 4 ("div4") and in
four processes ("ddp4"); and the clipped gradients of "one".
"""

import re
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from cma.checkpoints import from_official
from cma.model import RetrievalModel

FOLDER = Path(__file__).parent / "parity"
RENAMED = (  # OpenAI's names → transformers'
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^text_projection$", "text_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def numbers(name: str) -> dict[str, Tensor]:
    """One file of the authors' numbers."""
    return load_file(FOLDER / f"{name}.safetensors")


def clip_from_openai(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a `CLIPModel` from one with OpenAI's names; adapters' keys are left out."""
    converted = {}
    for key, value in state.items():
        for pattern, ours in RENAMED:
            key = re.sub(pattern, ours, key)
        if key in ("visual_projection.weight", "text_projection.weight"):
            converted[key] = value.T
        elif match := re.search(r"attn\.in_proj_(weight|bias)$", key):
            for name, part in zip("qkv", value.chunk(3), strict=True):
                converted[f"{key[: match.start()]}self_attn.{name}_proj.{match[1]}"] = part
        elif "adapter" not in key:
            converted[key] = value
    return converted


def parity_model() -> RetrievalModel:
    """The authors' tiny CLIP with their adapter, named "official", active."""
    shape = {"num_hidden_layers": 3, "hidden_act": "quick_gelu"}
    text = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_attention_heads": 1,
        "vocab_size": 500,
        **shape,
    }
    text |= {
        "max_position_embeddings": 16,
        "bos_token_id": 498,
        "eos_token_id": 499,
        "pad_token_id": 0,
    }
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2, **shape}
    vision |= {"image_size": 32, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    state = numbers("state_dict")
    clip.load_state_dict(clip_from_openai(state))
    model = RetrievalModel(clip)
    model.add_adapter("official", *from_official(state))
    return model


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference."""
    assert ours.shape == theirs.shape
    return (ours.detach() - theirs).abs().max().item()
