"""`python -m tests.eval.killed_run CALLS ITEMS eval-arguments…`: the command, ITEMS generated together, killed at the
CALLS-th batch of answers."""

import os
import signal
import sys
from collections.abc import Sequence
from itertools import count

from sodakit.commands.eval import main
from sodakit.eval import generation
from sodakit.generate.engine import Completion, Engine, Request

if __name__ == "__main__":
    generate, calls = Engine.generate, count(1)

    def generate_until_killed(self: Engine, requests: Sequence[Request], batch: int = 16) -> list[Completion]:
        if next(calls) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return generate(self, requests, batch)

    Engine.generate = generate_until_killed  # type: ignore[method-assign]
    for function in (generation.transcribe_cases, generation.speak_cases):
        function.__kwdefaults__["part_items"] = int(sys.argv[2])
    main(sys.argv[3:])
