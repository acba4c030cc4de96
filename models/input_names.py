"""What the columns of a log are called as inputs of a signature."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence


def input_names(columns: Sequence[str]) -> dict[str, str]:
    """The name of each column as an input of a signature.

    TensorFlow wants ASCII letters, digits and _, a letter first, no keyword of Python, and names that differ in more
    than case. Columns whose names are so already come first, so that they keep them.
    """
    plain = {name: re.sub(r"[^A-Za-z0-9_]", "_", name) for name in columns}
    plain = {name: text if text[0].isalpha() else f"column_{text}" for name, text in plain.items()}
    taken = {"self", *map(str.lower, keyword.kwlist)}
    found = {}
    for name in sorted(columns, key=lambda name: plain[name] != name):
        text = plain[name]
        while text.lower() in taken:
            text += "_"
        taken.add(text.lower())
        found[name] = text
    return found
