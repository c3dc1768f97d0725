"""Other people's tables: how numbers are written, columns are called, files are laid out, and what is said of the rest."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sodakit.commands.scale import main
from sodakit.errors import ConfigError
from sodakit.scaling.groups import by, clusters, looks_grouped, where
from sodakit.scaling.laws import LAWS
from sodakit.scaling.numbers import read_cells, unit_of
from sodakit.scaling.records import read_table, table_from_rows
from sodakit.scaling.simulate import HOFFMANN


def sweep(budgets=(1e17, 3e17, 1e18, 3e18), sizes=7, noise=0.004, seed=0, truth=HOFFMANN) -> list[dict]:
    """Rows N, D, loss of an IsoFLOP sweep by Hoffmann's surface."""
    rng, rows = np.random.default_rng(seed), []
    for c in budgets:
        for n in np.geomspace(2e6, 6e7, sizes) * (c / 1e17) ** 0.5:
            d = c / 6 / n
            loss = float(LAWS["chinchilla"].loss(truth, N=n, D=d)[0]) * np.exp(rng.normal(0, noise))
            rows.append({"N": n, "D": d, "loss": loss})
    return rows


@pytest.mark.parametrize(
    ("name", "cells", "values"),
    [
        ("loss/all", ["5,304", "4,990"], [5.304, 4.99]),  # nobody has a loss of 5,304 nats
        ("loss/all", ["5,3", "4,990"], [5.3, 4.99]),
        ("loss/all", ["5.304", "4.990"], [5.304, 4.99]),
        ("n/total", ["5,304", "4,990"], [5304, 4990]),  # whole numbers have thousands
        ("tokens", ["1,234,567", "999"], [1_234_567, 999]),
        ("tokens", ["1.234.567,5", "999"], [1_234_567.5, 999]),
        ("tokens", ["1 234 567", "1\u202f234\u202f568", "1'234'569", "1_234_570"], [1234567, 1234568, 1234569, 1234570]),
        ("n/total", ["124M", "1.3B", "70b params", "2 million"], [124e6, 1.3e9, 70e9, 2e6]),
        ("c/given", ["1.2e18 FLOPs", "3 EFLOPs", "6×10^19", "1.5 x 10^20", "1 PF-days"], [1.2e18, 3e18, 6e19, 1.5e20, 8.64e19]),
        ("loss/all", ["3.1 nats", "4 bits"], [3.1, 4 * np.log(2)]),
        ("tokens", ["1e9", "", "n/a", "-"], [1e9, np.nan, np.nan, np.nan]),
    ],
)  # fmt: skip
def test_numbers_are_read_as_they_were_meant(name, cells, values):
    np.testing.assert_allclose(read_cells(name, name, cells, None).values, values)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["0,001", "0.002"], "Write all of it in one way"),
        (["1,234", "5,678"], "1.234 or 1234"),
        (["1.2 furlongs"], "unit 'furlongs' is not known"),
        (["95%"], "unit '%' is not known"),
    ],
)
def test_numbers_that_could_be_two_are_refused(cells, says):
    with pytest.raises(ConfigError, match=says):
        read_cells("lr", "lr", cells, None)


def test_the_style_of_the_table_decides_and_the_user_above_all():
    rows = [{"N": "1.000.000", "D": "2,5e9", "loss": "3,142", "lr": "1,234"}]
    assert table_from_rows(rows).columns["lr"][0] == 1.234
    assert table_from_rows([{"lr": "1,234"}], decimal="comma").columns["lr"][0] == 1.234
    assert read_cells("loss/all", "loss", ["1,234"], None, "point").values == [1234.0]


def test_what_is_no_number_is_counted():
    table = table_from_rows([{"N": "1e6", "D": 1e9, "loss": "~3"}, {"N": "2e6", "D": 1e9, "loss": 3.0}])
    assert any(
        "1 of 2 cells are no numbers and count as missing (row 1: '~3')" in note for note in table.notes
    )


def test_units_in_headers_and_levanter_s_gigaflops():
    """Marin's tables have training FLOPs under this name; by 6ND their exponent is another."""
    rows = [{"params (M)": 1.5, "tokens_billions": 2, "throughput/total_gflops": 3e9, "eval/loss": 3.0}]
    table = table_from_rows(rows)
    assert (table.sizes()[0], table.tokens()[0], table.flops()[0]) == (1.5e6, 2e9, 3e18)
    for key, factor in (("total_tflops", 1e12), ("train_pflops", 1e15)):
        assert table_from_rows([{"n": 1e6, "d": 1e9, "loss": 3, key: 2}]).flops()[0] == 2 * factor
    assert unit_of("loss (bits)") == ("loss", np.log(2)) and unit_of("loss (mine)") == ("loss (mine)", 1.0)


def write(path: Path, layout: str, rows: list[dict]) -> Path:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if layout in ("comma", "tab", "semicolon", "bar", "utf16", "blank_lines"):
        mark = {"tab": "\t", "semicolon": ";", "bar": "|"}.get(layout, ",")
        text = "\n".join(
            mark.join(map(str, row)) for row in [list(columns), *zip(*columns.values(), strict=True)]
        )
        if layout == "blank_lines":
            text = text.replace("\n", "\n\n") + "\n\n"
        path = path.with_suffix(".csv")
        path.write_bytes(text.encode("utf-16" if layout == "utf16" else "utf-8"))
        return path
    value = {
        "list": rows,
        "under_a_key": {"about": "x", "runs": rows},
        "wide": columns,
        "pandas": {name: {str(i): v for i, v in enumerate(column)} for name, column in columns.items()},
        "by_name": {f"run {i}": row for i, row in enumerate(rows)},
        "wandb": [{"name": f"r{i}", "state": "finished", "config": {"params": r["N"]}, "summary": {"tokens": r["D"], "eval/loss": r["loss"]}} for i, r in enumerate(rows)],
        "marin": [{"run_name": f"r{i}", "parameter_count": r["N"], "throughput/total_tokens": r["D"], "throughput/total_gflops": 6e-9 * r["N"] * r["D"], "eval/paloma/c4_en/loss": 9.0, "eval/loss": r["loss"]} for i, r in enumerate(rows)],
    }[layout]  # fmt: skip
    path = path.with_suffix(".json")
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    "layout",
    ["comma", "tab", "semicolon", "bar", "utf16", "blank_lines", "list", "under_a_key", "wide", "pandas", "by_name", "wandb", "marin"],
)  # fmt: skip
def test_a_table_of_any_layout_gives_the_same_runs(layout, tmp_path):
    rows = sweep()
    table = read_table(write(tmp_path / "runs", layout, rows)).usable()
    np.testing.assert_allclose(table.sizes(), [r["N"] for r in rows], rtol=1e-12)
    np.testing.assert_allclose(table.tokens(), [r["D"] for r in rows], rtol=1e-12)
    np.testing.assert_allclose(table.loss(), [r["loss"] for r in rows], rtol=1e-12)
    np.testing.assert_allclose(table.flops(), [6 * r["N"] * r["D"] for r in rows], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'{"a": 1}', "that is no table"),
        ("a.json", b"[1, 2]", "entry 1 is a int"),
        ("a.jsonl", b"[1]\n", "line 1, is .* needed: a JSON object"),
        ("a.jsonl", b'{"N": 1}\n{"N": 2, "D', "line 2, is not JSON"),
        ("a.csv", b"N,D,loss\n1e6,1e9,5,304\n", "line 2, has 4 cells"),
        ("a.csv", b"N,D,loss\n\xff\xfe\xfa,1,2\n", "no UTF-8"),
        ("a.csv", b"", "is empty"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        read_table(tmp_path / name)


def grouped() -> list[dict]:
    """Two corpora of one sweep with other losses, a flag, a split, repeats, and columns that are no groups."""
    rows = []
    for corpus, shift in (("books", 1.0), ("speech", 1.3)):
        for i, row in enumerate(sweep(seed=int(10 * shift))):
            rows.append(
                row
                | {
                    "loss": row["loss"] * shift,
                    "corpus": corpus,
                    "outlier": int(i == 3),
                    "split": "test" if i % 7 == 6 else "train",
                    "unique_tokens": row["D"] / (3 if i == 5 else 1),
                    "model": f"{row['N']:.3g}",
                    "lr": 1e-3 * (1 + i % 3 / 10),
                    "note": f"row {i} {corpus}",
                }
            )
    return rows


def test_what_looks_like_groups_splits_flags_and_repeats_is_said():
    lines = looks_grouped(table_from_rows(grouped()))
    for said in (
        "corpus looks like a group, and all are fitted as one: books (28), speech (28). --by corpus",
        "outlier marks 2 of 56 runs",
        "--where outlier=0",
        "split looks like a split",
        "2 of 56 runs repeat their data (up to 3.0 passes)",
    ):
        assert any(said in line for line in lines), said
    assert len(lines) == 4  # neither sizes by another name, nor settings, nor notes
    assert not looks_grouped(table_from_rows(grouped()), ["corpus", "outlier", "split"], repeats_known=True)


def test_a_group_whose_models_have_sizes_of_their_own_is_a_group():
    """Each size is of one corpus, and yet the corpus is no other name for the size."""
    rows = [{**r, "corpus": "books", "size": f"{r['N']:.2g}"} for r in sweep(budgets=(1e17, 3e17))]
    rows += [{**r, "corpus": "speech", "size": f"{r['N']:.2g}"} for r in sweep(budgets=(1e19, 3e19))]
    assert [line.split(" ")[0] for line in looks_grouped(table_from_rows(rows))] == ["corpus"]


def test_runs_are_chosen_by_conditions_on_any_column():
    table = table_from_rows(grouped())
    chosen = where(table, ["corpus=books", "outlier!=1", "n/total<1e7", "split = train|dev"])
    assert set(chosen.others["corpus"]) == {"books"} and chosen.sizes().max() < 1e7
    assert any("28 of 56 runs have corpus=books" in note for note in chosen.notes)
    assert len(where(table, ["params<1e7"])) == len(where(table, ["n/total<1e7"]))  # by the file's own name
    for condition, says in (
        ("corpus", "no condition"),
        ("color=red", "no column 'color'"),
        ("corpus=x", "No run"),
    ):
        with pytest.raises(ConfigError, match=says):
            where(table, [condition])
    with pytest.raises(ConfigError, match="56 values for 56 runs"):
        list(by(table, "note"))


def test_a_law_is_fitted_to_each_group_and_groups_are_compared(tmp_path, capsys):
    path = write(tmp_path / "runs", "list", grouped())
    main(
        [
            "fit",
            str(path),
            "--by",
            "corpus",
            "--where",
            "outlier=0",
            "--draws",
            "100",
            "--out",
            str(tmp_path / "by.json"),
        ]
    )
    said = capsys.readouterr()
    assert "books" in said.out and "speech" in said.out and "looks like a group" not in said.err
    stored = json.loads((tmp_path / "by.json").read_text())
    ratio = stored["groups"][1]["parameters"]["E"] / stored["groups"][0]["parameters"]["E"]
    assert ratio == pytest.approx(1.3, abs=0.15) and "no more than their errors" in stored["verdicts"][0]


def test_checkpoints_of_one_run_are_drawn_together():
    rows = [{**r, "run": f"r{i // 4}/step_{i % 4}000"} for i, r in enumerate(sweep())]
    names, told = clusters(table_from_rows(rows))
    assert len(set(names)) == 7 and "28 rows are of 7 training runs" in told
    assert clusters(table_from_rows(rows), "none") == (None, "")
    assert clusters(table_from_rows(sweep())) == (None, "")
    with pytest.raises(ConfigError, match="no column 'seeds'"):
        clusters(table_from_rows(rows), "seeds")


def test_intervals_of_checkpoints_are_wider_when_their_errors_go_together():
    """Four checkpoints of a run share its error: taken for four runs, the interval is half as wide as it should be."""
    from sodakit.scaling.study import study

    rng, rows = np.random.default_rng(3), []
    for i, n in enumerate(np.geomspace(2e6, 2e8, 14)):
        shared = rng.normal(0, 0.01)
        for step, d in enumerate(np.geomspace(5 * n, 80 * n, 4)):
            loss = float(LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d)[0]) * np.exp(
                shared + rng.normal(0, 1e-3)
            )
            rows.append({"run": f"r{i}-step{step}", "N": n, "D": d, "loss": loss})
    table = table_from_rows(rows)
    widths = []
    for cluster in (None, "none"):
        low, high = study(table, draws=150, cluster=cluster).boot.interval(lambda p: p["alpha"])
        widths.append(high - low)
    assert widths[0] > 1.4 * widths[1]


def test_runs_whose_compute_goes_on_and_on_form_no_budget(capsys, tmp_path):
    """Neighbours within 10% chained to one budget over a factor of 371, and everything by budget was nonsense."""
    rng = np.random.default_rng(0)
    c = np.geomspace(1e17, 3.71e19, 120)
    n = np.exp(rng.uniform(np.log(1e6), np.log(1e8), 120)) * (c / 1e17) ** 0.5
    loss = LAWS["chinchilla"].loss(HOFFMANN, N=n, D=c / 6 / n) * np.exp(rng.normal(0, 0.004, 120))
    rows = [{"N": a, "D": b, "loss": x} for a, b, x in zip(n, c / 6 / n, loss, strict=True)]
    assert np.isnan(table_from_rows(rows).budgets()).all()
    main(["fit", str(write(tmp_path / "runs", "list", rows)), "--draws", "50"])
    said = capsys.readouterr().out
    assert "2: parabolas" not in said and "The runs form no budgets" in said and "the grid alone" not in said


def test_a_plan_of_a_table_without_shapes_is_by_6nd_and_without_audio(tmp_path, capsys):
    """It had 144,644 ids, rows of 4,096 and hours of audio, for text as well."""
    path = write(tmp_path / "runs", "comma", sweep())
    main(["fit", str(path), "--draws", "50", "--out", str(tmp_path / "fit.json")])
    capsys.readouterr()
    main(["plan", "--flops", "1e19", "--fit", str(tmp_path / "fit.json")])
    said = capsys.readouterr()
    assert (
        "buildable" not in said.out
        and "audio" not in said.out
        and "C = 6ND, and no buildable shapes" in said.err
    )
    main(
        [
            "plan",
            "--flops",
            "1e19",
            "--fit",
            str(tmp_path / "fit.json"),
            "--tokens-per-audio-s",
            "50",
            "--vocab",
            "32000",
        ]
    )
    said = capsys.readouterr().out
    assert "hours of audio heard" in said and "buildable: width" in said
    # A size alone was taken and not judged.
    main(["plan", "--flops", "1e19", "--fit", str(tmp_path / "fit.json"), "--size", "1e8"])
    assert "100.0M on 16.7B tokens, the whole budget: " in capsys.readouterr().out
    with pytest.raises(ConfigError, match="Give --size, too"):
        main(["plan", "--flops", "1e19", "--tokens", "1e8"])
    # Nor were shapes of the paper's vocabulary for runs that tell none.
    with pytest.raises(ConfigError, match=r"tell no vocabulary.*--vocab and --context"):
        main(["next", str(path), "--budgets", "1e18", "--widths", "512"])


def test_what_is_not_shown_has_its_reason(tmp_path, capsys):
    rows = [{"N": n, "D": 20 * n, "loss": float(LAWS["chinchilla"].loss(HOFFMANN, N=n, D=20 * n)[0])} for n in np.geomspace(1e6, 1e9, 9)]  # fmt: skip
    main(["fit", str(write(tmp_path / "runs", "list", rows)), "--draws", "20", "--law", "compute"])
    said = capsys.readouterr().out
    assert "No optimum by budgets: 0 of 9 budgets have a minimum" in said
    # The law goes through every run: nothing can lie below.
    assert "; global minimum: " in said and "not certified" not in said.lower()


def test_the_smallest_batch_has_a_price_in_the_error_of_a(capsys):
    """Two and a half times as large without the points it leaves out, and nobody was told."""
    main(["design"])
    [said] = [
        line for line in capsys.readouterr().err.splitlines() if "--min-batch-rows 1 keeps them" in line
    ]
    assert "their batch would be below 8 rows" in said
    freer, now, times = (
        float(x) for x in re.findall(r"(\d\.\d+)(?:,| times|\b)", said.split("would be ")[-1])[:3]
    )
    assert now / freer == pytest.approx(times, rel=0.05) and times > 1.5
    main(["design", "--min-batch-rows", "1"])
    assert "keeps them" not in capsys.readouterr().err


def test_fit_and_next_count_alike():
    from sodakit.commands.scale_fit import Fit
    from sodakit.commands.scale_next import Next

    fit, following = Fit(tables=()), Next(tables=(), budgets=(), widths=())
    assert (fit.size, fit.flops) == (following.size, following.flops)


def iso_csv(path: Path, columns: str, cells) -> Path:
    """A sweep as text: the header, and the cells of a run made of (number, N, D, loss)."""
    lines = [",".join(map(str, cells(i, r["N"], r["D"], r["loss"]))) for i, r in enumerate(sweep())]
    path.write_text("\n".join([columns, *lines]))
    return path


@pytest.mark.parametrize(
    ("columns", "cells", "says"),
    [
        ("params,tokens,loss", lambda i, n, d, x: (n / 1e6, d, x), r'params is below 1,000 in 28 of 28 rows .*--alias "params=n/total \(M\)"'),
        ("params,tokens,loss", lambda i, n, d, x: (n, d / 1e9, x), r'tokens is below 1,000 .*--alias "tokens=tokens \(M\)"'),
        ("params,flops,loss", lambda i, n, d, x: (n, 6 * n * d / 1e18, x), "flops is below 1,000,000,000"),
        ("params,tokens,loss", lambda i, n, d, x: (n / 1e3, 10 * d, x), r"By params and tokens runs have \S+e\+06 tokens per parameter"),
        ("params,tokens,loss", lambda i, n, d, x: (f"{n / 1e6:.1f}{'M' if i else ''}", d, x), r"holds '.*M', and in row 1 '2.0' without a unit"),
        ("params,tokens,loss", lambda i, n, d, x: (n, d, f"{x} bits" if i else x), "and in row 1 .* without a unit"),
    ],
)  # fmt: skip
def test_numbers_in_a_unit_that_nobody_says_are_refused_with_the_way_to_say_it(
    columns, cells, says, tmp_path
):
    """Sizes of 20 to 1,000 were taken for parameters, and so was `20` beside `20M`."""
    with pytest.raises(ConfigError, match=says):
        read_table(iso_csv(tmp_path / "runs.csv", columns, cells))


def test_an_alias_says_the_unit_or_that_there_is_none(tmp_path):
    path = iso_csv(tmp_path / "runs.csv", "size,tokens,loss", lambda i, n, d, x: (n / 1e6, d, x))
    truth = [r["N"] for r in sweep()]
    for alias in ("n/total (M)", "params (M)"):
        np.testing.assert_allclose(read_table(path, {"size": alias}).sizes(), truth)
    assert read_table(path, {"size": "n/total (params)"}).sizes()[0] == pytest.approx(truth[0] / 1e6)


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("config/model/num_params (M),tokens (B),summary/eval/loss", lambda i, n, d, x: (n / 1e6, d / 1e9, x)),
        ("params_M,tokens_b,final eval loss", lambda i, n, d, x: (n / 1e6, d / 1e9, x)),
        ("N (1e6),tokens in billions,loss", lambda i, n, d, x: (n / 1e6, d / 1e9, x)),
        ("params,tokens,perplexity", lambda i, n, d, x: (n, d, np.exp(x))),
        ("params,step,batch_size_tokens,val_loss", lambda i, n, d, x: (n, d / 1e3, 1000, x)),
        ("params,trainer/global_step,batch_size_tokens,num_train_steps,eval/loss", lambda i, n, d, x: (n, d / 1e3, 1000, 1e9, x)),
        ("model_size,params,tokens,loss", lambda i, n, d, x: ("small", n, d, x)),
    ],
)  # fmt: skip
def test_columns_as_strangers_call_them(columns, cells, tmp_path):
    table = read_table(iso_csv(tmp_path / "runs.csv", columns, cells)).usable()
    for values, name in ((table.sizes(), "N"), (table.tokens(), "D"), (table.loss(), "loss")):
        np.testing.assert_allclose(values, [r[name] for r in sweep()], rtol=1e-9)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("params,1e18,3e18,1e19", r"side by side. .*table.melt\(\['params'\], var_name='flops'"),
        ("params,loss@1B,loss@2B", r"side by side. .*var_name='tokens'"),
        ("params,tokens,train_loss", "of the training data: --alias \"train_loss=loss/all\""),
        ("params,tokens,bpb", 'If bpb is it: --alias "bpb=loss/all"'),
        ("d_model,n_layers,tokens,loss", "no column for heads, ffn_width, vocab_size"),
        ("params,steps,loss", "steps times batch_tokens"),
        ("my size,tokens,loss", 'If my size is it: --alias "my size=n/total", with a unit'),
    ],
)  # fmt: skip
def test_a_table_that_lacks_something_says_what_would_help(columns, says, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(f"{columns}\n{','.join('3' * len(columns.split(',')))}\n")
    with pytest.raises(ConfigError, match=says):
        read_table(path)


def test_a_cell_with_a_foot_note_counts_as_missing_by_row_and_column(tmp_path):
    """It ended with "unit '*' is not known", of no row, though a cell that is no number counts as missing."""
    path = iso_csv(
        tmp_path / "a.csv", "run,N,D,loss", lambda i, n, d, x: (f"r{i}", n, d, f"{x}*" if i == 6 else x)
    )
    table = read_table(path).usable()
    assert len(table) == 27 and any(
        note.startswith("loss: 1 of 28 cells are no numbers and count as missing (row 7 (r6): '")
        for note in table.notes
    )


@pytest.mark.parametrize(
    ("columns", "cells", "says"),
    [
        ("params,tokens,loss,loss", lambda i, n, d, x: (n, d, x, "x"), "has 2 columns named 'loss'"),
        ("params,tokens,loss", lambda i, n, d, x: (n, d, 3.0), "All losses are 3"),
        ("params,tokens,loss", lambda i, n, d, x: (1e8, d, x), r"All runs have N = 1e\+08.*E \+ B/D\^b"),
        ("params,tokens,loss", lambda i, n, d, x: (n, d, -x), "28 loss 'all' not above 0"),
    ],
)  # fmt: skip
def test_what_no_law_can_be_read_off_is_refused_in_a_line(columns, cells, says, tmp_path):
    """Of two columns of one name the last stood; equal losses ended in a traceback, and one size had an exponent of 0.377."""
    from sodakit.scaling.study import study

    path = iso_csv(tmp_path / "runs.csv", columns, cells)
    with pytest.raises(ConfigError, match=says):
        study(read_table(path), draws=5)


def test_a_run_with_a_loss_of_zero_is_left_out_and_counted(tmp_path):
    path = iso_csv(tmp_path / "runs.csv", "N,D,loss", lambda i, n, d, x: (n, d, 0 if i == 3 else x))
    table = read_table(path).usable()
    assert len(table) == 27 and "1 of 28 runs left out: 1 loss 'all' not above 0." in table.notes


def test_tokens_per_parameter_and_active_parameters(tmp_path):
    path = iso_csv(
        tmp_path / "a.csv", "params,tpp,loss,active_params", lambda i, n, d, x: (n, d / n, x, n / 4)
    )
    table = read_table(path).usable()
    np.testing.assert_allclose(table.tokens(), [r["D"] for r in sweep()])
    assert any("--alias active_params=n/total" in line for line in looks_grouped(table))


def grid(runs_of_a_size: int) -> list[dict]:
    return [
        {"N": n, "D": d, "loss": float(LAWS["chinchilla"].loss(HOFFMANN, N=n, D=d)[0])}
        for n in np.geomspace(2e7, 1e9, 6)
        for d in 2e9 * np.arange(1, runs_of_a_size + 1)
    ]


def test_rows_that_may_be_checkpoints_are_asked_about():
    """Six runs with ten checkpoints each, without names, were sixty finished runs."""
    [line] = looks_grouped(table_from_rows(grid(10)))
    assert (
        "60 rows are of 6 sizes, each with about 10 numbers of tokens" in line and "--cluster n/total" in line
    )
    assert not looks_grouped(table_from_rows(grid(10)), clustered=True)
    assert len(set(clusters(table_from_rows(grid(10)), "n/total")[0])) == 6
    # Neither few runs of a size, nor names that tell, nor finished runs, nor one grid of sizes at every budget.
    named = [{**r, "run": f"r{r['N']:.0f}"} for r in grid(10)]
    finished = [{**r, "status": "finished"} for r in grid(10)]
    by_budget = [
        {"N": n, "D": c / 6 / n, "loss": 3.0}
        for c in 1e18 * 2.0 ** np.arange(5)
        for n in 1e7 * 2.0 ** np.arange(7)
    ]
    for rows in (grid(3), named, finished, by_budget):
        assert not looks_grouped(table_from_rows(rows))


def test_the_envelope_takes_the_best_of_a_budget_though_its_runs_miss_it_by_a_little():
    """Sizes in whole millions: C differed by percents, the cheapest run of a budget was the best of its own C, and a was -0.09."""
    from sodakit.scaling.study import study
    from sodakit.scaling.sweeps import fit_envelope

    rows = sweep(noise=0.0)
    n, d, x = (np.array([r[key] for r in rows]) for key in ("N", "D", "loss"))
    exact = fit_envelope(np.round(6 * n * d, -15), n, d, x, curves=n.tolist())
    missed = [{**r, "D": r["D"] * (1 + 0.005 * (i % 7))} for i, r in enumerate(rows)]
    found = study(table_from_rows(missed), draws=10).envelope
    assert found is not None and found.a == pytest.approx(exact.a, abs=0.02)
