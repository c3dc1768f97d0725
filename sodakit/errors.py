"""Everything sodakit raises on purpose.

    SodakitError
    ├── ConfigError        a setting, option or override that cannot work
    ├── AudioError         a sound file that cannot be read or is not sound
    │   └── TooLong        a sound that lasts longer than its reader allows
    ├── CodecError         a codec that is missing, unknown or does not fit the codes
    ├── VocabularyError    ids, codes or characters outside the vocabulary
    ├── StoreError         a store that is damaged or made by another codec or tokenizer
    ├── CheckpointError    a checkpoint that is damaged or belongs to another run
    ├── Diverged           a run whose gradients are no longer finite
    ├── DiskError          a file or folder that cannot be written or read: full, read-only, no permission
    └── MissingExtra       an optional package that this command needs

A message says what came in, what is needed, and what to do.
"""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], kind: str = "Known", cutoff: float = 0.6) -> str:
    """What to say after a name that is none of those known: the one that was probably meant, or all of them.

    Args:
        name: as it was given.
        known: those there are.
        kind: what they are called in a list, as "Tasks".
        cutoff: how alike a name must be to be offered, from 0 to 1.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return f" Did you mean {close[0]!r}?" if close else f" {kind}: {', '.join(names) or 'none'}."


def first_line(error: BaseException, most: int = 160) -> str:
    """What another library's error says first; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:most]


class SodakitError(Exception):
    """The root: `except SodakitError` catches a user's mistakes and no programming error."""


class ConfigError(SodakitError, ValueError):
    """A setting, option or override that cannot work."""


class AudioError(SodakitError, ValueError):
    """A sound file that cannot be read, or is not sound."""


class TooLong(AudioError):
    """A sound that lasts longer than the reader of it allows."""


class CodecError(SodakitError, ValueError):
    """A codec that is missing, unknown or does not fit the codes."""


class VocabularyError(SodakitError, ValueError):
    """Ids, codes or characters outside the vocabulary."""


class StoreError(SodakitError, RuntimeError):
    """A store that is damaged, or was made by another codec or tokenizer."""


class CheckpointError(SodakitError, RuntimeError):
    """A checkpoint that is damaged, or belongs to another run."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint of which a part is missing or broken; an earlier one may be whole."""


class DiskError(SodakitError, OSError):
    """A file or folder that cannot be written or read: the disk is full, read-only, or belongs to somebody else."""


class Diverged(SodakitError, RuntimeError):
    """A run whose gradients are no longer finite."""


class MissingExtra(SodakitError, ImportError):
    """An optional package that this command needs."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}. Install it: pip install 'sodakit[{extra}]'"
        )


class Stopped(SystemExit):
    """A run that a signal stopped in order: its checkpoint is written and the process ends with status 0.

    No `SodakitError`: nothing went wrong, and no stage after it may begin.
    """

    def __init__(self, step: int) -> None:
        super().__init__(0)
        self.step = step
