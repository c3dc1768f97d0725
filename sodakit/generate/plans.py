"""Plans: answers that take several requests, one leading to the next.

A plan is a generator: it yields requests, is sent their completions, and returns its result. `run_together` runs any
number of them with an engine; a server runs them in its own batch.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

from sodakit.generate.engine import Completion, Engine, Request

R = TypeVar("R")
Plan = Generator[Request, Completion, R]


def run_together(plans: Sequence[Plan[R]], engine: Engine) -> list[R]:
    """What each plan returns, in order. The requests that are open at the same time are answered in one go."""
    results: dict[int, R] = {}
    answers: dict[int, Completion | None] = dict.fromkeys(range(len(plans)))
    while answers:
        asked: dict[int, Request] = {}
        for number, answer in answers.items():
            try:
                asked[number] = next(plans[number]) if answer is None else plans[number].send(answer)
            except StopIteration as end:
                results[number] = end.value
        completions = engine.generate(list(asked.values())) if asked else []
        answers = dict(zip(asked, completions, strict=True))
    return [results[number] for number in range(len(plans))]


def carry_out(plan: Plan[R], engine: Engine) -> R:
    """What the plan returns, its requests answered one after another."""
    return run_together([plan], engine)[0]
