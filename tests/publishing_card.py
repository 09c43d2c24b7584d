"""Reading a model card as its reader would."""

from __future__ import annotations

import re


def lines_that_load(card: str) -> list[str]:
    """The Python lines under `Load it`."""
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    return found[1].strip().splitlines()
