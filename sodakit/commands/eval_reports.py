"""`sodakit eval text|expected|report`: text benchmarks, published scores, and results as a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sodakit.bounds import Count
from sodakit.commands.eval_spoken import ModelOptions
from sodakit.log import say


@dataclass(frozen=True, kw_only=True)
class TextBenchmarks(ModelOptions):
    """HellaSwag, ARC and every other task of lm-evaluation-harness. Needs: pip install 'sodakit[eval]'.

    Example: sodakit eval text --tasks hellaswag arc_easy arc_challenge --model runs/mine
    """

    tasks: tuple[str, ...] = ("hellaswag", "arc_easy", "arc_challenge")
    """By the harness's names."""
    shots: int | None = None
    """Examples before each question; default: what each task says."""
    include: Path | None = None
    """Folder with task definitions of your own (YAML)."""
    limit: Count | None = None
    """Only this many questions of each task."""
    seed: int = 0
    """Of the choice of examples."""

    def run(self) -> None:
        from sodakit.eval.harness import text_result
        from sodakit.eval.results import save_result

        result = text_result(
            self.load(),
            self.tasks,
            num_shots=self.shots,
            limit=self.limit,
            include=self.include,
            seed=self.seed,
        )
        save_result(self.out / "text.json", result)
        for task, values in result["scores"].items():
            for metric, value in values.items():
                if not metric.endswith("_stderr"):
                    spread = values.get(f"{metric}_stderr", float("nan"))
                    print(
                        f"{task} {metric}: {value:.4f} ± {spread:.4f} ({result['num_questions'].get(task, 'all')} questions)"
                    )


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The published scores of SODA and its peers with tolerances; with results, a published model's beside ours.

    Example: sodakit eval expected --model SODA-135M runs/eval/salmon.json runs/eval/asr.json
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Result files of a published checkpoint."""
    model: str = "SODA-135M"
    """Which published model they are of."""

    def run(self) -> None:
        from sodakit.eval.expected import check, check_lines, expected_lines
        from sodakit.eval.results import load_result

        if not self.results:
            print("\n".join(expected_lines()))
            return
        print("\n".join(check_lines(check(self.model, [load_result(path) for path in self.results]))))


@dataclass(frozen=True, kw_only=True)
class Page:
    """Results as one HTML page, with the sound of the worst and of typical items.

    Example: sodakit eval report runs/eval/*.json --data LibriSpeech/test-clean bench/people --out runs/eval/report.html
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Result files; the outputs of TASK.json lie in the folder TASK beside it."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/eval/report.html")
    """The page."""
    data: tuple[Path, ...] = ()
    """Recordings that were transcribed and folders of pairs, as given to `eval asr` and `eval pairs`, to hear them."""
    title: str = "Evaluation"
    """Of the page."""
    published: str | None = None
    """Name of the published model these results are of, to set its scores beside them."""

    def run(self) -> None:
        from sodakit.eval.expected import check
        from sodakit.eval.heard import read_sources
        from sodakit.eval.result_page import result_page
        from sodakit.eval.results import load_result

        results = [load_result(path) for path in self.results]
        folders = [path.with_suffix("") for path in self.results]
        outputs = [folder if (folder / "outputs.json").exists() else None for folder in folders]
        checks = check(self.published, results) if self.published else ()
        result_page(results, outputs, self.title, checks, read_sources(self.data)).write(self.out)
        say(f"Written to {self.out}.")
