from __future__ import annotations

import gc

import pytest

from megc_stream.cli.collecting import what_is_loaded_left_alone


def test_what_exists_is_left_alone_during_a_run_only() -> None:
    before = gc.get_freeze_count()
    loaded = [[] for _ in range(1000)]
    with pytest.raises(RuntimeError), what_is_loaded_left_alone():
        assert gc.get_freeze_count() >= before + len(loaded)
        raise RuntimeError
    assert gc.get_freeze_count() == 0
    assert any(item is loaded for item in gc.get_objects())
