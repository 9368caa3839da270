"""No prompt and no key in the log, whatever goes wrong; and what is logged can be read by machines and by people."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from router.errors import BackendFailed
from router.telemetry.logs import STRING_CHARACTERS_MAX, set_up_logs

PROMPT = "canary prompt: my cat is called Schubert"
KEYS = (
    "sk-jeton-canary0123456789abcdef",
    "sk-proj-canary_0123456789-abc",
    "hf_canary0123456789",
    "Bearer canary.0123456789~+/=",
    "Basic Y2FuYXJ5OmNhbmFyeQ==",
)


@pytest.fixture(params=["json", "console"])
def out(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    set_up_logs(request.param, "debug", stream)
    yield stream
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def fail_with_values() -> None:
    secret_local = PROMPT  # noqa: F841 (a local that a talkative traceback would print)
    try:
        json.loads(PROMPT)
    except json.JSONDecodeError as error:
        raise KeyError(PROMPT, KEYS[0]) from error


def log_every_way(log: Any) -> None:
    """Every way a canary may take into a log line."""
    for key in KEYS:
        log.warning("member", detail=f"upstream said {key} was wrong", nested={"list": [key, {"deeper": key}]})
        log.warning(f"in the event: {key}")
    log.warning("by name", prompt=PROMPT, messages=[{"content": PROMPT}], body=PROMPT.encode(), headers={"a": PROMPT})
    log.warning("inside", request={"messages": PROMPT, "text": PROMPT, "Authorization": "x", "prompt": PROMPT})
    log.warning("url", url="http://user:canary@10.0.0.1:8000/v1")
    try:
        fail_with_values()
    except KeyError as error:
        log.exception("unexpected")
        log.error("given", exc_info=error)
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=True)
        logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=%r>", error)
    logging.getLogger("library").warning("sent with %s", KEYS[3])


def test_b60_no_prompt_and_no_key_reaches_the_log(out: io.StringIO) -> None:
    log_every_way(structlog.get_logger("test"))
    text = out.getvalue()
    assert text.count("member") == len(KEYS)
    assert "canary" not in text
    assert "Schubert" not in text
    assert "Y2FuYXJ5" not in text


def test_an_exception_is_told_by_types_and_places_causes_first(out: io.StringIO) -> None:
    try:
        fail_with_values()
    except KeyError:
        structlog.get_logger("test").exception("unexpected")
    text = out.getvalue()
    assert text.index("JSONDecodeError") < text.index("KeyError")
    assert "test_logs.py" in text
    assert "fail_with_values" in text


def test_our_own_refusals_and_the_systems_errors_keep_their_message(out: io.StringIO) -> None:
    log = structlog.get_logger("test")
    for error in (BackendFailed("The backend failed."), FileNotFoundError(2, "No such file", "prices.yaml")):
        try:
            raise error
        except (BackendFailed, OSError):
            log.exception("failed")
    assert "The backend failed." in out.getvalue()
    assert "prices.yaml" in out.getvalue()


def test_a_line_is_one_line_and_not_endless(out: io.StringIO) -> None:
    structlog.get_logger("test").warning("long", detail="first\nsecond" + "x" * 10_000)
    (line,) = out.getvalue().splitlines()
    assert len(line) < STRING_CHARACTERS_MAX + 500


def test_below_the_level_nothing_is_said() -> None:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    set_up_logs("json", "warning", stream)
    log = structlog.get_logger("test")
    log.debug("quiet")
    log.info("quiet")
    log.warning("loud", backend="edge-small", seconds=1.5)
    (line,) = stream.getvalue().splitlines()
    members = json.loads(line)
    assert (members["event"], members["level"], members["backend"], members["seconds"]) == (
        "loud",
        "warning",
        "edge-small",
        1.5,
    )
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()
