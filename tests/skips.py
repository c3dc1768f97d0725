"""What a run of the tests says at its end about those that did not run, and why."""

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.recordings import NONE_HERE


def skip_lines(reasons: Iterable[str], stood_in: Sequence[str] = ()) -> list[str]:
    """Lines of the summary: skips for want of recordings by set, then all others by reason, then the stand-ins."""
    counts = Counter(reasons)
    missing = {r.removeprefix(NONE_HERE): n for r, n in counts.items() if r.startswith(NONE_HERE)}
    others = {r: n for r, n in counts.items() if not r.startswith(NONE_HERE)}
    lines = []
    if missing:
        sets = ", ".join(f"{name} {n}" for name, n in sorted(missing.items()))
        lines.append(
            f"{_tests(sum(missing.values()))} skipped for want of recordings beside the checkout "
            f"(../shared/data): {sets}."
        )
    lines += [f"{_tests(n)} skipped: {reason}" for reason, n in sorted(others.items(), key=lambda x: -x[1])]
    if stood_in:
        lines.append(f"Stand-ins from tests/fixtures took the place of: {', '.join(sorted(stood_in))}.")
    return lines


def reason_of(report: object) -> str:
    """Why a skipped test, or a file of them, says it is."""
    told = getattr(report, "longrepr", None)
    reason = told[2] if isinstance(told, tuple) else str(told)
    return reason.removeprefix("Skipped: ")


def _tests(count: int) -> str:
    return f"{count} test was" if count == 1 else f"{count} tests were"
