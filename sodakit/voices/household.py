"""The demo's small world: things one asks of a household, in five slots and about seventy words.

    opening        action     object          place             time
    Could you      turn off   the heater      in the bedroom    after dinner ?

Small enough to learn in minutes on a CPU, large enough (tens of thousands of sentences) that held-out sentences
are new combinations and never new words.
"""

import random
from collections.abc import Collection
from functools import cache

from sodakit.errors import ConfigError

# Openings that end in a question mark ask; the others command.
OPENINGS = (
    "please",
    "could you",
    "would you please",
    "can you",
    "kindly",
    "remember to",
    "do not forget to",
    "robot, please",
)
_ASKING = ("could", "would", "can")

ACTIONS_AND_OBJECTS = (
    (("turn on", "turn off", "check", "repair"), ("lamp", "radio", "heater", "fan", "oven")),
    (("open", "close", "lock", "paint"), ("door", "window", "gate", "box", "cupboard")),
    (("find", "wash", "hide", "count"), ("cups", "towels", "shoes", "spoons", "blankets")),
)
PLACES = (
    "in the kitchen",
    "in the bedroom",
    "in the garage",
    "in the hall",
    "by the stairs",
    "near the garden",
    "near the bathroom",
    "on the balcony",
)
TIMES = (
    "today",
    "tonight",
    "tomorrow",
    "at noon",
    "this morning",
    "this evening",
    "before lunch",
    "after dinner",
    "on Sunday",
    "on Friday",
)


@cache
def all_sentences() -> tuple[str, ...]:
    """Every sentence of the domain, in a fixed order."""
    requests = [
        f"{action} the {thing}"
        for actions, things in ACTIONS_AND_OBJECTS
        for action in actions
        for thing in things
    ]
    return tuple(
        _finish(f"{opening} {request} {place} {time}")
        for opening in OPENINGS
        for request in requests
        for place in PLACES
        for time in TIMES
    )


def sentences(count: int, seed: int, avoid: Collection[str] = ()) -> list[str]:
    """`count` different sentences in random order, none of them in `avoid`; the same for the same arguments.

    Raises:
        ConfigError: more sentences are asked for than the domain has.
    """
    avoided = frozenset(avoid)
    left = [sentence for sentence in all_sentences() if sentence not in avoided]
    if count > len(left):
        raise ConfigError(
            f"count={count} sentences; the household domain has {len(left)} left. Ask for fewer."
        )
    return random.Random(seed).sample(left, count)


def words() -> tuple[str, ...]:
    """The distinct words of the domain, lower case, sorted."""
    text = " ".join((*OPENINGS, *PLACES, *TIMES, *(" ".join((*a, *o)) for a, o in ACTIONS_AND_OBJECTS)))
    return tuple(sorted(set(text.lower().replace(",", "").split())))


def _finish(sentence: str) -> str:
    mark = "?" if sentence.startswith(_ASKING) else "."
    return sentence[0].upper() + sentence[1:] + mark
