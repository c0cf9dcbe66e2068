"""Running one stage in a process: by hand or a service manager (hosts), or started by ``megc-stream run``."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import zmq

from megc_stream.cli.analysis import build_stage, open_reader
from megc_stream.cli.graph import PUBLISHER, Node, nodes_of, place_of, stages_of
from megc_stream.cli.outputs import Outputs
from megc_stream.cli.progress import CountProgress, RunProgress
from megc_stream.clock import MonotonicClock
from megc_stream.errors import MegcError, UsageError
from megc_stream.pipeline.orders import Command
from megc_stream.pipeline.worker import run_publisher, run_reader, run_stage
from megc_stream.settings import Settings, load_settings

__all__ = ["child_command", "stage_command"]

_STDIN = 0
_T = TypeVar("_T")


def stage_command(stage: str, config: Path, source: str | None) -> None:
    """Run a stage of a graph across hosts; see :func:`megc_stream.cli.stage.stage`."""
    settings = load_settings(config)
    if settings.pipeline.runner != "hosts":
        raise UsageError(f"{config}: pipeline.runner is '{settings.pipeline.runner}'; stages are started for 'hosts'")
    _run(stage, settings, source, None, None)


def child_command(stage: str) -> None:
    """Run a stage for the ``megc-stream run`` that started this process: settings are the first line of stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = bytearray()
    while not line.endswith(b"\n"):  # not through sys.stdin, whose buffer would hide the end of the pipe
        part = os.read(_STDIN, 65536)
        if not part:
            return
        line += part
    told = json.loads(line)
    try:
        _run(stage, Settings(**told["settings"]), told["source"], Path(told["directory"]), _STDIN)
    except MegcError as error:
        # The coordinator knows, and says it.
        sys.exit(error.exit_code)


def _run(stage: str, settings: Settings, source: str | None, directory: Path | None, lifeline: int | None) -> None:
    import cv2

    # One core a stream: OpenCV's own threads would compete with the other stages.
    cv2.setNumThreads(1)
    clock = MonotonicClock()
    nodes = nodes_of(settings)
    if stage == PUBLISHER:
        place = place_of(settings, None, stage, directory, lifeline)
        with CountProgress("analysing") as progress:

            def build(context: zmq.Context[Any], post: Callable[[Command], None]) -> Outputs:
                return Outputs(
                    settings,
                    nodes,
                    context,
                    post,
                    clock=clock,
                    sinks=[RunProgress(progress, settings.capture.max_seconds)],
                    warn=lambda text: progress.line(f"warning: {text}"),
                )

            run_publisher(place, build, {node.name: stages_of(settings) for node in nodes})
        return
    node = _node(nodes, source)
    if stage not in stages_of(settings):
        raise UsageError(f"stage {stage}: is no part of this graph, which has {', '.join(stages_of(settings))}")
    place = place_of(settings, node, stage, directory, lifeline)
    if stage == "reader":
        run_reader(place, lambda: _settled(open_reader(node.settings, clock)))
    else:
        run_stage(place, lambda: _settled(build_stage(stage, node.settings, clock)))


def _settled(built: _T) -> _T:
    """Return what was built; the collector leaves alone what is loaded by now (:mod:`megc_stream.cli.collecting`)."""
    gc.freeze()
    return built


def _node(nodes: tuple[Node, ...], source: str | None) -> Node:
    if source is None and len(nodes) == 1:
        return nodes[0]
    for node in nodes:
        if node.name == source:
            return node
    names = ", ".join(node.name for node in nodes)
    raise UsageError(f"--source {source or 'is missing'}: expected one of {names}")
