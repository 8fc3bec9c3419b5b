"""The model behind an API, against a small real server on the loopback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lamp_exp.errors import InputError
from lamp_exp.models.openai import NETWORK_VARIABLES, OpenAI
from lamp_exp.storage.answers import DiskMap
from lamp_exp.values import Prediction, Prompt
from tests.conftest import TINY, recorded, settings
from tests.test_cli import folder_of

Answer = Callable[[str, int], tuple[int, Any]]
SECRET = "sk-very-secret-1234"


@dataclass
class Slow:
    """A body that is sent byte by byte, with pauses."""

    content: bytes
    pause: float = 0.0
    length: int | None = None  # that is promised, if another


class Server(ThreadingHTTPServer):
    """Speaks /v1/chat/completions; `answer(prompt, number)` gives status and text, or a body.

    Bytes are sent as they are.
    """

    daemon_threads = True

    def __init__(self, answer: Answer, wait_ms: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.wait_ms = answer, wait_ms
        self.lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.running = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.times.append(time.monotonic())
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            number = len(self.server.bodies)
        right = self.path == "/v1/chat/completions"
        prompt = body["messages"][0]["content"]
        status, said = self.server.answer(prompt, number) if right else (404, "no such path")
        with self.server.lock:
            self.server.running -= 1
        if status:
            self._send(status, said)

    def _send(self, status: int, said: Any) -> None:
        if status == 200 and isinstance(said, str):
            said = completion(said)
        if status != 200 and isinstance(said, str):
            said = {"error": {"message": said}}
        if isinstance(said, Slow):
            return self._send_slowly(said)
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.server.wait_ms:
            self.send_header("Retry-After-Ms", self.server.wait_ms)
        self.end_headers()
        self.wfile.write(content)

    def _send_slowly(self, slow: Slow) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(slow.length or len(slow.content)))
        self.end_headers()
        for byte in slow.content:
            time.sleep(slow.pause)
            self.wfile.write(bytes([byte]))
        self.close_connection = True

    def handle(self) -> None:
        with suppress(ConnectionError):  # of a client that has gone
            super().handle()

    def log_message(self, format: str, *values: object) -> None:
        pass


def completion(content: Any, reason: str = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
    }


def echo(prompt: str, number: int) -> tuple[int, Any]:
    return 200, f"re: {prompt}"


@contextmanager
def serving(answer: Answer = echo, wait_ms: str | None = "1") -> Iterator[Server]:
    server = Server(answer, wait_ms)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def kept(tmp_path: Path) -> DiskMap:
    return DiskMap(tmp_path / "a.sqlite")


def model(url: str, kept: DiskMap, generation: dict[str, Any] | None = None, **changes) -> OpenAI:
    sizes = {name: changes.pop(name) for name in ("max_length", "seed") if name in changes}
    given = {"tokenizer": str(TINY), "retries": 2, "timeout": 5.0, **changes}
    own = settings(answers=kept, **sizes)
    return OpenAI("m", own, generation or {"temperature": 0}, base_url=url, **given)


def ask(asked: OpenAI, *texts: str) -> list[Prediction]:
    return asked.predict([Prompt(str(n), (text,)) for n, text in enumerate(texts)], None)


def outputs(asked: OpenAI, *texts: str) -> list[str]:
    return [answer.output for answer in ask(asked, *texts)]


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_answers_come_back_in_order_whatever_their_delay(kept):
    def slow_first(prompt: str, number: int) -> tuple[int, Any]:
        time.sleep(0.15 - 0.02 * int(prompt))
        return echo(prompt, number)

    texts = [str(n) for n in range(7)]
    with serving(slow_first) as server:
        answers = ask(model(server.url, kept), *texts)
    assert [answer.output for answer in answers] == [f"re: {text}" for text in texts]
    assert [answer.id for answer in answers] == texts
    assert {(answer.tokens, answer.capped) for answer in answers} == {(3, False)}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_than_concurrency_are_asked_at_once(kept, concurrency):
    def slow(prompt: str, number: int) -> tuple[int, Any]:
        time.sleep(0.03)
        return echo(prompt, number)

    with serving(slow) as server:
        ask(model(server.url, kept, concurrency=concurrency), *"abcdef")
    assert server.most == concurrency


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_or_failing_server_is_asked_again(kept, status):
    def third_time(prompt: str, number: int) -> tuple[int, Any]:
        return echo(prompt, number) if number > 2 else (status, "later")

    with serving(third_time) as server:
        asked = model(server.url, kept)
        assert outputs(asked, "a") == ["re: a"]
    assert len(server.bodies) == 3
    assert asked.facts()["asked"] == 1


def test_each_wait_before_asking_again_is_longer(kept):
    statuses = {1: 429, 2: 500}

    def third_time(prompt: str, number: int) -> tuple[int, Any]:
        return (statuses[number], "later") if number in statuses else echo(prompt, number)

    with serving(third_time, wait_ms=None) as server:
        ask(model(server.url, kept), "a")
    first, second, third = server.times
    assert 0.1 < second - first < third - second


def test_a_server_that_stays_busy_ends_in_one_line(kept):
    with (
        serving(lambda prompt, number: (429, "slow down")) as server,
        pytest.raises(InputError, match=r"127\.0\.0\.1.* refused: .*429.*slow down") as caught,
    ):
        ask(model(server.url, kept), "a")
    assert len(server.bodies) == 3
    assert "\n" not in str(caught.value)


def test_a_server_that_is_away_is_named_in_one_line(kept):
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(InputError, match="is the server running") as caught:
        ask(model(url, kept, retries=0), *"abc")
    line = str(caught.value)
    assert line.startswith(f"no answer from {url} after 1 try (")
    assert "Connect call failed" in line
    assert "\n" not in line


def test_a_server_that_goes_away_leaves_the_answers_given_so_far(kept):
    def twice(prompt: str, number: int) -> tuple[int, Any]:
        return echo(prompt, number) if number <= 2 else (0, "the connection just closes")

    with (
        serving(twice) as server,
        pytest.raises(InputError, match="what it has answered is kept"),
    ):
        ask(model(server.url, kept, retries=0, concurrency=1), *"abcd")
    assert sorted(json.loads(text)["text"] for text in kept.values()) == ["re: a", "re: b"]
    with serving() as server:
        again = model(server.url, kept)
        assert outputs(again, *"abcd") == ["re: a", "re: b", "re: c", "re: d"]
    assert sorted(body["messages"][0]["content"] for body in server.bodies) == ["c", "d"]
    assert again.facts()["asked"] == 2


def test_after_a_failure_the_rest_is_not_asked_for(kept):
    def never(prompt: str, number: int) -> tuple[int, Any]:
        time.sleep(0.02)
        return 400, "never"

    with serving(never) as server, pytest.raises(InputError, match="never"):
        ask(model(server.url, kept, concurrency=2), *[str(n) for n in range(50)])
    assert len(server.bodies) < 10


def test_a_failure_is_noticed_while_an_earlier_question_still_waits(kept):
    def first_slow(prompt: str, number: int) -> tuple[int, Any]:
        time.sleep(0.3 if prompt == "0" else 0.01)
        return echo(prompt, number) if prompt == "0" else (400, "never")

    with serving(first_slow) as server, pytest.raises(InputError, match="never"):
        ask(model(server.url, kept, concurrency=2), *[str(n) for n in range(50)])
    assert len(server.bodies) < 10
    assert [json.loads(text)["text"] for text in kept.values()] == ["re: 0"]


def test_a_slow_server_is_told_from_one_that_is_away(kept):
    def slow(prompt: str, number: int) -> tuple[int, Any]:
        time.sleep(0.3)
        return 0, ""

    with serving(slow) as server, pytest.raises(InputError, match=r"raise model\.timeout"):
        ask(model(server.url, kept, retries=0, timeout=0.1), "a")


def test_the_timeout_is_for_the_whole_answer(kept):
    start = time.monotonic()
    with (
        serving(lambda prompt, number: (200, Slow(b" " * 60, pause=0.1))) as server,
        pytest.raises(InputError, match=r"within 0\.3 s after 2 tries: raise model\.timeout"),
    ):
        ask(model(server.url, kept, retries=1, timeout=0.3), "a")
    assert time.monotonic() - start < 3
    assert not kept


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_is_one_line_without_the_key_and_final(kept, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with (
        serving(lambda prompt, number: (status, f"wrong key {SECRET}\nsee help")) as server,
        pytest.raises(InputError, match=f"refused.*{status}.*wrong key") as caught,
    ):
        ask(model(server.url, kept), "a")
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))  # as run.log has it
    assert ("OPENAI_API_KEY" in str(caught.value)) == (status == 401)
    assert len(server.bodies) == 1
    assert not kept


@pytest.mark.parametrize("said", [{"hello": "world"}, ["x"]])
def test_what_is_no_chat_completion_is_one_line(kept, said):
    with (
        serving(lambda prompt, number: (200, said)) as server,
        pytest.raises(InputError, match="no chat completion"),
    ):
        ask(model(server.url, kept), "a")
    assert len(server.bodies) == 1
    assert not kept


FAILED: dict[str, Any] = {
    "an empty answer of an error": completion("", "error"),
    "a cut answer of an error": completion("Half of", "error"),
    "an aborted answer": completion("Half of", "abort"),
    "an error instead of choices": {"error": {"message": "overloaded", "code": 502}},
    "an error beside its choice": {
        "choices": [{**completion("")["choices"][0], "error": {"message": "overloaded"}}]
    },
    "no choice": {"choices": []},
    "null choices": {"choices": None},
    "no message": {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    "a part without text": completion([{"type": "image", "url": "x"}]),
    "a cut body": json.dumps(completion("Half of")).encode()[:-40],
    "no UTF-8": json.dumps(completion("na\u00efve"), ensure_ascii=False).encode("latin-1"),
    "an empty body": b"",
}


def test_replies_without_an_answer_are_asked_again(kept):
    asked_before: set[str] = set()

    def second_time(prompt: str, number: int) -> tuple[int, Any]:
        if prompt in asked_before:
            return echo(prompt, number)
        asked_before.add(prompt)
        return 200, FAILED[prompt]

    with serving(second_time) as server:
        asked = model(server.url, kept, concurrency=len(FAILED))
        assert outputs(asked, *FAILED) == [f"re: {prompt}" for prompt in FAILED]
    assert len(server.bodies) == 2 * len(FAILED)


@pytest.mark.parametrize("reply", FAILED)
def test_a_server_that_keeps_failing_ends_in_one_line_and_nothing_is_kept(kept, reply):
    with (
        serving(lambda prompt, number: (200, FAILED[reply])) as server,
        pytest.raises(InputError, match=r"no answer from .* after 1 try \(") as caught,
    ):
        ask(model(server.url, kept, retries=0), "a")
    assert "is the server running" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not kept


def test_a_body_that_ends_too_early_is_asked_again(kept):
    def second_time(prompt: str, number: int) -> tuple[int, Any]:
        return echo(prompt, number) if number > 1 else (200, Slow(b"{", length=100))

    with serving(second_time) as server:
        assert outputs(model(server.url, kept), "a") == ["re: a"]


OLD_FAILURES = {
    "the empty answer of an error": {"text": "", "capped": False, "completion_tokens": 0},
    "the parts of an answer": {"text": [{"type": "text", "text": "x"}], "capped": False},
    "no answer": ["x"],
}


@pytest.mark.parametrize("stored", [*OLD_FAILURES, "no JSON"])
def test_stored_failures_of_older_versions_are_asked_again(kept, stored):
    with serving() as server:
        ask(model(server.url, kept), "a", "b")
        key = next(key for key, text in kept.items() if json.loads(text)["text"] == "re: a")
        kept[key] = json.dumps(OLD_FAILURES[stored]) if stored in OLD_FAILURES else '{"text'
        asked = model(server.url, kept)
        assert outputs(asked, "a", "b") == ["re: a", "re: b"]
        assert asked.facts()["asked"] == 1
        assert outputs(model(server.url, kept), "a", "b") == ["re: a", "re: b"]
    assert len(server.bodies) == 3


def test_an_empty_answer_is_kept(kept):
    with serving(lambda prompt, number: (200, completion(""))) as server:
        assert outputs(model(server.url, kept), "a") == [""]
        assert outputs(model(server.url, kept), "a") == [""]
    assert len(server.bodies) == 1


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "So: "}]}, "A ",
         {"type": "text", "text": "title"}]  # fmt: skip
REPLIES: dict[str, tuple[Any, str, str | None, str | None]] = {  # output, raw, withheld
    "parts": (completion(PARTS), "A title", "So: \nA title", None),
    "half a character": (completion("a\ud83d\U0001f600"), "a\ufffd\U0001f600", None, None),
    "a refusal": (completion(None, refusal="No."), "No.", None, "refused"),
    "a refusal as a part": (
        completion([{"type": "refusal", "refusal": "No."}]), "No.", None, "refused"),
    "a filter": (completion("A ti", "content_filter"), "A ti", None, "filtered"),
}  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_what_a_message_may_hold(kept, reply):
    said, *expected = REPLIES[reply]
    with serving(lambda prompt, number: (200, said)) as server:
        (first,) = ask(model(server.url, kept), "a")
        (again,) = ask(model(server.url, kept), "a")
    assert [first.output, first.raw, first.withheld] == expected
    assert again == first
    assert len(server.bodies) == 1


def test_a_prompt_that_a_filter_refuses_does_not_end_the_run(kept):
    def filtered(prompt: str, number: int) -> tuple[int, Any]:
        refusal = {"error": {"message": "no", "code": "content_filter"}}
        return (400, refusal) if prompt == "b" else echo(prompt, number)

    with serving(filtered) as server:
        answers = ask(model(server.url, kept), "a", "b")
    assert [(a.output, a.withheld) for a in answers] == [("re: a", None), ("", "filtered")]


THOUGHT = "<think>\nlake or oven?\n</think>\n\nThe lake"


@pytest.mark.parametrize(
    ("said", "option", "output", "raw"),
    [
        (completion(THOUGHT), "auto", "The lake", THOUGHT),
        (completion(THOUGHT), True, "The lake", THOUGHT),
        (completion(THOUGHT), False, THOUGHT, None),
        (completion(THOUGHT[8:]), "auto", "The lake", THOUGHT[8:]),
        (completion(THOUGHT[:12], "length"), "auto", "", THOUGHT[:12]),
        (completion("The lake"), "auto", "The lake", None),
        (completion("The lake", reasoning_content="oven?"), "auto", "The lake", "oven?\nThe lake"),
        (completion("The lake", reasoning="oven?"), False, "The lake", "oven?\nThe lake"),
        (completion(None, "length", reasoning="oven?"), "auto", "", "oven?\n"),
    ],
)
def test_reasoning_is_removed_and_the_raw_output_kept(kept, said, option, output, raw):
    with serving(lambda prompt, number: (200, said)) as server:
        (answer,) = ask(model(server.url, kept, strip_reasoning=option), "a")
    assert (answer.output, answer.raw) == (output, raw)


def test_reasoning_may_be_removed_from_stored_answers(kept):
    with serving(lambda prompt, number: (200, completion(THOUGHT))) as server:
        assert outputs(model(server.url, kept, strip_reasoning=False), "a") == [THOUGHT]
        assert outputs(model(server.url, kept), "a") == ["The lake"]
    assert len(server.bodies) == 1


def test_a_second_run_asks_nothing(kept, tmp_path: Path):
    with serving() as server:
        first = model(server.url, kept)
        given = ask(first, *"abc")
        assert ask(first, *"abc") == given
        again = model("http://127.0.0.1:1/v1", DiskMap(tmp_path / "a.sqlite"))
        assert ask(again, *"abc") == given  # of a server that is not even there
    assert len(server.bodies) == 3
    assert first.facts()["asked"] == 3
    assert again.facts()["asked"] == 0


def test_the_same_prompt_is_asked_once(kept):
    with serving() as server:
        asked = model(server.url, kept)
        answers = ask(asked, "a", "b", "a", "a")
    assert [answer.output for answer in answers] == ["re: a", "re: b", "re: a", "re: a"]
    assert [answer.id for answer in answers] == ["0", "1", "2", "3"]
    assert len(server.bodies) == 2
    assert asked.facts()["asked"] == 2


def test_other_options_are_other_questions(kept):
    with serving() as server:
        ask(model(server.url, kept), "a")
        ask(model(server.url, kept, {"temperature": 0, "top_p": 0.5}), "a")
    assert len(server.bodies) == 2


@pytest.mark.parametrize(("temperature", "asked"), [(0, 1), (0.7, 2)])
def test_a_seed_has_its_own_answers_only_where_they_are_drawn(kept, temperature, asked):
    with serving() as server:
        for seed in (0, 1, 0):
            ask(model(server.url, kept, {"temperature": temperature}, seed=seed), "a")
    assert len(server.bodies) == asked


def test_the_key_comes_from_the_environment_and_stays_out_of_the_record(kept, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")  # as `$(cat file)` of some shells
    monkeypatch.setenv("OTHER", "another-secret")
    with serving() as server:
        asked = model(server.url, kept)
        other = model(server.url, kept, key_variable="OTHER")
        ask(asked, "a"), ask(other, "b")
        ask(model(server.url, kept, key_variable="UNSET"), "c")
    assert server.keys == [f"Bearer {SECRET}", "Bearer another-secret", "Bearer none"]
    written = kept.path.read_bytes() + repr([asked.facts(), other.facts()]).encode()
    assert b"re: a" in written
    assert SECRET.encode() not in written
    assert b"another-secret" not in written


@pytest.mark.parametrize("key", ["sk-über", "sk-a\nb"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(kept, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="OPENAI_API_KEY holds no usable key") as caught:
        ask(model("http://127.0.0.1:1/v1", kept), "a")
    assert key not in str(caught.value)


def test_max_tokens_and_the_generation_options_are_sent(kept):
    with serving() as server:
        asked = model(server.url, kept, {"temperature": 0.5, "top_p": 0.9})
        ask(asked, "a")
    (body,) = server.bodies
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 8,
    }
    assert asked.facts()["generation"] == {"temperature": 0.5, "top_p": 0.9, "max_tokens": 8}


def test_an_answer_cut_at_max_tokens_is_counted_and_an_empty_one_is_empty(kept):
    def answer(prompt: str, number: int) -> tuple[int, Any]:
        whole = completion(prompt, "length")
        whole["choices"][0]["message"]["content"] = None if prompt == "b" else prompt
        if prompt == "b":
            del whole["usage"]
        return 200, whole

    with serving(answer) as server:
        cut, empty = ask(model(server.url, kept), "a", "b")
    assert cut == Prediction("0", "a", 3, capped=True)
    assert empty == Prediction("1", "", 0, capped=True)


def used(prompt: int, completion: int, without: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "answers_without_usage": without,
    }  # fmt: skip


def test_the_tokens_that_the_server_counted_are_kept_and_summed(kept, tmp_path: Path):
    with serving() as server:
        first = model(server.url, kept)
        assert first.facts()["usage"] == used(0, 0, 0)
        ask(first, "a", "b", "a")
        again = model(server.url, DiskMap(tmp_path / "a.sqlite"))
        ask(again, "a", "b", "a")
    assert first.facts()["usage"] == used(3, 9, 0)  # of all questions, kept or not
    assert again.facts() == {**first.facts(), "asked": 0}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": "7"}, "x"])
def test_answers_without_usage_are_told_and_counted_by_our_tokenizer(kept, usage):
    def answer(prompt: str, number: int) -> tuple[int, Any]:
        whole = completion("the rose near the lake")
        return 200, whole if prompt == "a" else {**whole, "usage": usage}

    with serving(answer) as server:
        asked = model(server.url, kept)
        known, unknown = ask(asked, "a", "b")
    assert asked.facts()["usage"] == used(1, 3, 1)
    assert known.tokens == 3
    count = asked.token_counter.count
    assert unknown.tokens == count(unknown.output) - count("") > 3


@pytest.mark.parametrize(("tokens", "expected"), [(3, 3), (0, 5)])
def test_answers_of_older_versions_have_no_usage(kept, tokens, expected):
    with serving() as server:
        ask(model(server.url, kept), "a")
    (key,) = kept
    kept[key] = json.dumps({"text": "the rose near the lake", "tokens": tokens, "capped": False})
    asked = model("http://127.0.0.1:1/v1", kept)
    (answer,) = ask(asked, "a")
    assert answer.tokens == expected
    assert asked.facts()["usage"] == used(0, 0, 1)


def test_a_prompt_longer_than_max_length_is_cut(kept):
    text = "the rose near the lake and the singer and the judge"
    with serving() as server:
        asked = model(server.url, kept, max_length=5)
        ask(asked, text, "the rose")
    sent = sorted(body["messages"][0]["content"] for body in server.bodies)
    assert sent == ["the rose", "the rose near the"]
    assert asked.token_counter.count(sent[1]) == 5


def test_training_is_refused_and_so_is_openai_itself_without_a_key(kept, monkeypatch):
    local = model("http://127.0.0.1:1/v1", kept)
    local.validate(False, "32-true")
    with pytest.raises(InputError, match="cannot be fine-tuned: use mode=zeroshot"):
        local.validate(True, "32-true")
    with pytest.raises(NotImplementedError):
        local.fit(None, None)
    official = model("https://api.openai.com/v1", kept)
    with pytest.raises(InputError, match="set the environment variable OPENAI_API_KEY"):
        official.validate(False, "32-true")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    official.validate(False, "32-true")


def test_a_tokenizer_that_is_not_there_is_refused_before_any_work(kept, tmp_path: Path):
    without = model("http://127.0.0.1:1/v1", kept, tokenizer=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"model\.tokenizer=.*nothing"):
        without.validate(False, "")


# --- through the command line ------------------------------------------------------------------

CALL = ("task=lamp4", "mode=zeroshot", "k=1", "limit=4", "model=openai", "model.name=m",
        f"model.tokenizer={TINY}")  # fmt: skip


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("lamp_exp: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


MISTAKES = {
    "model.base_url=localhost:8000/v1": "model.base_url=localhost:8000/v1 is no address",
    "model.base_url=http:///v1": "is no address",
    "model.base_url=ftp://x/v1": "is no address",
    "model.base_url=http://x:99999/v1": "is no address",
    "model.base_url=http://x:port/v1": "is no address",
    "model.base_url=null": "model.base_url=null must be text",
    "model.base_url=http://x/v1/chat/completions": "is no address of an API: it is like http://",
    "model.concurrency=0": "model.concurrency=0 must be at least 1",
    "model.concurrency=two": "model.concurrency=two must be a whole number",
    "model.retries=-1": "model.retries=-1 must be at least 0",
    "model.timeout=0": "model.timeout=0 must be above 0",
    "model.timeout=true": "model.timeout=true must be a number",
    "model.strip_reasoning=yes": "model.strip_reasoning=yes must be one of auto, true, false",
    "+model.generation.max_tokens=5": "model.generation.max_tokens has no effect: set max_new",
    "+model.generation.max_completion_tokens=5": "set max_new_tokens",
    "+model.generation.extra_body.max_tokens=5": "set max_new_tokens",
    "+model.generation.max_new_tokens=5": "set max_new_tokens",
    "+model.generation.n=2": "model.generation.n=2 is not possible: each question has one answer",
    "+model.generation.num_return_sequences=2": "is not possible",
    "+model.generation.num_beams=4": "is not possible",
    "+model.generation.stream=true": "is not possible",
    "+model.generation.timeout=5": "set model.timeout",
    "+model.generation.model=x": "set model.name",
    "+model.generation.do_sample=true": "set model.generation.temperature",
    "trainer.precision=bf16-mixed": "trainer.precision has no effect: this model does not run on",
    "trainer.devices=2": "trainer.devices has no effect: this model does not run on this machine",
}


@pytest.mark.parametrize("word", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(lamp_exp, word, tmp_path: Path):
    code, out, err = lamp_exp(*CALL, "model.base_url=http://127.0.0.1:1/v1", word)
    assert (code, out) == (2, "")
    assert MISTAKES[word] in one_line(err)
    assert not list(tmp_path.glob("outputs/lamp*"))


ENVIRONMENTS = {
    "ALL_PROXY=socks5://user:secret-word@127.0.0.1:1": "SOCKS",
    "HTTP_PROXY=foo://user:secret-word@127.0.0.1:1": "Unknown scheme",
    "https_proxy=http://127.0.0.1:port": "Invalid port",
    "SSL_CERT_FILE=/nowhere": "No such file",
}


@pytest.mark.parametrize("setting", ENVIRONMENTS)
def test_an_environment_without_a_network_is_one_line_before_any_work(
    lamp_exp, setting, tmp_path: Path, monkeypatch
):
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)
    code, out, err = lamp_exp(*CALL, "model.base_url=http://127.0.0.1:1/v1")
    assert (code, out) == (2, "")
    line = one_line(err)
    assert ENVIRONMENTS[setting] in line
    assert f"check the environment variable {name}" in line
    assert "secret-word" not in err
    assert not list(tmp_path.glob("outputs/lamp*"))


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:99999", "http://no.such.host.invalid:1"])
def test_a_proxy_that_is_not_there_is_one_line(lamp_exp, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    _, _, err = lamp_exp(*CALL, "model.base_url=http://example.invalid/v1", "model.retries=0")
    assert "no answer from http://example.invalid/v1 after 1 try" in one_line(err)
    assert "HTTP_PROXY" in err


def test_a_server_without_tls_is_one_line_at_once(lamp_exp):
    with serving() as server:
        code, _, err = lamp_exp(*CALL, f"model.base_url={server.url.replace('http', 'https')}")
    assert code == 2
    assert "no secure connection to 127.0.0.1 ([SSL: WRONG_VERSION_NUMBER]" in one_line(err)


def test_reasoning_and_refusals_are_counted_and_shown(lamp_exp):
    def answer(prompt: str, number: int) -> tuple[int, Any]:
        said = [THOUGHT, THOUGHT, "The lake", completion(None, refusal="No.")][number % 4]
        return 200, said if isinstance(said, dict) else completion(said)

    with serving(answer) as server:
        words = [*CALL, f"model.base_url={server.url}", "model.concurrency=1"]
        _, out, _ = lamp_exp(*words)
        folder = folder_of(out)
        _, plain, _ = lamp_exp(*words, "model.strip_reasoning=false")
    assert len(server.bodies) == 4
    assert "2 outputs whose reasoning was removed" in out
    assert "1 output that refuses to answer" in out
    counts = recorded(folder)["counts"]
    assert counts["outputs_without_their_reasoning"] == 2
    assert counts["outputs_refused"] == 1
    examples = pq.read_table(folder / "examples.parquet").to_pylist()
    assert sorted(row["prediction"] for row in examples) == ["No.", *["The lake"] * 3]
    assert [row["raw_output"] for row in examples].count(THOUGHT) == 2
    assert "2 outputs with reasoning, which model.strip_reasoning=true removes" in plain
    assert folder_of(plain) != folder


@pytest.mark.process
@pytest.mark.parametrize(
    "slow", [Slow(b" " * 1000, pause=0.5), (503, "later")], ids=["slow", "busy"]
)
def test_an_interrupt_ends_at_once(tmp_path: Path, slow):
    answer = slow if isinstance(slow, tuple) else (200, slow)
    with serving(lambda prompt, number: answer, wait_ms=None) as server:
        command = [sys.executable, "-m", "lamp_exp", *CALL, f"model.base_url={server.url}"]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while len(server.bodies) < 4:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        line = process.stderr.readline()
        assert time.monotonic() - start < 3  # the end of Python itself takes its time
        _, rest = process.communicate(timeout=60)
    assert line + rest == "lamp_exp: interrupted: the same command goes on from here\n"
    assert process.returncode == 130
