"""Families of two-tower backbones: one description each, which all code here uses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

TOWERS = ("vision", "text")
# a model of one of the FAMILIES: transformers gives them no common type
Backbone = Any


@dataclass(frozen=True)
class Tower:
    """Module names of an encoder's parts: `layers` inside the tower, all others inside a layer.

    Adapters act on z, the output of the last linear map of the attention and of the MLP, before the
    residual: x becomes x + z + up(act(down(z))). A post-norm layer normalises that sum, so z means
    the same (as Houlsby et al. 2019 do in BERT). `other_names` maps CLIP's names of the attention's
    projections to this tower's.
    """

    layers: str = "encoder.layers"
    attention: str = "self_attn"  # returns (output, weights)
    after_attention: str = "self_attn.out_proj"
    after_mlp: str = "mlp.fc2"
    activation: str = "mlp.activation_fn"
    mlp: str | None = "mlp"  # None: no single module is the whole MLP
    other_names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A model class of transformers, and how we call it."""

    name: str
    model: str
    # the token whose output embeds a text: its "end" token, the "last" place or the "first"
    pooled: str = "end"
    legacy_end: bool = False  # an `eos_token_id` of 2 means the highest id
    full: bool = False  # texts are padded to the full context of the text tower
    # padding is masked; other text towers are causal, or were trained with padding
    mask: bool = False
    lower: bool = False  # texts are lower-cased
    starts: int = 1  # tokens before the words
    # before the patches; 0: `vision_model.head`, an attention, pools the patches
    class_tokens: int = 1
    projected: bool = True  # both towers end with a projection
    norm: float | None = 10.0  # see `comparable`
    vision: Tower = Tower()
    text: Tower = Tower()

    def end_of(self, tokenizer: Any) -> int | None:
        """Return the id of the token that ends each caption."""
        return tokenizer.sep_token_id if self.pooled == "first" else tokenizer.eos_token_id

    def ends(self, config: Any, ids: Tensor) -> Tensor:
        """Return the last place [T] read of each caption in `ids` [T, L].

        `config` is the text tower's.
        """
        if self.pooled == "last":
            return torch.full_like(ids[:, 0], ids.shape[1] - 1)
        if self.pooled == "first":
            return (ids != config.pad_token_id).sum(1) - 1
        end = config.eos_token_id
        return (ids if self.legacy_end and end == 2 else (ids == end).int()).argmax(1)

    def tokenize(
        self, tokenizer: Any, texts: Sequence[str], places: int, max_tokens: int
    ) -> tuple[Tensor, int]:
        """Return ids [T, L] for `places`, and how many texts were truncated to `max_tokens`."""
        # half a character becomes "?"
        texts = [text.encode(errors="replace").decode() for text in texts]
        if self.lower:
            texts = [text.lower() for text in texts]
        rows = tokenizer(texts, verbose=False)["input_ids"]
        cut = sum(len(row) > max_tokens for row in rows)
        ids = [
            torch.tensor(row[: max_tokens - 1] + row[-1:] if len(row) > max_tokens else row)
            for row in rows
        ]
        padding = tokenizer.pad_token_id or 0
        if self.full:
            ids[0] = F.pad(ids[0], (0, places - len(ids[0])), value=padding)
        return nn.utils.rnn.pad_sequence(ids, True, padding), cut

    def encode_text(self, clip: Backbone, ids: Tensor) -> Tensor:
        """Return embeddings [T, D] of ids [T, L]. ValueError for ids not padded as needed."""
        config = clip.config.text_config
        if self.full and ids.shape[1] != (places := config.max_position_embeddings):
            raise ValueError(
                f"{self.name} reads padding: input_ids must be [T, {places}], not {[*ids.shape]}"
            )
        mask = {"attention_mask": (ids != config.pad_token_id).long()} if self.mask else {}
        out = clip.text_model(input_ids=ids, **mask)
        pooled = out.last_hidden_state[:, 0] if self.pooled == "first" else out.pooler_output
        return clip.text_projection(pooled) if self.projected else pooled

    def encode_pixels(self, clip: Backbone, pixels: Tensor) -> Tensor:
        """Return embeddings [V, D] of prepared pixels [V, 3, H, W]."""
        pooled = clip.vision_model(pixel_values=pixels).pooler_output
        return clip.visual_projection(pooled) if self.projected else pooled

    def comparable(self, embeddings: Tensor) -> Tensor:
        """Scale embeddings [.., D] to the norm that text-conditioned pooling's τ expects.

        τ = 5 is meant for CLIP's embeddings, which stay as they are. Others become `norm · x /
        |x|`: frames v_f get weights `softmax_f(norm² cos(t, v_f) / τ)`, as if τ were scaled by `|t|
        |v_f| / norm²`. A norm of 10 is a guess at CLIP ViT-B/32's; only norm² / τ counts, so
        another τ corrects it.
        """
        return (
            embeddings if self.norm is None else self.norm * F.normalize(embeddings.float(), dim=-1)
        )


BERT_NAMES = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
BERT = Tower(
    layers="encoder.layer",
    attention="attention.self",
    after_attention="attention.output.dense",
    after_mlp="output.dense",
    activation="intermediate.intermediate_act_fn",
    mlp=None,
    other_names=BERT_NAMES | {"out_proj": "attention.output.dense"},
)
SIGLIP: dict[str, Any] = {
    "full": True,
    "lower": True,
    "starts": 0,
    "class_tokens": 0,
    "projected": False,
}
FAMILIES = {  # the keys are values of `config.model_type`
    "clip": Family("CLIP", "CLIPModel", legacy_end=True, norm=None),
    # also SigLIP 2 of fixed size
    "siglip": Family("SigLIP", "SiglipModel", "last", **SIGLIP),
    "metaclip_2": Family("MetaCLIP 2", "MetaClip2Model"),
    "chinese_clip": Family("Chinese-CLIP", "ChineseCLIPModel", "first", mask=True, text=BERT),
}


def family_of(config: object, name: object = "the backbone") -> Family:
    """Return the family of a model's configuration. Raises ValueError if it is in none."""
    model_type = getattr(config, "model_type", None)
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    why = "how another reads is not in cma/families.py"
    if model_type == "siglip2":
        why = "NaFlex takes three tensors a picture; try google/siglip2-base-patch16-224"
    known = " or ".join(f"{family.name} (`{family.model}`)" for family in FAMILIES.values())
    raise ValueError(f"{name}: a model of type {model_type!r}; expected a {known}: {why}")


def check_model(clip: object) -> Family:
    """Return a model's family. Raises ValueError if it is in none, TypeError for a part of one."""
    class_name = type(clip).__name__
    family = family_of(getattr(clip, "config", None), f"clip is a {class_name}")
    if not isinstance(clip, getattr(transformers, family.model)):
        raise TypeError(f"expected a {family.model} as RetrievalModel(clip, …), not a {class_name}")
    return family


def tower_of(clip: Backbone, tower: str) -> nn.Module:
    """Return the tower ("vision" | "text"), which some releases of transformers nest."""
    model = getattr(clip, f"{tower}_model")
    return getattr(model, f"{tower}_model", model)
