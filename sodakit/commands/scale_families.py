"""`sodakit scale families`: flat, depth and delay at equal compute, in stages that are resumed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sodakit.bounds import Count, Positive
from sodakit.commands.options import ResumeOptions, refuse_unused
from sodakit.commands.scale_options import print_table
from sodakit.errors import ConfigError
from sodakit.log import say

if TYPE_CHECKING:
    from sodakit.recipes.families_data import FamilyStores
    from sodakit.recipes.families_walk import Language
    from sodakit.scaling.table import RunTable
    from sodakit.scaling.transfer import LrRule
    from sodakit.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Families(ResumeOptions):
    """Families of models at equal compute. Stage by stage; the same command goes on after a stop.

    data: stores of natural voices, synthetic voices and recordings, and the held-out rows of all. tuning: learning rates by width. sweep:
    every arm at three budgets, the lowest of each once more. beyond: a run at three times the largest budget, predicted first.

    Example: sodakit scale families tuning --data $DATA --natural flite piper:$MODELS/joe --out runs/families
    """

    stage: Annotated[Literal["data", "tuning", "sweep", "beyond"], tyro.conf.Positional]
    """What to do; what comes before it is done first where it is missing, but for tuning."""
    data: Path
    """Folder of recordings and sentences; which ones: docs/data.md."""
    natural: tuple[str, ...] = ("flite",)
    """Voices that sound like people: piper:FOLDER, kokoro:FOLDER, flite."""
    synthetic: tuple[str, ...] = ("seen",)
    """Voices of espeak-ng."""
    natural_parts: Count = 8
    """Stores of natural voices."""
    synthetic_parts: Count = 19
    """Stores of synthetic ones."""
    part_sentences: Count = 1000
    """Sentences in each."""
    codec: str = "mini"
    """mini, toy, kyutai/mimi, or a folder."""
    out: Path = Path("runs/families")
    """Gets stores/, tuning/, sweep/, claims.json, sweep.csv, prediction.json and beyond/."""
    arms: tuple[str, ...] = ()
    """Of the sweep: flat_uniform depth_exact_uniform depth_shifted_uniform delay_uniform, and the same with decay; all by default. Of beyond: one."""
    budgets: tuple[Positive, ...] = ()
    """Of the sweep; all three by default."""
    lr_rule: str | None = None
    """Of the sweep: soda, mup, or a file of `scale tune --law`. Choose by what the tuning says."""
    width: Count | None = None
    """Of the run beyond."""
    known: Path | None = None
    """A table of runs made elsewhere on the same stores (sweep.csv, or `scale families` of another folder): they are not made again."""
    device: str | None = None
    """cpu, cuda, …"""
    flops_per_s: Positive = 1.0e11
    """Sustained speed of one core, to estimate hours."""
    dry_run: bool = False
    """Say what every stage takes and how far it is, and stop. Needs no data where the stores are missing."""

    def run(self) -> None:
        from sodakit.recipes import families, families_walk
        from sodakit.train.trainer import train

        if self.stage in ("data", "tuning"):
            refuse_unused(self, ("arms", "budgets", "lr_rule", "width"), f"in the stage {self.stage}")
        if self.stage == "sweep":
            refuse_unused(self, ("width",), "in the stage sweep")
        if self.dry_run:
            return self._say_costs()
        stores = self._stores()
        if self.stage == "data":
            return
        language = self._language(stores)

        def teach(config: "TrainConfig", folder: Path) -> Path:
            return train(config, folder, device=self.device, other_code=self.other_code)

        if self.stage == "tuning":
            families_walk.train_tuning(self.out, language, stores, teach, self._known())
            say(
                f"Look at it with: sodakit scale tune {self.out}/tuning.csv --by family lr_rule --plot lr.png"
            )
        elif self.stage == "sweep":
            families_walk.train_sweep(
                self.out,
                self._arms(),
                language,
                self._lr(),
                self.budgets or families.BUDGETS,
                stores,
                teach,
                self._known(),
            )
            say(
                f"Fit them with: sodakit scale fit {self.out}/sweep.csv --by arm, or --where arm=NAME --onsets"
            )
        else:
            if len(self.arms) != 1 or self.width is None:
                raise ConfigError("beyond is one run: name its --arms and its --width.")
            print_table(
                families_walk.train_beyond(
                    self.out, self._arms()[0], language, self._lr(), self.width, stores, teach, self._known()
                )
            )

    def _known(self) -> "RunTable | None":
        from sodakit.scaling.records import read_table

        return None if self.known is None else read_table(self.known)

    def _arms(self) -> list:
        from sodakit.recipes.families import ARMS, find_arms

        return find_arms(self.arms or tuple(ARMS))

    def _lr(self) -> "LrRule":
        from sodakit.recipes.families import BASE_WIDTH
        from sodakit.scaling.transfer import read_lr_rule

        if self.lr_rule is None:
            raise ConfigError(
                "--lr-rule is needed: what the tuning says is best. `sodakit scale tune OUT/tuning --by family lr_rule` shows it."
            )
        return read_lr_rule(self.lr_rule, BASE_WIDTH if self.lr_rule == "mup" else None)

    def _stores(self) -> "FamilyStores":
        from sodakit.codec.load import load_codec
        from sodakit.recipes.families_data import FamilyData, family_stores

        settings = FamilyData(
            natural=self.natural,
            synthetic=self.synthetic,
            natural_parts=self.natural_parts,
            synthetic_parts=self.synthetic_parts,
            part_sentences=self.part_sentences,
        )
        stores = family_stores(self.out / "stores", self.data, load_codec(self.codec), settings)
        told = ", ".join(f"{kind} {hours:.2f} h" for kind, hours in stores.hours().items())
        say(f"To train on: {told}.")
        return stores

    def _language(self, stores: "FamilyStores") -> "Language":
        from sodakit.data.language import open_language
        from sodakit.recipes.families_walk import Language

        vocabulary = open_language(stores.held_out)[1]
        return Language(vocabulary.size, vocabulary.codebook_size)

    def _say_costs(self) -> None:
        from sodakit.codec.load import load_codec
        from sodakit.recipes import families, families_walk
        from sodakit.recipes.study import TEXT_IDS
        from sodakit.scaling.transfer import LrRule
        from sodakit.tokens.vocabulary import Vocabulary

        spec = load_codec(self.codec).spec
        vocabulary = Vocabulary.layout(
            text_size=TEXT_IDS,
            bos=0,
            eos=1,
            num_codebooks=spec.num_codebooks,
            codebook_size=spec.codebook_size,
        )
        ids = vocabulary.size, vocabulary.codebook_size
        lr = LrRule() if self.lr_rule is None else self._lr()
        designs = {"tuning": families.tuning(*ids)}
        for arm in self._arms():
            budgets = self.budgets or families.BUDGETS
            widths = {b: families.WIDTHS[arm.family][b][2] for b in budgets}
            designs[arm.name] = families.sweep(arm, *ids, lr, budgets=budgets, second_seeds=widths)
        far = families.BEYOND * max(self.budgets or families.BUDGETS)
        designs["beyond"] = [families.beyond(self._arms()[0], *ids, lr, budget=far, width=256)]
        print_table(families_walk.cost_rows(designs, self.flops_per_s))
        say(f"Hours of one core at {self.flops_per_s:.3g} FLOP/s; second seeds counted at the middle widths.")
        for name, points in designs.items():
            root = self.out / ("sweep/" + name if name in families.ARMS else name)
            if root.exists():
                say(f"{name}: {families_walk.state(root, points)}.")
