"""A frozen CLIP with named adapters: it embeds texts, images and videos.

Letters in shapes: T texts, V items, F frames, L tokens, D width of the joint space.
"""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from . import hub
from .backbone import Device, check_tokenizer, identity, known_by, load_backbone
from .checkpoints import FILES, check_tensors, read_adapter, read_config, write_adapter
from .config import ReadConfig
from .families import check_model
from .files import short
from .media import read_image, to_pixels
from .method import CrossModalAdapter, Method, class_of, describe
from .patching import TOWERS, activate, deactivate, encoder_layers, parts, patch_of

CACHE = 8 * 2**20  # bytes of a layer's largest activations that stay in a CPU's cache
# texts embedded at once. More are sorted by length; fewer keep their order, and gradients their
# bits
TEXTS = 256
logger = logging.getLogger("cma")
Picture = str | Path | Image.Image
State = tuple[str | None, float]  # the active adapter, if any, and its scale
NOTHING: State = (None, 1.0)


class RetrievalModel(nn.Module):
    """A frozen CLIP with named adapters, or other methods, of which at most one is active.

    A new model has no adapter and is in eval mode. `train()` switches the adapters' dropout, never
    CLIP's. Models may share one CLIP: each activates its own adapter before it encodes. Threads may
    share a model: every call that switches or encodes waits for the CLIP's `lock`.

    Args:
        clip: the backbone, which is frozen in place.
        processor: its tokenizer and image processor; None if you encode tensors only.

    Raises:
        ValueError: `clip` is in no family, or the tokenizer does not fit it.
        TypeError: `clip` is only a part of such a model.
    """

    def __init__(self, clip: PreTrainedModel, processor: ProcessorMixin | None = None) -> None:
        super().__init__()
        self.family = check_model(clip)
        if processor is not None:
            check_tokenizer(clip, processor.tokenizer)
        with patch_of(clip).lock:
            deactivate(clip)  # an adapter of another model that used this CLIP before
            self.clip = clip.requires_grad_(False).eval()
        self.processor: Any = processor
        self.adapters = nn.ModuleDict()
        self._chosen: State = NOTHING
        self._warned = False
        self.eval()

    @classmethod
    def from_pretrained(
        cls, name: str | Path, dtype: torch.dtype = torch.float32, device: Device = None
    ) -> RetrievalModel:
        """Load a backbone as a model without an adapter.

        Args:
            name: "mini", a model on the hub ("user/name") or a folder, as in `cma.load_backbone`.
            dtype: the precision of the backbone.
            device: where the model goes; the CPU by default.

        Raises:
            OSError, ValueError: as in `cma.load_backbone`.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> model.encode_text(["a red cat", "two birds"]).shape
        torch.Size([2, 256])
        """
        return cls(*load_backbone(name, dtype, device))

    @classmethod
    def from_adapter(
        cls,
        source: str | Path,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ) -> RetrievalModel:
        """Load an adapter together with the backbone it was trained on, and activate the adapter.

        Args:
            source: a folder or "user/name" on the hub, as in `load_adapter`. Its last part, with
                "_" for a dot, becomes the adapter's name.
            revision: the adapter's branch, tag or commit on the hub.
            dtype: the precision of the backbone.
            device: where the model goes; the CPU by default.

        Returns:
            The model, on the backbone and revision that the adapter names.

        Raises:
            ValueError: this backbone cannot be found here; load it yourself, then use
                `load_adapter`.
            FileNotFoundError, OSError: as in `load_adapter` and `load_backbone`.
        """
        folder = hub.fetch(source, FILES, revision)
        wanted = read_config(folder).backbone
        name = wanted["name"]
        commit = wanted["revision"]
        path = Path(source).expanduser()
        # a folder that somebody else's adapter names is not on this machine
        known = folder == path or name == "mini" or hub.HUB_ID.fullmatch(name or "")
        if name and commit and known:
            model = cls(*load_backbone(name, dtype, device, commit))
            if identity(model.clip)["revision"] == commit:
                model.load_adapter(folder, path.resolve().name.replace(".", "_"))
                return model
        raise ValueError(
            f"{source}: its backbone is {wanted}; load that yourself, then use load_adapter"
        )

    def add_adapter(
        self,
        name: str,
        config: object = CrossModalAdapter.NAME,
        state_dict: dict[str, Tensor] | None = None,
        seed: int | None = None,
        **options: object,
    ) -> Method:
        """Build an adapter, or another method, and activate it.

        Args:
            name: what you will call it.
            config: a `cma.AdapterConfig`, the options of another method, its name in
                `cma.methods.NAMES`, or a class of your own. By default the paper's adapter.
            state_dict: its weights; random by default.
            seed: decides the random weights, and leaves the CPU's random state as it was.
            **options: fields that differ from those of `config`.

        Returns:
            The method, which is also `model.adapters[name]`.

        Raises:
            ValueError: the name is taken or cannot be used, the method is unknown, its options do
                not fit the backbone or mean far more numbers than it has, or a weight is missing,
                unexpected, misshaped or not finite (named).
            TypeError: `config` is none of the above.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> adapter = model.add_adapter("ours", bottleneck_dim=4)
        >>> lora = model.add_adapter("lora", "LoRA", rank=2)
        >>> model.active, lora.NAME, adapter.options.shared_dim
        ('lora', 'LoRA', 16)
        """
        method_class = class_of(config)
        given = vars(config) if isinstance(config, method_class.Options) else {}
        chosen = method_class.options_from(given | options)
        with self.lock:
            with self.using(None), torch.random.fork_rng(devices=[], enabled=seed is not None):
                method_class.shapes(self, chosen)
                if seed is not None:
                    torch.manual_seed(seed)
                method = method_class(self, chosen)
            if state_dict is not None:
                check_tensors(state_dict, method.state_dict(), f"adapter {name!r}")
                method.load_state_dict(state_dict)
            return self._add(name, method)

    def _add(self, name: str, method: Method) -> Method:
        """Add a built method and activate it. If that fails, the model stays as it was."""
        if not name or "." in name or hasattr(self.adapters, name):
            raise ValueError(
                f"adapter name {name!r} cannot be used: empty, with a dot, one of torch's, or in "
                "use (then choose another, or remove_adapter first)"
            )
        method.to(self.device).train(self.training)
        activate(self.clip, method)
        self.adapters[name] = method
        self._chosen = (name, 1.0)
        return method

    def average_adapters(self, names: Sequence[str], weights: Sequence[float], name: str) -> Method:
        """Merge adapters of one method and equal options into a new one, and activate it.

        Args:
            names: adapters of this model, each trained on its backbone.
            weights: how much each counts, at least 0; they are divided by their sum.
            name: what you will call the result.

        Returns:
            The method, which is also `model.adapters[name]`: each of its numbers is the weighted
            mean of theirs. It is saved and loaded as any other.

        Raises:
            ValueError: a name is unknown, `name` cannot be used, the weights do not fit, or the
                adapters differ in method, options or backbone.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> one, other = (model.add_adapter(name, "LoRA", rank=2) for name in ("one", "other"))
        >>> model.average_adapters(["one", "other"], [3, 1], "both").NAME
        'LoRA'
        """
        counts = torch.tensor([float(weight) for weight in weights], dtype=torch.float64)
        if len(counts) != len(names) or not (0 < counts.sum() < math.inf and (counts >= 0).all()):
            raise ValueError(
                f"weights={short(weights)}: expected {len(names)} numbers of at least 0, one for "
                "each adapter, and not all 0"
            )
        with self.lock:
            methods = [self.get_adapter(one) for one in names]
            first = methods[0]
            for one, method in zip(names, methods, strict=True):
                if describe(method) != describe(first):
                    raise ValueError(
                        f"adapter {one!r}: {describe(method)}, but {names[0]!r} is "
                        f"{describe(first)}; expected one method with the same options"
                    )
                if not self._fits(method):
                    raise ValueError(
                        f"adapter {one!r}: trained on {method.backbone}, not on "
                        f"{identity(self.clip)}; expected adapters of this backbone"
                    )
            shares = (counts / counts.sum()).tolist()
            states = [method.state_dict() for method in methods]
            mean = {
                key: sum(share * state[key] for share, state in zip(shares, states, strict=True))
                for key in states[0]
            }
            merged = self.add_adapter(name, type(first), mean, **vars(first.options))
            if all(method.reading == first.reading for method in methods):
                merged.reading = first.reading
            return merged

    def _fits(self, method: Method) -> bool:
        """Tell whether a method was trained on this backbone, as far as it says."""
        trained_on = method.backbone or identity(self.clip)
        return known_by(trained_on) == known_by(identity(self.clip))

    def remove_adapter(self, name: str) -> None:
        """Remove the adapter `name`. Raises ValueError if it is unknown.

        If it is active, no adapter is active afterwards, not even after a `using` around this call.
        """
        with self.lock:
            self.get_adapter(name)
            if self._chosen[0] == name:
                self._chosen = NOTHING
            self._act()
            del self.adapters[name]

    def set_adapter(self, name: str | None, scale: float = 1.0) -> None:
        """Activate the adapter `name`, or none: then CLIP's results are bitwise the original's.

        Args:
            name: an adapter of this model, or None.
            scale: multiplies what the adapter adds; 1 is as trained.

        Raises:
            ValueError: the name is unknown, or the method cannot act at this scale. The previous
                adapter then stays active.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> adapter = model.add_adapter("ours", cma.AdapterConfig())
        >>> model.set_adapter("ours", scale=0.5)
        >>> model.set_adapter(None)
        >>> model.active is None
        True
        """
        if not math.isfinite(scale):
            raise ValueError(f"scale must be a number, not {scale!r}")
        with self.lock:
            activate(self.clip, None if name is None else self.get_adapter(name), scale)
            self._chosen = (name, float(scale))

    def _act(self) -> None:
        """Install this model's active adapter on CLIP, which other models may share."""
        name, scale = self._chosen
        activate(self.clip, None if name is None else self.get_adapter(name), scale)

    @property
    def active(self) -> str | None:
        """The name of the active adapter, or None; waits while another thread uses the model."""
        with self.lock:
            return self._chosen[0]

    @property
    def scale(self) -> float:
        """The factor on the active adapter's output."""
        with self.lock:
            return self._chosen[1]

    @property
    def lock(self) -> AbstractContextManager:
        """The lock of the CLIP: inside `with model.lock`, this thread has the CLIP to itself.

        Everything that switches an adapter, embeds or takes a training step holds it. A thread that
        holds it may take it again.
        """
        return patch_of(self.clip).lock

    @contextmanager
    def using(self, name: str | None, scale: float = 1.0, training: bool = False) -> Iterator[None]:
        """Activate the adapter `name`, or none, inside a `with`: in eval mode, without gradients.

        Other threads wait until the block ends and never see its adapter.

        Args:
            name: an adapter of this model, or None.
            scale: multiplies what the adapter adds; 1 is as trained.
            training: whether dropout and gradients are on.

        Raises:
            ValueError: as in `set_adapter`.
        """
        with self.lock, torch.set_grad_enabled(training):
            chosen = self._chosen
            mode = self.training
            try:
                self.set_adapter(name, scale)
                self.train(training)
                yield
            finally:
                self._chosen = chosen if chosen[0] in (None, *self.adapters) else NOTHING
                self.train(mode)
                self._act()

    def get_adapter(self, name: str | None) -> Method:
        """Return the adapter `name`. Raises ValueError if there is none."""
        if name is None or name not in self.adapters:
            raise ValueError(
                f"no adapter {name!r}; there are: {', '.join(self.adapters) or 'none'}"
            )
        return cast(Method, self.adapters[name])

    def save_adapter(
        self,
        folder: str | Path,
        name: str,
        record: object = None,
        license: str = "",
        source: str = "",
        strength: float | None = None,
    ) -> None:
        """Write the adapter `name` and its model card into a folder.

        The files are `adapter_config.json`, `adapter_model.safetensors` and README.md. A README.md
        that somebody has edited is kept, with a warning.

        Args:
            folder: where the files go; created if needed.
            name: an adapter of this model.
            record: the record of the run that trained the adapter, for the card: a `RunRecord`, its
                dict, or a path. A dict may have "forgetting": {"dataset": name, "difference": as in
                `results/forgetting.json`}.
            license: your choice, as the hub names it ("mit"); without one the card says unknown.
            source: the hub id that the card tells others to load; the folder's name by default.
            strength: a scale that you recommend in config and card; nothing applies it. By default
                the recommendation that the adapter was loaded with, if any.

        Raises:
            ValueError: the name is unknown, the folder's name is empty, or the record is not of a
                training, or of another method, other options or another backbone. We cannot check
                whether it belongs to another adapter that differs only in its weights.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> adapter = model.add_adapter("ours", cma.AdapterConfig())
        >>> model.save_adapter(folder, "ours", license="mit")  # `folder`: a new one
        >>> sorted(file.name for file in folder.iterdir())
        ['README.md', 'adapter_config.json', 'adapter_model.safetensors']
        """
        if not str(folder):
            raise ValueError("the folder's name is empty; expected one for this adapter alone")
        folder = Path(folder).expanduser().absolute()
        with self.lock:
            method = self.get_adapter(name)
            if strength is not None:
                if not (math.isfinite(strength) and strength >= 0):
                    raise ValueError(f"strength={strength!r}: expected a number of at least 0")
                method.strength = float(strength)
            backbone = identity(self.clip)
            card = hub.card_of(method, backbone, record, license, source or folder.name)
            write_adapter(method, folder, backbone)
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
        """Save an adapter to the Hugging Face hub and return its address there.

        Args:
            name: an adapter of this model.
            repo_id: "user/name"; created if needed.
            record: as in `save_adapter`.
            license: as in `save_adapter`.
            private: whether a new repository is private; None leaves it to the hub.
            revision: an existing branch; by default the repository's default branch.
            commit_message: the message of the commit.

        Returns:
            The address of the commit.

        Raises:
            ValueError: as in `save_adapter`.
            OSError: the hub refuses, or cannot be reached (in one line).
        """
        with TemporaryDirectory() as folder:
            self.save_adapter(folder, name, record, license, repo_id)
            return hub.push(Path(folder), repo_id, private, revision, commit_message)

    def load_adapter(
        self, source: str | Path, name: str, revision: str | None = None, strict: bool = False
    ) -> Method:
        """Read a saved adapter, of any method, add it as `name` and activate it.

        Nothing in its files is executed. Files in the hub's cache are used without asking the hub:
        run `hf download user/name` to get the newest.

        Args:
            source: a folder, or "user/name" on the hub.
            name: what you will call it here.
            revision: a branch, tag or commit on the hub.
            strict: refuse an adapter that was trained on another backbone, instead of warning.

        Returns:
            The method, which is also `model.adapters[name]`.

        Raises:
            FileNotFoundError: a file is missing.
            OSError: the hub does not provide it (in one line).
            ValueError: a file does not fit (it names file and key), the name is taken, or with
                `strict` the backbone differs.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> saved = model.add_adapter("ours", cma.AdapterConfig())
        >>> model.save_adapter(folder, "ours")  # `folder`: a new one
        >>> model.load_adapter(folder, "again").NAME
        'cross-modal adapter'
        """
        folder = hub.fetch(source, FILES, revision)
        with self.lock:
            with self.using(None):
                method = read_adapter(folder, self)
            if not self._fits(method):
                message = (
                    f"{source}: trained on {method.backbone}, loaded on {identity(self.clip)}; "
                    "with other weights it will retrieve badly: load the backbone it was trained on"
                )
                if strict:
                    raise ValueError(message)
                warnings.warn(message, stacklevel=2)
            return self._add(name, method)

    def reading(self, config: ReadConfig | None = None) -> ReadConfig:
        """Return the settings for reading captions and media, which the active adapter gives.

        Args:
            config: settings that you want instead.

        Returns:
            `config`; without one, the settings that the active adapter was trained with, or else
            the defaults of `ReadConfig`, which are the paper's except words and frames a second.

        Raises:
            TypeError: `config` is not a `ReadConfig`.
        """
        if not isinstance(config, ReadConfig | None):
            raise TypeError(f"expected a cma.ReadConfig or TrainConfig, not {short(config)}")
        with self.lock:
            name = self.active
            known = None if name is None else self.get_adapter(name).reading
        if config is None:
            if name is not None and known is None:
                logger.info(
                    f"adapter {name!r} does not say how its training read captions and media; "
                    f"using {ReadConfig()}; give a `config` if that is wrong"
                )
            return known or ReadConfig()
        if known is not None and config.reading() != known:
            logger.info(f"adapter {name!r} was trained with {known}; using your {config.reading()}")
        return config

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the active adapter; an empty list without one."""
        name = self.active
        return [] if name is None else list(self.adapters[name].parameters())

    def train(self, mode: bool = True) -> RetrievalModel:
        """Switch the adapters between training and evaluation; CLIP stays in evaluation."""
        with self.lock:  # a thread inside `using` relies on evaluation mode
            self.training = mode
            self.adapters.train(mode)
        return self

    def encode_text(
        self, texts: str | Sequence[str] | Tensor, max_words: int | None = None
    ) -> Tensor:
        """Return un-normalised embeddings [T, D] of captions.

        Args:
            texts: T captions, a single one, or `input_ids` [T, L].
            max_words: the most tokens kept of a caption, start and end included.

        Raises:
            ValueError: a caption is blank (it names its index), there are no captions, `max_words`
                is below 3, or the ids have another shape or no end token.
            TypeError: not all of `texts` are strings.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> captions = model.encode_text(["a red cat", "two birds on a roof"])
        >>> captions.shape
        torch.Size([2, 256])
        """
        if isinstance(texts, str):
            texts = [texts]
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts, max_words)[0]
        if ids.ndim != 2 or not ids.numel():
            raise ValueError(f"input_ids must be [T, L], not {list(ids.shape)}")
        ends = self.family.ends(self.clip.config.text_config, ids)  # later tokens do not matter
        unended = (ends < self.family.starts).nonzero()
        if len(unended):  # only the first id would be read
            message = "no end token after its words; expected ids as from model.tokenize"
            raise ValueError(f"input_ids[{int(unended[0])}]: {message}")
        # captions of similar length together
        order = ends.argsort() if len(ids) > TEXTS else torch.arange(len(ids), device=ids.device)
        embeddings = []
        with self.lock:
            self._act()
            for part in order.split(TEXTS):
                read = ids[part, : int(ends[part].max()) + 1]
                embeddings.append(self.family.encode_text(self.clip, read.to(self.device)))
        return torch.cat(embeddings)[order.argsort()]

    def encode_images(self, images: Picture | Sequence[Picture] | Tensor) -> Tensor:
        """Return un-normalised embeddings [V, D] of pictures.

        Args:
            images: V pictures, or a single one (paths or PIL pictures), or prepared pixels [V, 3,
                H, W].

        Raises:
            TypeError: `images` is anything else.
            ValueError: there is no picture, or the pixels have another shape.
            MediaError: a file cannot be read (named).

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> pictures = [Image.new("RGB", (90, 60), colour) for colour in ("red", "green")]
        >>> model.encode_images(pictures).shape
        torch.Size([2, 256])
        """
        if isinstance(images, Tensor):
            pixels = images
        else:
            images = [images] if isinstance(images, Picture) else images
            listed = isinstance(images, list | tuple)
            if not (listed and all(isinstance(one, Picture) for one in images)):
                wanted = "expected paths or PIL pictures, or a float tensor [V, 3, H, W]"
                raise TypeError(f"{wanted}; found {short(images)}")
            if not images:
                raise ValueError("no images were given")
            read = [one if isinstance(one, Image.Image) else read_image(one) for one in images]
            pixels = to_pixels(read, self.of_processor("image_processor"))
        with self.lock:
            self._act()
            return self.encode_frames(pixels)

    def encode_videos(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return un-normalised embeddings [V, F, D] of the frames of clips.

        Args:
            pixels: prepared frames [V, F, 3, H, W].
            mask: [V, F], 0 for padding; methods that look across frames need it. Give it to the
                similarity, too.

        Raises:
            ValueError: a shape does not fit.

        >>> model = cma.RetrievalModel.from_pretrained("mini")
        >>> pictures = [Image.new("RGB", (90, 60), colour) for colour in ("red", "blue", "red")]
        >>> frames = cma.media.to_pixels(pictures, model.processor.image_processor)
        >>> model.encode_videos(frames[None], mask=torch.tensor([[1, 1, 0]])).shape
        torch.Size([1, 3, 256])
        """
        shape = pixels.shape[:2]
        if mask is None:
            mask = torch.ones(shape)
        elif mask.shape != shape:
            raise ValueError(f"mask must be {list(shape)} like the frames, not {list(mask.shape)}")
        with self.lock:
            self._act()
            embeddings = self.encode_frames(pixels.flatten(0, 1), mask.to(self.device))
        return embeddings.unflatten(0, shape)

    def encode_frames(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return embeddings [V * F, D] of single frames, or of clips if `mask` [V, F] is given.

        Unlike `encode_images` and `encode_videos`, this takes no lock: it is for threads that work
        for the thread that holds it.
        """
        shaped = pixels.ndim == 4 and pixels.shape[1] == 3 and pixels.numel()
        if not (shaped and pixels.is_floating_point()):
            found = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"pixels must be float [V (* F), 3, H, W], not {found}")
        frames = 1 if mask is None else mask.shape[1]
        clips = max(1, self.frames_at_once // frames)  # at a time
        method = patch_of(self.clip).method
        if method is not None and method.across_frames:
            if mask is None:
                raise ValueError(
                    f"{method.NAME}: cannot do pictures, use encode_videos: {method.why_not}"
                )
            if torch.is_grad_enabled():
                clips = len(pixels)  # recomputing a layer needs the mask of the same clips
        masks = repeat(None) if mask is None else mask.split(clips)
        embeddings = []
        for part, own in zip(pixels.split(clips * frames), masks, strict=False):
            if method is not None:
                method.frame_mask = own  # it may look across a clip's frames
            prepared = part.to(self.device, self.dtype)
            embeddings.append(self.family.encode_pixels(self.clip, prepared))
        return torch.cat(embeddings)

    def tokenize(self, texts: Sequence[str], max_words: int | None = None) -> tuple[Tensor, int]:
        """Return token ids [T, L] of captions, and how many captions were truncated (warns once).

        A caption keeps at most min(context, max_words) tokens, start and end included. Errors are
        those of `encode_text`.
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
        max_tokens = min(places, max_words or math.inf)
        ids, cut = self.family.tokenize(self.of_processor("tokenizer"), texts, places, max_tokens)
        if cut and not self._warned:
            self._warned = True
            limit = f"exceed {max_tokens} tokens; the rest is not read"
            warnings.warn(f"{cut} of {len(ids)} captions {limit}", stacklevel=3)
        return ids, cut

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
        """How many frames pass the encoder together; on a CPU, as many as its cache holds."""
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
        sublayer: Any = next(parts(self.clip, "after_mlp"))[2]
        return sublayer.weight.dtype

    @property
    def logit_scale(self) -> Tensor:
        """The frozen logit scale, exponentiated: logits = logit_scale * similarity."""
        return self.clip.logit_scale.float().exp()

    def of_processor(self, name: str) -> Any:
        """Return the processor's "tokenizer" or "image_processor"; ValueError without one."""
        if self.processor is None:
            raise ValueError(
                "this model has no processor: give tensors, or RetrievalModel(clip, processor)"
            )
        return getattr(self.processor, name)
