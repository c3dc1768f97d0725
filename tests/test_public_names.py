import subprocess
import sys

import sodakit

NAMES = {
    "Wave", "read_wave", "write_wave", "Codec", "CodecSpec", "load_codec", "Vocabulary", "Utterance", "StoreReader",
    "StoreWriter", "ModelConfig", "Transformer", "TrainConfig", "train", "load_checkpoint", "SpeechModel",
    "SodakitError", "__version__",
}  # fmt: skip


def test_the_list_of_public_names_is_this_one():
    """A name leaves or enters the public list on purpose only."""
    assert set(sodakit.__all__) == NAMES
    assert all(getattr(sodakit, name) is not None for name in NAMES)


def test_importing_sodakit_loads_no_torch():
    code = "import sys, sodakit; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
