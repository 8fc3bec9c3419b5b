"""Models behind any server that speaks the OpenAI chat API: OpenAI, vLLM, llama.cpp, Ollama, …"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed, wait
from dataclasses import replace
from functools import cached_property
from typing import Any

import anyio
import httpx2
import openai
from anyio.from_thread import start_blocking_portal

from lamp_exp.contracts import Model, PredictionJournal
from lamp_exp.errors import InputError, first_line
from lamp_exp.models.chat_replies import (
    FILTERED_PROMPT,
    USAGE,
    FailedAnswer,
    ReplyClient,
    answer_of,
    root_cause,
)
from lamp_exp.models.reasoning import AUTO, ReasoningMarks, template_marks
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.progress import progress
from lamp_exp.values import ModelSettings, Prediction, Prompt, TrainingSet

log = logging.getLogger("lamp_exp")
ANSWERS_KEPT = "what it has answered is kept; run the same command again"
OVERRIDDEN = {  # options of generation that the program itself decides: what to set instead
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens"),
        "max_new_tokens",
    ),
    "model": "model.name",
    "messages": "task, retriever and augmentation",
    "timeout": "model.timeout",
    "do_sample": "model.generation.temperature (0 does not sample)",
}
ONLY = {"n": 1, "num_return_sequences": 1, "num_beams": 1, "stream": False}
NETWORK_VARIABLES = {"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}


class OpenAI(Model):
    """Requests several answers at a time; answers are stored and not requested again."""

    multiple_passages = False
    uses_trainer = False

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        generation: Mapping[str, Any],
        base_url: str = "https://api.openai.com/v1",
        tokenizer: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        retries: int = 5,
        timeout: float = 60.0,
        limit_option: str = "max_tokens",
        strip_reasoning: bool | str = AUTO,
    ) -> None:
        """`tokenizer` (a hub id or a folder) counts the prompts' tokens.

        `generation` is sent unchanged (temperature, …); `limit_option` is the server's name for
        the maximum of new tokens. `timeout` is in seconds, for a whole answer; before each of the
        `retries` the wait is longer. Unless `strip_reasoning` is false, reasoning is removed from
        answers; what a server sends apart from them is never part of them.
        """
        self.name = name
        self.settings = settings
        _refuse_overridden(generation)
        self.generation = {**generation, limit_option: settings.max_new_tokens}
        self.base_url = base_url
        self.tokenizer_name = tokenizer or name
        self.key_variable = key_variable
        self.concurrency = concurrency
        self.retries = retries
        self.timeout = timeout
        self.strip_reasoning = strip_reasoning
        self.requests = 0  # answered by the server, not from the store
        self.usage = _total_usage([])

    @cached_property
    def token_counter(self) -> TransformersTokenCounter:
        """Loaded when it is first needed."""
        return TransformersTokenCounter(load_tokenizer(self.tokenizer_name, "model.tokenizer"))

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """It cannot be fine-tuned, needs an address, and OpenAI itself needs a key."""
        if trains:
            raise InputError("model=openai answers, but cannot be fine-tuned: use mode=zeroshot")
        _check_address(self.base_url)
        if "api.openai.com" in self.base_url and not self._api_key():
            raise InputError(
                f"{self.base_url} wants a key: set the environment variable {self.key_variable}, "
                "or model.base_url for another server"
            )
        if trainer is not None:
            self._client()
        assert self.token_counter

    def fit(self, data: TrainingSet, trainer: Callable[..., Any]) -> Mapping[str, Any]:
        """Refused by `validate`."""
        raise NotImplementedError

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., Any],
        journal: PredictionJournal | None = None,
    ) -> list[Prediction]:
        """One prediction per prompt, in order.

        `journal` is not needed: the store of answers outlives the run.
        """
        store = self.settings.answers
        bodies = {prompt.id: self._body(prompt) for prompt in prompts}
        keys = {id: self._key(body) for id, body in bodies.items()}
        distinct = {keys[id]: body for id, body in bodies.items()}
        stored = {key: text for key in distinct if (text := store.get(key)) is not None}
        checked = {key: _stored_answer(text) for key, text in stored.items()}
        answers = {key: answer for key, answer in checked.items() if answer is not None}
        if doubtful := len(stored) - len(answers):
            log.info("%d stored answers may be failures of the server: asked again", doubtful)
        missing = {key: body for key, body in distinct.items() if key not in answers}
        answers.update(self._request_all(missing))
        rows = [answers[keys[prompt.id]] for prompt in prompts]
        self.usage = _total_usage(rows)
        return [self._prediction(prompt.id, row) for prompt, row in zip(prompts, rows, strict=True)]

    def facts(self) -> Mapping[str, Any]:
        """What was sent with each prompt, the number of requests, and the tokens used.

        `usage` sums what the server counted for all prompts, stored answers included; it is
        unknown for `answers_without_usage`.
        """
        return {
            "generation": self.generation,
            "weights": self.name,
            "asked": self.requests,
            "usage": self.usage,
        }

    @property
    def samples(self) -> bool:
        """Servers draw unless they are told otherwise."""
        return self.generation.get("temperature") != 0

    # --- requests ------------------------------------------------------------------------------

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        (text,) = prompt.passages
        text = self.token_counter.shortened(text, self.settings.max_length)
        messages = [{"role": "user", "content": text}]
        return {"model": self.name, "messages": messages, **self.generation}

    def _key(self, body: Mapping[str, Any]) -> str:
        """The same for the same model, prompt and options, whichever server answers.

        Sampled answers also depend on the seed.
        """
        content: Any = [body, self.settings.seed] if self.samples else body
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _request_all(
        self, bodies: Mapping[str, dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Requests answers; each is stored as it arrives, so that an interrupted run loses none.

        After a failure no more are requested; the others that are under way are waited for, unless
        the user interrupts that.
        """
        if not bodies:
            return
        client, failed = self._client(), False
        slots = anyio.Semaphore(self.concurrency)

        async def request(key: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
            async with slots:
                return None if failed else (key, await self._request(client, key, body))

        with start_blocking_portal() as portal:  # an error cancels what runs in it
            jobs = [portal.start_task_soon(request, *job) for job in bodies.items()]
            try:
                for job in progress(as_completed(jobs), len(jobs), "answers"):
                    if answer := job.result():
                        self.requests += 1
                        yield answer
            except (InputError, OSError):
                failed = True
                wait(jobs)
                raise
            finally:
                portal.call(client.close)

    def _client(self) -> openai.AsyncOpenAI:
        """InputError for an environment in which there can be none."""
        try:
            return openai.AsyncOpenAI(
                api_key=self._api_key() or "none",
                base_url=self.base_url,
                max_retries=self.retries,
                timeout=self.timeout,
                http_client=ReplyClient(self.timeout),
            )
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            raise InputError(
                f"no connection can be made ({first_line(error)}): check the environment variable "
                f"{_network_variables()}"
            ) from None

    async def _request(
        self, client: openai.AsyncOpenAI, key: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        own = {"extra_body", "extra_headers", "extra_query"}  # options of the client
        try:
            response = await client.post(
                "/chat/completions",
                body={k: v for k, v in body.items() if k not in own} | body.get("extra_body", {}),
                options={
                    "headers": body.get("extra_headers", {}),
                    "params": body.get("extra_query", {}),
                },
                cast_to=httpx2.Response,
            )
            answer = answer_of(response)
        except openai.APIError as error:
            if error.code != "content_filter":
                # The traceback goes to the log: without its cause, which may quote the key.
                raise InputError(self._error_message(error)) from None
            answer = FILTERED_PROMPT
        with anyio.CancelScope(shield=True):
            text = json.dumps(answer, ensure_ascii=False)
            await anyio.to_thread.run_sync(self.settings.answers.__setitem__, key, text)
        return answer

    def _error_message(self, error: openai.APIError) -> str:
        tries = f"after {self.retries + 1} tries" if self.retries else "after 1 try"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"no answer from {self.base_url} within {self.timeout} s {tries}: raise "
                f"model.timeout or lower model.concurrency; {ANSWERS_KEPT}"
            )
        message = first_line(error)
        if isinstance(error, openai.APIConnectionError):
            failed = isinstance(error.__cause__, FailedAnswer)
            cause = error.__cause__ if failed else root_cause(error)
            hint = "" if failed else "; is the server running?"
            if hint and (names := _network_variables()):
                hint = f"{hint} or check the environment variable {names}"
            return f"no answer from {self.base_url} {tries} ({cause}{hint}); {ANSWERS_KEPT}"
        if key := self._api_key():
            message = message.replace(key, "...")
        if isinstance(error, openai.InternalServerError):
            return f"no answer from {self.base_url} {tries} ({message}); {ANSWERS_KEPT}"
        unauthorised = isinstance(error, openai.AuthenticationError)
        hint = f" (the key is that of {self.key_variable})" if unauthorised else ""
        return f"{self.base_url} refused{hint}: {message}; {ANSWERS_KEPT}"

    def _api_key(self) -> str:
        """The key, from the environment only; the error message does not show it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the environment variable {self.key_variable} holds no usable key")
        return key

    @cached_property
    def _reasoning(self) -> ReasoningMarks:
        marks = template_marks(self.token_counter.tokenizer) or ReasoningMarks()
        return replace(marks, opened=False)  # the server has taken away what it began itself

    def _prediction(self, id: str, answer: Mapping[str, Any]) -> Prediction:
        """Older versions stored the tokens as `tokens`, and 0 where they were not counted."""
        text, reasoning, capped = answer["text"], answer.get("reasoning"), answer["capped"]
        rest = None if self.strip_reasoning is False else self._reasoning.answer(text, capped)
        raw = text if rest is not None else None
        if reasoning:
            raw = f"{reasoning}\n{text}"
        tokens: int | None = answer.get("completion_tokens", answer.get("tokens") or None)
        if tokens is None:  # the server did not count: our tokenizer does
            tokens = self.token_counter.count(raw or text) - self.token_counter.count("")
        output = text if rest is None else rest
        return Prediction(id, output, tokens, capped, raw, answer.get("withheld"))


def _network_variables() -> str:
    """The names of the environment's variables that decide how a server is reached."""
    return " or ".join(sorted(name for name in os.environ if name.upper() in NETWORK_VARIABLES))


def _stored_answer(text: str) -> dict[str, Any] | None:
    """A stored answer; None for what may be a failure, since older versions stored those, too."""
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        return None
    sure = answer["text"] or answer.get("capped") or "withheld" in answer
    return answer if sure else None


def _total_usage(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The sums over the answers that came with usage."""
    known = [a for a in answers if all(a.get(name) is not None for name in USAGE)]
    sums = {name: sum(a[name] for a in known) for name in USAGE}
    return {**sums, "answers_without_usage": len(answers) - len(known)}


def _refuse_overridden(generation: Mapping[str, Any]) -> None:
    """Refuses options of generation that would not be obeyed."""
    for name, value in {**generation, **generation.get("extra_body", {})}.items():
        if name in OVERRIDDEN:
            raise InputError(f"model.generation.{name} has no effect: set {OVERRIDDEN[name]}")
        if name in ONLY and value != ONLY[name]:
            raise InputError(
                f"model.generation.{name}={value} is not possible: each question has one answer, "
                "which the server sends as a whole"
            )


def _check_address(address: Any) -> None:
    try:
        url = httpx2.URL(address)
        port = url.port or 1
    except (TypeError, httpx2.InvalidURL):
        port = 0
    if (
        not 0 < port < 1 << 16
        or url.scheme not in ("http", "https")
        or not url.host
        or " " in address
        or url.path.rstrip("/").endswith("/completions")
    ):
        raise InputError(
            f"model.base_url={address} is no address of an API: it is like http://host:8000/v1"
        )
