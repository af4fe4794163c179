"""Write a backbone with its active adapter for other libraries: today for sentence-transformers.

The folder is a transformers model of type "cma", which importing this module registers, inside the
usual files of sentence-transformers. So `SentenceTransformer(folder)` loads it after `import
cma.export`, and trusts no remote code.
"""

import json
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from .families import family_of
from .method import describe
from .model import RetrievalModel

SETTINGS = "sentence_bert_config.json"
NAME = "adapter"  # what the adapter is called inside an exported model


class AdaptedConfig(PretrainedConfig):
    """The backbone's own configuration (a dict); the adapter's method, options and scale."""

    model_type = "cma"

    def __init__(
        self,
        backbone: dict | None = None,
        method: str = "",
        options: dict | None = None,
        scale: float = 1.0,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.backbone = backbone or {}
        self.method = method
        self.options = options or {}
        self.scale = scale
        width = self.backbone.get("vision_config", {}).get("hidden_size")
        self.projection_dim = self.backbone.get("projection_dim") or width  # SigLIP has none


class AdaptedModel(PreTrainedModel):
    """A `cma.RetrievalModel` as transformers and sentence-transformers expect one.

    Only the adapter is trainable. Texts and pictures get the embeddings that `encode_text` and
    `encode_images` return, un-normalised.
    """

    config_class = AdaptedConfig
    base_model_prefix = "retrieval"

    def __init__(self, config: AdaptedConfig) -> None:
        super().__init__(config)
        backbone = AutoConfig.for_model(**config.backbone)
        clip = getattr(transformers, family_of(backbone).model)(backbone)
        self.retrieval = RetrievalModel(clip)
        self.retrieval.add_adapter(NAME, config.method, **config.options)
        self.retrieval.set_adapter(NAME, config.scale)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> "AdaptedModel":
        """Load an exported model, and freeze its backbone, which transformers does not remember."""
        model = super().from_pretrained(*arguments, **options)
        loaded = model[0] if isinstance(model, tuple) else model  # with `output_loading_info`
        loaded.retrieval.clip.requires_grad_(False)
        return model

    def get_text_features(self, input_ids: Tensor) -> Tensor:
        """Return embeddings [T, D] of token ids [T, L]."""
        return self.retrieval.encode_text(input_ids)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Return embeddings [V, D] of prepared pixels [V, 3, H, W]. Raises ValueError for clips."""
        if pixel_values.ndim != 4:
            raise ValueError(
                f"pixels {list(pixel_values.shape)}: a clip has one embedding per frame, and "
                "sentence-transformers takes one per item; use cma.RetrievalModel.encode_videos"
            )
        return self.retrieval.encode_images(pixel_values)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of texts and of pictures."""
        return self.get_text_features(input_ids), self.get_image_features(pixel_values)


AutoConfig.register(AdaptedConfig.model_type, AdaptedConfig, exist_ok=True)
AutoModel.register(AdaptedConfig, AdaptedModel, exist_ok=True)


def sentence_transformer(model: RetrievalModel, folder: str | Path) -> object:
    """Write a model with its active adapter as a SentenceTransformer, and return that, loaded.

    It embeds texts and PIL pictures as `model` does; train, save and push it like any other. Load
    it in another process after `import cma.export`.

    Args:
        model: A model with its processor. Its active adapter, of any method, is exported at its
            scale. Without one, or with a method that changes CLIP's own weights (LoRA, full
            fine-tuning), the folder is an ordinary CLIP, which loads without `cma`.
        folder: A folder that does not exist yet.

    Returns:
        The `SentenceTransformer`, loaded from the folder.

    Raises:
        FileExistsError: `folder` exists.
        ImportError: sentence-transformers is missing, or older than 5.4.
        ValueError: `model` has no processor.

    >>> model = cma.RetrievalModel.from_pretrained("mini")
    >>> theirs = cma.export.sentence_transformer(model, folder / "exported")  # a new folder
    >>> theirs.encode(["a red cat"]).shape
    (1, 256)
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer
    except ImportError as error:
        raise ImportError(
            "exporting needs sentence-transformers 5.4 or newer: "
            'pip install "sentence-transformers>=5.4"'
        ) from error
    folder = Path(folder).expanduser().absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists; expected the name of a new folder")
    if model.processor is None:
        raise ValueError("the model has no processor; build it with RetrievalModel.from_pretrained")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / folder.name
        _write(model, made)
        # read it again, to see that the written files work
        theirs = SentenceTransformer(
            modules=[Transformer.load(str(made))], similarity_fn_name="cosine"
        )
        settings = (made / SETTINGS).read_bytes()
        theirs.save_pretrained(str(made))
        (made / SETTINGS).write_bytes(settings)  # theirs leaves out `processor_kwargs`
        made.rename(folder)
    return SentenceTransformer(str(folder), device=str(model.device))


def _write(model: RetrievalModel, folder: Path) -> None:
    """Write the model, its processor, and how sentence-transformers calls them."""
    with model.lock:
        name = model.active
        with model.using(name, model.scale):
            state = {key: value.clone() for key, value in _merged(model.clip).items()}
        with model.using(None):
            same = all(value.equal(state[key]) for key, value in model.clip.state_dict().items())
        if name and same:
            method, options = describe(model.get_adapter(name))
            config = AdaptedConfig(model.clip.config.to_dict(), method, options, model.scale)
            made = AdaptedModel(config)
            made.retrieval.clip.load_state_dict(state)
            made.retrieval.get_adapter(NAME).load_state_dict(model.get_adapter(name).state_dict())
        else:  # the active method, if any, is part of CLIP's own weights
            made = type(model.clip)(model.clip.config)
            made.load_state_dict(state)
    made.save_pretrained(folder)
    processor: Any = deepcopy(model.processor)
    places = model.clip.config.text_config.max_position_embeddings
    processor.tokenizer.model_max_length = min(places, processor.tokenizer.model_max_length)
    processor.save_pretrained(folder)
    family = model.family
    features = {"text": "get_text_features", "image": "get_image_features"}
    pooled = None if isinstance(made, AdaptedModel) else "pooler_output"
    reads_padding = {"padding": "max_length", "return_attention_mask": False}
    about = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            kind: {"method": call, "method_output_name": pooled} for kind, call in features.items()
        },
        "module_output_name": "sentence_embedding",
        "processor_kwargs": {"backend": "pil"},  # as `cma.load_backbone` prepares pictures
        "processing_kwargs": {"text": reads_padding} if family.full else {},
        "do_lower_case": family.lower,
    }
    (folder / SETTINGS).write_text(json.dumps(about, indent=2))


def _merged(clip: PreTrainedModel) -> dict[str, Tensor]:
    """Return CLIP's weights as the active method sets them, with LoRA's weights added."""
    state = clip.state_dict()
    for name, module in clip.named_modules():
        if hasattr(module, "get_delta_weight"):  # a layer of peft
            inside = {key for key in state if key.startswith(f"{name}.")}
            state = {key: value for key, value in state.items() if key not in inside}
            for key, value in module.base_layer.state_dict().items():
                state[f"{name}.{key}"] = value
            state[f"{name}.weight"] = module.weight + module.get_delta_weight("default")
    return state
