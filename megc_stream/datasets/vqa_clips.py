"""The clips of the challenge's VQA test."""

from __future__ import annotations

import re
from pathlib import Path

from megc_stream.datasets.findings import Log
from megc_stream.datasets.folders import Place, Tree, walk
from megc_stream.datasets.layouts import Layout

__all__ = ["MEGC_VQA"]

_CLIP = re.compile(r"(SAMM|CAS)-\d{1,2}")
_FPS = {"SAMM": 200.0, "CAS": 30.0}
_CLIPS = tuple([f"SAMM-{n}" for n in range(1, 8)] + [f"CAS-{n}" for n in range(1, 18)])


def _look(root: Path, log: Log) -> Tree:
    def place(folder: Path) -> Place | None:
        match = _CLIP.fullmatch(folder.name)
        # Who is seen is not known: each clip counts as a subject of its own.
        return match and Place(subject=folder.name, video=folder.name, fps=_FPS[match[1]], path=folder)

    return walk(root, place, log)


MEGC_VQA = Layout(
    name="megc-vqa",
    title="MEGC VQA test clips",
    look=_look,
    expected=tuple((clip, clip) for clip in _CLIPS),
)
