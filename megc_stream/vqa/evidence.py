"""What a measured answer rests on, in words: probabilities, regions and px, events, remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["evidence_in_words"]

_MOST_UNITS = 4
_MOST_EVENTS = 5


def evidence_in_words(evidence: Mapping[str, Any]) -> str:
    """Return the evidence of an answer of :class:`megc_stream.vqa.embedded.EmbeddedAnswerer` on one line.

    Of each action unit its probability and the motion that speaks most for it; the recogniser's probabilities, the
    events, and the remarks. "" where there is none of them.
    """
    units = [_unit(unit) for unit in evidence.get("action_units", ())]
    events = [f"{event['type']} {event['onset']}-{event['offset']}" for event in evidence.get("events", ())]
    probabilities = sorted(evidence.get("probabilities", {}).items(), key=lambda item: -item[1])
    parts = [
        _listed(units, _MOST_UNITS),
        ", ".join(f"{name} {probability:.2f}" for name, probability in probabilities),
        f"frames {_listed(events, _MOST_EVENTS)}" if events else "",
        *evidence.get("remarks", ()),
    ]
    return "; ".join(part for part in parts if part)


def _unit(unit: Mapping[str, Any]) -> str:
    said = f"{unit['name']} {unit['confidence']:.2f}"
    if not unit["motions"]:
        return said
    strongest = unit["motions"][0]
    side = "" if strongest["side"] == "middle" else f"{strongest['side']} "
    return f"{said} ({side}{strongest['region']} {strongest['direction']} {strongest['px']:.1f} px)"


def _listed(texts: list[str], most: int) -> str:
    more = len(texts) - most
    return ", ".join([*texts[:most], *([f"{more} more"] if more > 0 else [])])
