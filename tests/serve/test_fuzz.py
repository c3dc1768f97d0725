"""Requests made up from the server's own description of itself: whatever comes, it is answered and says why."""

import pytest

schemathesis = pytest.importorskip("schemathesis")

from hypothesis import HealthCheck, settings  # noqa: E402

from tests.serve.conftest import wait_until  # noqa: E402

pytestmark = pytest.mark.slow
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ROUTES = [
    "POST /v1/audio/speech",
    "POST /v1/audio/continuations",
    "POST /v1/audio/transcriptions",
    "POST /v1/audio/translations",
    "POST /v1/audio/speech_translations",
    "POST /v1/audio/voices",
    "GET /v1/audio/voices",
    "DELETE /v1/audio/voices/{name}",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /health",
    "GET /metrics",
]


@pytest.fixture
def service(translating_app):
    return translating_app.state.service


@pytest.fixture(scope="module")
def address(translating_address):
    """Of the server that can do most."""
    return translating_address


@pytest.fixture(scope="module")
def description(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_every_route_is_fuzzed(description):
    described = {f"{o.ok().method.upper()} {o.ok().path}" for o in description.get_all_operations()}
    assert described == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_no_request_is_answered_with_a_fault_of_ours(description, address, service, route):
    method, path = route.split()
    operation = description[path][method]
    answers = []

    @BOUNDED
    @_given(operation)
    def ask(case):
        response = case.call(base_url=address, timeout=60)
        answers.append(response.status_code)
        assert response.status_code < 500 or response.status_code == 501, (
            case.as_curl_command(),
            response.text,
        )
        if response.status_code >= 400:
            error = response.json()["error"]
            assert error["message"] and error["type"]

    ask()
    assert answers
    assert wait_until(lambda: service.worker.num_active == 0)


def _given(operation):
    from hypothesis import given
    from hypothesis import strategies as st

    modes = schemathesis.GenerationMode
    return given(
        case=st.one_of(
            operation.as_strategy(generation_mode=modes.POSITIVE),
            operation.as_strategy(generation_mode=modes.NEGATIVE),
        )
    )
