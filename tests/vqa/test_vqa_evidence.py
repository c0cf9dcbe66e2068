from __future__ import annotations

from typing import Any

from megc_stream.vqa.evidence import evidence_in_words

_UNIT: dict[str, Any] = {
    "name": "brow lowerer",
    "confidence": 0.971,
    "motions": [
        {"region": "inner brow", "side": "right", "direction": "down", "px": 1.106},
        {"region": "glabella", "side": "middle", "direction": "down", "px": 0.9},
    ],
}


def test_units_come_with_their_probability_and_the_motion_that_speaks_most_for_them() -> None:
    middle = {**_UNIT, "name": "chin raiser", "motions": [{**_UNIT["motions"][1], "region": "chin", "direction": "up"}]}
    bare = {**_UNIT, "name": "lid tightener", "motions": []}
    assert evidence_in_words({"action_units": [_UNIT, middle, bare]}) == (
        "brow lowerer 0.97 (right inner brow down 1.1 px), chin raiser 0.97 (chin up 0.9 px), lid tightener 0.97"
    )


def test_classes_events_and_remarks_follow() -> None:
    events = [{"type": "micro", "onset": 10 * n, "offset": 10 * n + 5} for n in range(7)]
    evidence = {
        "probabilities": {"negative": 0.2, "surprise": 0.75, "positive": 0.05},
        "events": events,
        "remarks": ["no face was measured"],
    }
    assert evidence_in_words(evidence) == (
        "surprise 0.75, negative 0.20, positive 0.05; "
        "frames micro 0-5, micro 10-15, micro 20-25, micro 30-35, micro 40-45, 2 more; no face was measured"
    )
    assert evidence_in_words({}) == ""
