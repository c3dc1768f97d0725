"""A run made small enough to be shipped: what that costs is measured, and it is adapted and replayed like any other."""

import json

import pytest
import torch

from sodakit.checkpoint.about import About
from sodakit.checkpoint.load import load_checkpoint
from sodakit.checkpoint.shipped import replay_of
from sodakit.commands.export import main
from sodakit.errors import ConfigError
from sodakit.recipes.adapt import open_adaptation
from sodakit.recipes.adapt_config import AdaptSettings, taught
from sodakit.recipes.ship import ship
from sodakit.store.reader import StoreReader
from tests.recipes.test_adapt import base, mine  # noqa: F401 - fixtures
from tests.stores import small_store

ABOUT = About(name="starter", languages=("en",))


@pytest.mark.parametrize("stored", ["int8", "float16"])
def test_the_loss_of_few_bits_is_measured_and_written_into_its_card(base, tmp_path, stored):  # noqa: F811
    made = ship(base / "run", tmp_path / "starter", ABOUT, stored=stored, stores=[base / "store"])
    checkpoint = load_checkpoint(made.folder)
    assert checkpoint.about.measured == {
        "stored": stored,
        "losses": made.losses,
        "losses_stored": made.losses_stored,
    }
    for name, before in made.losses.items():
        assert 0 < abs(made.losses_stored[name] - before) < 0.02 * before, name
    given, kept = load_checkpoint(base / "run").weights(), checkpoint.weights()
    assert all(torch.allclose(given[n], kept[n], atol=0.01 * given[n].abs().max()) for n in given)
    assert made.num_bytes == sum(p.stat().st_size for p in made.folder.rglob("*") if p.is_file())
    assert taught(checkpoint) == taught(load_checkpoint(base / "run"))
    assert str(base) not in (made.folder / "config.json").read_text()


def test_what_it_was_trained_on_goes_along_and_is_replayed_where_it_is_adapted(base, mine, tmp_path):  # noqa: F811
    folder = ship(base / "run", tmp_path / "starter", ABOUT, stores=[base / "store"], replay_s=3.0).folder
    store, whole = StoreReader(replay_of(folder)), StoreReader(base / "store")
    store.verify()
    assert store.splits == ("train", "validation")
    found = {u.id.removeprefix("store/"): u for u in store.utterances("train")}
    theirs = {u.id: u for u in whole.utterances("train")}
    assert found and found.keys() < theirs.keys()
    assert all(
        (found[i].codes_KF == theirs[i].codes_KF).all() and found[i].text == theirs[i].text for i in found
    )
    seconds = sum(u.codes_KF.shape[1] for u in found.values()) / store.codec_spec.frame_rate_hz
    assert 1.5 < seconds < 4
    work = open_adaptation(folder, mine, tmp_path / "me", AdaptSettings(), device="cpu")
    assert work.settings.replay == str(folder / "replay") and not any("forgets" in w for w in work.warnings())


def test_a_model_that_is_too_large_is_refused_and_nothing_is_written(base, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match=r"takes .* in int8; at most"):
        ship(base / "run", tmp_path / "starter", ABOUT, most_bytes=10_000)
    assert not (tmp_path / "starter").exists()


def test_a_store_of_another_codec_cannot_be_replayed(base, tmp_path):  # noqa: F811
    other = small_store(tmp_path / "other")
    with pytest.raises(ConfigError, match="another tokenizer or codec"):
        ship(base / "run", tmp_path / "starter", ABOUT, stores=[other])


def test_the_command_ships_with_a_card(base, tmp_path, capsys):  # noqa: F811
    words = [str(base / "run"), "--out", str(tmp_path / "starter"), "--small", "int8"]
    with pytest.raises(ConfigError, match="needs --about"):
        main(words)
    (tmp_path / "card.json").write_text(json.dumps({"name": "starter", "can": ["Hum."]}))
    main([*words, "--about", str(tmp_path / "card.json"), "--replay", str(base / "store")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "starter")
    assert load_checkpoint(tmp_path / "starter").about.can == ("Hum.",)
