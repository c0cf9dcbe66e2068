"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays, recipes and real footage that lies beside a checkout."""
    if not _SHARED.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout (golden arrays and real footage)")
    return _SHARED
