"""What is better than chance: a line that few captions without an answer reach."""

import lancedb
import pytest
import torch

from cma.files import parse_json  # noqa: F401
from explorer.index import MediaIndex, chance
from tests.conftest import one_line
from tests.toy_index import drawn, holding
