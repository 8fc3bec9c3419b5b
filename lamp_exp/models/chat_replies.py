"""What servers that speak the OpenAI chat API reply: answers, refusals, failures."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import anyio
import httpx2
import openai

from lamp_exp.errors import InputError, first_line

USAGE = ("prompt_tokens", "completion_tokens")  # as the server counts them, for the bill
FAILURES = {"error", "abort"}  # as finish_reason
LIMITS = {"length", "max_tokens"}  # as finish_reason
THOUGHTS = {"thinking", "reasoning"}  # types of parts of a message
REFUSED, FILTERED = "refused", "filtered"
FILTERED_PROMPT = {  # an answer to a prompt that a filter kept from the model
    "text": "", "reasoning": "", "capped": False, "withheld": FILTERED, **dict.fromkeys(USAGE),
}  # fmt: skip


class FailedAnswer(httpx2.RequestError):
    """A reply without an answer, which is requested again like others that fail."""


class ReplyClient(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]
    """Limits the time of a whole reply, and raises for one that holds no answer."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Raises errors of httpx2, after which openai tries again, or InputError, which ends."""
        try:
            with anyio.fail_after(self.seconds):
                response: httpx2.Response = await super().send(request, **options)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("the reply took too long", request=request) from error
        except ExceptionGroup as error:  # of anyio, for a proxy's port that cannot be
            raise httpx2.ConnectError(str(error), request=request) from error
        except httpx2.ConnectError as error:
            fault = root_cause(error)
            if not isinstance(fault, ssl.SSLError):
                raise
            raise InputError(
                f"no secure connection to {request.url.host} ({first_line(fault)}): check "
                "model.base_url (http or https?) and the server's certificate"
            ) from None
        if response.is_success:
            answer_of(response)
        return response


def root_cause(error: BaseException) -> BaseException:
    """The first of the errors that led to `error`."""
    if isinstance(error, BaseExceptionGroup):
        return root_cause(error.exceptions[0])
    inner = error.__cause__ or error.__context__
    return root_cause(inner) if inner else error


def answer_of(response: httpx2.Response) -> dict[str, Any]:
    """What is stored of a reply; FailedAnswer if it holds none, InputError if it never will."""
    try:
        reply = response.json()
    except ValueError as error:
        if "json" not in response.headers.get("content-type", "json"):
            raise _no_chat(response) from None
        raise FailedAnswer(f"the reply is no whole JSON: {first_line(error)}") from error
    if not isinstance(reply, dict) or not reply.keys() & {"choices", "error"}:
        raise _no_chat(response)
    choices = reply.get("choices") or [None]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    message, reason = choice.get("message"), choice.get("finish_reason")
    failure = reply.get("error") or choice.get("error")
    if failure or not isinstance(message, dict) or reason in FAILURES:
        raise FailedAnswer(f"the server failed: {_reason(failure, reason)}")
    usage = reply.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return {
        **_content(message, reason),
        "capped": reason in LIMITS,
        **{name: _valid_count(counts.get(name)) for name in USAGE},
    }


def _reason(failure: Any, finish_reason: object) -> str:
    """Why a reply holds no answer, in the server's words if it has any."""
    told = failure.get("message") if isinstance(failure, dict) else failure
    if told or failure:
        return _clean(str(told or failure))[:200]
    if finish_reason in FAILURES:
        return f"finish_reason is {finish_reason}"
    return "its reply has no message"


def _content(message: Mapping[str, Any], reason: object) -> dict[str, Any]:
    """The text of a message, the reasoning apart from it, and why it was withheld."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    refusal = _text(message.get("refusal"))
    texts = [_text(part) for part, kind in zip(parts, kinds, strict=True) if kind not in THOUGHTS]
    thoughts = [part for part, kind in zip(parts, kinds, strict=True) if kind in THOUGHTS]
    apart = message.get("reasoning_content") or message.get("reasoning")
    refused = REFUSED if refusal or "refusal" in kinds else None
    return {
        "text": "".join(texts) or refusal,
        "reasoning": "".join(map(_text, [apart, *thoughts])),
        "withheld": FILTERED if reason == "content_filter" else refused,
    }


def _text(part: Any) -> str:
    """The text of a part of a message, or of a list of parts; FailedAnswer if it has none."""
    if part is None or isinstance(part, str):
        return _clean(part or "")
    if isinstance(part, list):
        return "".join(map(_text, part))
    if isinstance(part, dict):
        for name in ("text", "refusal", *THOUGHTS):
            if name in part:
                return _text(part[name])
    raise FailedAnswer(f"a part of the answer is no text: {_clean(str(part))[:200]}")


def _clean(text: str) -> str:
    """Replaces halves of characters, which JSON can spell but no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _no_chat(response: httpx2.Response) -> InputError:
    return InputError(
        f"{response.url} sent no chat completion ({first_line(response.text)[:200]}): is "
        "model.base_url the right address?"
    )


def _valid_count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
