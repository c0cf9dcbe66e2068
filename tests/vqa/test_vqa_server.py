from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fake_server import FakeServer, answer, broken_off, dripping, hanging, huge, raw, serving, status

from megc_stream.clock import ManualClock, MonotonicClock
from megc_stream.errors import MegcError, UsageError, WireError
from megc_stream.settings import VqaSettings
from megc_stream.vqa.server import Completion, Server, check_address, is_loopback

pytest.importorskip("openai", reason="needs the extra 'vqa'")

_MESSAGES = [{"role": "user", "content": "What is the coarse expression class?"}]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


def _ask(fake: FakeServer, *, timeout_s: float = 20.0, clock: Any = None, model: str = "tiny", **settings: Any) -> Any:
    clock = clock or ManualClock()
    server = Server(VqaSettings(answerer=fake.address, timeout_s=timeout_s, **settings), clock)
    try:
        return server.complete(model, _MESSAGES, None, clock.now_s() + timeout_s)
    finally:
        server.close()


def test_an_answer_comes_with_its_token_counts(fake: FakeServer) -> None:
    fake.script = [answer("negative")]
    assert _ask(fake, seed=7) == Completion(
        text="negative", finish_reason="stop", model="tiny", prompt_tokens=120, completion_tokens=7, attempts=1
    )
    asked = fake.asked[0]
    assert asked["temperature"] == 0
    assert asked["seed"] == 7
    assert asked["max_tokens"] == 512
    assert "response_format" not in asked


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_failure_that_may_pass_is_tried_again_after_growing_pauses(fake: FakeServer, code: int) -> None:
    clock = ManualClock()
    fake.script = [status(code), status(code), answer("negative")]
    assert _ask(fake, clock=clock).attempts == 3
    assert clock.now_s() == 0.5 + 1.0


def test_it_is_not_tried_for_ever(fake: FakeServer) -> None:
    fake.usual = status(500, "out of memory")
    with pytest.raises(WireError, match=r"answered 500 \(out of memory\), tried 3 times"):
        _ask(fake)
    assert len(fake.asked) == 3


def test_retry_after_is_honoured(fake: FakeServer) -> None:
    clock = ManualClock()
    fake.script = [status(429, headers={"Retry-After": "7"}), answer("negative")]
    assert _ask(fake, clock=clock).text == "negative"
    assert clock.now_s() == 7.0


def test_retry_after_may_be_a_date(fake: FakeServer) -> None:
    clock = ManualClock()
    date = email.utils.formatdate(time.time() + 9, usegmt=True)
    fake.script = [status(503, headers={"Retry-After": date}), answer("negative")]
    assert _ask(fake, clock=clock).text == "negative"
    assert 7 < clock.now_s() <= 9


@pytest.mark.parametrize("value", ["soon", "nan", "inf", ""])
def test_a_senseless_retry_after_counts_for_nothing(fake: FakeServer, value: str) -> None:
    clock = ManualClock()
    fake.script = [status(503, headers={"Retry-After": value}), answer("negative")]
    assert _ask(fake, clock=clock).text == "negative"
    assert clock.now_s() == 0.5


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(fake: FakeServer) -> None:
    clock = ManualClock()
    fake.script = [status(429, "slow down", headers={"Retry-After": "60"})]
    with pytest.raises(WireError, match=r"answered 429 \(slow down\)"):
        _ask(fake, clock=clock)
    assert clock.now_s() == 0.0
    assert len(fake.asked) == 1


def test_a_server_that_hangs_is_left_at_the_deadline(fake: FakeServer) -> None:
    fake.script = [hanging]
    with pytest.raises(WireError, match="no answer within 1 s"):
        _ask(fake, timeout_s=1.0, clock=MonotonicClock())
    assert len(fake.asked) == 1


def test_a_server_that_drips_is_left_at_the_deadline(fake: FakeServer) -> None:
    fake.script = [dripping]
    with pytest.raises(WireError, match=r"no answer within 0\.1 s"):
        _ask(fake, timeout_s=0.1, clock=MonotonicClock())


def test_nobody_there(fake: FakeServer) -> None:
    with serving() as other:
        gone = other.address
    fake.address = gone
    with pytest.raises(WireError, match=r"cannot be reached, or broke off .*, tried 3 times"):
        _ask(fake)


def test_a_broken_connection_is_tried_again(fake: FakeServer) -> None:
    fake.script = [broken_off, answer("negative")]
    assert _ask(fake).attempts == 2
    fake.usual = broken_off
    with pytest.raises(WireError, match="broke off"):
        _ask(fake)


def test_truncated_json_is_tried_again(fake: FakeServer) -> None:
    fake.script = [raw(b'{"choices": [{"message": {"content": "neg'), answer("negative")]
    assert _ask(fake).attempts == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"choices": 3}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_answer_is_an_error(fake: FakeServer, body: bytes) -> None:
    fake.usual = raw(body)
    with pytest.raises(WireError, match="no whole JSON answer"):
        _ask(fake, retries=0)


def test_no_choice_is_an_error(fake: FakeServer) -> None:
    fake.usual = raw(b'{"choices": []}')
    with pytest.raises(WireError, match="without an answer"):
        _ask(fake)


def test_an_answer_of_10_mb_is_not_read(fake: FakeServer) -> None:
    fake.script = [huge(10_000_000)]
    with pytest.raises(WireError, match="longer than 1 MiB"):
        _ask(fake)
    assert len(fake.asked) == 1


def test_a_wrong_model_names_those_served(fake: FakeServer) -> None:
    fake.models.append({"id": "microexpressions", "object": "model", "parent": "tiny"})
    with pytest.raises(UsageError, match="no model 'huge'; expected one of: tiny, microexpressions"):
        _ask(fake, model="huge")


def test_an_address_without_its_path_is_explained(fake: FakeServer) -> None:
    fake.address = fake.address.removesuffix("/v1")
    with pytest.raises(UsageError, match=r"no OpenAI-compatible server at this address; did you mean http://.*/v1\?"):
        _ask(fake)


@pytest.mark.parametrize(("key", "state"), [("", "which is not set"), ("secret-1", "that VQA_API_KEY holds")])
def test_a_refused_key_is_explained(fake: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str, state: str) -> None:
    monkeypatch.setenv("VQA_API_KEY", key)
    fake.script = [status(401, "Unauthorized")]
    with pytest.raises(UsageError, match=state) as raised:
        _ask(fake)
    assert "secret-1" not in str(raised.value)


def test_the_key_comes_from_its_variable_alone(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for another server")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("LAB_KEY", "secret-2")
    fake.script = [answer("a"), answer("b")]
    _ask(fake)
    _ask(fake, api_key_variable="LAB_KEY")
    assert [headers["authorization"] for headers in fake.headers] == ["Bearer none", "Bearer secret-2"]
    assert not any("openai-organization" in headers for headers in fake.headers)


def test_nothing_is_told_about_this_machine(fake: FakeServer) -> None:
    fake.script = [answer("negative")]
    _ask(fake)
    told = fake.headers[0]
    assert not any(name.startswith("x-stainless-") and name.rpartition("-")[2] in ("os", "arch") for name in told)
    assert not any("runtime" in name for name in told)


def test_a_redirect_is_not_followed(fake: FakeServer) -> None:
    with serving() as other:
        fake.script = [status(307, headers={"Location": f"{other.address}/chat/completions"})]
        with pytest.raises(UsageError, match="redirect to http"):
            _ask(fake)
        assert other.asked == []


def test_no_proxy_stands_before_loopback(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    fake.script = [answer("negative")]
    assert _ask(fake).text == "negative"


def test_other_refusals_are_not_tried_again(fake: FakeServer) -> None:
    fake.usual = status(400, "At most 4 image(s)\nmay be provided in one prompt.")
    with pytest.raises(WireError, match=r"answered 400 \(At most 4 image\(s\) may be provided in one prompt\.\)"):
        _ask(fake)
    assert len(fake.asked) == 1


def test_fields_outside_the_api_are_left_out_where_they_are_refused(fake: FakeServer) -> None:
    clock = ManualClock()
    server = Server(VqaSettings(answerer=fake.address), clock)
    fake.script = [answer("one"), status(400, "disabled by default"), answer("two"), answer("three")]
    replies = [server.complete("tiny", _MESSAGES, None, 30.0, {"media_io_kwargs": {}}) for _ in range(3)]
    assert [(reply.text, reply.extra_taken) for reply in replies] == [("one", True), ("two", False), ("three", False)]
    assert ["media_io_kwargs" in asked for asked in fake.asked] == [True, True, False, False]
    server.close()


def test_a_refusal_that_has_nothing_to_do_with_those_fields_does_not_count_against_them(fake: FakeServer) -> None:
    server = Server(VqaSettings(answerer=fake.address), ManualClock())
    fake.script = [status(400, "too long"), status(400, "too long"), answer("two")]
    with pytest.raises(WireError, match=r"answered 400 \(too long\)"):
        server.complete("tiny", _MESSAGES, None, 30.0, {"media_io_kwargs": {}})
    assert server.complete("tiny", _MESSAGES, None, 30.0, {"media_io_kwargs": {}}).extra_taken
    assert ["media_io_kwargs" in asked for asked in fake.asked] == [True, False, True]
    server.close()


def test_models_are_listed_with_their_parents(fake: FakeServer) -> None:
    fake.models.append({"id": "lora", "object": "model", "parent": "tiny", "root": "/adapters/lora"})
    server = Server(VqaSettings(answerer=fake.address), ManualClock())
    assert [(model.id, model.parent) for model in server.models(10.0)] == [("tiny", None), ("lora", "tiny")]
    server.close()


def test_threads_share_a_server(fake: FakeServer) -> None:
    fake.usual = answer("negative")
    server = Server(VqaSettings(answerer=fake.address), MonotonicClock())
    texts: list[str] = []

    def ask() -> None:
        texts.append(server.complete("tiny", _MESSAGES, None, time.monotonic() + 20).text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.close()
    assert texts == ["negative"] * 4


@pytest.mark.parametrize(
    "address",
    ["", "embedded", "127.0.0.1:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://me:word@host/v1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_address(address)
    assert "word" not in str(raised.value).replace("password", "")


def test_addresses() -> None:
    assert check_address("http://127.0.0.1:8000/v1/") == "http://127.0.0.1:8000/v1"
    assert [
        is_loopback(f"http://{host}/v1") for host in ("127.0.0.1:8", "[::1]:8", "localhost", "10.0.0.1", "gpu")
    ] == [
        *(True, True, True),
        *(False, False),
    ]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MegcError, match=r"install the extra 'vqa'"):
        Server(VqaSettings(answerer="http://127.0.0.1:8000/v1"), ManualClock())
