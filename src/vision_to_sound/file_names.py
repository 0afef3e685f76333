"""File names in tables, on screens and pages: every name Linux allows, as one harmless line of text, and back.

A name may hold tabs and line ends, which tear a table; bytes that are no UTF-8, which no text file holds; and a first
character that makes a spreadsheet run it as a formula. Standard library only: the Snakefile imports this.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(\\|u[0-9a-f]{4})")
# What a spreadsheet takes for the start of a formula (OWASP, CSV injection), and the mark that prevents it.
_FORMULA = ("=", "+", "-", "@", "'")


def to_text(name: str) -> str:
    r"""A file name as text for people and tables: most names are unchanged.

    A control character or a byte that is no UTF-8 becomes \uXXXX and a backslash two of them, in names that have
    such characters; a name that begins like a formula gets an apostrophe in front.
    """
    text = name
    if _UNSAFE.search(name) or _ESCAPE.search(name):
        text = name.replace("\\", "\\\\")
        text = _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def from_text(text: str) -> str:
    """The file name that `to_text` was given."""
    if text.startswith("'") and text[1:].startswith(_FORMULA):
        text = text[1:]
    return _ESCAPE.sub(lambda match: chr(int(match[1][1:], 16)) if match[1] != "\\" else "\\", text)
