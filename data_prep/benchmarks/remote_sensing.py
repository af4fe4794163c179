"""What RSICD and RSITMD share: their forms, and the ways in which their images are divided."""

from functools import partial

from data_prep.benchmarks.albef import find_albef
from data_prep.benchmarks.caption_lists import find_caption_lists
from data_prep.benchmarks.forms import Form
from data_prep.benchmarks.karpathy import find_karpathy
from data_prep.dataset import Counts

Division = dict[str, Counts]


def remote_sensing_forms(name: str, karpathy: str, divisions: dict[str, Division]) -> dict[str, Form]:
    """The forms of a remote sensing benchmark; `karpathy` names its JSON, which holds the "official" split.

    ALBEF's files and lists hold the "re-split" one: train and val divided anew, test kept. Any of them may
    hold another of the `divisions` as well.
    """
    anew = {which: divisions[which] for which in sorted(divisions, key=lambda which: which != "re-split")}
    divided, official = tuple(anew.values()), tuple(divisions.values())
    named = partial(find_karpathy, names=(karpathy, karpathy.lower()))
    lists = partial(find_caption_lists, name=name)
    return {
        "karpathy": Form(karpathy, official, named),
        "albef": Form(f"{name}_{{train,val,test}}.json", divided, partial(find_albef, name=name)),
        "lists": Form("{train,val,test}_caps.txt", divided, lists),
    }
