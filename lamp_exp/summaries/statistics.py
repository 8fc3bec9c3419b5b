"""Statistics of a profile in words: exact, and without a model.

Where items have labels: the most frequent ones, with their shares and the words of their items;
else how long the user's titles or tweets are, how they are written, and their words. That tags and
scores need no model is seen in OPPU's instructions (arXiv 2402.04401), which ask one for the mode.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from statistics import fmean, median_low

from lamp_exp.contracts import Summary, Task
from lamp_exp.values import ProfileItem

LABELS = 5  # that are named, most frequent first
WORDS = 8  # that are named, without labels
WORDS_OF_LABEL = 3
LEAST_ITEMS = 2  # that a word is in
LEAST_SHARE = 0.2  # of the texts in which a feature is worth a mention
_WORD = re.compile(r"[^\W\d_][\w'’-]*[^\W_]")
_NUMBER = re.compile(r"[1-9]\d*(\.\d+)?")
STOPWORDS = frozenset({
    "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "but", "by", "can", "could", "did", "do", "does", "doing", "don't",
    "down", "even", "for", "from", "get", "got", "had", "has", "have", "having", "he", "her",
    "here", "him", "his", "how", "if", "in", "into", "is", "it", "it's", "its", "i'm", "just",
    "like", "me", "more", "most", "much", "my", "no", "not", "now", "of", "off", "on", "one",
    "only", "or", "other", "our", "out", "over", "own", "rt", "same", "she", "should", "so",
    "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "up", "us", "using", "via", "very", "was",
    "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with",
    "would", "you", "your",
})  # fmt: skip
FEATURES: Mapping[str, Callable[[str], bool]] = {  # of titles and tweets
    "have a colon": lambda text: ":" in re.sub(r"https?:", "", text),
    "end with a question mark": lambda text: text.endswith("?"),
    "have an exclamation mark": lambda text: "!" in text,
    "have a number": lambda text: any(map(str.isdigit, text)),
    "have a hashtag": lambda text: bool(re.search(r"#\w", text)),
    "mention someone": lambda text: bool(re.search(r"@\w", text)),
    "have a link": lambda text: "http://" in text or "https://" in text,
}


class Statistics(Summary):
    """The most frequent labels, the usual form and the frequent words of a profile."""

    def __init__(self, max_tokens: int = 128) -> None:
        self.max_tokens = max_tokens

    def text(self, task: Task, profile: Sequence[ProfileItem]) -> str:
        """Sentences of statistics, the most telling first; the order of the items is ignored."""
        labels = [task.item_label(item) for item in profile]
        labelled = [
            (label, task.item_writing(item))
            for label, item in zip(labels, profile, strict=True)
            if label is not None
        ]
        if labelled:
            return _of_labels(labelled, task.label_noun, task.writing_noun)
        texts = [text for item in profile if (text := task.item_writing(item).strip())]
        return _of_writing(texts, task.writing_noun)


def _of_labels(labelled: Sequence[tuple[str, str]], noun: str, items: str) -> str:
    """The shares of the most frequent labels, the words of their items, and the mean of scores."""
    texts: dict[str, list[str]] = {}
    for label, text in labelled:
        texts.setdefault(label, []).append(text)
    order = sorted(texts, key=lambda label: (-len(texts[label]), label))
    shown = []
    for label in order[:LABELS]:
        others = [text for other, text in labelled if other != label]
        words = ", ".join(frequent_words(texts[label], WORDS_OF_LABEL, others))
        share = percent(len(texts[label]), len(labelled))
        shown.append(f"{label} {share} ({words})" if words else f"{label} {share}")
    sentences = [f"The user's {noun} for {items} is usually {order[0]}: {'; '.join(shown)}."]
    if all(map(_NUMBER.fullmatch, texts)):
        mean = fmean(float(label) for label, _ in labelled)
        sentences.insert(0, f"The user's mean {noun} is {mean:.1f}.")
    return " ".join(sentences)


def _of_writing(texts: Sequence[str], noun: str) -> str:
    """The usual length and form of texts, and their frequent words; empty without texts."""
    if not texts:
        return ""
    words = median_low(len(text.split()) for text in texts)
    characters = median_low(len(text) for text in texts)
    cases = Counter(map(case_of, texts))
    case = min(cases, key=lambda name: (-cases[name], name))
    facts = [f"usually {words} words ({characters} characters)"]
    facts.append(f"{percent(cases[case], len(texts))} in {case}")
    for name, holds in FEATURES.items():
        count = sum(map(holds, texts))
        if count >= LEAST_SHARE * len(texts):
            facts.append(f"{percent(count, len(texts))} {name}")
    sentences = [f"The user's {noun}: {', '.join(facts)}."]
    if frequent := frequent_words(texts, WORDS):
        sentences.append(f"Frequent words: {', '.join(frequent)}.")
    return " ".join(sentences)


def frequent_words(texts: Sequence[str], most: int, others: Sequence[str] = ()) -> list[str]:
    """The words that are in most texts, in at least two, lower-cased; equal ones by the alphabet.

    With `others`, those whose share of the texts exceeds that of the others by most. Words of
    fewer than three letters and of grammar do not count, nor do links.
    """
    counts, outside = _text_counts(texts), _text_counts(others)
    excess = {
        word: Fraction(count, len(texts)) - Fraction(outside[word], max(len(others), 1))
        for word, count in counts.items()
        if count >= LEAST_ITEMS and len(word) > 2 and word not in STOPWORDS
    }
    kept = [word for word, share in excess.items() if share > 0]
    return sorted(kept, key=lambda word: (-excess[word], word))[:most]


def _text_counts(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each word is."""
    counts = Counter[str]()
    for text in texts:
        counts.update(set(_WORD.findall(re.sub(r"https?://\S+", " ", text.casefold()))))
    return counts


def case_of(text: str) -> str:
    """How capitals are used in a text."""
    words = [word for word in text.split() if any(map(str.isalpha, word))]
    letters = "".join(words)
    if not any(map(str.isupper, letters)):
        return "lower case"
    if not any(map(str.islower, letters)):
        return "capitals"
    long_words = [word.lstrip("\"'“‘([#@") for word in words if len(word) > 3]
    raised = sum(word[:1].isupper() for word in long_words)
    return "title case" if long_words and raised > 0.7 * len(long_words) else "sentence case"


def percent(count: int, total: int) -> str:
    """A share as whole per cent."""
    return f"{100 * count / total:.0f}%"
