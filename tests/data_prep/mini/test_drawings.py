"""An SVG as pixels."""

import pytest

from data_prep.mini.drawings import render


def test_rendering_keeps_colour_and_alpha():
    body = '<rect width="1" height="1" fill="red"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1">{body}</svg>'
    picture = render(svg, size=40)
    assert picture.shape == (40, 40, 4)
    assert picture[20, 10].tolist() == [255, 0, 0, 255]  # 2:1, so centred from row 10 to 30
    assert picture[20, 30, 3] == 0 and picture[2, 10, 3] == 0
    with pytest.raises(ValueError):
        render("<svg", size=40)
