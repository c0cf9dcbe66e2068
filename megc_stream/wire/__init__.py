"""Moving records: links between stages, and the public event stream."""

from megc_stream.wire.aio import AsyncSubscriber
from megc_stream.wire.clock_sync import ClockEstimate, ClockSync
from megc_stream.wire.control import AsyncControl, CommandError, Control, ControlServer
from megc_stream.wire.links import Aborted, Inlet, Outlet
from megc_stream.wire.publisher import Publisher
from megc_stream.wire.security import (
    PLAIN,
    ConnectionMonitor,
    Security,
    authenticator,
    bind,
    check_endpoint,
    connect,
    is_exposed,
    load_security,
)
from megc_stream.wire.subscriber import Subscriber

__all__ = [
    "PLAIN",
    "Aborted",
    "AsyncControl",
    "AsyncSubscriber",
    "ClockEstimate",
    "ClockSync",
    "CommandError",
    "ConnectionMonitor",
    "Control",
    "ControlServer",
    "Inlet",
    "Outlet",
    "Publisher",
    "Security",
    "Subscriber",
    "authenticator",
    "bind",
    "check_endpoint",
    "connect",
    "is_exposed",
    "load_security",
]
