"""`sodakit scale plan`: from a budget to a run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sodakit.bounds import Positive
from sodakit.commands.scale_options import KnownLaw, RuleOptions, read_law
from sodakit.errors import ConfigError
from sodakit.log import say
from sodakit.units import format_count

if TYPE_CHECKING:
    from sodakit.scaling.costs import FlopsPerToken
    from sodakit.scaling.plan import Plan as BestRun


@dataclass(frozen=True, kw_only=True)
class Plan(RuleOptions):
    """The best size and tokens for a budget, how flat the optimum is, and how over-trained a given run would be.

    Example: sodakit scale plan --flops 1e23 --fit fit.json --unique 5e11
    """

    flops: Positive
    """Training FLOPs to spend."""
    fit: str = "soda"
    """soda, hoffmann, besiroglu, or a file written by `scale fit`."""
    size: Positive | None = None
    """A size to judge: its over-training on --tokens."""
    tokens: Positive | None = None
    """Tokens of that size; by default what the budget pays for."""
    unique: Positive | None = None
    """Tokens of data there are; more are repeats."""
    otherwise: str | None = None
    """Another law, by name or file: how much of the compute this plan wastes if that one is true."""
    inference_tokens: float | None = None
    """Tokens to be served over the model's life."""
    exact_flops: bool = True
    """FLOPs per token of buildable shapes where the runs of the law tell their vocabulary, or --vocab does; with --no-exact-flops,
    and for other tables, 6N."""
    tokens_per_audio_s: Positive | None = None
    """Tokens over seconds of audio, to print hours; by default as in the runs of the law, which tables of text do not tell."""

    def run(self) -> None:
        import numpy as np

        from sodakit.scaling.costs import flops_by_size, six_n
        from sodakit.scaling.design import LARGEST_WIDTH
        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.plan import (
            SODA_LAW,
            buildable_plans,
            over_training_factor,
            plan_budget,
            plan_with_inference,
        )
        from sodakit.scaling.repeats import HALF_LIFE

        if self.tokens is not None and self.size is None:
            raise ConfigError("--tokens are of a size to judge. Give --size, too.")
        law = read_law(self.fit)
        parameters, rule, form = law.parameters, self.rule(law.rule), law.law or LAWS["chinchilla"]
        for sentence in law.warnings(self.flops):
            say(sentence)
        # N is counted as in the law's own runs.
        has_shapes = law.has_shapes or self.vocab is not None
        cost = flops_by_size(rule, law.size) if self.exact_flops and has_shapes else six_n
        if not has_shapes:
            say(
                "The runs of this law tell no vocabulary: C = 6ND, and no buildable shapes. --vocab and --context make some."
            )
        half_life = law.half_life or HALF_LIFE
        plan = plan_budget(
            parameters,
            self.flops,
            law=form,
            flops_per_token=cost,
            draws=law.draws,
            unique_tokens=self.unique,
            repeat_half_life=half_life,
        )
        print(
            f"N* {_with_ends(plan.size, plan.size_interval)}, D* {_with_ends(plan.tokens, plan.tokens_interval)}, "
            f"loss {plan.loss:.4f}{_loss_ends(plan.loss_interval)}"
        )
        if not law.draws:
            print("no intervals: the law is given by its parameters alone")
        rate = self.tokens_per_audio_s or law.tokens_per_audio_s
        heard = f"; about {plan.audio_hours(rate):,.0f} hours of audio heard" if rate else ""
        print(f"D*/N* {plan.tokens_per_parameter:.1f}{heard}")
        for share, ends in plan.within.items():
            print(f"within {share:.1%} of that loss: {_range(ends)} parameters")
        if plan.passes is not None:
            print(f"{plan.passes:.1f} passes over the data")
        shapes = (
            buildable_plans(
                parameters,
                self.flops,
                rule,
                size=law.size,
                law=form,
                unique_tokens=self.unique,
                repeat_half_life=half_life,
            )
            if has_shapes
            else []
        )
        if shapes and max(f.model.backbone.width for f in shapes) == LARGEST_WIDTH:
            say(f"Shapes are tried up to width {LARGEST_WIDTH:,}; the best may be wider.")
        for found in shapes:
            print(
                f"buildable: width {found.model.backbone.width}, {found.model.backbone.layers} layers, {format_count(found.size)} parameters, "
                f"{format_count(found.tokens)} tokens, loss {found.loss:.4f} ({found.excess:+.3%})"
            )
        if self.unique is None:
            self._say_wasted(law, plan, cost)
        if self.inference_tokens is not None:
            size, tokens, total = plan_with_inference(
                parameters, self.flops, self.inference_tokens, flops_per_token=cost
            )
            print(
                f"with serving: {format_count(size)} parameters, {format_count(tokens)} tokens, {total:.3g} FLOPs in all"
            )
        if self.size is not None:
            tokens = self.tokens or self.flops / float(cost(np.array([self.size]))[0])
            factor = over_training_factor(parameters, self.size, tokens, flops_per_token=cost)
            spent = "" if self.tokens else ", the whole budget"
            print(
                f"{format_count(self.size)} on {format_count(tokens)} tokens{spent}: {factor:.1f} times its optimal tokens"
            )
        if self.fit == "soda":
            size, tokens = SODA_LAW.optimum(self.flops)
            print(f"by the published power laws: N* {format_count(size)}, D* {format_count(tokens)}")
            if self.size is not None and self.tokens is not None:
                print(
                    f"and {SODA_LAW.over_training_factor(self.size, self.tokens):.1f} times its optimal tokens"
                )

    def _say_wasted(self, law: "KnownLaw", plan: "BestRun", cost: "FlopsPerToken") -> None:
        """What the plan costs too much if the law is another of its refits, or another law."""
        import numpy as np

        from sodakit.scaling.laws import LAWS
        from sodakit.scaling.plan import wasted_share

        form = law.law or LAWS["chinchilla"]
        shares = [
            wasted_share(p, self.flops, plan.size, plan.tokens, law=form, flops_per_token=cost)
            for p in law.draws[:: max(len(law.draws) // 40, 1)]
        ]
        if shares:
            print(
                f"wasted if the truth is another refit of this law: {np.median(shares):.1%} of the compute, at most "
                f"{np.quantile(shares, 0.95):.1%} in 95 % of them"
            )
        if self.otherwise is not None:
            other = read_law(self.otherwise)
            share = wasted_share(
                other.parameters,
                self.flops,
                plan.size,
                plan.tokens,
                law=other.law or LAWS["chinchilla"],
                flops_per_token=cost,
            )
            print(f"wasted if {self.otherwise} is true: {share:.1%} of the compute")


def _with_ends(value: float, ends: tuple[float, float] | None) -> str:
    return format_count(value) + ("" if ends is None else f" (95 %: {_range(ends)})")


def _loss_ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" (95 %: {ends[0]:.4f} – {ends[1]:.4f})"


def _range(ends: tuple[float, float]) -> str:
    return f"{format_count(ends[0])} – {format_count(ends[1])}"
