"""What the tests of data_prep share."""

from functools import cache

import pytest

from data_prep import __main__ as command_line


@pytest.fixture(scope="session", autouse=True)
def one_parser():
    """Build the command line's parser once: that takes longer than most of what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "build_parser", cache(command_line.build_parser))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for one run after the other; `fuzz_sources.run` empties it."""
    return tmp_path_factory.mktemp("runs")
