"""Moving records: links between stages, and the public event stream."""

from megc_stream.wire.links import Aborted, Inlet, Outlet
from megc_stream.wire.publisher import Publisher, check_endpoint
from megc_stream.wire.subscriber import Message, Subscriber

__all__ = ["Aborted", "Inlet", "Message", "Outlet", "Publisher", "Subscriber", "check_endpoint"]
