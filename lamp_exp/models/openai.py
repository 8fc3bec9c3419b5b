"""Models behind any server that speaks the OpenAI chat API: OpenAI, vLLM, llama.cpp, Ollama, …"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import openai
from tqdm import tqdm

from lamp_exp.models.tokens import ModelTokens, first_line, load_tokenizer
from lamp_exp.types import InputError, Lesson, ModelSettings, Prediction, Prompt


class OpenAI:
    """Asks several prompts at a time; an answer once given is kept, and not asked for again."""

    reads_passages = False

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
    ) -> None:
        """`tokenizer` (a hub id or a folder) counts the prompts' tokens.

        `generation` is sent as it is (temperature, …); `timeout` is in seconds, and `retries`
        wait longer each time.
        """
        self.name = name
        self.settings = settings
        self.generation = {**generation, "max_tokens": settings.max_new_tokens}
        self.base_url = base_url
        self.tokenizer_name = tokenizer or name
        self.key_variable = key_variable
        self.concurrency = concurrency
        self.retries = retries
        self.timeout = timeout
        self.asked = 0

    @cached_property
    def tokens(self) -> ModelTokens:
        """The tokenizer that counts; loaded when it is needed."""
        return ModelTokens(load_tokenizer(self.tokenizer_name, "model.tokenizer"))

    def check(self, trains: bool, precision: str) -> None:
        """It cannot be trained, and needs its key, before any work."""
        if trains:
            raise InputError("model=openai answers, but cannot be fine-tuned: use mode=zeroshot")
        if "api.openai.com" in self.base_url and not os.environ.get(self.key_variable):
            raise InputError(
                f"{self.base_url} wants a key: set the environment variable {self.key_variable}, "
                "or model.base_url for another server"
            )
        assert self.tokens

    def fit(self, lesson: Lesson, trainer: Callable[..., Any]) -> Mapping[str, Any]:
        """Refused by `check`."""
        raise NotImplementedError

    def predict(self, prompts: Sequence[Prompt], trainer: Callable[..., Any]) -> list[Prediction]:
        """One answer for each prompt, in their order; those known from disk cost nothing."""
        bodies = {prompt.id: self._body(prompt) for prompt in prompts}
        keys = {id: _key(body) for id, body in bodies.items()}
        wanted = {keys[id]: body for id, body in bodies.items()}
        unknown = {key: body for key, body in wanted.items() if key not in self.settings.answers}
        self._ask_all(unknown)
        answers = [json.loads(self.settings.answers[keys[prompt.id]]) for prompt in prompts]
        return [
            Prediction(prompt.id, a["text"], a["tokens"], a["capped"])
            for prompt, a in zip(prompts, answers, strict=True)
        ]

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        (text,) = prompt.passages
        if self.tokens.count(text) > self.settings.max_length:
            text, _ = self.tokens.cut(text, self.settings.max_length)
        messages = [{"role": "user", "content": text}]
        return {"model": self.name, "messages": messages, **self.generation}

    def _ask_all(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        """Keeps each answer as it comes, so that a broken run loses none."""
        if not bodies:
            return
        client = openai.OpenAI(
            api_key=os.environ.get(self.key_variable) or "none",
            base_url=self.base_url,
            max_retries=self.retries,
            timeout=self.timeout,
        )
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            jobs = [pool.submit(self._ask, client, *job) for job in bodies.items()]
            for job in tqdm(jobs, "answers", disable=None, leave=False):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, the rest is not asked for
            client.close()

    def _ask(self, client: openai.OpenAI, key: str, body: Mapping[str, Any]) -> None:
        try:
            reply = client.chat.completions.create(**body)
        except openai.APIConnectionError as error:
            raise InputError(
                f"no answer from {self.base_url} after {self.retries + 1} tries ({error}): is the "
                "server running? What it has answered is kept; run the same command again"
            ) from error
        except openai.APIStatusError as error:
            raise InputError(
                f"{self.base_url} refused with status {error.status_code}: {first_line(error)}"
            ) from error
        choice = reply.choices[0]
        answer = {
            "text": choice.message.content or "",
            "tokens": reply.usage.completion_tokens if reply.usage else 0,
            "capped": choice.finish_reason == "length",
        }
        self.settings.answers[key] = json.dumps(answer, ensure_ascii=False)
        self.asked += 1

    def report(self) -> Mapping[str, Any]:
        """What was sent with each prompt, and how many answers were not on disk yet."""
        return {"generation": self.generation, "weights": self.name, "asked": self.asked}


def _key(body: Mapping[str, Any]) -> str:
    """The same for the same model, prompt and options, whichever server answers."""
    content = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
