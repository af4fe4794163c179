"""A small random backbone of each family, and a processor for it that is built in code."""

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from tests.conftest import WORDS, randomise

SPECIAL = {  # by family, in the order of their ids: the roles of the first tokens
    "clip": {"<pad>": "pad", "<unk>": "unk"},  # its start and end come last
    "siglip": {"<none>": None, "</s>": "eos", "<unk>": "unk"},
    "metaclip_2": {"<s>": "bos", "<pad>": "pad", "</s>": "eos", "<unk>": "unk"},
    "chinese_clip": {"[PAD]": "pad", "[UNK]": "unk", "[CLS]": "cls", "[SEP]": "sep"},
}
TEMPLATE = {
    "clip": "<s> $A </s>",
    "siglip": "$A </s>",
    "metaclip_2": "<s> $A </s>",
    "chinese_clip": "[CLS] $A [SEP]",
}
PREFIX = {
    "clip": "CLIP",
    "siglip": "Siglip",
    "metaclip_2": "MetaClip2",
    "chinese_clip": "ChineseCLIP",
}
KINDS = tuple(PREFIX)
OTHERS = KINDS[1:]  # than CLIP, which all other tests are about


def vocabulary(kind: str) -> dict[str, int]:
    """Lower-case words after the special tokens; CLIP's start and end have the highest ids."""
    last = ["<s>", "</s>"] if kind == "clip" else []
    return {
        token: i for i, token in enumerate([*SPECIAL[kind], *dict.fromkeys(WORDS.split()), *last])
    }


def build_backbone(kind: str, layers: tuple[int, int] = (3, 3)) -> PreTrainedModel:
    """A random backbone of widths 48 and 32, 32 px in patches of 8; no bias is 0, no norm is 1."""
    ids, places = vocabulary(kind), {"siglip": 64, "chinese_clip": 40}.get(kind, 16)
    shape = {"num_attention_heads": 2}
    text = shape | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers[1]}
    text |= {
        "vocab_size": len(ids),
        "max_position_embeddings": places,
        "pad_token_id": ids.get("<pad>", 0),
    }
    text |= {"eos_token_id": ids["</s>"], "bos_token_id": ids["<s>"]} if "<s>" in ids else {}
    vision = shape | {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": layers[0]}
    vision |= {"image_size": 32, "patch_size": 8}
    joint = {"projection_dim": 32}
    if kind == "siglip":
        text |= {"projection_size": 48, "eos_token_id": 1, "bos_token_id": 1, "pad_token_id": 1}
        joint = {}
    config = getattr(transformers, f"{PREFIX[kind]}Config")(
        text_config=text, vision_config=vision, **joint
    )
    clip = getattr(transformers, f"{PREFIX[kind]}Model")(config).eval()
    randomise(clip)
    clip.logit_scale.data.fill_(2.0)
    if kind == "siglip":
        clip.logit_bias.data.fill_(-3.0)
    return clip


def build_family_processor(kind: str) -> ProcessorMixin:
    """A tokenizer of whole words that heeds case, and an image processor of 32 px."""
    ids = vocabulary(kind)
    tokens = Tokenizer(models.WordLevel(ids, unk_token="[UNK]" if "[UNK]" in ids else "<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(token, ids[token]) for token in TEMPLATE[kind].split() if token != "$A"]
    tokens.post_processor = processors.TemplateProcessing(
        single=TEMPLATE[kind], special_tokens=special
    )
    roles = {f"{role}_token": token for token, role in SPECIAL[kind].items() if role}
    if kind == "clip":
        roles |= {"bos_token": "<s>", "eos_token": "</s>"}
    if kind == "siglip":
        roles["pad_token"] = "</s>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, **roles)
    prefix = "CLIP" if kind == "metaclip_2" else PREFIX[kind]
    square = {"height": 32, "width": 32}
    sizes = (
        {"size": square}
        if kind == "siglip"
        else {"size": {"shortest_edge": 32}, "crop_size": square}
    )
    images = getattr(transformers, f"{prefix}ImageProcessorPil")(**sizes)
    return getattr(transformers, f"{prefix}Processor")(images, tokenizer)
