"""Verbs to commands: the only place that reads argv."""

import importlib
import os
import sys
import threading
from contextlib import suppress
from keyword import iskeyword
from pathlib import Path

from sodakit import __version__
from sodakit.disk import disk_error
from sodakit.errors import SodakitError, nearest
from sodakit.hardware import out_of_memory
from sodakit.log import OUTPUT_CLOSED, say

VERBS = {
    "demo": "the whole way in minutes: speech, store, model, report",
    "prepare": "recordings to a store of codes",
    "align": "when each word is said, of a store or of recordings",
    "describe": "what a store holds: hours, tokens, speakers, and a mixture of stores",
    "leaks": "what of evaluation sets is in a training split",
    "documents": "a store as the published parquet documents",
    "codec": "train, measure and use codecs",
    "train": "train a model by a recipe",
    "adapt": "one's own voice, accent, words or language, from minutes of recordings",
    "finetune": "teach a model a task of pairs, such as translating speech",
    "eval": "score a model on pairs and likelihood, build benchmarks, compare",
    "transcribe": "speech to text",
    "speak": "text to speech, in a given voice",
    "continue": "go on with speech",
    "translate": "speech to speech in another language, in the same voice",
    "s2st_demo": "speech translation, the whole experiment in under an hour",
    "voices": "who can speak: built in, installed, in folders; to be heard",
    "synthesise": "a corpus from texts and voices, ready for prepare",
    "serve": "the model behind HTTP, with a page to try it",
    "export": "a model as a Hugging Face folder",
    "import": "a Hugging Face folder as a model",
    "doctor": "what this machine can do, and what to do about what it cannot",
    "scale": "which models to train, and what they taught us",
}


def main(argv: list[str] | None = None) -> None:
    """Run `sodakit VERB …`; a user's mistake ends with one line and status 2."""
    words = sys.argv[1:] if argv is None else argv
    _open_standard_files()
    try:
        try:
            _run(words)
        finally:
            # What nobody takes is to be known while it can still be said.
            if sys.stdout is not None:
                sys.stdout.flush()
    except SodakitError as error:
        raise SystemExit(_complain(str(error))) from error
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `head` does. What is still buffered has nowhere to go.
        _drop_output()
        raise SystemExit(OUTPUT_CLOSED) from None
    except OSError as error:
        told = disk_error(error)
        if told is None:
            raise
        _drop_output()
        raise SystemExit(_complain(str(told))) from error
    except (MemoryError, RuntimeError) as error:
        lacking = out_of_memory(error)
        if lacking is None:
            raise
        raise SystemExit(_complain(lacking)) from error
    except KeyboardInterrupt:
        say("Stopped. What was finished is kept; run the same command again to resume.")
        raise SystemExit(130) from None


def _run(words: list[str]) -> None:
    """What the words ask for.

    Raises:
        SodakitError: they ask for nothing that there is, or it cannot be done.
    """
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if words[0] in ("-V", "--version"):
        print(f"sodakit {__version__}")
        return
    verb = words[0]
    if verb not in VERBS:
        raise SodakitError(f"No verb {verb!r}.{nearest(verb, VERBS, 'Verbs')}")
    _check_words(words)
    try:
        Path.cwd()
    except OSError as error:
        raise SodakitError("The folder in which this was started is gone. Start it in another.") from error
    # Threads that wait spin for microseconds, not milliseconds, and then sleep: nearly as fast on idle cores, and several
    # times faster on cores shared with other programs (LOG.md). It must be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # A module cannot be called `continue` or `import`; loading only the verb's own keeps `--help` quick.
    module = importlib.import_module(f"sodakit.commands.{verb + '_' if iskeyword(verb) else verb}")
    threading.excepthook = _thread_failed
    module.main(words[1:])


def _check_words(words: list[str]) -> None:
    """Refuse what no name or text can be."""
    for number, word in enumerate(words):
        if not word:
            before = f" after {words[number - 1]!r}"
            raise SodakitError(f"The word{before} is empty. Is a variable of the shell not set?")
        if not _is_utf8(word):
            if sys.getfilesystemencoding() != "utf-8" and _is_utf8(
                os.fsencode(word).decode("utf-8", "surrogateescape")
            ):
                raise SodakitError(
                    f"{word!a} cannot be read: texts and names are {sys.getfilesystemencoding()} by this locale; "
                    "needed: UTF-8. Set LC_ALL=C.UTF-8, or PYTHONUTF8=1."
                )
            raise SodakitError(f"{word!a} is no valid UTF-8; needed: names and texts in UTF-8. Rename it.")


def _open_standard_files() -> None:
    """Where input, output or errors are closed, the next file that is opened would get their number, and what other
    programs say would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the smallest number that is free


def _drop_output() -> None:
    """What standard output does not take goes nowhere, or Python would try again at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def usage() -> str:
    """The list of verbs."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    return (
        f"sodakit {__version__}: discrete audio foundation models\n\nUsage: sodakit VERB [options]\n\n{verbs}\n\n"
        "Try `sodakit demo`, and `sodakit VERB --help` for the options of one."
    )


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """A disk that is full is one line in a thread, too, such as TensorBoard's; the next write of our own stops the run."""
    told = disk_error(failed.exc_value) if isinstance(failed.exc_value, OSError) else None
    if told is None:
        threading.__excepthook__(failed)
    else:
        say(f"sodakit: {told}")


def _is_utf8(word: str) -> bool:
    return word == word.encode("utf-8", "replace").decode("utf-8")


def _complain(message: str) -> int:
    say(f"sodakit: {message}")
    return 2
