"""`sodakit doctor`: what this machine can do, and what to do about what it cannot."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.commands.options import read_options
from sodakit.log import say
from sodakit.units import format_bytes


@dataclass(frozen=True)
class Options:
    """What this machine can do, tried out in seconds, and what to do about each thing that it cannot.

    With --bench it also measures what processor and memory reach at most; `sodakit train` then tells its speed as a share
    of that, and its `--dry-run --gpu here` counts with it.

    Example: sodakit doctor --bench --storage runs/
    """

    bench: bool = False
    """Measure a large copy and large products, and keep the figures."""
    device: str | None = None
    """cpu, cuda, … (default: the GPU where there is one)."""
    storage: Path = Path()
    """Folder whose speed is tried, with a file of 64 MiB that is removed again."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Also write all of it to this file, as JSON."""


def main(argv: list[str]) -> None:
    """Look, tell, and measure where asked."""
    options = read_options(Options, "doctor", argv)
    import torch

    from sodakit.ceilings import keep, measure
    from sodakit.commands.doctor_checks import all_checks
    from sodakit.files import write_json
    from sodakit.hardware import device_named

    begin_s = time.monotonic()
    device = torch.device(device_named(options.device))
    found = []
    for check in all_checks(device, options.storage):
        found.append(check)
        mark = {True: "yes", False: "NO", None: "-"}[check.works]
        print(f"{mark:>3}  {check.name}: {check.told}", flush=True)
        if check.advice:
            print(f"     {check.advice}")
    print(f"({time.monotonic() - begin_s:.0f} s)")
    ceilings = None
    if options.bench:
        ceilings = measure(device)
        keep(ceilings)
        fp8 = ceilings.fp8_flops_per_s
        print(
            f"{ceilings.device}: copy {format_bytes(ceilings.copy_bytes_per_s)}/s, products "
            f"{ceilings.bfloat16_flops_per_s / 1e12:.3g} TFLOP/s in bfloat16, {ceilings.float32_flops_per_s / 1e12:.3g} in float32, "
            + (f"{fp8 / 1e12:.3g} in 8-bit floats" if fp8 else "none in 8-bit floats")
        )
    if options.out is not None:
        checks = [asdict(check) for check in found]
        write_json(options.out, {"checks": checks, "ceilings": ceilings and asdict(ceilings)})
        say(f"{options.out}")
