"""Damaged folders of voices and judges through `voices`, `synthesise` and `eval`."""

import re
import shutil
from functools import partial
from pathlib import Path

import torch

from sodakit.eval.ge2e import Ge2eEncoder
from sodakit.eval.judges import CtcJudge, Recogniser
from sodakit.files import read_json_lines
from tests.eval.recordings import voice_list
from tests.eval.small_model import small_checkpoint
from tests.hostile import bad_engines
from tests.hostile.trial import CPU, Trial, expect, run
from tests.voices.onnx_bytes import dnsmos_folder, kokoro_folder, piper_folder

LINES = ("Hello.", "Turn on the lamp.")


def make_whole(folder: Path) -> None:
    """A voice of each engine and judges of each kind, to be damaged."""
    piper_folder(folder / "piper")
    kokoro_folder(folder / "kokoro")
    judges = folder / "judges"
    (judges / "speakers").mkdir(parents=True)
    dnsmos_folder(judges / "dnsmos")
    torch.save({"model_state": Ge2eEncoder().state_dict()}, judges / "speakers/pretrained.pt")
    CtcJudge(Recogniser(4).eval(), ("", *"ab "), ("ab",)).save(judges / "judge.safetensors")
    voice_list(folder / "list")
    small_checkpoint(folder / "speaker")


def voice_used(kind: str, name: str, whole: Path, folder: Path) -> int:
    """Refused by name, or its lines are unsaid with their reason; a good voice beside it says all of its lines."""
    damages = bad_engines.bad_pipers() if kind == "piper" else bad_engines.bad_kokoros()
    bad = folder / kind
    shutil.copytree(whole / kind, bad)
    damages[name](bad)
    found, said = run("voices", f"{kind}:{bad}", "--say", LINES[0], "--out", folder / "heard")
    assert found == 2 and "Traceback" not in said, (found, said[-1500:])
    (folder / "lines.txt").write_text("\n".join(LINES))
    out = folder / "made"
    words = [
        "synthesise",
        folder / "lines.txt",
        "--voices",
        "anna",
        f"{kind}:{bad}",
        "--voices-per-text",
        "2",
    ]
    found, said = run(*words, "--workers", "1", "--out", out)
    assert "Traceback" not in said, said[-1500:]
    if found == 0:
        unsaid = list(read_json_lines(out / "unsaid.jsonl"))
        made = list(read_json_lines(out / "manifest.jsonl"))
        assert len(unsaid) == len(made) == len(LINES), (unsaid, made)
        assert all(row["speaker"] == "anna" for row in made), made
    else:
        flat = re.sub(r"\s+", " ", said)
        # A voice of another language is left out before it is asked.
        assert found == 2 and (kind in flat or "voices speak 'en'" in flat), (found, said[-600:])
    return 1


def judge_used(name: str, whole: Path, folder: Path) -> int:
    """`eval tts` names the judge that cannot be used; one that is not there at all is left out."""
    judges = folder / "judges"
    shutil.copytree(whole / "judges", judges)
    refused = bad_engines.bad_judges()
    (refused | bad_engines.absent_judges())[name](judges)
    words = [
        "eval",
        "tts",
        "--data",
        whole / "list",
        "--model",
        whole / "speaker",
        "--max-s",
        "0.5",
        "--limit",
        "2",
    ]
    if not (judges / "w").exists():  # a recogniser that is named comes before one that is found
        words += ["--judge", judges / "judge.safetensors"]
    said = expect(2 if name in refused else 0, "", [*words, "--judges", judges, "--out", folder / "e", *CPU])
    assert name not in refused or str(folder) in re.sub(r"\s+", "", said), said[-600:]
    return 1


def trials() -> dict[str, Trial]:
    """Every trial by name."""
    groups = (
        ("piper", partial(voice_used, "piper"), bad_engines.bad_pipers()),
        ("kokoro", partial(voice_used, "kokoro"), bad_engines.bad_kokoros()),
        ("judge", judge_used, bad_engines.bad_judges() | bad_engines.absent_judges()),
    )
    return {f"{group}: {name}": partial(trial, name) for group, trial, things in groups for name in things}
