# Flockwork · Apache-2.0 · see LICENSE
"""A model of nothing but Python: counts good and bad words. The contract is that of Jet's mapUsingPython."""

import re

GOOD = {"good", "great", "love", "loved", "excellent", "fine", "happy"}
BAD = {"bad", "awful", "hate", "hated", "broken", "boring", "sad"}


def transform_list(items):
    """A list of str in, a list of str out: one result an item, in order."""
    results = []
    for text in items:
        words = re.findall(r"\w+", text.lower())
        tone = sum(word in GOOD for word in words) - sum(word in BAD for word in words)
        results.append(f"{tone:+d} {len(words)} words")
    return results
