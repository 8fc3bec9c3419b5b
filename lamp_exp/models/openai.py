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

KEPT = "what it has answered is kept; run the same command again"
COUNTED = ("prompt_tokens", "completion_tokens")  # by the server, which is paid by them


class OpenAI(Model):
    """Asks several prompts at a time; an answer once given is kept, and not asked for again."""

    multiple_passages = False
    distributed = False

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

        `generation` is sent as it is (temperature, …); `limit_option` is what the server
        calls the most new tokens; `timeout` is in seconds, and `retries`
        wait longer each time.
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
        self.asked = 0
        self.usage = _usage([])

    @cached_property
    def token_counter(self) -> TransformersTokenCounter:
        """The tokenizer that counts; loaded when it is needed."""
        return TransformersTokenCounter(load_tokenizer(self.tokenizer_name, "model.tokenizer"))

    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """It cannot be trained, and needs its key, before any work."""
        if trains:
            raise InputError("model=openai answers, but cannot be fine-tuned: use mode=zeroshot")
        if self.concurrency < 1:
            raise InputError(f"model.concurrency={self.concurrency} must be at least 1")
        if "api.openai.com" in self.base_url and not self._secret():
            raise InputError(
                f"{self.base_url} wants a key: set the environment variable {self.key_variable}, "
                "or model.base_url for another server"
            )
        assert self.token_counter

    def _secret(self) -> str:
        """The key, from the environment only; what no header can carry is refused unseen."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the environment variable {self.key_variable} holds no usable key")
        return key

    def fit(self, training_set: TrainingSet, trainer: Callable[..., Any]) -> Mapping[str, Any]:
        """Refused by `check`."""
        raise NotImplementedError

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., Any],
        journal: PredictionJournal | None = None,
    ) -> list[Prediction]:
        """One answer for each prompt, in their order; those known from disk cost nothing.

        Answers outlive the run, so it needs no journal.
        """
        bodies = {prompt.id: self._body(prompt) for prompt in prompts}
        keys = {id: self._key(body) for id, body in bodies.items()}
        wanted = {keys[id]: body for id, body in bodies.items()}
        unknown = {key: body for key, body in wanted.items() if key not in self.settings.answers}
        self._ask_all(unknown)
        answers = [json.loads(self.settings.answers[keys[prompt.id]]) for prompt in prompts]
        self.usage = _usage(answers)
        return [
            Prediction(prompt.id, a["text"], self._length(a), a["capped"])
            for prompt, a in zip(prompts, answers, strict=True)
        ]

    def _length(self, answer: Mapping[str, Any]) -> int:
        """The answer's tokens as the server counted them; by our tokenizer if it did not.

        Older versions kept them as `tokens`, and 0 where they were not counted.
        """
        counted: int | None = answer.get("completion_tokens", answer.get("tokens") or None)
        if counted is None:
            return self.token_counter.count(answer["text"]) - self.token_counter.count("")
        return counted

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        (text,) = prompt.passages
        if self.token_counter.count(text) > self.settings.max_length:
            text, _ = self.token_counter.truncate(text, self.settings.max_length)
        messages = [{"role": "user", "content": text}]
        return {"model": self.name, "messages": messages, **self.generation}

    def _ask_all(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        """Keeps each answer as it comes, so that a broken run loses none."""
        if not bodies:
            return
        client = openai.OpenAI(
            api_key=self._secret() or "none",
            base_url=self.base_url,
            max_retries=self.retries,
            timeout=self.timeout,
        )
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            jobs = [pool.submit(self._ask, client, *job) for job in bodies.items()]
            done = as_completed(jobs)
            for job in progress(done, len(jobs), "answers"):
                job.result()
                self.asked += 1
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, the rest is not asked for
            client.close()

    def _ask(self, client: openai.OpenAI, key: str, body: Mapping[str, Any]) -> None:
        try:
            answer = _answer(client.chat.completions.create(**body))
        except (openai.APIError, ValueError) as error:
            # The traceback goes to the log: without its cause, which may quote the key.
            raise InputError(self._explained(error)) from None
        self.settings.answers[key] = json.dumps(answer, ensure_ascii=False)

    def _explained(self, error: Exception) -> str:
        """One line that says what to do."""
        tries = f"after {self.retries + 1} tries"
        if isinstance(error, openai.APITimeoutError):
            return (
                f"no answer from {self.base_url} within {self.timeout} s {tries}: raise "
                f"model.timeout or lower model.concurrency; {KEPT}"
            )
        if isinstance(error, openai.APIConnectionError):
            cause = first_line(error.__cause__ or error)
            return (
                f"no answer from {self.base_url} {tries} ({cause}; is the server running?); {KEPT}"
            )
        said = first_line(error)
        if secret := self._secret():
            said = said.replace(secret, "...")
        if isinstance(error, openai.APIStatusError):
            hint = f" (the key is that of {self.key_variable})" if error.status_code == 401 else ""
            return f"{self.base_url} refused{hint}: {said}; {KEPT}"
        return f"{self.base_url} sent what is no chat completion ({said}): is it the right address?"

    def facts(self) -> Mapping[str, Any]:
        """What was sent with each prompt, how many answers were not on disk yet, and the tokens.

        `usage` sums what the server counted for the prompts that were answered last, on disk or
        not; of `answers_without_usage` it is not known.
        """
        return {
            "generation": self.generation,
            "weights": self.name,
            "asked": self.asked,
            "usage": self.usage,
        }

    def _key(self, body: Mapping[str, Any]) -> str:
        """The same for the same model, prompt and options, whichever server answers.

        Where answers are drawn by chance, each seed has its own.
        """
        drawn = self.generation.get("temperature") != 0
        content: Any = [body, self.settings.seed] if drawn else body
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _answer(reply: Any) -> dict[str, Any]:
    """What is kept of a reply; raises ValueError for what is no chat completion."""
    choices = getattr(reply, "choices", None)
    if not choices:
        raise ValueError(str(reply)[:200])
    return {
        "text": choices[0].message.content or "",
        "capped": choices[0].finish_reason == "length",
        **{name: _count(getattr(reply.usage, name, None)) for name in COUNTED},
    }


def _count(told: object) -> int | None:
    """The library checks nothing of what servers send."""
    return told if isinstance(told, int) and told >= 0 else None


def _usage(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Summed over the answers that came with it; those of older versions were kept without."""
    known = [a for a in answers if all(a.get(name) is not None for name in COUNTED)]
    sums = {name: sum(a[name] for a in known) for name in COUNTED}
    return {**sums, "answers_without_usage": len(answers) - len(known)}
