"""Generated material and events for the tests of the answerers."""

from __future__ import annotations

from typing import Any

import numpy as np

from megc_stream.records import Answer, Event, EventPoint
from megc_stream.vqa.material import Material

__all__ = ["QUESTIONS", "embedded", "make_event", "make_material"]

QUESTIONS = ("What is the coarse expression class?", "What are the action units?")


def make_material(seed: int = 0, count: int = 9, **fields: Any) -> Material:
    """Return material of one event: ``count`` crops of noise that drifts."""
    rng = np.random.default_rng(seed)
    face = rng.integers(0, 256, (128, 128)).astype(np.uint8)
    values: dict[str, Any] = {
        "scope": "event",
        "source": "clip.mkv",
        "subject": "006",
        "video": "006_1",
        "dataset": "samm",
        "fps": 100.0,
        "images": tuple(np.roll(face, n, axis=0) for n in range(count)),
        "times_s": tuple(n / 100 for n in range(count)),
        "frames": tuple(range(20, 20 + count)),
        "apex": count // 2,
        "offset": count - 1,
        "landmarks68": np.full((68, 2), 40.0, np.float32),
        "flow": rng.normal(0, 0.4, (128, 128, 2)).astype(np.float32),
    }
    return Material(**values | fields)


def embedded(question: str = QUESTIONS[0], answer: str = "positive") -> Answer:
    """Return what the embedded answerer would say."""
    return Answer(question=question, answer=answer, by="embedded", evidence={"regions": ["mouth"]})


def make_event(number: int = 1, rev: int = 4, questions: tuple[str, ...] = QUESTIONS, **fields: Any) -> Event:
    """Return an event with embedded answers to its questions."""
    points = [EventPoint(frame=frame, number=frame, t_s=frame / 100) for frame in (20, 24, 28)]
    values: dict[str, Any] = {
        "event_id": f"clip-{number}",
        "event_number": number,
        "rev": rev,
        "kind": "answer",
        "final": False,
        "source": "clip.mkv",
        "subject": "006",
        "video": "006_1",
        "decision_frame": 40,
        "onset": points[0],
        "apex": points[1],
        "offset": points[2],
        "answers": tuple(embedded(question) for question in questions),
        "score": 0.5,
        "threshold": 0.25,
        "model": "mean-test",
        "model_sha256": "ab" * 32,
        "k": 10,
        "k_prime": 19,
        "lookahead_s": 0.3,
        "run": {"t_event_s": 1.5},
    }
    return Event(**values | fields)
