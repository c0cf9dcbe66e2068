"""``megc-stream synth``."""

from __future__ import annotations

from pathlib import Path

from megc_stream.cli.console import note, say
from megc_stream.cli.progress import CountProgress

__all__ = ["clip_command", "inject_command"]


def clip_command(
    out: Path, portrait: Path | None, *, fps: float, seconds: float, events: int, seed: int, overwrite: bool
) -> None:
    """Write a clip and its truth; see :func:`megc_stream.cli.app.synth_clip`."""
    from megc_stream.synthesis import synth_clip

    with CountProgress("rendering") as progress:
        truth = synth_clip(
            out, portrait, fps=fps, seconds=seconds, events=events, seed=seed, overwrite=overwrite, progress=progress
        )
    note(f"{len(truth)} micro-expressions planted")
    say(str(out))


def inject_command(source: str, out: Path, *, events: int, seed: int, fps: float | None, overwrite: bool) -> None:
    """Write planted footage and its truth; see :func:`megc_stream.cli.app.synth_inject`."""
    from megc_stream.synthesis import synth_inject

    with CountProgress("planting") as progress:
        truth = synth_inject(source, out, events=events, seed=seed, fps=fps, overwrite=overwrite, progress=progress)
    note(f"{len(truth)} micro-expressions planted")
    say(str(out))
