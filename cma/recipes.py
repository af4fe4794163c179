"""The paper's settings for each benchmark, and ours for the offline benchmarks.

`paper` is the authors' training: optimiser, schedule, a rate of 1e-5 (section 4.1), half precision
(see `cma.training.prepare`; there, 1e-5 makes steps about 100 times as large as in float32), the
gradient divided by 4 as in their four processes, and the epoch chosen on test. `float32` is ours:
AdamW, our own rate, and the epoch chosen on validation; `bf16` is the same with bfloat16
activations, for GPUs. Ours are **untried on real data**.
"""

import logging
import re
from dataclasses import replace
from typing import Any

from .adapter import AdapterConfig
from .config import TrainConfig
from .dataset import RetrievalDataset
from .files import checked_dataclass, short

logger = logging.getLogger(__name__)

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

    `bottleneck_dim` is the paper's r, `shared_dim` its d_s. `config` is the float32 variant. The
    variant "paper" exists only if `paper` is True.
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

    def train_config(self, variant: str | None = None, items: int | None = None) -> TrainConfig:
        """Return the run's settings in one of VARIANTS.

        Args:
            variant: one of VARIANTS; "float32" by default.
            items: the number of training items, if they are your own. Below `MANY`, we choose
                batch, rate and epochs for so few (`for_few`).

        Raises:
            ValueError: the benchmark has no such variant, or `items` is below 1 or comes with
                "paper".

        >>> from cma.recipes import recipe
        >>> config = recipe("msrvtt").train_config("paper")
        >>> config.lr, config.batch_size, config.max_words, config.max_frames, config.fps
        (1e-05, 128, 32, 12, 1.0)
        """
        variant = variant or "float32"
        known = [name for name in VARIANTS if self.paper or name != "paper"]
        if variant not in known:
            wanted = f"expected one of {', '.join(known)} ({self.source})"
            raise ValueError(f"the recipe of {self.dataset} has no variant {variant!r}: {wanted}")
        name = re.sub(r'[/\\:*?"<>|]+', "-", self.dataset)
        config = replace(self.config, name=f"{name}-{variant}", **VARIANTS[variant])
        if items is None:
            return config
        if items < 1 or variant == "paper":
            raise ValueError(f"items={items}, variant {variant!r}: expected 1 or more, not 'paper'")
        return for_few(config, items) if items < MANY else config


# ---- small datasets of your own

# from this number of items on, the plain recipe; our curves end at 1,750 and resume at 7,000
MANY = 5000
STEPS = 216  # as in the curves of pictures, and about as in those of clips
CACHED = 14_000  # frames, 2 GB
ENOUGH = 50  # validation items needed to choose an epoch on them
LEAST = 100  # items; nothing was measured with fewer


def for_few(config: TrainConfig, items: int) -> TrainConfig:
    """Return a run's settings for few training items; below `LEAST`, log that none were tried.

    The rule comes from `results/curves`, measured with the bundled backbone: on 438 and 1,750
    pictures and 500 clips the best rate was 0.003 (0.01 on 7,000 pictures), and 216 steps of one
    caption per item gained 12 and 21 of the 25 points of R@1 that 7,000 pictures gain. A batch is
    at most a third of the items, as on the curve of 438. `tests/bench/few_items.py` tried the rule
    on other draws of 100 to 2,000 pictures; docs/own-captions.md says what they gained.
    """
    batch = max(2, min(config.batch_size, items // 3))
    steps = max(1, items // batch)
    held = items // 8  # a tenth of all items, where eight tenths are for training
    if items < LEAST:
        logger.info(
            f"{items} items: with fewer than {LEAST} a gain was not measured "
            "(docs/own-captions.md has those of more); `cma.train` says at the end whether it "
            "helped"
        )
    # each picture is read once, and a script needs no guard for processes
    small = items * config.max_frames <= CACHED
    reading = {"cache": True, "workers": 0} if small else {}
    return config.merge(
        reading
        | {
            "batch_size": batch,
            "lr": 0.003,
            "epochs": -(-STEPS // steps),
            "epoch_unit": "items",
            "select_on": "val" if held >= ENOUGH else "last",
        }
    )


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


def recipe(name: str | RetrievalDataset) -> Recipe:
    """Return the recipe of a benchmark, or of a dataset, which then names the run.

    Raises ValueError that lists the known benchmarks, TypeError for anything else.
    """
    if isinstance(name, RetrievalDataset):
        return replace(recipe(name.recipe), dataset=name.name)
    if not isinstance(name, str):
        raise TypeError(
            "expected a dataset, such as that of one split, or a benchmark's name; found "
            f"{short(name)}"
        )
    if name not in RECIPES:
        raise ValueError(
            f"no benchmark {name!r} has a recipe: expected one of {', '.join(RECIPES)}"
        )
    return RECIPES[name]
