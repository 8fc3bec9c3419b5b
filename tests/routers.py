"""What tests of routers share: small options, and made-up results of candidates."""

from __future__ import annotations

import random

from lamp_exp.values import RoutedQuestion

FRESH = "{hidden_size:32,num_hidden_layers:1,num_attention_heads:2,intermediate_size:64}"
# A router that learns, with a small classifier of random weights.
SMALL = [
    "router.name=null", f"router.fresh={FRESH}", "router.epochs=2", "router.lr=1e-3",
    "router.max_length=96", "router.batch_questions=16",
]  # fmt: skip
WORDS = ("nurse", "oven", "lake", "river", "mountain", "tree")


def small_options(option: str) -> list[str]:
    """Overrides with which a router of conf/ needs no network and little time."""
    if option.startswith("rspg"):
        return SMALL
    return ["router.fallback=none", "router.max_length=400"] if option == "llm" else []


def matching(count: int, seed: int = 0, users: int = 50) -> list[RoutedQuestion]:
    """Questions with two candidates, of which one shows the word that is asked for.

    Its answer is right. Of each ten users, one is held out.
    """
    chance = random.Random(seed)
    questions = []
    for number in range(count):
        word, other = chance.sample(WORDS, 2)
        right = chance.randrange(2)
        shown = [word if candidate == right else other for candidate in range(2)]
        prompts = tuple(f"{one} said the text about {word}" for one in shown)
        outputs = tuple("yes" if one == word else "no" for one in shown)
        rewards = tuple(float(candidate == right) for candidate in range(2))
        user = number % users
        given = (f"q{number:04}", f"u{user}", f"about {word}", prompts, outputs, rewards)
        questions.append(RoutedQuestion(*given, held_out=user % 10 == 0))
    return questions
