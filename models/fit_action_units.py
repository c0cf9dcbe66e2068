"""Fit the model of action units: ``python models/fit_action_units.py PORTRAITS``.

Writes ``megc_stream/recognition/action_units.toml``. PORTRAITS is a folder of neutral, frontal portraits, one a person
(``frll_003_neutral.jpg``); the persons are split as for mean-synthetic, and those to test on are left alone: they are
for ``benchmarks/action_units.py``. Takes about three minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from megc_stream.synthesis.portraits import load_portrait, portrait_landmarks
from megc_stream.training.action_units import UnitPair, fit_unit_model, format_unit_model, unit_pairs
from megc_stream.training.corpus import find_portraits, split_persons

_OUT = Path(__file__).resolve().parents[1] / "megc_stream" / "recognition" / "action_units.toml"
_SEED = 0
_EVENTS = 40
_CLIPS = 2


def main() -> None:
    """Make the pairs, fit, write."""
    parser = argparse.ArgumentParser(description="Fit the model of action units.")
    parser.add_argument("portraits", type=Path, help="folder of neutral portraits")
    parser.add_argument("--out", type=Path, default=_OUT)
    arguments = parser.parse_args()
    files = find_portraits(arguments.portraits)
    split = split_persons(files, _SEED)
    persons = (*split.training, *split.validation)
    pairs: list[UnitPair] = []
    for number, person in enumerate(persons):
        grey = np.asarray(cv2.cvtColor(load_portrait(files[person]), cv2.COLOR_BGR2GRAY), np.uint8)
        for clip in range(_CLIPS):
            picture = np.ascontiguousarray(grey[:, ::-1]) if clip else grey
            landmarks = portrait_landmarks(picture, str(files[person]))
            pairs += unit_pairs(person, picture, landmarks, _SEED + 100 * clip + number, _EVENTS)
        print(f"{number + 1} of {len(persons)} persons, {len(pairs)} pairs", flush=True)
    remarks = [
        "Weights of action units over the motion of regions of the face, see megc_stream/recognition/action_units.py",
        "and docs/action-units.md. Made by models/fit_action_units.py; do not edit.",
        "Synthetic expressions alone; no real micro-expression was seen. Licence: Apache-2.0.",
        f"Persons ({len(persons)}): {', '.join(sorted(persons))}",
    ]
    arguments.out.write_text(format_unit_model(fit_unit_model(pairs), remarks), encoding="utf-8")


if __name__ == "__main__":
    main()
