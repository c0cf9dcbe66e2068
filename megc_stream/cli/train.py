"""``megc-stream train``."""

from __future__ import annotations

from pathlib import Path

from megc_stream.cli.console import say
from megc_stream.cli.progress import CountProgress

__all__ = ["train_command"]


def train_command(portraits: Path, out: Path, cache: Path | None, seed: int) -> None:
    """Train on synthetic clips; see :func:`megc_stream.cli.app.train_mean`."""
    from megc_stream.training import train_synthetic

    with CountProgress("training", "steps") as progress:

        def show(step: str, done: int, total: int) -> None:
            if done == 0:
                progress.line(step)
            progress(done, total)

        train_synthetic(portraits, out, seed=seed, cache=cache, progress=show)
    say(str(out))
