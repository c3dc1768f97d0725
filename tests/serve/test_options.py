import socket

import pytest

from sodakit.commands.serve import main
from sodakit.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--port", "99999"], "--port 99999; needed: 0 to 65535"),
        (["--port", "-1"], "--port -1"),
        (["--piece-s", "nan"], "--piece-s nan"),
        (["--piece-s", "0"], "--piece-s 0.0; needed: at least 0.5"),
        (["--recording-s", "nan"], "--recording-s nan"),
        (["--speech-s", "inf"], "--speech-s inf"),
        (["--concurrent", "0"], "--concurrent 0; needed: at least 1"),
        (["--root-path", "soda"], "root_path=soda"),
        (["--allow-origin", "example.org"], "allow_origin=example.org"),
        (["--voices", __file__], "is a file; needed: a folder"),
        (["--host", "0.0.0.0"], "SODAKIT_API_KEY"),
    ],
)
def test_what_cannot_be_served_is_said_before_a_model_is_looked_for(words, reason, monkeypatch):
    monkeypatch.delenv("SODAKIT_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=reason.replace(".", r"\.")):
        main(["no/such/model", *words])


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port} cannot be listened at"):
            main(["no/such/model", "--port", str(port)])


def test_a_port_of_a_server_that_still_loads_is_taken(monkeypatch):
    """Both would load, and one of them end after minutes; until then it is chance which of them answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        words = ["no/such/model", "--port", str(free.getsockname()[1])]

    def load(path):
        monkeypatch.setattr(
            "sodakit.checkpoint.load.load_checkpoint", lambda path: pytest.fail("it loads too")
        )
        with pytest.raises(ConfigError, match="cannot be listened at"):
            main(words)
        raise ConfigError("loaded far enough")

    monkeypatch.setattr("sodakit.checkpoint.load.load_checkpoint", load)
    with pytest.raises(ConfigError, match="loaded far enough"):
        main(words)


def test_an_address_of_another_machine_is_named(monkeypatch):
    monkeypatch.setenv("SODAKIT_API_KEY", "sesame")
    with pytest.raises(ConfigError, match=r"host=203\.0\.113\.9 port=8000 cannot be listened at"):
        main(["no/such/model", "--host", "203.0.113.9"])
