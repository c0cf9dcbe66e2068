"""The time limit of these tests must not be a signal."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a thread watch the time: pylon's timers come as SIGALRM, which pytest-timeout would take for its own."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.timeout(method="thread"))
