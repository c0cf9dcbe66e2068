"""An OpenAI-compatible server of a vision-language model, asked with patience and with mistrust.

Made for vLLM, and the same for any other. Every request has a deadline; 429, 5xx and broken connections are tried again
after growing pauses (or as long as ``Retry-After`` says); a body of more than 1 MiB is not read. Requests go to the
address that the user gave and to no other: redirects are not followed, and no proxy stands before a loopback address.
"""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from megc_stream.clock import Clock
from megc_stream.errors import MissingExtraError, UsageError, WireError
from megc_stream.settings import VqaSettings

__all__ = ["Completion", "Server", "ServedModel", "check_address", "is_loopback"]

_MOST_BYTES = 1 << 20
_CONNECT_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_TRIED_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_SHOWN = 160
# The client's words about this machine and its Python; the server has no use for them.
_TOLD_OF_US = tuple(
    f"X-Stainless-{name}" for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version")
)


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the text, why it ended ("stop", "length"), token counts where the server tells them.

    ``extra_taken`` is False where the server refused the further fields of the request and answered without them.
    """

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    attempts: int
    extra_taken: bool = True


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the server; ``parent`` is the base model of a LoRA adapter, None of a model of its own."""

    id: str
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[ServedModel]


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    model: str = ""
    usage: _Usage | None = None


class _Setback(msgspec.Struct, frozen=True):
    """A failure that may pass; ``pause_s`` is how long the server asks to be left alone, ``plainer`` tells that it
    refuses the request as it stands, further fields included."""

    problem: str
    pause_s: float | None = None
    plainer: bool = False


def check_address(address: str) -> str:
    """Return the address of a server without a slash at its end.

    Raises
    ------
    UsageError
        It is no http(s) address, or carries a password.
    """
    try:
        parts = urlsplit(address)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
    if not port_is_fine or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"server '{address[:_SHOWN]}': not an address; expected e.g. http://127.0.0.1:8000/v1, or 'embedded'"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"server {parts.scheme}://{parts.hostname}: no user, password or query can stand in the address; the API "
            "key goes into the environment variable that vqa.api_key_variable names"
        )
    return address.rstrip("/")


def is_loopback(address: str) -> bool:
    """Return whether a server's address stays on this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server:
    """The client side of one server; safe to use from several threads.

    Parameters
    ----------
    settings
        ``answerer`` is the address.
    clock
        Measures deadlines and waits between attempts.

    Raises
    ------
    UsageError
        The address is none.
    MissingExtraError
        The package openai is not installed.
    """

    def __init__(self, settings: VqaSettings, clock: Clock) -> None:
        self.address = check_address(settings.answerer or "")
        self._settings = settings
        self._clock = clock
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", "vqa", f"asking the model server {self.address}") from error
        self._openai = openai
        self._http = httpx2
        self._refuses_extra = False
        self._key_is_set = bool(os.environ.get(settings.api_key_variable))
        self._client: Any = openai.OpenAI(
            base_url=self.address,
            # vLLM started without a key takes any; the client's own variables (OPENAI_API_KEY) are for other servers.
            api_key=os.environ.get(settings.api_key_variable) or "none",
            max_retries=0,
            default_headers=dict.fromkeys(_TOLD_OF_US, openai.Omit()),
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not is_loopback(self.address)),
        )
        self._client.organization = self._client.project = None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def models(self, deadline_s: float) -> tuple[ServedModel, ...]:
        """Return what the server offers, base models and LoRA adapters.

        Raises
        ------
        WireError
            It cannot be reached, or answers something else, until the deadline (on the clock handed in).
        UsageError
            There is no such interface at this address, or the key is refused.
        """
        call = self._client.models.with_streaming_response.list
        return tuple(self._patiently(call, {}, _Models, deadline_s, "models")[0].data)

    def complete(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        response_format: Mapping[str, Any] | None,
        deadline_s: float,
        extra: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Return the model's answer to messages, at temperature 0 and with the seed of the settings.

        Parameters
        ----------
        model
            Name of the model or adapter on the server.
        messages
            As the API takes them.
        response_format
            Form that the server holds the answer to, None for free text.
        deadline_s
            On the clock handed in.
        extra
            Further fields of the request, outside the API; a server that refuses them (400, 422) is asked without.

        Raises
        ------
        WireError
            No answer before the deadline, or none that is one.
        UsageError
            Wrong model name, refused key, no such interface.
        """
        arguments = {
            "model": model,
            "messages": list(messages),
            "temperature": 0,
            "seed": self._settings.seed,
            "max_tokens": self._settings.max_tokens,
        }
        if response_format is not None:
            arguments["response_format"] = response_format
        if extra and not self._refuses_extra:
            arguments["extra_body"] = extra
        call = self._client.chat.completions.with_streaming_response.create
        body, attempts, extra_taken = self._patiently(call, arguments, _Body, deadline_s, model)
        if not body.choices:
            raise WireError(f"{self.address}: answered without an answer; expected one choice")
        choice, usage = body.choices[0], body.usage or _Usage()
        return Completion(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "",
            model=body.model or model,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            attempts=attempts,
            extra_taken=extra_taken and not (extra and self._refuses_extra),
        )

    def _patiently(
        self, call: Any, arguments: dict[str, Any], kind: type[Any], deadline_s: float, asked: str
    ) -> tuple[Any, int, bool]:
        """Return the decoded body, after how many attempts it came, and whether the further fields were taken."""
        attempt, taken = 0, True
        while True:
            attempt += 1
            result = self._once(call, arguments, kind, deadline_s, asked)
            if not isinstance(result, _Setback):
                # Refused with the fields and answered without: it is they that the server does not take.
                self._refuses_extra |= not taken
                return result, attempt, taken
            if result.plainer:
                taken = False
                arguments = {name: value for name, value in arguments.items() if name != "extra_body"}
                continue
            pause_s = result.pause_s
            if pause_s is None:
                pause_s = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S)
            again_s = self._clock.now_s() + pause_s
            if attempt > self._settings.retries or again_s >= deadline_s:
                times = f", tried {attempt} times" if attempt > 1 else ""
                raise WireError(f"{self.address}: {result.problem}{times}")
            self._clock.wait_until_s(again_s)

    def _once(self, call: Any, arguments: dict[str, Any], kind: type[Any], deadline_s: float, asked: str) -> Any:
        """Return the decoded body of one request, or the setback it met."""
        openai, http = self._openai, self._http
        remaining_s = deadline_s - self._clock.now_s()
        if remaining_s <= 0:
            raise self._too_late()
        timeout = openai.Timeout(remaining_s, connect=min(remaining_s, _CONNECT_S))
        try:
            # Uncompressed: a small body cannot become a large one.
            with call(**arguments, timeout=timeout, extra_headers={"Accept-Encoding": "identity"}) as response:
                data = self._read(response, deadline_s)
        except (openai.APITimeoutError, http.TimeoutException) as error:
            if isinstance(error.__cause__, http.ConnectTimeout) and self._clock.now_s() < deadline_s:
                return _Setback(f"cannot be reached (no connection within {_CONNECT_S:g} s)")
            raise self._too_late() from error
        except openai.APIStatusError as error:
            if error.status_code in (400, 422) and "extra_body" in arguments:
                return _Setback("", plainer=True)
            return self._status(error, asked)
        except (openai.APIConnectionError, http.TransportError) as error:
            return _Setback(f"cannot be reached, or broke off ({_short(error.__cause__ or error)})")
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _Setback(f"answered what is no whole JSON answer of this API ({_short(error)})")

    def _read(self, response: Any, deadline_s: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise WireError(f"{self.address}: the answer is longer than {_MOST_BYTES >> 20} MiB; not read further")
            # A server that sends a byte now and then never runs into the time-out of a read.
            if self._clock.now_s() >= deadline_s:
                raise self._too_late()
        return bytes(body)

    def _too_late(self) -> WireError:
        return WireError(f"{self.address}: no answer within {self._settings.timeout_s:g} s")

    def _status(self, error: Any, asked: str) -> _Setback:
        code = int(error.status_code)
        said = _short(_said(error))
        if code in _TRIED_AGAIN:
            return _Setback(f"answered {code} ({said})", _retry_after_s(error.response.headers.get("retry-after")))
        if 300 <= code < 400:
            target = _short(error.response.headers.get("location", "nowhere"))
            raise UsageError(f"{self.address}: answered {code}, a redirect to {target}, which is not followed")
        if code in (401, 403):
            variable = self._settings.api_key_variable
            state = f"that {variable} holds" if self._key_is_set else f"that {variable} should hold, which is not set"
            raise UsageError(f"{self.address}: answered {code} ({said}); it wants the API key {state}")
        if code == 404:
            raise UsageError(self._not_found(asked, said))
        raise WireError(f"{self.address}: answered {code} ({said})")

    def _not_found(self, asked: str, said: str) -> str:
        if asked != "models":
            with contextlib.suppress(WireError, UsageError):
                served = ", ".join(model.id for model in self.models(self._clock.now_s() + _CONNECT_S))
                return f"{self.address}: serves no model '{asked}'; expected one of: {served or 'it serves none'}"
        advice = "" if urlsplit(self.address).path.strip("/") else f"; did you mean {self.address}/v1?"
        return f"{self.address}: answered 404 ({said}): no OpenAI-compatible server at this address{advice}"


def _said(error: Any) -> str:
    """Return the server's own words where it has any."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error")
        body = inner.get("message") if isinstance(inner, Mapping) else body.get("message") or inner
    return str(body or error.message or "no reason given")


def _short(value: Any) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value) or type(value).__name__).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _retry_after_s(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None where there is none that makes sense."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
