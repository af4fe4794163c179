import pytest

from cma.search import build


@pytest.fixture
def read(monkeypatch):
    """The names of the files whose pixels are read."""
    names, really = [], build.read_pixels
    monkeypatch.setattr(
        build, "read_pixels", lambda file, *rest: names.append(file.media) or really(file, *rest)
    )
    return names
