from __future__ import annotations

from collections import deque

import pytest

from megc_stream.errors import WireError
from megc_stream.packing import pack
from megc_stream.pipeline.feeding import Feed
from megc_stream.pipeline.hosting import Header, StageHost
from megc_stream.pipeline.stage import Sink
from megc_stream.records import Record, StreamEnd, Trace
from megc_stream.wire import Aborted


class Inlet(deque[list[bytes]]):
    def receive(self) -> list[bytes]:
        if not self:
            raise Aborted("nothing more")
        return self.popleft()


class Sender(list[list[bytes]]):
    def put(self, n: int, parts: list[bytes]) -> None:
        self.append(parts)

    def flush(self) -> None:
        return


class Same:
    def process(self, record: Record) -> list[Record]:
        return [] if isinstance(record, StreamEnd) else [record]

    def flush(self) -> list[Record]:
        return []


class Written(Sink):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


def message(n: int) -> list[bytes]:
    trace = Trace(source="cam0", frame=n, smoothed=0.5, threshold=None)
    return [pack(Header("cam0", "reader", n)), pack(trace)]


MALFORMED = [[b""], [b"\xc1"], [message(1)[0], b"\xc1"], [b"\x91" * 10_000, message(1)[1]], [message(1)[1]]]


@pytest.mark.parametrize("parts", MALFORMED, ids=lambda parts: f"{len(parts)}-{len(parts[0])}")
def test_a_stage_counts_malformed_messages_and_waits_for_what_is_missing(parts: list[bytes]) -> None:
    inlet, following, sinks = Inlet([message(0), parts, message(2), message(1)]), Sender(), Sender()
    host = StageHost("cam0", "spotter", Same(), inlet, following, sinks, tolerant=True)  # type: ignore[arg-type]
    with pytest.raises(Aborted):
        host.run()
    assert (host.n, host.malformed) == (1, 1)  # 2 was too early: it has to come again
    assert len(following) == 2


def test_within_one_program_a_malformed_message_is_an_error() -> None:
    host = StageHost("cam0", "spotter", Same(), Inlet([[b"\xc1"]]), None, Sender())  # type: ignore[arg-type]
    with pytest.raises(WireError, match="cannot be understood"):
        host.run()
    feed = Feed({"cam0": [Written()]}, {"cam0": ["reader"]})
    with pytest.raises(WireError, match="cannot be understood"):
        feed.take([b"\xc1"])


@pytest.mark.parametrize("parts", MALFORMED, ids=lambda parts: f"{len(parts)}-{len(parts[0])}")
def test_the_sinks_get_every_message_once_beside_malformed_ones(parts: list[bytes]) -> None:
    sink = Written()
    feed = Feed({"cam0": [sink]}, {"cam0": ["reader"]}, tolerant=True)
    for one in (message(0), parts, message(1)):
        feed.take(one)
    assert [record.frame for record in sink.records if isinstance(record, Trace)] == [0, 1]
    assert feed.malformed == 1
