"""Generated records for the tests of the output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from megc_stream.records import Event, EventPoint

FPS = 100.0


def _point(frame: int) -> EventPoint:
    return EventPoint(frame=frame, number=frame + 1, t_s=frame / FPS)


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Event]:
    """Return a factory of events: ``make_event(number=1, rev=0, onset=20, apex=None, offset=None, **fields)``."""

    def make(
        number: int = 1,
        rev: int = 0,
        onset: int = 20,
        apex: int | None = None,
        offset: int | None = None,
        **fields: Any,
    ) -> Event:
        values: dict[str, Any] = {
            "event_id": f"clip-{number}",
            "event_number": number,
            "rev": rev,
            "kind": "onset",
            "final": False,
            "source": "clip.mkv",
            "subject": "006",
            "video": "006_1",
            "decision_frame": onset,
            "onset": _point(onset),
            "apex": None if apex is None else _point(apex),
            "offset": None if offset is None else _point(offset),
            "score": 0.5,
            "threshold": 0.25,
            "model": "mean-test",
            "model_sha256": "ab" * 32,
            "k": 10,
            "k_prime": 19,
            "lookahead_s": 0.3,
        }
        return Event(**values | fields)

    return make
