"""A frozen CLIP with named adapters: it embeds texts, images and videos.

Letters in shapes: T texts, V items, F frames, L tokens, D width of the joint space.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from . import hub
from .adapter import AdapterConfig
from .backbone import Device, check_tokenizer, identity, known_by, load_backbone
from .checkpoints import FILES, read_adapter, read_config, write_adapter
from .families import check_parts
from .media import to_pixels
from .method import CrossModalAdapter, Method
from .patching import TOWERS, activate, deactivate, encoder_layers, on_clip, parts

CACHE = 8 * 2**20  # bytes of a layer's largest activations; so many stay in a CPU's cache
TURNS = WeakKeyDictionary()  # the lock of each CLIP, which models may share; held within `acting`
# texts embedded at once. More are sorted by length; fewer are not, so gradients keep their bits
OPENED = threading.Lock()  # held while a lock is made
TEXTS = 256


class RetrievalModel(nn.Module):
    """A frozen CLIP and any number of named adapters, or other methods of `cma.methods`; at most
    one acts.

    It starts without adapter and in eval mode. `train()` switches the adapters' dropout, never
    CLIP's. Models may share one CLIP: before a model encodes, it makes its own adapter act.
    `processor` may be None if only tensors are encoded. `cut` is the number of captions that the
    last call cut. Raises TypeError if `clip` lacks a part, ValueError if it is in no family, or for
    a tokenizer that does not fit.
    """

    def __init__(self, clip: PreTrainedModel, processor: ProcessorMixin | None = None) -> None:
        super().__init__()
        self.family = check_parts(clip)
        if processor is not None:
            check_tokenizer(clip, processor.tokenizer)
        deactivate(clip)  # an adapter of another model that used this CLIP before
        self.clip, self.processor = clip.requires_grad_(False), processor
        self.adapters = nn.ModuleDict()
        self.active, self.scale, self.cut, self._warned = None, 1.0, 0, False
        self.eval()

    @classmethod
    def from_pretrained(
        cls, name: str | Path, dtype: torch.dtype = torch.float32, device: Device = None
    ) -> RetrievalModel:
        """Load a backbone ("mini", a hub id or a folder) as a model. Raises as `cma.load_backbone`."""
        return cls(*load_backbone(name, dtype, device))

    @classmethod
    def from_adapter(
        cls,
        source: str | Path,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ) -> RetrievalModel:
        """Load an adapter and, at its revision, the backbone that it names. The adapter acts from
        now on.

        `source` and `revision`: as in `load_adapter`. The adapter's name is the last part of
        `source`, with "_" for a dot. Raises as `load_adapter` and `load_backbone`, ValueError for
        another backbone.
        """
        wanted = read_config(folder := hub.fetch(source, FILES, revision)).backbone
        name, commit, own = wanted["name"], wanted["revision"], folder == Path(source).expanduser()
        # if somebody else's adapter names a folder, that is not a folder of this machine
        if name and commit and (own or name == "mini" or hub.HUB_ID.fullmatch(name)):
            model = cls(*load_backbone(name, dtype, device, commit))
            if identity(model.clip)["revision"] == commit:
                model.load_adapter(
                    folder, Path(source).expanduser().resolve().name.replace(".", "_")
                )
                return model
        raise ValueError(
            f"{source}: its backbone is {wanted}; load that yourself, then use load_adapter"
        )

    def add_adapter(
        self, name: str, config: AdapterConfig, state_dict: dict[str, Tensor] | None = None
    ) -> CrossModalAdapter:
        """Build an adapter with random or given weights. It acts from now on.

        Raises ValueError for a name that is in use or cannot be used, a config that does not fit
        the backbone, and weights with a missing or extra key or a wrong shape (named).
        """
        if not isinstance(config, AdapterConfig):
            raise TypeError(
                f"config must be a cma.AdapterConfig, not {type(config).__name__} {config!r}"
            )
        adapter = CrossModalAdapter(self, config)
        if state_dict is not None:
            try:
                adapter.load_state_dict(state_dict)
            except RuntimeError as error:
                raise ValueError(
                    f"adapter {name!r} does not fit its config and backbone: {error}"
                ) from error
        return self.keep(name, adapter)

    def keep(self, name: str, method: Method) -> Method:
        """Add a method as `name`; it acts from now on. Raises ValueError for a name that cannot be
        used.
        """
        if name in self.adapters:
            raise ValueError(
                f"adapter {name!r} exists already; choose another name, or remove it first"
            )
        if not name or "." in name or hasattr(self.adapters, name):
            raise ValueError(
                f"adapter name {name!r} cannot be used: empty, with a dot, or one of torch's"
            )
        activate(self.clip, method.to(self.device).train(self.training))  # first: it may fail
        self.adapters[name] = method
        self.set_adapter(name)
        return method

    def remove_adapter(self, name: str) -> None:
        """Remove the adapter `name`; if it acts, none acts afterwards. Raises ValueError if it is
        unknown.
        """
        self.get_adapter(name)
        if self.active == name:
            self.set_adapter(None)
        del self.adapters[name]

    def set_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Let the adapter `name` act. With None no adapter acts, and CLIP is bitwise as it was
        loaded.

        `scale` multiplies what is added (1: as trained). Raises ValueError for an unknown name or
        bad scale.
        """
        wanted = None if name is None else (self.get_adapter(name), float(scale))
        if not math.isfinite(scale):
            raise ValueError(f"scale must be a number, not {scale!r}")
        if on_clip(self.clip).acting != wanted:  # mostly equal, as every encode_* calls this
            deactivate(self.clip) if wanted is None else activate(self.clip, *wanted)
        self.active, self.scale = name, float(scale)

    def turn(self) -> threading.RLock:
        """Return the lock of the CLIP, which models may share: who holds it has the CLIP alone.

        Everything that switches an adapter, embeds or takes a training step holds it. A thread may
        take it again while it holds it.
        """
        with OPENED:
            return TURNS.setdefault(self.clip, threading.RLock())

    @contextmanager
    def acting(self, name: str | None, scale: float = 1.0) -> Iterator[None]:
        """In this context the adapter `name` acts (or none), in eval mode without gradients;
        threads wait.
        """
        with self.turn(), torch.no_grad():
            before, training = (self.active, self.scale), self.training
            self.set_adapter(name, scale)
            self.eval()
            try:
                yield
            finally:
                self.set_adapter(*before)
                self.train(training)

    def get_adapter(self, name: str) -> Method:
        """Return the adapter `name`. Raises ValueError if there is none."""
        if name not in self.adapters:
            raise ValueError(
                f"no adapter {name!r}; there are: {', '.join(self.adapters) or 'none'}"
            )
        return self.adapters[name]

    def save_adapter(
        self, folder: str | Path, name: str, record: object = None, license: str = ""
    ) -> None:
        """Write `adapter_config.json`, `adapter_model.safetensors` and a model card of the adapter
        `name`.

        `record` of the run that trained it fills the card: a `RunRecord`, its dict, or a path. A
        dict may have "forgetting": {"dataset": name, "difference": as in
        `results/forgetting.json`}. The `license` ("mit", as the hub names it) is your choice;
        without one the card says unknown. A README.md with other text is kept, with a warning.
        Raises ValueError for an unknown name or a record of another adapter.
        """
        self._save(Path(folder).expanduser().absolute(), name, record, license)

    def _save(
        self, folder: Path, name: str, record: object, license: str, repo_id: str = ""
    ) -> None:
        about = self.get_adapter(name), identity(self.clip)
        card = hub.card_of(*about, record, license, repo_id or folder.name)
        write_adapter(about[0], folder, about[1])
        hub.write_card(folder, card)

    def push_adapter(
        self,
        name: str,
        repo_id: str,
        record: object = None,
        license: str = "",
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Add adapter",
    ) -> str:
        """Save an adapter to the hub repository "user/name", created if needed; returns its
        address.

        It goes to the branch `revision`, which must exist. Raises as `save_adapter`, and OSError in
        one line if the hub refuses it or cannot be reached.
        """
        with TemporaryDirectory() as temporary:
            self._save(folder := Path(temporary), name, record, license, repo_id)
            return hub.push(folder, repo_id, private, revision, commit_message)

    def load_adapter(self, source: str | Path, name: str, revision: str | None = None) -> Method:
        """Read an adapter, of any method, and add it as `name`. It acts from now on.

        `source` is a folder, or "user/name" on the hub, at a branch, tag or commit `revision`.
        Files in the cache need no request; `hf download user/name` puts the newest there. Nothing
        in them is executed. Warns if it was trained on another backbone. Raises FileNotFoundError,
        OSError in one line if the hub does not give it, ValueError with the file and the key that
        does not fit, and as `keep`.
        """
        method, backbone = read_adapter(hub.fetch(source, FILES, revision), self)
        if known_by(backbone) != known_by(identity(self.clip)):
            loaded = f"trained on {backbone}, loaded on {identity(self.clip)}"
            warnings.warn(
                f"{source}: {loaded}; with other weights it will retrieve badly", stacklevel=2
            )
        return self.keep(name, method)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters of the active adapter; empty without one."""
        return [] if self.active is None else list(self.adapters[self.active].parameters())

    def train(self, mode: bool = True) -> RetrievalModel:
        """Switch the adapters between training and evaluation; the frozen CLIP stays in evaluation."""
        super().train(mode)
        self.clip.eval()
        return self

    def encode_text(self, texts: Sequence[str] | Tensor, max_words: int | None = None) -> Tensor:
        """Return un-normalised embeddings [T, D] of captions, or of `input_ids` [T, L]."""
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts, max_words)[0]
        if ids.ndim != 2 or not ids.numel():
            raise ValueError(f"input_ids must be [T, L], not {list(ids.shape)}")
        self.set_adapter(self.active, self.scale)
        ends = self.family.ends(self.clip.config.text_config, ids)  # later tokens change nothing
        order = ends.argsort() if len(ids) > TEXTS else torch.arange(len(ids), device=ids.device)
        parts = (ids[part, : int(ends[part].max()) + 1] for part in order.split(TEXTS))
        embedded = [self.family.embed_text(self.clip, part.to(self.device)) for part in parts]
        return torch.cat(embedded)[order.argsort()]

    def encode_images(self, images: Sequence[Image.Image] | Tensor) -> Tensor:
        """Return un-normalised embeddings [V, D] of pictures, or of prepared pixels [V, 3, H, W].

        Raises TypeError for anything else, ValueError for no picture and for pixels of another
        shape.
        """
        if not isinstance(images, Tensor):
            several = isinstance(images, list | tuple)
            if (
                wrong := [one for one in images if not isinstance(one, Image.Image)]
                if several
                else [images]
            ):
                wanted = "expected a list of PIL pictures, or a float tensor [V, 3, H, W]"
                raise TypeError(f"{wanted}; found {type(wrong[0]).__name__}")
            if not images:
                raise ValueError("no images were given")
            images = to_pixels(images, self.of_processor("image_processor"))
        return self._embed(images, None)

    def _embed(self, pixels: Tensor, mask: Tensor | None) -> Tensor:
        if (
            pixels.ndim != 4
            or pixels.shape[1] != 3
            or not (pixels.numel() and pixels.is_floating_point())
        ):
            raise ValueError(
                f"pixels must be float [V, 3, H, W], not {pixels.dtype} {list(pixels.shape)}"
            )
        self.set_adapter(self.active, self.scale)
        acts = self.adapters[self.active] if self.active else None
        frames = 1 if mask is None else mask.shape[1]
        clips = max(1, self.frames_at_once // frames)
        embedded, masks = [], repeat(None) if mask is None else mask.split(clips)
        for part, own in zip(pixels.split(clips * frames), masks, strict=False):
            if acts:
                acts.frame_mask = own  # a method may look across the frames of a clip
            embedded.append(self.family.embed_pixels(self.clip, part.to(self.device, self.dtype)))
        return torch.cat(embedded)

    def encode_videos(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings [V, F, D] of prepared frames [V, F, 3, H, W], padding
        included.

        `mask` [V, F], 0 for padding, is for methods that look across frames. The similarity takes
        it again.
        """
        if pixels.ndim != 5:
            raise ValueError(f"pixels must be [V, F, 3, H, W], not {list(pixels.shape)}")
        if mask is not None and mask.shape != pixels.shape[:2]:
            raise ValueError(
                f"mask must be {list(pixels.shape[:2])} like the frames, not {list(mask.shape)}"
            )
        mask = torch.ones(pixels.shape[:2]) if mask is None else mask
        return self._embed(pixels.flatten(0, 1), mask.to(self.device)).unflatten(
            0, pixels.shape[:2]
        )

    def tokenize(self, texts: Sequence[str], max_words: int | None = None) -> tuple[Tensor, int]:
        """Return token ids [T, L] of captions, and how many captions were cut (with a warning,
        once).

        A caption keeps at most min(context, max_words) tokens, start and end included. Raises
        ValueError for no caption, a blank one (named by its index) or a max_words below 3,
        TypeError if not given strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("expected a list of captions, each a string")
        if not len(texts):
            raise ValueError("no captions were given")
        if blank := [index for index, text in enumerate(texts) if not text.strip()]:
            raise ValueError(f"caption {blank[0]} is blank; drop it or give it words")
        if max_words is not None and max_words < 3:
            raise ValueError(
                f"max_words must leave room for start, one word and end, not {max_words}"
            )
        places = self.clip.config.text_config.max_position_embeddings
        most = min(places, max_words or math.inf)
        ids, self.cut = self.family.tokenize(self.of_processor("tokenizer"), texts, places, most)
        if self.cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.cut} of {len(ids)} captions exceed {most} tokens and are cut", stacklevel=3
            )
        return ids, self.cut

    @property
    def widths(self) -> dict[str, int]:
        """The width of each tower, {"vision": 768, "text": 512} for ViT-B/32."""
        return {tower: getattr(self.clip.config, f"{tower}_config").hidden_size for tower in TOWERS}

    @property
    def layers(self) -> dict[str, int]:
        """The number of layers of each tower."""
        return {tower: len(encoder_layers(self.clip, tower)) for tower in TOWERS}

    @property
    def frames_at_once(self) -> int:
        """How many frames pass the encoder together: on a CPU as many as its cache holds, which is
        faster.
        """
        if self.device.type != "cpu":
            return sys.maxsize
        vision = self.clip.config.vision_config
        tokens = (vision.image_size // vision.patch_size) ** 2 + self.family.class_tokens
        return max(1, CACHE // (4 * tokens * vision.intermediate_size))

    @property
    def device(self) -> torch.device:
        """The device of the backbone."""
        return self.clip.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the backbone, chosen in `load_backbone`; adapters are float32."""
        return next(parts(self.clip, "after_mlp"))[2].weight.dtype

    @property
    def logit_scale(self) -> Tensor:
        """exp of the frozen logit scale: logits = logit_scale * similarity."""
        return self.clip.logit_scale.float().exp()

    def of_processor(self, name: str) -> object:
        """Return the processor's "tokenizer" or "image_processor". Raises ValueError without a
        processor.
        """
        if self.processor is None:
            raise ValueError(
                "this model has no processor: give tensors, or RetrievalModel(clip, processor)"
            )
        return getattr(self.processor, name)
