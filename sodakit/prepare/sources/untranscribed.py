"""Sounds without a transcript in a corpus that seems to have transcripts: left out and named, unless asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sodakit.prepare.recording import Item
from sodakit.prepare.sources.corpus import Corpus
from sodakit.prepare.sources.transcripts import BROKEN

REASON = "no transcript"


def leave_out_untranscribed(
    items: Sequence[Item], corpus: Corpus, keep: bool = False, lists_alone: bool = False
) -> Iterator[Item]:
    """The items, with a problem for each sound without a transcript where transcripts are to be expected.

    They are where other sounds of the corpus have one, or where files lie in it that nobody read and in which some may
    stand. Sound alone is a corpus as well.

    Args:
        items: of the corpus.
        corpus: what was read of it and what not.
        keep: leave them in.
        lists_alone: its rows name each sound and may do so without a text; only an unread column is one too many.
    """
    without = {id(item) for item in items if _is_untranscribed(item)}
    if keep or not without:
        yield from items
        return
    broken = any(item.reason == BROKEN for item in items)
    written = (
        corpus.has_transcripts
        or broken
        or any((item.text or "").strip() and not item.is_text for item in items)
    )
    unread = corpus.unread()
    why = ""
    if corpus.parts and not written:
        why = f"; these were not read: {'; '.join(corpus.parts)}"
    elif unread and not lists_alone:
        why = f"; these files were not read: {corpus.describe(unread)}"
    elif written and not lists_alone:
        why = "; the corpus has transcripts or lists of them"
    advice = "Put its text beside it, or use --keep-untranscribed to take sounds without text."
    for item in items:
        if id(item) in without and item.text is not None and not lists_alone:
            problem = f"the transcript of {item.place} is empty. Leave it out, or use --keep-untranscribed."
            item = replace(item, problem=problem, reason="empty transcript")
        elif id(item) in without and why:
            item = replace(item, problem=f"no transcript of {item.place}{why}. {advice}", reason=REASON)
        yield item


def _is_untranscribed(item: Item) -> bool:
    if item.is_text or item.problem is not None or (item.text or "").strip():
        return False
    return item.held is None or item.held.codes() is None
