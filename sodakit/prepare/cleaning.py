"""Rules that need the whole job, not one item: odd speaking rates, repeated transcripts, other languages.

They look at headers and transcripts only, so the plan already knows what they take. All are off unless asked for.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sodakit.bounds import Bounded, Count, Positive, PositiveShare
from sodakit.errors import AudioError, MissingExtra
from sodakit.prepare.checks import Limits, Rejection
from sodakit.prepare.recording import Item

MIN_RATED = 20
"""Speaking rates of a source are compared where it has at least so many: fewer have no spread to speak of."""
MIN_LETTERS = 20
"""Shorter transcripts say too little of their language."""
SURE = 0.9
"""Probability from which the identified language counts."""


@dataclass(frozen=True, kw_only=True)
class CleaningRules(Bounded):
    """What is left out for what the other items are like."""

    max_rate_deviations: Positive | None = None
    """Leave out transcripts whose characters per second lie further from the median of their source, in robust
    standard deviations of the logarithm (1.4826 times the median deviation)."""
    max_repeats: Count | None = None
    """Keep the first so many items with one and the same transcript in a source: subtitles that thank for watching."""
    languages: tuple[str, ...] = ()
    """Keep these ISO 639-1 languages; empty for all. What the source declares counts; where it declares nothing, what
    py3langid makes of the transcript. Items whose language nobody knows are kept."""
    near_duplicate_share: PositiveShare | None = None
    """Leave out an utterance of whose speech at least this share, by runs of codes, was in one before it."""


def split_long(items: Iterable[Item], limits: Limits) -> Iterator[Item]:
    """The items, with long ones that have no transcript in equal parts of one recording."""
    for item in items:
        if not limits.split_long or item.is_text or item.problem is not None or (item.text or "").strip():
            yield item
            continue
        try:
            sound_s = item.sound_duration_s() if item.end_s is None else item.end_s
        except AudioError:
            yield item  # the plan finds out again, and says why
            continue
        start_s = item.start_s or 0.0
        count = math.ceil((sound_s - start_s) / limits.max_duration_s) if sound_s > start_s else 0
        if count <= 1:
            yield item
            continue
        if count > limits.max_parts:
            promised = f"{sound_s - start_s:.0f} s would be {count} parts; allowed: {limits.max_parts}"
            problem = f"{promised}. Is its length true? Cut it yourself, or raise max_parts"
            yield replace(item, problem=problem, reason="too many parts")
            continue
        borders_s = [round(start_s + (sound_s - start_s) * n / count, 6) for n in range(count + 1)]
        for number in range(count):
            yield replace(
                item,
                id=f"{item.id}#{number:04d}",
                recording=item.recording,
                start_s=borders_s[number],
                end_s=borders_s[number + 1],
            )


def clean(
    items: Sequence[Item], durations_s: Mapping[int, float], rules: CleaningRules
) -> dict[int, Rejection]:
    """Which rows are left out, and why. A row gets the first reason that applies: language, rate, repetition.

    Args:
        items: the job.
        durations_s: of the rows still in it.
        rules: what to look for.
    """
    rejected: dict[int, Rejection] = {}
    for rule in (_other_languages, _odd_rates, _repeated):
        left = {row: duration_s for row, duration_s in durations_s.items() if row not in rejected}
        rejected |= rule(items, left, rules)
    return rejected


def _other_languages(
    items: Sequence[Item], durations_s: Mapping[int, float], rules: CleaningRules
) -> dict[int, Rejection]:
    if not rules.languages:
        return {}
    rejected = {}
    for row in durations_s:
        item = items[row]
        declared = item.language.lower().replace("_", "-").split("-")[0]
        found, how = (declared, "declared") if declared else (_identify(item.text or ""), "identified")
        if found and found not in rules.languages:
            wanted = ", ".join(rules.languages)
            rejected[row] = Rejection("other language", f"{how} as {found}; wanted: {wanted}")
    return rejected


def _identify(text: str) -> str:
    """ISO 639-1 code of the text's language; empty where that is unsure."""
    if sum(letter.isalpha() for letter in text) < MIN_LETTERS:
        return ""
    global _identifier  # noqa: PLW0603 - the model is read once
    if _identifier is None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError as error:
            raise MissingExtra("py3langid", "clean", "Telling the language of a transcript") from error
        _identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    language, probability = _identifier.classify(text)
    return str(language) if probability >= SURE else ""


_identifier = None


def _odd_rates(
    items: Sequence[Item], durations_s: Mapping[int, float], rules: CleaningRules
) -> dict[int, Rejection]:
    if rules.max_rate_deviations is None:
        return {}
    rates: dict[str, dict[int, float]] = defaultdict(dict)
    for row, duration_s in durations_s.items():
        letters = len((items[row].text or "").strip())
        if letters and duration_s > 0:
            rates[items[row].source][row] = letters / duration_s
    rejected = {}
    for found in rates.values():
        if len(found) < MIN_RATED:
            continue
        middle = statistics.median(math.log(rate) for rate in found.values())
        spread = 1.4826 * statistics.median(abs(math.log(rate) - middle) for rate in found.values())
        for row, rate in found.items():
            if abs(math.log(rate) - middle) > rules.max_rate_deviations * spread:
                usual = f"{math.exp(middle):.1f} is the median of its source"
                rejected[row] = Rejection("odd speaking rate", f"{rate:.1f} characters a second; {usual}")
    return rejected


def _repeated(
    items: Sequence[Item], durations_s: Mapping[int, float], rules: CleaningRules
) -> dict[int, Rejection]:
    if rules.max_repeats is None:
        return {}
    seen: Counter[tuple[str, str]] = Counter()
    rejected = {}
    for row in durations_s:
        words = " ".join((items[row].text or "").casefold().split())
        key = (items[row].source, words)
        seen[key] += bool(words)
        if seen[key] > rules.max_repeats:
            detail = f"{words[:80]!r} for the {seen[key]}th time, allowed: {rules.max_repeats}"
            rejected[row] = Rejection("repeated transcript", detail)
    return rejected
