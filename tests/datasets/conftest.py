from __future__ import annotations

from pathlib import Path

import corpora
import pytest
from corpora import Written

from megc_stream.datasets import DataSet, read_dataset


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write the generated corpus of a layout into an empty folder and read it."""

    def write(layout: str) -> DataSet:
        return read_dataset(layout, corpora.MAKERS[layout](tmp_path / "data"))

    return write
