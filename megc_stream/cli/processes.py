"""The runners ``processes`` and ``hosts``: the coordinator in this process, every stage in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import zmq

from megc_stream.cli.console import note
from megc_stream.cli.graph import PUBLISHER, Node, place_of, stages_of
from megc_stream.cli.results import Analysis
from megc_stream.cli.signals import stopping_on_signals
from megc_stream.packing import Unpacker
from megc_stream.pipeline.coordinator import Coordinator
from megc_stream.records import StreamInfo
from megc_stream.settings import Settings
from megc_stream.wire import authenticator

__all__ = ["run_processes"]

_unpack = Unpacker[Analysis](Analysis)


def run_processes(settings: Settings, nodes: Sequence[Node]) -> list[Analysis]:
    """Run the graph and return what its sources leave; see :func:`megc_stream.cli.analysis.analyse_graph`."""
    with ExitStack() as stack:
        directory = None
        if settings.pipeline.runner == "processes":
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="megc-")))
        started, session = datetime.now().astimezone(), uuid.uuid4().hex

        def on_info(source: str, info: StreamInfo, warnings: tuple[str, ...]) -> dict[str, Any]:
            return {
                "info": msgspec.to_builtins(info),
                "warnings": list(warnings),
                "started": started.isoformat(),
                "session": session,
            }

        def launch(source: str, stage: str) -> subprocess.Popen[bytes]:
            return _launch(settings, directory, source, stage)

        place = place_of(settings, None, PUBLISHER, directory, None)
        context = stack.enter_context(zmq.Context())
        stack.enter_context(authenticator(context, place.security))
        coordinator = Coordinator(
            context,
            place.coordinator,
            {node.name: stages_of(settings) for node in nodes},
            settings.pipeline,
            launch=None if directory is None else launch,
            on_info=on_info,
            security=place.security,
            insecure=place.insecure,
            tell=note,
        )
        with stopping_on_signals(coordinator.stop):
            summaries = coordinator.run()
    return [_unpack(summaries[node.name]) for node in nodes]


def _launch(settings: Settings, directory: Path | None, source: str, stage: str) -> subprocess.Popen[bytes]:
    """Start the process of a stage: settings through a pipe, whose end tells it that we are gone."""
    # The variables are in the settings already; read again they could only change the order of what was merged.
    prefix = Settings.model_config["env_prefix"]
    variables = {name: value for name, value in os.environ.items() if not name.upper().startswith(prefix)}
    process = subprocess.Popen(
        [sys.executable, "-m", "megc_stream", "stage", stage, "--child"],
        env=variables,
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us: the stages finish what was read
    )
    assert process.stdin is not None
    # Only what was set: a default written out in a table of [[sources]] would hide the common table's value.
    told = {
        "settings": json.loads(settings.model_dump_json(exclude_unset=True)),
        "directory": str(directory),
        "source": source,
    }
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once: noticed by the coordinator
    return process
