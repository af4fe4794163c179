"""How the bundled CLIP was pre-trained: its corpus, training and export. Notebook a1 shows it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["command", "icons"],
    submod_attrs={
        "augmentation": ["augment", "recolour"],
        "command": ["recall_on"],
        "contrastive": ["PretrainConfig", "STAGES", "learning_rate", "pretrain"],
        "small_clip": ["ClipShape", "export", "processor_for"],
    },
)
