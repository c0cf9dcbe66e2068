"""Words of the field that several parts share."""

from __future__ import annotations

from typing import Literal

__all__ = ["ACTION_UNIT_NAMES", "COARSE_OF_EMOTION", "CoarseClass"]

CoarseClass = Literal["negative", "positive", "surprise", "others"]

COARSE_OF_EMOTION: dict[str, CoarseClass] = {
    "negative": "negative",
    "positive": "positive",
    "surprise": "surprise",
    "happiness": "positive",
    "happy": "positive",
    "anger": "negative",
    "contempt": "negative",
    "disgust": "negative",
    "fear": "negative",
    "repression": "negative",
    "sad": "negative",
    "sadness": "negative",
    "other": "others",
    "others": "others",
}
"""The challenge's mapping of emotions, lower case, to its three classes; "others" is none of them."""

ACTION_UNIT_NAMES: dict[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    20: "lip stretcher",
    21: "neck tightener",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    31: "jaw clencher",
    38: "nostril dilater",
    39: "nostril compress",
    43: "eye closure",
    56: "tilt right",
    61: "eyes left",
}
"""Names of action units, by FACS number, as the challenge's question files spell them."""
