"""What a GPU would have met first (twelve risks, found by reading and on fake devices), each mend undone.

A kind is the risk's number and half: `python -m tests.mutants.run gpu` tries them all, `gpu08` one risk.
"""

from tests.mutants.mutation import Mutation
from tests.mutants.mutation import changes_of as _of

SLOW = "slow or not slow"

GPU_MENDS: list[Mutation] = [
    # 1. Activations made again switched compilation off.
    *_of(
        "gpu01", "model/transformer.py", "train/test_compiled.py",
        ("block.forward = torch.compile(block.forward, **options)", "block.compile(**options)"),
    ),
    # 2. A run begun on a CPU could not be resumed on a GPU.
    *_of(
        "gpu02", "train/optim.py", "train/test_optim.py",
        ('state[f"seen.{n}"].to(self._first[n].device, copy=True)', 'state[f"seen.{n}"].clone()'),
    ),
    # 3. Samples used up what torch compiles of a block; so did variants met late.
    *_of(
        "gpu03", "model/transformer.py", "train/test_compiled.py",
        ("x_BTD = Block.forward(block, x_BTD, cos, sin, attend)", "x_BTD = block(x_BTD, cos, sin, attend)"),
    ),
    *_of(
        "gpu03", "model/transformer.py", "train/test_compiled.py",
        ("dynamo.recompile_limit = max(dynamo.recompile_limit, COMPILED_VARIANTS)", "_ = dynamo"),
        marks=SLOW,
    ),
    *_of(
        "gpu03", "model/frame/depth.py", "train/test_compiled.py",
        ("x_B1D = Block.forward(block, x_B1D, cos, sin, attend)", "x_B1D = block(x_B1D, cos, sin, attend)"),
    ),
    *_of(
        "gpu03", "generate/graphs.py", "train/test_compiled.py",
        ("x_B1D = Block.forward(block, x_B1D, cos, sin, attend)", "x_B1D = block(x_B1D, cos, sin, attend)"),
    ),
    # 4. `scale run` and `finetune` took the whole batch at once.
    *_of(
        "gpu04", "commands/scale_run.py", "scaling/test_run.py::test_the_command_takes_as_many_rows_as_fit",
        ('micro_rows=self.micro_rows or "auto"', "micro_rows=self.micro_rows"),
    ),
    *_of(
        "gpu04", "recipes/catalogue.py", "train/test_memory.py",
        ('isoflop(point, stores, micro_rows="auto")', "isoflop(point, stores)"),
    ),
    *_of("gpu04", "recipes/finetune_config.py", "recipes/test_finetune.py", ('micro_rows="auto",', "micro_rows=None,")),
    *_of("gpu04", "recipes/ablations.py", "train/test_memory.py", ('micro_rows="auto",', "micro_rows=None,")),
    # 5. A driver too old for torch, and everything ran on the CPU unsaid.
    *_of(
        "gpu05", "hardware.py", "test_hardware.py",
        ("        _say_that_a_gpu_is_unused()\n", ""),
        ("if driver is None or torch.cuda.is_available()", "if True or torch.cuda.is_available()"),
    ),
    # 6. Without a C compiler and Python's headers nothing ran, and nobody said so.
    *_of(
        "gpu06", "train/update.py", "train/test_fake_gpu.py",
        ("return function if lacks_for_gpu() else torch", "return torch"),
    ),
    *_of(
        "gpu06", "train/run.py", "train/test_compiled.py",
        ("is not None else not (on_cpu or lacking)", "is not None else not on_cpu"),
        ("if lacking and config.compile_blocks:", "if False:"),
        ("if lacking and self.ranks.is_first:", "if False:"),
    ),
    *_of(
        "gpu06", "compiler.py", "test_compiler.py",
        ('(Path(sysconfig.get_paths()["include"]) / "Python.h").exists()', "True"),
        ('if not any(map(shutil.which, [asked] if asked else ["gcc", "clang"])):', "if False:"),
    ),
    # 7. Decoding never used the graph, in float32, whose prefill wrote all scores down.
    *_of(
        "gpu07", "generate/engine.py", "generate/test_step_graphs.py generate/test_frame_graph.py",
        ('self.device.type == "cuda" if graphs is None else graphs', "bool(graphs)"),
        ("return how if begins else None", "return None"),
        ("        if engine.has_graphs:\n            self._steps", "        if False:\n            self._steps"),
        ("if self.has_graphs and self.layout.width > 1:", "if False:"),
        ("        if self.has_graphs:\n            return self._answer_by_steps", "        if False:\n            return self._answer_by_steps"),
    ),
    *_of(
        "gpu07", "generate/speech_model.py", "generate/test_frame_graph.py",
        ('getattr(torch, precision or "bfloat16")', 'getattr(torch, precision or "float32")'),
    ),
    *_of(
        "gpu07", "model/kv_cache.py", "generate/test_step_graphs.py",
        ("if q_BTNH.is_cuda and heads != groups", "if False and heads != groups"),
    ),
    # 8. The benchmarks: memory, time, later rows, another attempt's peak.
    *_of(
        "gpu08", "../benchmarks/decode_gpu.py", "test_gpu_benchmarks.py",
        ("context=step * (prompt + options.frames + 8)", "context=4096"),
        ("found = alone(__file__, words, min(options.each_s, clock.left_s))", "found = measure(options, device)"),
        ("                write_page(options.out,", "    write_page(options.out,"),
    ),
    *_of(
        "gpu08", "../benchmarks/training_gpu.py", "test_gpu_benchmarks.py",
        ("                if clock.left_s < 1:\n                    continue\n", ""),
        ("                write_page(options.out,", "    write_page(options.out,"),
        ("            torch.cuda.reset_peak_memory_stats(device)\n", ""),
        ("            step = None  # its model and moments, before the next are made\n", ""),
    ),
    *_of(
        "gpu08", "../benchmarks/alone.py", "test_gpu_benchmarks.py",
        ("process.communicate(timeout=limit_s)", "process.communicate()"),
    ),
    # 9. On SIGTERM other ranks left before rank 0 had written; an orderly stop ended with 1.
    *_of(
        "gpu09", "train/trainer.py", "train/test_stops.py",
        ("        run.ranks.wait()  # the first one may still be writing\n", ""),
        ("stopping = run.ranks.any(bool(stop))", "stopping = bool(stop)"),
    ),
    *_of("gpu09", "errors.py", "train/test_stops.py", ("super().__init__(0)", "super().__init__(1)")),
    # 10. On a machine with a GPU, tests that compare bit for bit trained there.
    *_of(
        "gpu10", "../tests/conftest.py", "test_skips.py",
        ('        os.environ["CUDA_VISIBLE_DEVICES"] = ""\n', "        pass\n"),
    ),
    # 11. Copies from pageable memory; the head's gradient; exchanges of shards; the whole model on the host.
    *_of(
        "gpu11", "model/contract.py", "train/test_fake_gpu.py",
        ("        tensor = tensor.pin_memory()\n", "        pass\n"),
        ("tensor.to(device, non_blocking=True)", "tensor.to(device)"),
    ),
    *_of(
        "gpu11", "model/attention.py", "train/test_fake_gpu.py",
        ("return Packing(put(self.cu_seqlens_U, device), self", "return Packing(self.cu_seqlens_U.to(device), self"),
    ),
    *_of(
        "gpu11", "train/objective.py", "train/test_fake_gpu.py",
        ("positions_T if isinstance(positions_T, slice) else put(positions_T, device)", "positions_T if isinstance(positions_T, slice) else positions_T.to(device)"),
    ),
    *_of("gpu11", "train/loss.py", "train/test_memory.py", ('"cuda": 2**30}', '"cuda": 2**28}')),
    *_of(
        "gpu11", "train/parallel.py", "train/test_parallel.py::test_copies_of_shards_exchange_gradients_once_a_step",
        ("        between_copies(is_last)\n", "        pass\n"),
    ),
    *_of(
        "gpu11", "train/run.py", "train/test_fake_gpu.py train/test_parallel.py",
        ("is_empty = config.lora is None and", "is_empty = False and"),
    ),
    # 12. The launch templates and the data sheets.
    *_of(
        "gpu12", "../launch/train.slurm", "test_launch.py",
        ('export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-}"\n', "SRUN_CPUS_PER_TASK=\n"),
        ("export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=170\n", ""),
        ('. "$venv/bin/activate"\n', ""),
    ),
    *_of("gpu12", "../launch/train.sky.yaml", "test_launch.py", ("  export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110\n", "")),
    *_of(
        "gpu12", "hardware.py", "test_hardware.py",
        ("return max(found, key=lambda gpu: len(gpu.name.split()), default=None)", "return min(found, key=lambda gpu: len(gpu.name.split()), default=None)"),
        ("    if words & OTHER_CARDS:\n        return None\n", ""),
    ),
]  # fmt: skip
