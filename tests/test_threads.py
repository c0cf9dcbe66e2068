from __future__ import annotations

import os
import sys
import threading

import pytest

from megc_stream.threads import give_way


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_only_the_thread_that_asks_gives_way() -> None:
    seen: list[int] = []

    def work() -> None:
        give_way()
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [min(before + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_where_it_is_forbidden_or_means_something_else_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> int:
        raise PermissionError

    for name in ("setpriority", "getpriority"):
        monkeypatch.setattr(os, name, forbidden, raising=False)
    give_way()
    monkeypatch.setattr(sys, "platform", "darwin")
    give_way()
