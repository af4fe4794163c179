"""The paper's settings for each benchmark, and ours for the offline benchmarks.

`paper` is the authors' training: optimiser, schedule, a rate of 1e-5 (section 4.1), half precision
(see `cma.training.prepare`; in it 1e-5 makes steps about 100 times as large as in float32), the
gradient divided by 4 as in their four processes, and the epoch chosen on test. `float32` is ours:
AdamW, a rate of our own, validation; `bf16` is ours with bfloat16 activations, for GPUs. Ours are
**untried on real data**.
"""

from dataclasses import replace
from typing import Any

from .adapter import AdapterConfig
from .config import TrainConfig
from .files import checked_dataclass

PAPER = {"lr": 1e-5, "optimizer": "bert_adam", "select_on": "test"}
HALF = {"precision": "fp16", "gradient_divisor": 4, "mask_same_item": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": PAPER | HALF,
    "float32": {},
    "bf16": {"precision": "bf16"},
}


@checked_dataclass
class Recipe:
    """Settings of one benchmark; `source` says where they are from.

    `bottleneck_dim` is the paper's r, `shared_dim` its d_s. `config` is the float32 variant. If
    `paper` is False, there is no variant "paper".
    """

    dataset: str
    bottleneck_dim: int
    shared_dim: int
    source: str
    config: TrainConfig
    paper: bool = True
    backbone: str = "openai/clip-vit-base-patch32"  # the paper's

    def adapter_config(self) -> AdapterConfig:
        """Return the adapter's settings for this benchmark."""
        return AdapterConfig(bottleneck_dim=self.bottleneck_dim, shared_dim=self.shared_dim)

    def train_config(self, variant: str = "float32") -> TrainConfig:
        """Return the run's settings in one of VARIANTS. Raises ValueError for another.

        >>> from cma.recipes import recipe
        >>> config = recipe("msrvtt").train_config("paper")
        >>> config.lr, config.batch_size, config.max_words, config.max_frames, config.fps
        (1e-05, 128, 32, 12, 1.0)
        """
        known = [name for name in VARIANTS if self.paper or name != "paper"]
        if variant not in known:
            wanted = f"expected one of {', '.join(known)} ({self.source})"
            raise ValueError(f"the recipe of {self.dataset} has no variant {variant!r}: {wanted}")
        return replace(self.config, name=f"{self.dataset}-{variant}", **VARIANTS[variant])


_PAPER = "paper section 4.1 and its table of trained parameters"
_IMAGES = (
    "paper section 4.1; r and d_s of the image rows inferred from their 0.5 M trained parameters"
)
_NONE = "the paper gives none for remote sensing; these are Flickr30K's"
_MINI = "ours; the rate is from a trial of another small world, and the study chose it, too"

_COMMON = TrainConfig(max_words=32, fps=1.0, lr=5e-4, workers=4)
_IMAGE = replace(_COMMON, similarity="mean_pooled", max_frames=1)
_VIDEO = replace(_COMMON, similarity="text_conditioned", max_frames=12)
_PARAGRAPH = replace(_VIDEO, max_words=64, max_frames=64)
# a notebook's budget
_SMALL = {"epochs": 1, "lr": 1e-2, "epoch_unit": "items", "cache": True, "workers": 0}
_CLIPS = {"batch_size": 32, "max_frames": 6, "fps": None}

_ALL = (
    Recipe("msrvtt", 8, 16, _PAPER, _VIDEO),
    Recipe("msvd", 16, 16, _PAPER, _VIDEO),
    Recipe("vatex", 16, 64, _PAPER, _VIDEO),
    Recipe("didemo", 8, 16, _PAPER, _PARAGRAPH),
    Recipe("activitynet", 16, 512, _PAPER, replace(_PARAGRAPH, epochs=20)),
    Recipe("flickr30k", 8, 16, _IMAGES, _IMAGE),
    Recipe("coco", 8, 16, _IMAGES, _IMAGE),
    Recipe("rsicd", 8, 16, _NONE, _IMAGE, paper=False),
    Recipe("rsitmd", 8, 16, _NONE, _IMAGE, paper=False),
    Recipe("mini-flickr30k", 8, 16, _MINI, _IMAGE.merge(_SMALL), paper=False, backbone="mini"),
    Recipe(
        "mini-msrvtt", 8, 16, _MINI, _VIDEO.merge(_SMALL | _CLIPS), paper=False, backbone="mini"
    ),
)
RECIPES: dict[str, Recipe] = {recipe.dataset: recipe for recipe in _ALL}


def recipe(name: str) -> Recipe:
    """Return the recipe of a benchmark. Raises ValueError that lists the known benchmarks."""
    if name not in RECIPES:
        raise ValueError(
            f"no benchmark {name!r} has a recipe: expected one of {', '.join(RECIPES)}"
        )
    return RECIPES[name]
