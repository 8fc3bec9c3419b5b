"""Extracts subject and plain text from an e-mail."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import EmailPolicy
from html.parser import HTMLParser
from typing import Any


@dataclass(frozen=True, slots=True)
class Mail:
    """What LaMP-6 takes of a mail; either may be empty."""

    subject: str
    body: str


UNREADABLE_MAIL = (  # what email raises for broken mails; RecursionError is a RuntimeError
    ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError,
)  # fmt: skip
LONGEST_HEADER = 10_000  # characters; email takes quadratic time for some
DROPPED = {"script", "style", "title"}
LINES = {  # tags that begin and end a line
    "address", "blockquote", "br", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6",
    "hr", "li", "ol", "p", "pre", "table", "tr", "ul",
}  # fmt: skip
NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"}


def read_mail(content: bytes) -> tuple[Mail, list[str]]:
    """A mail's subject on one line and its stripped text, and what was odd about them."""
    content = content.removeprefix(codecs.BOM_UTF8)
    message = message_from_bytes(content, policy=Headers())
    reader = MailText()
    body = reader.text(message).strip()
    subject = _sound(" ".join(str(message["subject"] or "").split()))
    raw = next((value for name, value in message.raw_items() if name.lower() == "subject"), "")
    odd = {
        "with a wrong, unknown or missing charset": reader.guessed
        or not raw.isascii()
        or "\ufffd" in subject,
        "in HTML only": reader.html and not reader.plain,
        "without a subject": not subject,
        "without a text": not body,
    }
    return Mail(subject, body), [what for what, is_so in odd.items() if is_so]


class Headers(EmailPolicy):
    """Python's default policy, with a limit, and 8-bit headers guessed instead of replaced."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """`value` has bytes beyond ASCII as lone surrogates."""
        if len(value) > LONGEST_HEADER:
            raise ValueError(f"its header {name} has {len(value)} characters")
        if not value.isascii():
            value = decoded(value.encode("utf-8", "surrogateescape"), None)[0]
        return super().header_fetch_parse(name, value)


class MailText:
    """The text of a mail's parts, plain where there is a choice; attachments are passed over."""

    def __init__(self) -> None:
        """The flags tell what has been met."""
        self.guessed = self.html = self.plain = False

    def text(self, part: Message[Any, Any], root: bool = True) -> str:
        """Of one part and those in it."""
        kind = part.get_content_type()
        if not root and (part.get_content_disposition() == "attachment" or part.get_filename()):
            return ""
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            parts = [inner for inner in part.get_payload() if isinstance(inner, Message)]
            return self._of_parts(parts, kind == "multipart/alternative")
        if kind == "text/html":
            self.html = True
            return html_text(self._decoded(part))
        if kind == "text/plain" or part.get_content_maintype() == "multipart":  # a broken one
            self.plain = True
            return self._decoded(part)
        return ""

    def _of_parts(self, parts: Sequence[Message[Any, Any]], alternative: bool) -> str:
        if not alternative:
            texts = [self.text(part, root=False).strip() for part in parts]
            return "\n".join(filter(None, texts))
        for part in sorted(parts, key=lambda part: part.get_content_type() != "text/plain"):
            text = self.text(part, root=False)
            if text.strip():
                return text
        return ""

    def _decoded(self, part: Message[Any, Any]) -> str:
        raw = part.get_payload(decode=True)
        assert isinstance(raw, bytes), "only parts without parts are decoded"
        text, right = decoded(raw, part.get_content_charset())
        self.guessed |= not right
        return text


def decoded(raw: bytes, charset: str | None) -> tuple[str, bool]:
    """The text of `raw`, and whether it was what `charset` (or its absence: ASCII) promised.

    Else it is taken for UTF-8, or what is no UTF-8 for Windows-1252, as old mail mostly was.
    """
    promised = charset or "us-ascii"
    for name in (promised, "utf-8"):
        try:
            if codecs.lookup(name).name not in NO_CHARSETS:
                return _sound(raw.decode(name)), name == promised
        except (LookupError, ValueError):
            continue  # the next one is tried, and the caller told
    return _sound(raw.decode("windows-1252", "replace")), False


def _sound(text: str) -> str:
    """With one kind of line ends, and without lone surrogates, which no file can hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode("utf-8")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.dropping: str | None = None

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self.dropping is None and tag in DROPPED:
            self.dropping = tag
        self._end_line(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self.dropping:
            self.dropping = None
        self._end_line(tag)

    def handle_data(self, data: str) -> None:
        if self.dropping is None:
            self.pieces.append(re.sub(r"\s+", " ", data))

    def _end_line(self, tag: str) -> None:
        if tag in LINES:
            self.pieces.append("\n")


def html_text(html: str) -> str:
    """What a reader would see, one line for each block."""
    parser = _Text()
    parser.feed(_bare(html))
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.pieces).split("\n"))
    return "\n".join(filter(None, lines))


def _bare(html: str) -> str:
    """Without comments, declarations and attributes, and no `<` that does not open a tag.

    HTMLParser takes quadratic time for broken ones, and gives up at unknown declarations.
    """
    first, *others = html.split("<!--")
    html = first + "".join(other.partition("-->")[2] for other in others)
    html = re.sub(r"<[!?][^<>]*+>", "", html)
    html = re.sub(r"<(/?[A-Za-z][\w:-]*+)(?:[\s/][^<>]*+)?>", r"<\1>", html)
    return re.sub(r"<(?!/?[A-Za-z][\w:-]*+>)", "&lt;", html)
