"""Each benchmark's protocol on an example small enough to be worked out by hand."""

import pytest
import torch

from cma.training.evaluation import score
from data_prep.benchmarks import forms

# Four captions (rows), three items: item 0 owns captions 0 and 1, item 1 caption 2, item 2 caption 3.
SIMILARITY = torch.tensor(
    [
        [0.9, 0.1, 0.2],  # caption 0 finds item 0 first
        [0.3, 0.5, 0.4],  # caption 1 (item 0): items 1 and 2 are before it, rank 3
        [0.8, 0.6, 0.1],  # caption 2 (item 1): item 0 is before it, rank 2
        [0.7, 0.2, 0.3],  # caption 3 (item 2): item 0 is before it, rank 2
    ]
)
OWNER = torch.tensor([0, 0, 1, 2])


def found(protocol, similarity=SIMILARITY, owner=OWNER):
    return score(similarity, owner, protocol["visual_to_text"], samples=0)


def test_images_rank_an_items_best_caption_among_all_captions():
    """Flickr30K, MSCOCO, RSICD, RSITMD. Text to image: ranks 1, 3, 2, 2.

    Image to text, by column: item 0's best caption has 0.9 and none is before it; item 1's has 0.6, none is;
    item 2's has 0.3, and caption 1 with 0.4 is before it.
    """
    result = found(forms.IMAGES)
    assert result["text_to_visual"]["R@1"] == 25 and result["text_to_visual"]["R@5"] == 100
    assert result["text_to_visual"]["MdR"] == 2 and result["text_to_visual"]["MnR"] == 2
    assert result["visual_to_text"]["R@1"] == pytest.approx(200 / 3)
    assert result["visual_to_text"]["MnR"] == pytest.approx(4 / 3)
    assert result["mR"] == pytest.approx(
        (25 + 100 + 100 + 200 / 3 + 100 + 100) / 6
    )  # remote sensing's number


def test_every_caption_is_a_query_and_videos_rank_videos_by_their_best_caption():
    """Video to text over items: for item 2 the items have 0.4 (caption 1), 0.1 and 0.3, so rank 2."""
    result = found(forms.VIDEOS)
    assert result["text_to_visual"]["R@1"] == 25
    assert result["visual_to_text"]["R@1"] == pytest.approx(200 / 3)


def test_the_two_readings_differ_where_one_item_has_two_captions_in_front():
    """Item 1's caption has 0.3; captions 0 and 1, both item 0's, have 0.5 and 0.4.

    That is rank 3 among captions, but only one item is before it: rank 2 among items.
    """
    similarity = torch.tensor([[0.9, 0.5], [0.8, 0.4], [0.1, 0.3]])
    owner = torch.tensor([0, 0, 1])
    assert found(forms.IMAGES, similarity, owner)["visual_to_text"]["MnR"] == 2  # ranks 1 and 3
    assert found(forms.VIDEOS, similarity, owner)["visual_to_text"]["MnR"] == 1.5  # ranks 1 and 2


@pytest.mark.parametrize("protocol", [forms.VIDEOS, forms.PARAGRAPHS])
def test_one_caption_or_one_paragraph_a_clip(protocol):
    """MSR-VTT, DiDeMo, ActivityNet: the diagonal is right. Rows: ranks 1, 1, 3; columns: 1, 2, 3."""
    similarity = torch.tensor([[0.9, 0.2, 0.3], [0.1, 0.5, 0.4], [0.6, 0.7, 0.2]])
    result = found(protocol, similarity, torch.arange(3))
    assert result["text_to_visual"]["R@1"] == pytest.approx(200 / 3)
    assert result["text_to_visual"]["MnR"] == pytest.approx(5 / 3)
    assert result["visual_to_text"]["R@1"] == pytest.approx(100 / 3)
    assert result["visual_to_text"]["MnR"] == 2
