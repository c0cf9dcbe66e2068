"""The two programs of test_wire_namespaces.py: ``publisher ADDRESS KEYS`` and ``subscriber ADDRESS KEYS``."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import zmq

from megc_stream.clock import MonotonicClock
from megc_stream.errors import WireError
from megc_stream.records import Trace
from megc_stream.settings import SecuritySettings, WireSettings
from megc_stream.wire import Control, ControlServer, Publisher, Subscriber, authenticator, load_security
from megc_stream.wire.protocol import FaceFrame, topic_of

PERIOD_S = 0.005


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def publisher(address: str, keys: Path) -> None:
    """Publish a trace and a frame of 16 KiB 200 times a second until the command shutdown."""
    security = load_security(SecuritySettings(secret_key=keys / "server.key_secret", allowed=keys / "allowed"))
    settings = WireSettings(publish=f"tcp://{address}:5550", publish_frames=f"tcp://{address}:5551")
    leaving = threading.Event()
    clock = MonotonicClock()
    sent = 0

    def shutdown(*_: object) -> dict[str, Any]:
        leaving.set()
        return {"sent": sent}

    handlers = {"status": lambda *_: {"sent": sent}, "shutdown": shutdown}
    with (
        zmq.Context() as context,
        authenticator(context, security),
        ControlServer(context, f"tcp://{address}:5552", security, handlers, clock) as control,
        Publisher(context, settings, security, clock) as stream,
    ):
        say(endpoints=stream.endpoints)
        begin_s = clock.now_s()
        while not leaving.is_set():
            stream.serve()
            control.serve()
            stream.publish(
                topic_of("metric", "trace", "cam0"),
                "trace",
                "cam0",
                Trace(source="cam0", frame=sent, smoothed=0.5, threshold=None),
            )
            if stream.wants(topic_of("frame", "face", "cam0")):
                frame = FaceFrame(
                    frame=sent, number=sent, segment=0, format="gray", width=128, height=128,
                    landmarks68=None, flags=(), pts_s=None,
                )  # fmt: skip
                stream.publish(topic_of("frame", "face", "cam0"), "frame", "cam0", frame, raw=[bytes(16384)])
            sent += 1
            clock.wait_until_s(begin_s + sent * PERIOD_S)


def subscriber(address: str, keys: Path) -> None:
    """Read both streams and ask for the status; say every 50 ms how it goes, until a line comes on stdin."""
    security = load_security(SecuritySettings(secret_key=keys / "client.key_secret", server_key=keys / "server.key"))
    leaving = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), leaving.set()), daemon=True).start()
    received = {"metric.": 0, "frame.": 0}
    with (
        zmq.Context() as context,
        Subscriber(
            f"tcp://{address}:5550", ("metric.",), context=context, security=security, stale_after_s=1.0
        ) as events,
        Subscriber(
            f"tcp://{address}:5551", ("frame.",), context=context, security=security, stale_after_s=1.0
        ) as frames,
        Control(f"tcp://{address}:5552", context=context, security=security, timeout_s=1.0) as control,
    ):
        events.wait_for_welcome(20)
        frames.wait_for_welcome(20)
        told_s = 0.0
        while not leaving.is_set():
            for stream, topic in ((events, "metric."), (frames, "frame.")):
                while stream.receive(0.001) is not None:
                    received[topic] += 1
                    if time.monotonic() > told_s + 0.05:
                        break
            if time.monotonic() > told_s + 0.05:
                try:
                    answer = control.status() and ""
                except WireError as error:
                    answer = str(error)
                told_s = time.monotonic()
                say(
                    events=received["metric."],
                    frames=received["frame."],
                    event_gaps=events.gaps,
                    frame_gaps=frames.gaps,
                    stale=events.stale,
                    problem=answer,
                )
        say(sent=control.shutdown()["sent"])


if __name__ == "__main__":
    {"publisher": publisher, "subscriber": subscriber}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
