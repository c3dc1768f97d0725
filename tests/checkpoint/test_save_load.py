import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sodakit.checkpoint.contents import CONTENTS, model_from_weights
from sodakit.checkpoint.load import find_checkpoint, latest_checkpoint, load_checkpoint
from sodakit.checkpoint.save import checkpoint_name, save_checkpoint
from sodakit.errors import CheckpointError, DamagedCheckpoint
from sodakit.model.transformer import Transformer
from tests.model.strategies import lively_model, small_config, some_ids

DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
STATE = {"step": 12, "tokens": 49_152, "data": {"seed": 7, "position": [3, 1]}, "note": "höher"}


@pytest.fixture
def model() -> Transformer:
    return lively_model(small_config())


@pytest.fixture
def saved(model: Transformer, tmp_path: Path) -> Path:
    vocabulary = tmp_path / "made_by_tokens"
    (vocabulary / "text").mkdir(parents=True)
    (vocabulary / "text" / "merges.bin").write_bytes(bytes(range(256)))
    return save_checkpoint(
        tmp_path / "run" / checkpoint_name(12),
        model=model,
        state=STATE,
        config={"schedule": {"peak_lr": 3e-4}},
        optimizer_state={"first." + name: torch.randn_like(p) for name, p in model.named_parameters()},
        vocabulary_folder=vocabulary,
        codec={"name": "toy", "num_codebooks": 8},
    )


def test_everything_saved_comes_back_bit_for_bit(saved: Path, model: Transformer) -> None:
    checkpoint = load_checkpoint(saved)
    assert (checkpoint.state, checkpoint.config) == (STATE, {"schedule": {"peak_lr": 3e-4}})
    assert checkpoint.codec == {"name": "toy", "num_codebooks": 8}
    assert checkpoint.model_config == model.config
    assert checkpoint.vocabulary_folder is not None
    assert (checkpoint.vocabulary_folder / "text" / "merges.bin").read_bytes() == bytes(range(256))
    loaded = checkpoint.model()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    assert torch.equal(loaded(some_ids(1, 20)), model(some_ids(1, 20)))


def test_a_loaded_model_can_be_trained_without_changing_the_checkpoint(saved: Path) -> None:
    """Weights may lie in a mapped file; writing to them must not write to it."""
    before = (saved / "model.safetensors").read_bytes()
    loaded = load_checkpoint(saved).model()
    loaded(some_ids(1, 20)).square().mean().backward()
    with torch.no_grad():
        for name, parameter in loaded.named_parameters():
            if parameter.grad is not None:
                parameter -= parameter.grad
            assert parameter.requires_grad, name
    assert (saved / "model.safetensors").read_bytes() == before


def test_a_model_can_be_loaded_in_another_dtype(saved: Path) -> None:
    loaded = load_checkpoint(saved).model(dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded(some_ids(1, 20)).isfinite().all()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=5,
    )
)
@settings(max_examples=25, deadline=None)
def test_optimizer_tensors_of_any_name_dtype_and_shape_come_back(tmp_path_factory, tensors) -> None:
    """Scalars and tensors of no elements too: counters and empty moments occur."""
    given_state = {name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in tensors.items()}
    folder = tmp_path_factory.mktemp("odd") / "step_00000001"
    tiny = Transformer(small_config(vocab_size=3, width=8, layers=1, heads=1, kv_heads=1, ffn_width=8))
    given_state.pop("__metadata__", None)
    save_checkpoint(folder, model=tiny, state={}, config={}, optimizer_state=given_state)
    back = load_checkpoint(folder).optimizer_state()
    assert back is not None and back.keys() == given_state.keys()
    for name, tensor in given_state.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_a_transposed_view_is_saved_as_what_it_shows(model: Transformer, tmp_path: Path) -> None:
    matrix = torch.arange(6.0).view(2, 3).T
    save_checkpoint(tmp_path / "c", model=model, state={}, config={}, optimizer_state={"m": matrix})
    assert torch.equal(load_checkpoint(tmp_path / "c").optimizer_state()["m"], matrix)


def test_optional_parts_left_out_are_none(model: Transformer, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "c", model=model, state={}, config={}))
    assert checkpoint.optimizer_state() is None
    assert checkpoint.vocabulary_folder is None
    assert checkpoint.codec is None


def test_saving_again_leaves_nothing_of_the_first(saved: Path, model: Transformer) -> None:
    save_checkpoint(saved, model=model, state={"step": 13}, config={})
    checkpoint = load_checkpoint(saved)
    assert checkpoint.state == {"step": 13}
    assert checkpoint.optimizer_state() is None
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_save_that_fails_leaves_the_old_checkpoint(saved: Path, model: Transformer) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(saved, model=model, state={"step": object()}, config={})
    assert load_checkpoint(saved).state == STATE


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "vocabulary/text/merges.bin"],
)
@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_lost_or_cut_part_is_named(saved: Path, name: str, damage: str) -> None:
    if damage == "lost":
        (saved / name).unlink()
    else:
        (saved / name).write_bytes((saved / name).read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(saved)


def test_a_scrambled_header_of_the_right_length_is_found(saved: Path) -> None:
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[8:40] = b"\xff" * 32
    (saved / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(saved)


def test_a_flipped_bit_in_the_tensors_is_found(saved: Path) -> None:
    for name in ("model.safetensors", "optimizer.safetensors"):
        whole = (saved / name).read_bytes()
        (saved / name).write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
        with pytest.raises(DamagedCheckpoint, match=rf"{name}.*SHA-256"):
            load_checkpoint(saved)
        (saved / name).write_bytes(whole)
    load_checkpoint(saved)


def test_a_checkpoint_from_before_digests_opens_and_says_so(saved: Path, capsys) -> None:
    contents = json.loads((saved / CONTENTS).read_text())
    assert set(contents.pop("sha256")) == {"model.safetensors", "optimizer.safetensors"}
    (saved / CONTENTS).write_text(json.dumps(contents))
    assert load_checkpoint(saved).state == STATE
    assert "no digests of its weights" in capsys.readouterr().err
    (saved / CONTENTS).write_text(json.dumps(contents | {"files": None}))
    with pytest.raises(DamagedCheckpoint, match="lists no files"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_model_that_can_say_nothing_is_not_opened(model: Transformer, tmp_path: Path, value: float) -> None:
    """As saved: the digest is right, and every score of it would be NaN or the same."""
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight[3 if value != value else slice(None)] = value
    checkpoint = load_checkpoint(save_checkpoint(tmp_path / "c", model=model, state={}, config={}))
    with pytest.raises(
        DamagedCheckpoint, match=r"blocks\.0\.feed_forward\.up\.weight.*(NaN|zero throughout)"
    ):
        checkpoint.model()


def test_everybody_may_read_whom_the_umask_lets(model: Transformer, tmp_path: Path) -> None:
    """safetensors writes for the owner alone, and a vocabulary from a temporary folder was closed to others."""
    vocabulary = tmp_path / "vocabulary"
    vocabulary.mkdir(mode=0o700)
    (vocabulary / "a.json").write_text("{}")
    before = os.umask(0o022)
    try:
        folder = save_checkpoint(
            tmp_path / "c", model=model, state={}, config={}, vocabulary_folder=vocabulary
        )
    finally:
        os.umask(before)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_a_later_format_is_not_misread(saved: Path) -> None:
    contents = json.loads((saved / CONTENTS).read_text())
    (saved / CONTENTS).write_text(json.dumps(contents | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(saved)


def test_weights_of_another_config_are_refused(saved: Path) -> None:
    plain = json.loads((saved / "config.json").read_text())
    plain["model"]["ffn_width"] = 96
    (saved / "config.json").write_text(json.dumps(plain))
    checkpoint = load_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"feed_forward.down.weight.*\(48, 80\).*\(48, 96\)"):
        checkpoint.model()
    with pytest.raises(CheckpointError, match="no such weight"):
        model_from_weights(small_config(tied_embeddings=True), checkpoint.weights(), "here")


def test_a_run_opens_at_its_highest_finished_step(saved: Path, model: Transformer) -> None:
    run = saved.parent
    for step in (9, 100_000_000, 20):
        save_checkpoint(run / checkpoint_name(step), model=model, state={"step": step}, config={})
    (run / checkpoint_name(999_999_999)).mkdir()
    (run / "step_notes").mkdir()
    assert latest_checkpoint(run) == run / "step_100000000"
    assert load_checkpoint(run).state == {"step": 100_000_000}


@pytest.fixture
def finetuned(model: Transformer, tmp_path: Path) -> Path:
    """A run of three checkpoints that kept its best: an earlier one than the newest."""
    run = tmp_path / "finetuned"
    for name, step in (("checkpoints/step_00000002", 2), ("checkpoints/step_00000006", 6), ("best", 4)):
        save_checkpoint(run / name, model=model, state={"step": step}, config={})
    return run


def test_a_run_means_its_best_checkpoint_unless_the_last_is_asked_for(finetuned: Path, capsys) -> None:
    """Every command takes the same one: an export must not be of other weights than those that were scored."""
    assert find_checkpoint(finetuned) == finetuned / "best"
    assert "its best checkpoint, best" in capsys.readouterr().err
    assert find_checkpoint(finetuned, "last") == finetuned / "checkpoints/step_00000006"
    assert "its newest checkpoint, checkpoints/step_00000006" in capsys.readouterr().err
    assert load_checkpoint(str(finetuned)).state == {"step": 4}
    assert load_checkpoint(finetuned, "last").state == {"step": 6}


def test_a_checkpoint_and_a_folder_of_checkpoints_mean_what_they_are_whatever_was_best(
    finetuned: Path, capsys
) -> None:
    for name in ("best", "checkpoints/step_00000002"):
        assert find_checkpoint(finetuned / name) == finetuned / name
    assert capsys.readouterr().err == ""
    assert find_checkpoint(finetuned / "checkpoints") == finetuned / "checkpoints/step_00000006"


def test_a_run_that_kept_no_best_means_its_newest(finetuned: Path) -> None:
    (finetuned / "best/contents.json").unlink()  # still being written
    assert find_checkpoint(finetuned) == finetuned / "checkpoints/step_00000006"
    assert find_checkpoint(finetuned / "nowhere") is None


def test_a_folder_without_checkpoints_says_what_was_looked_for(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    for folder, says in ((tmp_path, "holds none named step_"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(CheckpointError, match=says):
            load_checkpoint(folder)
