"""Models behind any server that speaks the OpenAI chat API: OpenAI, vLLM, llama.cpp, Ollama, …"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from typing import Any

import openai

from lamp_exp.contracts import Model, PredictionJournal
from lamp_exp.errors import InputError, first_line
from lamp_exp.models.token_counter import TransformersTokenCounter, load_tokenizer
from lamp_exp.progress import progress
from lamp_exp.values import ModelSettings, Prediction, Prompt, TrainingSet

ANSWERS_KEPT = "what it has answered is kept; run the same command again"
USAGE = ("prompt_tokens", "completion_tokens")  # as the server counts them, for the bill


class OpenAI(Model):
    """Requests several answers at a time; answers are stored and not requested again."""

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
    ) -> None:
        """`tokenizer` (a hub id or a folder) counts the prompts' tokens.

        `generation` is sent unchanged (temperature, …); `limit_option` is the server's name for
        the maximum of new tokens. `timeout` is in seconds; before each of the `retries` the wait
        is longer.
        """
        self.name = name
        self.settings = settings
        self.generation = {**generation, limit_option: settings.max_new_tokens}
        self.base_url = base_url
        self.tokenizer_name = tokenizer or name
        self.key_variable = key_variable
        self.concurrency = concurrency
        self.retries = retries
        self.timeout = timeout
        self.requests = 0  # answered by the server, not from the store
        self.usage = _total_usage([])

    @cached_property
    def token_counter(self) -> TransformersTokenCounter:
        """Loaded when it is first needed."""
        return TransformersTokenCounter(load_tokenizer(self.tokenizer_name, "model.tokenizer"))

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """It cannot be fine-tuned, and OpenAI itself needs a key."""
        if trains:
            raise InputError("model=openai answers, but cannot be fine-tuned: use mode=zeroshot")
        if self.concurrency < 1:
            raise InputError(f"model.concurrency={self.concurrency} must be at least 1")
        if "api.openai.com" in self.base_url and not self._api_key():
            raise InputError(
                f"{self.base_url} wants a key: set the environment variable {self.key_variable}, "
                "or model.base_url for another server"
            )
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
        self._request_all({key: body for key, body in distinct.items() if key not in store})
        answers = [json.loads(store[keys[prompt.id]]) for prompt in prompts]
        self.usage = _total_usage(answers)
        return [
            Prediction(prompt.id, a["text"], self._output_tokens(a), a["capped"])
            for prompt, a in zip(prompts, answers, strict=True)
        ]

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
        sampled = self.generation.get("temperature") != 0
        content: Any = [body, self.settings.seed] if sampled else body
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _request_all(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        """Requests answers; each is stored as it arrives, so that an interrupted run loses none."""
        if not bodies:
            return
        client = openai.OpenAI(
            api_key=self._api_key() or "none",
            base_url=self.base_url,
            max_retries=self.retries,
            timeout=self.timeout,
        )
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            jobs = [pool.submit(self._request, client, *job) for job in bodies.items()]
            for job in progress(as_completed(jobs), len(jobs), "answers"):
                job.result()
                self.requests += 1
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, no more is requested
            client.close()

    def _request(self, client: openai.OpenAI, key: str, body: Mapping[str, Any]) -> None:
        try:
            answer = _answer(client.chat.completions.create(**body))
        except (openai.APIError, ValueError) as error:
            # The traceback goes to the log: without its cause, which may quote the key.
            raise InputError(self._error_message(error)) from None
        self.settings.answers[key] = json.dumps(answer, ensure_ascii=False)

    def _error_message(self, error: Exception) -> str:
        tries = f"after {self.retries + 1} tries"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"no answer from {self.base_url} within {self.timeout} s {tries}: raise "
                f"model.timeout or lower model.concurrency; {ANSWERS_KEPT}"
            )
        if isinstance(error, openai.APIConnectionError):
            cause = first_line(error.__cause__ or error)
            return (
                f"no answer from {self.base_url} {tries} ({cause}; is the server running?); "
                f"{ANSWERS_KEPT}"
            )
        message = first_line(error)
        if key := self._api_key():
            message = message.replace(key, "...")
        if isinstance(error, openai.APIStatusError):
            hint = f" (the key is that of {self.key_variable})" if error.status_code == 401 else ""
            return f"{self.base_url} refused{hint}: {message}; {ANSWERS_KEPT}"
        return f"{self.base_url} sent no chat completion ({message}): is it the right address?"

    def _api_key(self) -> str:
        """The key, from the environment only; the error message does not show it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the environment variable {self.key_variable} holds no usable key")
        return key

    def _output_tokens(self, answer: Mapping[str, Any]) -> int:
        """As the server counted them; by our tokenizer if it did not.

        Older versions stored them as `tokens`, and 0 where they were not counted.
        """
        counted: int | None = answer.get("completion_tokens", answer.get("tokens") or None)
        if counted is None:
            return self.token_counter.count(answer["text"]) - self.token_counter.count("")
        return counted


def _answer(reply: Any) -> dict[str, Any]:
    """What is stored of a reply; ValueError if it is no chat completion."""
    choices = getattr(reply, "choices", None)
    if not choices:
        raise ValueError(str(reply)[:200])
    return {
        "text": choices[0].message.content or "",
        "capped": choices[0].finish_reason == "length",
        **{name: _valid_count(getattr(reply.usage, name, None)) for name in USAGE},
    }


def _valid_count(value: object) -> int | None:
    """The library does not check what servers send."""
    return value if isinstance(value, int) and value >= 0 else None


def _total_usage(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The sums over the answers that came with usage."""
    known = [a for a in answers if all(a.get(name) is not None for name in USAGE)]
    sums = {name: sum(a[name] for a in known) for name in USAGE}
    return {**sums, "answers_without_usage": len(answers) - len(known)}
