"""What `check` can find in LaMP files: each kind with its severity, meaning and remedy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
FIRST = 5  # so many places of a kind are told
_AGAIN = "download the file again, or mend it where it was made"
KINDS: Mapping[str, tuple[str, str]] = {  # code: severity, and the sentence after the count
    "unreadable": (
        ERROR,
        "file that was not read to its end, and nothing after that was checked: it {error}",
    ),
    "no_questions": (
        ERROR,
        "files without a single question: " + _AGAIN,
    ),
    "question_ids_missing": (
        ERROR,
        "questions whose `id` is neither text nor a whole number, and which were not "
        "checked further: " + _AGAIN,
    ),
    "question_ids_repeated": (
        ERROR,
        "questions under an id that an earlier one has, so that no gold can be told to be "
        "theirs: " + _AGAIN,
    ),
    "questions_made_up": (
        NOTE,
        "questions of this program's made-up sample: no result on them is one of LaMP",
    ),
    "inputs_missing": (
        ERROR,
        "questions whose `input` is no text: " + _AGAIN,
    ),
    "inputs_misworded": (
        ERROR,
        "inputs that do not follow the wording of {task}, too many for a rare defect: "
        "choose the task of this file (the movies are lamp2, the news lamp2_news)",
    ),
    "inputs_oddly_worded": (
        WARNING,
        "inputs that do not follow the wording of {task}: few enough to be used as they "
        "are, but mend them if you made the file",
    ),
    "known_defects": (
        NOTE,
        "inputs that the benchmark itself words wrongly: nothing is wrong with your file, "
        "and fixes=declared rewords them",
    ),
    "profiles_missing": (
        ERROR,
        "questions whose `profile` is no list of items: " + _AGAIN,
    ),
    "items_malformed": (
        ERROR,
        "profile items that are no JSON object: " + _AGAIN,
    ),
    "item_ids_missing": (
        ERROR,
        "profile items whose `id` is neither text nor a whole number: " + _AGAIN,
    ),
    "fields_missing": (
        ERROR,
        "profile items that lack a field of {task} (first: {field}): choose the task of "
        "this file, or mend it where it was made",
    ),
    "fields_malformed": (
        ERROR,
        "profile items with a field that is no text (first: {field}): " + _AGAIN,
    ),
    "fields_null": (
        NOTE,
        "profile items with a field that is null (or NaN): it is read as an empty text",
    ),
    "items_blank": (
        NOTE,
        "profile items without a word to show: retrieval ranks them last or by chance",
    ),
    "characters_broken": (
        NOTE,
        "texts with half a character, which no file can hold: it is read as \ufffd",
    ),
    "dates_unreadable": (
        ERROR,
        "dates that cannot be read (first: {error}): write them like 2013-05-09",
    ),
    "items_undated": (
        ERROR,
        "profile items without a date, in a split by time: retriever=recency refuses this "
        "file; fetch the time split again, or add the dates",
    ),
    "items_dated": (
        NOTE,
        "profile items with a date, in a split by user, where the benchmark has none: if "
        "this is the time split, move it below time/",
    ),
    "items_later": (
        WARNING,
        "profile items dated after their question, which a model should not know yet: drop "
        "them, or say so beside your results",
    ),
    "items_identical": (
        NOTE,
        "profile items whose content an earlier item of the same profile has: they take up "
        "room in prompts twice",
    ),
    "item_ids_repeated": (
        WARNING,
        "profile items under an id that an earlier item of the same profile has: they are "
        "told apart as id#2, but rankings made elsewhere by id are ambiguous",
    ),
    "profiles_empty": (
        NOTE,
        "questions with an empty profile: they are answered as if without a user",
    ),
    "profiles_short": (
        NOTE,
        "questions with 1 to 3 profile items: a larger k shows no more than those",
    ),
    "profiles_repeated": (
        NOTE,
        "questions with exactly the profile of an earlier one, so presumably of one user: they "
        "are not independent in a test of significance",
    ),
    "profiles_shared": (
        WARNING,
        "questions whose profile is at least half that of a question of an earlier part, so that "
        "presumably they are of one user, where a split by user has different users: call no "
        "result on them one for new users",
    ),
    "users_shared": (
        WARNING,
        "users who are in an earlier part, too, where a split by user has different users: call "
        "no result on them one for new users (a question without `user_id` is taken for a user "
        "named by the question's id: add `user_id` where ids start again in each part)",
    ),
    "users_new": (
        NOTE,
        "users who are not in train, where a split by time has the same users: nothing of theirs "
        "was seen in training",
    ),
    "users_unknown": (
        NOTE,
        "questions without a proper `user_id`: each counts as a user of its own",
    ),
    "own_items": (
        WARNING,
        "profiles with an item of the very words that are asked about, a leak unless the words are "
        "common ones: run with profile.own_items=remove, too, or tell it beside your results",
    ),
    "golds_in_profile": (
        WARNING,
        "questions whose gold has the very words that an item of the profile has for it: copied, "
        "it scores in full, so tell it beside your results",
    ),
    "golds_absent": (
        WARNING,
        "part without an outputs file: without golds it serves for predictions only; fetch {file}",
    ),
    "golds_not_public": (
        NOTE,
        "part without an outputs file: the golds of test are not public, so it serves for "
        "predictions only",
    ),
    "golds_unreadable": (
        ERROR,
        "outputs file that is of no use: it {error}",
    ),
    "golds_of_other_task": (
        ERROR,
        "outputs file whose `task` is {named}, not {task}: put the right file beside the questions",
    ),
    "golds_malformed": (
        ERROR,
        "golds without a proper `id` and `output`: " + _AGAIN,
    ),
    "golds_repeated": (
        ERROR,
        "golds under an id that an earlier one has: " + _AGAIN,
    ),
    "golds_missing": (
        ERROR,
        "questions without a gold: fetch both files again, they must be of one version",
    ),
    "golds_extra": (
        ERROR,
        "golds without a question: fetch both files again, they must be of one version",
    ),
    "golds_impossible": (
        ERROR,
        "golds that are no answer to {task}: is it another task's outputs file?",
    ),
    "texts_single_words": (
        WARNING,
        "profile items, all of one word, as the mail names that LaMP-6 is published with: complete "
        "them first with `python -m lamp_exp.data avocado`",
    ),
    "size_differs": (
        WARNING,
        "questions, but {expected} are published for this part: a subset or another "
        "version, whose scores do not compare with published ones",
    ),
    "size_unknown": (
        NOTE,
        "questions; how many are published for this part is not known here",
    ),
}


@dataclass(slots=True)
class Finding:
    """One kind of finding in one file; `first` are the places of its first few occurrences."""

    severity: str
    code: str
    meaning: str
    count: int = 0
    first: list[dict[str, str]] = field(default_factory=list)


class Findings:
    """Counts what is found in one file; remembers a few places of each kind only."""

    def __init__(self, **words: str) -> None:
        """`words` fill the gaps of all sentences, such as the task's name."""
        self.words = words
        self.kinds: dict[str, Finding] = {}

    def add(
        self, code: str, /, count: int = 1, at: Mapping[str, str] | None = None, **words: Any
    ) -> None:
        """One more (or `count` more) of a kind, `at` a place; the first one's `words` stay."""
        severity, meaning = KINDS[code]
        if code not in self.kinds:
            words = {name: shortened(word) for name, word in {**self.words, **words}.items()}
            self.kinds[code] = Finding(severity, code, meaning.format(**words))
        found = self.kinds[code]
        found.count += count
        if at and len(found.first) < FIRST and at not in found.first:
            found.first.append(dict(at))

    def sorted(self) -> list[Finding]:
        """The worst first, then in the order of KINDS."""
        order, codes = (ERROR, WARNING, NOTE), list(KINDS)
        return sorted(
            self.kinds.values(), key=lambda f: (order.index(f.severity), codes.index(f.code))
        )


def shortened(text: object) -> str:
    """The beginning of a text that may be huge, on one line and fit for any screen."""
    printable = str(text)[:1000].encode("utf-8", "replace").decode()
    return textwrap.shorten(printable, 300, placeholder=" …")
