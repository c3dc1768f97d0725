"""Every command shows an example, and every example is a command that is understood."""

import importlib
import inspect
import shlex
from keyword import iskeyword

import pytest

from sodakit.cli import VERBS
from sodakit.commands import codec, eval, eval_reports, eval_sentences, eval_spoken, scale

WORDS = {
    "codec": {"train": codec.Train, "eval": codec.Eval, "encode": codec.Encode, "decode": codec.Decode},
    "eval": {
        "pairs": eval.Pairs, "nll": eval.Nll, "text": eval_reports.TextBenchmarks, "asr": eval_spoken.Asr,
        "tts": eval_spoken.Tts, "continue": eval_spoken.Continue, "s2st": eval_spoken.S2st, "build": eval.Build,
        "sentences": eval_sentences.Sentences, "compare": eval.Compare, "expected": eval_reports.Expected,
        "report": eval_reports.Page,
    },
    "scale": scale.WORDS,
}  # fmt: skip
"""Verbs of several words."""
PLAIN = sorted(VERBS.keys() - WORDS.keys())


class Understood(Exception):
    """The options are read; nothing is to be done."""


def module_of(verb: str):
    return importlib.import_module(f"sodakit.commands.{verb + '_' if iskeyword(verb) else verb}")


def examples(kind: type) -> list[list[str]]:
    """The words of each example of a docstring, as a shell takes them; a backslash goes on with the next line."""
    lines = inspect.getdoc(kind).replace("\\\n", " ").splitlines()
    found = [shlex.split(line.removeprefix("Example:")) for line in lines if line.startswith("Example:")]
    assert found, f"{kind} has no example"
    return found


def stop(*args, **more):
    raise Understood


@pytest.mark.parametrize("verb", PLAIN)
def test_the_example_of_a_verb_is_understood(verb, monkeypatch):
    module = module_of(verb)
    read = module.read_options
    monkeypatch.setattr(module, "read_options", lambda *given: stop(read(*given)))
    for words in examples(module.Options):
        assert words[:2] == ["sodakit", verb]
        with pytest.raises(Understood):
            module.main(words[2:])


@pytest.mark.parametrize(("verb", "word"), [(verb, word) for verb, words in WORDS.items() for word in words])
def test_the_example_of_a_word_is_understood(verb, word, monkeypatch):
    kind = WORDS[verb][word]
    monkeypatch.setattr(kind, "run", stop)
    for words in examples(kind):
        assert words[:3] == ["sodakit", verb, word]
        with pytest.raises(Understood):
            module_of(verb).main(words[2:])
