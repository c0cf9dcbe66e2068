from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_messages import PAYLOADS

from megc_stream.errors import WireError
from megc_stream.wire.protocol import (
    MESSAGES,
    EventMessage,
    OtherMessage,
    ProtocolMismatch,
    clock_id,
    decode,
    encode,
    topic_of,
)
from megc_stream.wire.protocol_page import protocol_page
from megc_stream.wire.schema import schema_hash, type_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
ENVELOPE = {"v", "topic", "type", "session", "source", "seq", "t_capture_s", "t_publish_s", "clock"}


def message(kind: str, raw: tuple[bytes, ...] = ()) -> Any:
    return MESSAGES[kind](
        v=1,
        topic=f"{kind}.x.",
        session="abc",
        source="cam0",
        seq=7,
        t_capture_s=None,
        t_publish_s=2.5,
        clock="c",
        raw=raw,
        **{kind: PAYLOADS[kind]},  # type: ignore[arg-type]
    )


def changed(kind: str, **fields: Any) -> list[bytes]:
    parts = encode(message(kind))
    return [fields.get("topic", f"{kind}.x.").encode(), msgpack.packb({**msgpack.unpackb(parts[1]), **fields})]


def test_the_page_is_that_of_the_types() -> None:
    assert PAGE.read_text(encoding="utf-8") == protocol_page(), (
        "docs/protocol.md is stale: python -m megc_stream.wire.protocol_page docs/protocol.md"
    )


def test_the_page_explains_every_message_and_every_field_of_its_own() -> None:
    page = protocol_page()
    assert schema_hash() in page
    for kind, payload in PAYLOADS.items():
        assert f"\n## {kind}\n" in page
        for field in type(payload).__struct_fields__:
            assert f"| `{field}` |" in page
    assert "|  |" not in page, "a field without a meaning"


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_is_topic_map_and_raw_parts(kind: str) -> None:
    sent = message(kind, raw=(b"picture", b""))
    parts = encode(sent)
    assert parts[0] == f"{kind}.x.".encode()
    assert parts[2:] == [b"picture", b""]
    plain = msgpack.unpackb(parts[1])
    assert set(plain) == {*ENVELOPE, kind}
    assert (plain["type"], plain["topic"]) == (kind, f"{kind}.x.")
    received = decode(parts)
    assert received == sent
    assert (received.type, received.payload, received.raw) == (kind, PAYLOADS[kind], (b"picture", b""))


def test_the_keys_of_the_envelope_are_always_there() -> None:
    assert msgpack.unpackb(encode(message("log"))[1])["t_capture_s"] is None


def test_unknown_fields_and_types_are_tolerated() -> None:
    parts = changed("event", colour="blue", event={**msgspec.to_builtins(PAYLOADS["event"]), "mood": 1})
    assert isinstance(decode(parts), EventMessage)
    other = decode([*changed("event", type="smell", smell={"of": "coffee"}, raw=1), b"x"])
    assert isinstance(other, OtherMessage)
    assert (other.type, other.payload, other.seq, other.raw) == ("smell", {"of": "coffee"}, 7, (b"x",))


def test_raw_parts_cannot_be_smuggled_in_the_map() -> None:
    assert decode(changed("event", raw=[b"x"])).raw == ()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "0 parts"),
        ([b"event.x."], "expected .topic..msgpack map."),
        ([b"event.x.", b"\xc1"], "cannot be understood"),
        ([b"event.x.", b"\x91" * 5000], "cannot be understood"),
        ([b"event.x.", b"\x81\xa1a\xa2\xff\xfe"], "cannot be understood"),
        ([b"event.x.", msgpack.packb({"type": "smell"})], "cannot be understood"),
        (changed("event", event={}), "cannot be understood .*event_id"),
        (changed("event", seq="one"), "cannot be understood"),
        (changed("event", v=2), "protocol 2, expected 1; update one side"),
        (changed("event", v=2, type="smell"), "protocol 2"),
        ([b"event.y.", changed("event")[1]], "names itself 'event.x.'"),
    ],
)
def test_malformed_messages_are_errors(parts: list[bytes], words: str) -> None:
    with pytest.raises(WireError, match=words) as caught:
        decode(parts)
    assert not isinstance(caught.value, ProtocolMismatch)


def test_the_hello_of_another_version_is_a_mismatch() -> None:
    for kind in ("hello", "greeting"):
        with pytest.raises(ProtocolMismatch, match="protocol 9"):
            decode(changed("hello", topic="meta.hello.", type=kind, v=9))


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_mutated_messages_are_understood_or_refused(kind: str, data: st.DataObject) -> None:
    payload = bytearray(encode(message(kind))[1])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        decode([f"{kind}.x.".encode(), bytes(payload)])
    except WireError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode([b"event.x.", payload])


def test_topics_end_in_a_dot_and_sources_keep_theirs_to_themselves() -> None:
    assert topic_of("event", "onset", "cam0") == "event.onset.cam0."
    assert topic_of("event", "onset", "a.b") == "event.onset.a_b."
    assert not topic_of("event", "onset", "cam10").startswith(topic_of("event", "onset", "cam1"))


def test_the_clock_has_one_identity() -> None:
    assert clock_id() == clock_id()
    assert clock_id().startswith("monotonic-")


def test_types_in_words() -> None:
    assert type_text(dict[str, tuple[int, ...]]) == "map of str to array of int"
    assert type_text(tuple[float, float] | None) == "(float, float) or null"
