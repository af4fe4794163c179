"""A frozen CLIP with named adapters: texts, images and videos in, embeddings out.

Letters: T texts, V items, F frames, L tokens, D width of the joint space.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor

from .adapter import AdapterConfig, CrossModalAdapters
from .backbone import check_tokenizer, identity, known_by, load_backbone
from .checkpoints import read_adapter, write_adapter
from .media import CHANNELS_LAST, as_shown, central
from .patching import attach, attached, detach, encoder_layers, freeze

__all__ = ["RetrievalModel", "load_backbone"]


class RetrievalModel(nn.Module):
    """A frozen CLIP and any number of named adapters, of which at most one acts.

    Starts without adapter and in eval mode; `train()` switches the adapters' dropout, never CLIP's. One CLIP
    may serve several models: each makes sure, before it encodes, that its own adapter is the one that acts.
    `processor` may be None where only tensors are encoded; `cut` counts the captions the last call cut.
    """

    def __init__(self, clip: CLIPModel, processor: CLIPProcessor | None = None) -> None:
        super().__init__()
        if processor is not None:
            check_tokenizer(clip, processor.tokenizer)
        freeze(clip)
        detach(clip)
        self.clip, self.processor = clip, processor
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self.scale = 1.0
        self.cut, self._warned = 0, False
        self.eval()

    # ---- adapters

    def add_adapter(
        self, name: str, config: AdapterConfig, state_dict: dict[str, Tensor] | None = None
    ) -> CrossModalAdapters:
        """Build an adapter, from random or from given weights; it acts once `set_adapter(name)` is called.

        Raises ValueError for a name in use or not usable, a config that does not fit the backbone, and
        weights with a missing, extra or misshaped key (named).
        """
        if name in self.adapters:
            raise ValueError(f"adapter {name!r} exists already; choose another name")
        adapters = CrossModalAdapters(config, self.widths, self.layers)
        if state_dict is not None:
            try:
                adapters.load_state_dict(state_dict)
            except RuntimeError as error:
                raise ValueError(
                    f"adapter {name!r} does not fit its config and this backbone: {error}"
                ) from error
        try:
            self.adapters[name] = adapters.to(self.device).train(self.training)
        except KeyError as error:
            raise ValueError(
                f"adapter name {name!r} cannot be used: {error.args[0]}; choose another"
            ) from error
        return adapters

    def set_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Let the adapter `name` act, or none: then CLIP is bitwise what it was. Raises ValueError.

        `scale` multiplies all that the adapter adds: 1 as trained, 0 nothing, and what lies between.
        """
        if name is not None:
            self.get_adapter(name)
        if not math.isfinite(scale):
            raise ValueError(f"scale must be a number, not {scale!r}")
        self.active, self.scale = name, float(scale)
        self._hook()

    @contextmanager
    def acting(self, name: str | None, scale: float = 1.0) -> Iterator[None]:
        """Within `with`, the adapter `name` acts (or none), in evaluation and without gradients."""
        before, training = (self.active, self.scale), self.training
        self.set_adapter(name, scale)
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.set_adapter(*before)
            self.train(training)

    def get_adapter(self, name: str) -> CrossModalAdapters:
        """The adapter `name`. Raises ValueError if there is none."""
        if name not in self.adapters:
            raise ValueError(f"no adapter {name!r}; there are: {', '.join(self.adapters) or 'none'}")
        return self.adapters[name]

    def save_adapter(self, name: str, folder: str | Path) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors` into `folder`."""
        write_adapter(Path(folder), self.get_adapter(name), identity(self.clip))

    def load_adapter(self, folder: str | Path, name: str) -> CrossModalAdapters:
        """Read an adapter from `folder` and add it as `name`; warns if it was trained on another backbone.

        Backbones are compared by the revision that `load_backbone` has found (the hub's commit, or a digest
        of a folder's weight files), wherever they lie.
        Raises FileNotFoundError, or ValueError naming file and key if anything is missing, extra or of
        another width or depth than this backbone.
        """
        config, state, backbone = read_adapter(Path(folder), self.widths, self.layers)
        if known_by(backbone) != known_by(identity(self.clip)):
            warnings.warn(
                f"{folder}: trained on {backbone}, loaded on {identity(self.clip)}; "
                "unless the weights are the same, it will retrieve badly",
                stacklevel=2,
            )
        return self.add_adapter(name, config, state)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters of the active adapter; empty without one."""
        return [] if self.active is None else list(self.adapters[self.active].parameters())

    def train(self, mode: bool = True) -> "RetrievalModel":
        """Switch the adapters between training and evaluation; the frozen CLIP stays in evaluation."""
        super().train(mode)
        self.clip.eval()
        return self

    # ---- embeddings

    def encode_text(self, texts: Sequence[str] | Tensor, max_words: int | None = None) -> Tensor:
        """Un-normalised embeddings [T, D] of captions, or of `input_ids` [T, L]."""
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts, max_words)[0]
        if ids.ndim != 2:
            raise ValueError(f"input_ids must be [T, L], not {list(ids.shape)}")
        self._hook()
        pooled = self.clip.text_model(input_ids=ids.to(self.device)).pooler_output
        return self.clip.text_projection(pooled)

    def encode_images(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """Un-normalised embeddings [V, D] of pictures, or of prepared pixels [V, 3, H, W]."""
        pixels = images if isinstance(images, Tensor) else self._pixels(images)
        if pixels.ndim != 4:
            raise ValueError(f"pixels must be [V, 3, H, W], not {list(pixels.shape)}")
        self._hook()
        pooled = self.clip.vision_model(pixel_values=pixels.to(self.device, self.dtype)).pooler_output
        return self.clip.visual_projection(pooled)

    def encode_videos(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Un-normalised embeddings [V, F, D] of prepared frames [V, F, 3, H, W], padded ones included.

        `mask` [V, F] is checked here and used by the similarity, which leaves padded frames out.
        """
        if pixels.ndim != 5:
            raise ValueError(f"pixels must be [V, F, 3, H, W], not {list(pixels.shape)}")
        if mask is not None and mask.shape != pixels.shape[:2]:
            raise ValueError(f"mask must be {list(pixels.shape[:2])} like the frames, not {list(mask.shape)}")
        return self.encode_images(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])

    def tokenize(self, texts: Sequence[str], max_words: int | None = None) -> tuple[Tensor, int]:
        """Token ids [T, L] of captions, and how many captions were cut (warned about once).

        A caption keeps at most min(context, max_words) tokens, start and end tokens included. Raises
        ValueError naming the index of a blank caption or a max_words below 3, TypeError for what is no list
        of strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("expected a list of captions, each a string")
        for index, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"caption {index} is blank; drop it or give it words")
        if not len(texts):
            raise ValueError("no captions were given")
        if max_words is not None and max_words < 3:
            raise ValueError(f"max_words must leave room for start, one word and end, not {max_words}")
        tokenizer = self._processor().tokenizer
        most = self.clip.config.text_config.max_position_embeddings
        most = most if max_words is None else min(most, max_words)
        rows = tokenizer(list(texts), verbose=False)["input_ids"]
        self.cut = sum(len(row) > most for row in rows)
        if self.cut and not self._warned:
            warnings.warn(
                f"{self.cut} of {len(rows)} captions exceed {most} tokens and were cut", stacklevel=3
            )
            self._warned = True
        rows = [torch.tensor(row if len(row) <= most else row[: most - 1] + row[-1:]) for row in rows]
        padding = tokenizer.pad_token_id or 0
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding), self.cut

    # ---- the backbone

    @property
    def widths(self) -> dict[str, int]:
        """Width of each tower, {"vision": 768, "text": 512} for ViT-B/32."""
        config = self.clip.config
        return {"vision": config.vision_config.hidden_size, "text": config.text_config.hidden_size}

    @property
    def layers(self) -> dict[str, int]:
        """Depth of each tower."""
        return {tower: len(encoder_layers(self.clip, tower)) for tower in ("vision", "text")}

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return self.clip.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the backbone, chosen in `load_backbone`; adapters are built in float32."""
        return self.clip.visual_projection.weight.dtype

    @property
    def logit_scale(self) -> Tensor:
        """exp of CLIP's frozen logit scale: logits = logit_scale * similarity."""
        return self.clip.logit_scale.float().exp()

    def _hook(self) -> None:
        """Make the active adapter, or none, the one that acts on CLIP."""
        wanted = None if self.active is None else (self.adapters[self.active], self.scale)
        if attached(self.clip) != wanted:
            detach(self.clip) if wanted is None else attach(self.clip, *wanted)

    def _processor(self) -> CLIPProcessor:
        if self.processor is None:
            raise ValueError("this model has no processor: give tensors, or RetrievalModel(clip, processor)")
        return self.processor

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        pictures = [central(as_shown(image)) for image in images]
        prepare = self._processor().image_processor
        return prepare(images=pictures, input_data_format=CHANNELS_LAST, return_tensors="pt")["pixel_values"]
