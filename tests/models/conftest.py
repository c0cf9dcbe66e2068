from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models of this test's own."""
    folder = tmp_path / "cache"
    for module in ("session", "fetching"):
        monkeypatch.setattr(f"megc_stream.models.{module}.cache_folder", lambda: folder)
    return folder
