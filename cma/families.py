"""What two-tower backbones differ in: one description a family, for all that reads them or acts on them.

Letters: T texts, L tokens, V pictures, D width of the joint space.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOWERS = ("vision", "text")


@dataclass(frozen=True)
class Tower:
    """Where the parts of an encoder are: `layers` below the tower, all others below a layer.

    The sites, `after_attention` and `after_mlp`, are the last linear maps of the two sublayers. What they
    return is z, before the residual: x <- x + z + up(act(down(z))). A post-norm layer has its norm after that
    sum, x <- LN(x + z + up(act(down(z)))), so z means the same there (Houlsby et al. 2019 do so in BERT).
    `mlp` is the whole MLP, if one module is. `other_names`: of the projections of attention, by CLIP's.
    """

    layers: str = "encoder.layers"
    attention: str = "self_attn"  # returns (output, weights)
    after_attention: str = "self_attn.out_proj"
    after_mlp: str = "mlp.fc2"
    mlp: str | None = "mlp"
    activation: str = "mlp.activation_fn"
    other_names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One model class of transformers, `model`, with `processor`: the prefix of the classes that prepare.

    `starts`, `class_tokens`: tokens before the words and before the patches. `projected`: both towers end
    with a projection. `norm`: embeddings are scaled to it before they are compared (`comparable`).
    """

    name: str
    model: str
    processor: str
    pooled: str = "end"  # the token that stands for a text: its "end", the "last" place, or the "first"
    legacy_end: bool = False  # an `eos_token_id` of 2 means the highest id
    full: bool = False  # texts are padded to all places of the text tower
    mask: bool = False  # padding is masked; the other text towers are causal, or trained with it
    lower: bool = False  # texts are lower-cased
    starts: int = 1
    class_tokens: int = 1  # 0: an attention (`vision_model.head`) pools the patches
    projected: bool = True
    norm: float | None = 10.0
    vision: Tower = Tower()
    text: Tower = Tower()

    def words(self, texts: Sequence[str]) -> list[str]:
        """Captions in the case that the family reads."""
        return [text.lower() if self.lower else text for text in texts]

    def ends(self, config: object, ids: Tensor) -> Tensor:
        """Where each caption of `ids` [T, L] ends [T], with all that its embedding depends on."""
        end = config.eos_token_id
        if self.pooled == "last":
            return torch.full_like(ids[:, 0], ids.shape[1] - 1)
        if self.pooled == "first":
            return (ids != config.pad_token_id).sum(1) - 1
        return (ids if self.legacy_end and end == 2 else (ids == end).int()).argmax(1)

    def embed_text(self, clip: nn.Module, ids: Tensor) -> Tensor:
        """Embeddings [T, D] of token ids [T, L]. ValueError if places are left that must be padded."""
        config, places = clip.config.text_config, ids.shape[1]
        if self.full and places != (most := config.max_position_embeddings):
            raise ValueError(
                f"{self.name} reads {most} tokens, padding too: pad input_ids to it from {places}"
            )
        mask = {"attention_mask": (ids != config.pad_token_id).long()} if self.mask else {}
        out = clip.text_model(input_ids=ids, **mask)
        pooled = out.last_hidden_state[:, 0] if self.pooled == "first" else out.pooler_output
        return clip.text_projection(pooled) if self.projected else pooled

    def embed_pixels(self, clip: nn.Module, pixels: Tensor) -> Tensor:
        """Embeddings [V, D] of prepared pixels [V, 3, H, W]."""
        pooled = clip.vision_model(pixel_values=pixels).pooler_output
        return clip.visual_projection(pooled) if self.projected else pooled

    def comparable(self, embeddings: Tensor) -> Tensor:
        """Embeddings [..., D] at the `norm` for which the temperature τ of text-conditioned pooling is given.

        The paper's τ = 5 is for CLIP's norms: CLIP's embeddings stay as they are. Others become norm · x / |x|,
        so that the weights of frames v_f are softmax_f(norm² cos(t, v_f) / τ): τ is scaled by |t| |v_f| / norm².
        A norm of 10 is our estimate for ViT-B/32; since norm² / τ decides alone, another τ corrects it.
        """
        return embeddings if self.norm is None else self.norm * F.normalize(embeddings.float(), dim=-1)


BERT = Tower(
    *("encoder.layer", "attention.self", "attention.output.dense", "output.dense", None),
    activation="intermediate.intermediate_act_fn",
    other_names={"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "attention.output.dense"},
)
SIGLIP = {"full": True, "lower": True, "starts": 0, "class_tokens": 0, "projected": False}
FAMILIES = {  # by `config.model_type`
    "clip": Family("CLIP", "CLIPModel", "CLIP", legacy_end=True, norm=None),
    "siglip": Family("SigLIP", "SiglipModel", "Siglip", "last", **SIGLIP),  # and SigLIP 2 of fixed size
    "metaclip_2": Family("MetaCLIP 2", "MetaClip2Model", "CLIP"),
    "chinese_clip": Family("Chinese-CLIP", "ChineseCLIPModel", "ChineseCLIP", "first", mask=True, text=BERT),
}
NAFLEX = (
    "NaFlex takes three tensors a picture; take a SigLIP 2 of fixed size (google/siglip2-base-patch16-224)"
)


def family_of(config: object) -> Family:
    """The family of a model's configuration. Raises ValueError that says why there is none."""
    kind = getattr(config, "model_type", None)
    if kind not in FAMILIES:
        lacking = [f"{tower}_config" for tower in TOWERS if not hasattr(config, f"{tower}_config")]
        why = f"it has no {' and no '.join(lacking)}" if lacking else "cma/families.py does not describe it"
        known = " or ".join(f"{family.name} (`{family.model}`)" for family in FAMILIES.values())
        why = NAFLEX if kind == "siglip2" else why
        raise ValueError(f"a model of type {kind!r}; expected a {known}: {why}")
    return FAMILIES[kind]


def tower_of(clip: nn.Module, tower: str) -> nn.Module:
    """One tower ("vision" | "text"), where embeddings and encoder are; some releases nest it once more."""
    model = getattr(clip, f"{tower}_model")
    return getattr(model, f"{tower}_model", model)


def check_parts(clip: object) -> None:
    """Raise TypeError that names what a model lacks of its family, or of CLIP if it is of none; ValueError as
    `family_of` if it lacks nothing."""
    kind = getattr(getattr(clip, "config", None), "model_type", None)
    family, lacking = FAMILIES.get(kind, FAMILIES["clip"]), []
    parts = ["visual_projection", "text_projection"] * family.projected + ["logit_scale"]
    for tower in TOWERS:
        if not _has(clip, name := f"{tower}_model"):
            lacking.append(name)
            continue
        at = getattr(family, tower)
        below = [f"{at.layers}.0.{site}" for site in (at.after_attention, at.after_mlp)]
        below += ["head"] if tower == "vision" and not family.class_tokens else []
        lacking += [f"{name}.{part}" for part in below if not _has(tower_of(clip, tower), part)]
    lacking += [part for part in parts if not _has(clip, part)]
    if lacking and kind != "siglip2":
        said = f"expected RetrievalModel(clip, processor), but clip is a {type(clip).__name__}"
        raise TypeError(f"{said}: it has no {', '.join(lacking[:3])}")
    family_of(clip.config)


def _has(module: object, path: str) -> bool:
    try:
        return reduce(getattr, path.split("."), module) is not None
    except AttributeError:
        return False
