"""What RSICD and RSITMD share: their forms, and the two ways in which their images are divided."""

from functools import partial

from data_prep.albef import read_albef
from data_prep.annotations import Counts
from data_prep.caption_lists import read_caption_lists
from data_prep.forms import Form
from data_prep.karpathy import read_named

Published = dict[str, Counts]


def remote_sensing_forms(
    name: str, karpathy: str, official: Published, resplit: Published
) -> dict[str, Form]:
    """The forms of a remote sensing benchmark; `karpathy` names its JSON, which holds the `official` split.

    ALBEF's files and lists hold the `resplit` one: train and val divided anew, test kept. Lists without val
    keep its images in train.
    """
    whole = Counts(*(sum(pair) for pair in zip(resplit["train"], resplit["val"], strict=True)))
    named = partial(read_named, names=(karpathy, karpathy.lower()))
    return {
        "karpathy": Form(karpathy, official, named),
        "albef": Form(f"{name}_{{train,val,test}}.json", resplit, partial(read_albef, name=name)),
        "lists": Form(
            "{train,val,test}_caps.txt",
            resplit,
            partial(read_caption_lists, name=name),
            without_val={"train": whole, "test": resplit["test"]},
        ),
    }
