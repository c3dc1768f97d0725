"""Models that are simply there: they come with sodakit, or with a data package beside it, and are found by name.

`starter` is the folder `sodakit/starter/`, or that of the package `sodakit_starter`, which goes first: it may be newer. Such
a folder is a checkpoint (`contents.py`) whose weights are stored in few bits (`compact.py`), with `about.json`, and with
`replay/`, a small store of what it was trained on.
"""

from importlib.util import find_spec
from pathlib import Path

import sodakit

STARTER = Path("starter")
"""The model that answers where nobody names one."""
NAMES = (str(STARTER),)
REPLAY = "replay"
"""The store beside its weights."""
_HERE = Path(sodakit.__file__).parent
_DEMO = Path("runs/demo/model")


def shipped_folder(name: str) -> Path | None:
    """The folder of the model of that name in this installation; None where it is not here."""
    from sodakit.checkpoint.contents import CONTENTS  # here: it loads torch, and options name STARTER

    package = find_spec(f"sodakit_{name}")
    roots = [] if package is None else [Path(p) for p in package.submodule_search_locations or ()]
    return next((f for f in (*roots, _HERE / name) if (f / CONTENTS).is_file()), None)


def named_folder(path: Path | str) -> Path:
    """The folder of a model by its path, or by the name of one that is shipped; a folder of that name goes first."""
    path = Path(path)
    if str(path) not in NAMES or path.exists():
        return path
    return shipped_folder(str(path)) or path


def absent(name: str) -> str:
    """What to say, and what to do, where a shipped model is asked for and is not here."""
    demo = f" {_DEMO} is here: --model {_DEMO}." if _DEMO.is_dir() else ""
    return (
        f"The model {name!r} is not part of this installation (looked for: {_HERE / name}, the package sodakit_{name}); it is "
        f"the one that answers where none is named. Ways out: name a run of yours (--model, or first after serve);{demo} "
        "`sodakit demo` trains a small one in minutes; `sodakit import` takes a released one."
    )


def replay_of(folder: Path) -> Path | None:
    """The store that a checkpoint brings along of what it was trained on; None where it brings none."""
    store = folder / REPLAY
    return store if (store / "store.json").is_file() else None
