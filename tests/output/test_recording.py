from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from megc_stream.clock import ManualClock
from megc_stream.errors import DataError, OutputError, UsageError
from megc_stream.output.recording import (
    MAGIC,
    Damage,
    RecordedMessage,
    RecordingEnd,
    RecordingHeader,
    RecordingJoin,
    RecordingReader,
    RecordingWriter,
    parse_fsync,
)
from megc_stream.output.recording_index import index_path, read_index

PARTS = [
    (b"event.onset.cam0.", b"\x81\xa1v\x01"),
    (b"frame.face.cam0.", b"\x80", bytes(range(256))),
    (b"", b""),
    (b"status.", b"\xc1REC" * 3),  # the marker of a record, inside one
    (b"log.info.",),
]


def header(**fields: object) -> RecordingHeader:
    values = {"recorder": "ab" * 16, "session": "s1", "numbering": "s1", "schema": "f00", "began_unix_s": 1e9}
    return RecordingHeader(**values | fields)  # type: ignore[arg-type]


def write(path: Path, messages: list[tuple[bytes, ...]], *, step_s: float = 0.5) -> list[int]:
    """Record messages one after the other; return the size of the file after each."""
    clock = ManualClock(100.0)
    sizes = []
    writer = RecordingWriter(path, header(), fsync="never", overwrite=True, clock=clock)
    for n, parts in enumerate(messages):
        writer.append(n, n - 1, parts)
        sizes.append(path.stat().st_size)
        clock.advance_s(step_s)
    abandon(writer)
    return sizes


def abandon(writer: RecordingWriter) -> None:
    """Leave a recording as a killed process does."""
    writer._file.close()
    if writer._index is not None:
        writer._index.close()


def read(path: Path) -> tuple[list[RecordedMessage], list[Damage]]:
    with RecordingReader(path) as reader:
        items = [entry.item for entry in reader.entries()]
    return (
        [item for item in items if isinstance(item, RecordedMessage)],
        [item for item in items if isinstance(item, Damage)],
    )


def test_messages_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    clock = ManualClock(5.0)
    with RecordingWriter(path, header(topics=("event.",)), clock=clock) as writer:
        for n, parts in enumerate(PARTS):
            writer.append(n, n - 1, parts)
            clock.advance_s(0.25)
    with RecordingReader(path) as reader:
        assert reader.header == header(topics=("event.",))
        items = [entry.item for entry in reader.entries()]
    assert items[1:-1] == [
        RecordedMessage(n=n, after=n - 1, t_s=n * 0.25, parts=parts) for n, parts in enumerate(PARTS)
    ]
    assert items[-1] == RecordingEnd(t_s=1.25, messages=5, why="stopped")


def test_the_file_is_what_its_description_says(tmp_path: Path) -> None:
    write(tmp_path / "a.megc", [(b"topic.", b"map", b"raw")])
    data = (tmp_path / "a.megc").read_bytes()
    assert data[:8] == b"\x89MEGCR1\n"
    at, found = 8, []
    while at < len(data):
        marker, length, checksum = struct.unpack_from("<4sII", data, at)
        assert marker == b"\xc1REC"
        assert zlib.crc32(data[at + 4 : at + 8] + data[at + 12 : at + 12 + length]) == checksum
        found.append(msgpack.unpackb(data[at + 12 : at + 12 + length]))
        at += 12 + length
    assert found[0]["record"] == "header"
    assert (found[0]["version"], found[0]["session"], found[0]["schema"]) == (1, "s1", "f00")
    assert found[1] == {"record": "message", "n": 0, "after": -1, "t_s": 0.0, "parts": [b"topic.", b"map", b"raw"]}


def test_cut_anywhere_the_file_holds_what_was_written_before(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.megc", tmp_path / "b.megc"
    sizes = write(path, PARTS)
    data = path.read_bytes()
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        whole = sum(end <= size for end in sizes)
        try:
            messages, damage = read(cut)
        except DataError as error:
            assert whole == 0
            assert "holds no record" in str(error)
            continue
        assert [message.parts for message in messages] == PARTS[:whole]
        assert sum(item.length for item in damage) == size - _ends_before(data, size)
        assert all(item.torn for item in damage)


def _ends_before(data: bytes, size: int) -> int:
    """Return where the last whole record within ``size`` bytes ends, walking by lengths alone."""
    at = 8
    while at + 12 <= size:
        end = at + 12 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > size:
            break
        at = end
    return at


def test_a_recording_goes_on_after_any_cut(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.megc", tmp_path / "b.megc"
    sizes = write(path, PARTS)
    data = path.read_bytes()
    for size in range(sizes[0] - 1, len(data) + 1, 3):
        cut.write_bytes(data[:size])
        whole = sum(end <= size for end in sizes)
        writer = RecordingWriter(cut, None, fsync="never", clock=ManualClock())
        assert writer.numbering == "s1"
        assert writer.last_n == writer.durable_n == whole - 1
        writer.append(whole, whole - 1, (b"more.", b""))
        writer.close()
        messages, damage = read(cut)
        assert [message.parts for message in messages] == [*PARTS[:whole], (b"more.", b"")]
        assert damage == []
        assert messages[-1].t_s > 1e8  # the pause counts: it began in 2001


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_costs_one_record_and_is_reported(tmp_path: Path, bit: int) -> None:
    path, flipped = tmp_path / "a.megc", tmp_path / "b.megc"
    sizes = write(path, PARTS)
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        data[at] ^= 1 << bit
        flipped.write_bytes(data)
        data[at] ^= 1 << bit
        messages, damage = read(flipped)
        hit = sum(end <= at for end in sizes) if at >= _ends_before(bytes(data), sizes[0] - 1) else None
        assert [message.parts for message in messages] == [parts for n, parts in enumerate(PARTS) if n != hit]
        assert len(damage) == 1
        assert damage[0].offset <= at < damage[0].offset + damage[0].length


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=40), st.integers(0, 40)), max_size=3),
)
def test_whatever_is_overwritten_inserted_or_cut_out_the_rest_is_read(
    tmp_path: Path, messages: list[tuple[bytes, ...]], edits: list[tuple[float, bytes, int]]
) -> None:
    path = tmp_path / "a.megc"
    sizes = write(path, messages)
    data = path.read_bytes()
    touched: set[int] = set()
    starts = [0, *sizes[:-1]]
    edited = data
    # From the back, so that positions before stay what they are; one edit may eat what the next one left.
    reach = 1 + sum(removed for _, _, removed in edits)
    for share, fresh, removed in sorted(edits, reverse=True):
        at = int(share * len(data))
        edited = edited[:at] + fresh + edited[at + removed :]
        touched |= {n for n in range(len(messages)) if at < sizes[n] and at + reach > starts[n]}
    path.write_bytes(edited)
    try:
        found, damage = read(path)
    except DataError:
        found, damage = [], []
        assert len(touched) == len(messages)
    parts = [message.parts for message in found]
    untouched = [item for n, item in enumerate(messages) if n not in touched]
    assert all(item in parts for item in untouched)
    assert all(item in messages for item in parts)
    if edited == data:
        assert parts == messages
        assert not damage


def test_the_index_leads_to_the_right_message_whatever_happened_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    messages = [(f"{n}.".encode(), bytes(5000)) for n in range(200)]
    write(path, messages, step_s=0.125)
    marks = read_index(path, "ab" * 16)
    assert marks is not None
    assert 10 < len(marks) < 20
    whole = index_path(path).read_bytes()

    def first_from(start_s: float) -> bytes | None:
        with RecordingReader(path) as reader:
            first = next(reader.messages(start_s), None)
        return first.parts[0] if first else None

    spoilt = bytearray(whole)
    spoilt[100] ^= 1
    shifted = whole[:40] + b"".join(_mark(mark.offset + 1, mark.t_s, mark.messages) for mark in marks)
    wrong = whole[:40] + b"".join(_mark(mark.offset, mark.t_s / 2, mark.messages) for mark in marks)
    for index in (whole, whole[:-7], whole[:40], b"", bytes(spoilt), shifted, wrong, None):
        if index is None:
            index_path(path).unlink()
        else:
            index_path(path).write_bytes(index)
        assert first_from(0.0) == b"0."
        assert first_from(15.5) == b"124."
        assert first_from(24.8) == b"199."
        assert first_from(30.0) is None
    assert index_path(path).read_bytes() == whole  # made again


def _mark(offset: int, t_s: float, messages: int) -> bytes:
    packed = struct.pack("<QdQ", offset, t_s, messages)
    return packed + struct.pack("<II", zlib.crc32(packed), 0)


def test_a_start_reads_only_what_follows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.megc"
    write(path, [(b"t.", bytes(5000))] * 400, step_s=0.125)
    reader = RecordingReader(path)
    offsets: list[int] = []
    plain = RecordingReader._packed

    def noting(self: RecordingReader, offset: int, size: int) -> bytes | None:
        offsets.append(offset)
        return plain(self, offset, size)

    monkeypatch.setattr(RecordingReader, "_packed", noting)
    assert len(list(reader.messages(48.75))) == 10
    reader.close()
    assert min(offsets) > 0.9 * path.stat().st_size


class Full:
    """A file on a disk that takes so many bytes more."""

    def __init__(self, file: object, room: int) -> None:
        self._inner = file
        self.room = room

    def write(self, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._inner.write(data[: self.room])
        self.room -= taken
        return taken

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize("room", [0, 1, 11, 12, 13, 50, 99])
def test_a_full_disk_ends_the_recording_and_leaves_it_valid(tmp_path: Path, room: int) -> None:
    path = tmp_path / "a.megc"
    writer = RecordingWriter(path, header())
    writer.append(0, -1, (b"a.", bytes(10)))
    writer._file = Full(writer._file, room)  # type: ignore[assignment]
    with pytest.raises(OutputError, match="No space left"):
        writer.append(1, 0, (b"b.", bytes(100)))
    writer.close("disk failed")
    messages, damage = read(path)
    assert [message.n for message in messages] == [0]
    assert damage == []


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from megc_stream.output.recording import RecordingHeader, RecordingWriter
from megc_stream.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
header = RecordingHeader(recorder="cd" * 16, session="s", schema="", began_unix_s=0.0)
with RecordingWriter(Path(sys.argv[1]), header, fsync="always") as writer:
    try:
        for n in range(1000):
            writer.append(n, n - 1, (b"t.", bytes(1000)))
            print(writer.sync())
    except OutputError as error:
        print(error, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_real_limit_of_the_system_is_reported_and_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    done = subprocess.run([sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, timeout=60)
    assert "cannot be written" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    messages, damage = read(path)
    assert [message.n for message in messages] == [int(line) for line in done.stdout.split()]
    assert len(messages) > 80
    assert damage == []
    assert path.stat().st_size <= 100_000


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    made: list[int] = []
    monkeypatch.setattr(os, "fsync", made.append)
    return made  # type: ignore[return-value]


def test_fsync_follows_its_policy(tmp_path: Path, syncs: list[int]) -> None:
    clock = ManualClock()
    always = RecordingWriter(tmp_path / "a.megc", header(), fsync="always", clock=clock)
    syncs.clear()
    always.append(0, -1, (b"t.",))
    assert always.durable_n == -1
    assert always.due_in_s() == 0
    assert always.sync() == 0
    assert always.sync() == 0
    assert len(syncs) == 1

    sometimes = RecordingWriter(tmp_path / "b.megc", header(), fsync=0.5, clock=clock)
    syncs.clear()
    sometimes.append(0, -1, (b"t.",))
    assert sometimes.due_in_s() == pytest.approx(0.5)
    assert sometimes.sync() == -1
    clock.advance_s(0.5)
    assert sometimes.sync() == 0
    assert len(syncs) == 1
    sometimes.append(1, 0, (b"t.",))
    assert sometimes.sync(force=True) == 1
    always.close()
    sometimes.close()

    never = RecordingWriter(tmp_path / "c.megc", header(), fsync="never", clock=clock)
    syncs.clear()
    never.append(0, -1, (b"t.",))
    assert never.sync() == 0
    never.close()
    assert syncs == []


def test_fsync_is_named_in_words_or_milliseconds() -> None:
    assert parse_fsync("always") == "always"
    assert parse_fsync("never") == "never"
    assert parse_fsync("250") == 0.25
    for text in ("", "0", "-1", "sometimes", "nan", "inf"):
        with pytest.raises(UsageError, match="expected always, never or a number of milliseconds"):
            parse_fsync(text)


def test_a_recording_is_neither_replaced_nor_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    first = RecordingWriter(path, header())
    with pytest.raises(UsageError, match="is there already"):
        RecordingWriter(path, header())
    with pytest.raises(UsageError, match="being recorded by another"):
        RecordingWriter(path, None)
    with pytest.raises(UsageError, match="being recorded by another"):
        RecordingWriter(path, header(), overwrite=True)
    first.append(0, -1, (b"t.",))
    first.close()
    first.close()
    with RecordingWriter(path, header(recorder="ef" * 16), overwrite=True):
        pass
    assert read(path) == ([], [])
    with pytest.raises(UsageError, match="is a folder"):
        RecordingWriter(tmp_path, header())
    with pytest.raises(OutputError, match="cannot be written"):
        RecordingWriter(tmp_path / "gone" / "a.megc", header())


def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.megc").write_bytes(b"")
    (tmp_path / "b.megc").write_bytes(b"hello" * 100)
    (tmp_path / "c.megc").write_bytes(MAGIC)
    for name in ("a.megc", "b.megc", "c.megc"):
        with pytest.raises(DataError, match="holds no record"):
            RecordingReader(tmp_path / name)
    with pytest.raises(DataError, match="cannot be opened"):
        RecordingReader(tmp_path / "gone.megc")
    with pytest.raises(DataError, match="holds no record"):
        RecordingWriter(tmp_path / "b.megc", None)


def test_records_of_a_later_version_are_passed_over_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    write(path, PARTS[:1])
    packed = msgpack.packb({"record": "hologram", "x": 1})
    size = struct.pack("<I", len(packed))
    with path.open("ab") as file:
        file.write(b"\xc1REC" + size + struct.pack("<I", zlib.crc32(size + packed)) + packed)
    messages, damage = read(path)
    assert len(messages) == 1
    assert "hologram" in damage[0].why


def test_a_new_session_begins_its_numbers_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.megc"
    with RecordingWriter(path, header()) as writer:
        writer.append(41, 40, (b"t.",))
        writer.note(RecordingJoin(t_s=1.0, session="x", numbering="s2", schema="f00", next_n=7, why="joined"))
        assert (writer.numbering, writer.last_n) == ("s2", 6)
    with RecordingWriter(path, None) as writer:
        assert (writer.numbering, writer.last_n) == ("s2", 6)
