"""How the bundled CLIP was pre-trained, as notebook a1 shows it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["augment", "recolour"],
        "contrastive": ["PretrainConfig", "learning_rate", "pretrain"],
        "small_clip": ["ClipShape", "export", "processor_for"],
    },
)
