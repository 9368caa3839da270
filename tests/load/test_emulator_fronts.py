"""The fronts of emulated providers by themselves: signatures, frames, tokens. Real SDKs ask them in `tests/journeys`."""

import time
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer

from load.emulator.fleet import EmulatedFleet
from load.emulator.fronts.bedrock import frame
from load.emulator.spec import Dialect, ReplicaSpec

KEYS = ("AKIDEXAMPLE", "a secret/with+signs")
ARN = "arn:aws:bedrock:eu-central-1:1:inference-profile/a.b:0"
BODY = b'{"messages":[{"role":"user","content":[{"text":"Say hello."}]}],"inferenceConfig":{"maxTokens":4}}'


def signed(url: str, keys: tuple[str, str] = KEYS, body: bytes = BODY) -> dict[str, str]:
    request = AWSRequest("POST", url, {"content-type": "application/json"}, body)
    SigV4Auth(Credentials(*keys), "bedrock", "eu-central-1").add_auth(request)
    return dict(request.headers)


async def ask(headers_of: Any, *, path: str = "/model/gpt-x/converse", body: bytes = BODY) -> httpx.Response:
    spec = ReplicaSpec("gpt-x", aliases=(ARN,), dialect=Dialect.BEDROCK, access_key=KEYS)
    async with EmulatedFleet.start([spec]) as fleet, httpx.AsyncClient(trust_env=False) as client:
        url = fleet.replicas[0].url + path
        return await client.post(url, content=body, headers=headers_of(url))


@pytest.mark.parametrize(
    "path",
    ["/model/gpt-x/converse", "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Fa.b%3A0/converse"],
)
async def test_what_botocore_signs_is_let_in(path: str) -> None:
    answer = await ask(signed, path=path)
    assert answer.status_code == 200
    assert answer.json()["output"]["message"]["content"][0]["text"]


def another_secret(url: str) -> dict[str, str]:
    return signed(url, (KEYS[0], "another"))


def another_key(url: str) -> dict[str, str]:
    return signed(url, ("another", KEYS[1]))


def another_body(url: str) -> dict[str, str]:
    return signed(url, body=BODY + b" ")


def another_path(url: str) -> dict[str, str]:
    return signed(url.replace("gpt-x", "gpt-y"))


def long_ago(url: str) -> dict[str, str]:
    headers = signed(url)
    return headers | {"X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 3600))}


def unsigned(url: str) -> dict[str, str]:
    return {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers_of", "exception"),
    [
        (another_secret, "InvalidSignatureException"),
        (another_key, "UnrecognizedClientException"),
        (another_body, "InvalidSignatureException"),
        (another_path, "InvalidSignatureException"),
        (long_ago, "InvalidSignatureException"),
        (unsigned, "MissingAuthenticationTokenException"),
    ],
)
async def test_what_is_not_signed_by_whom_it_should_be_is_refused(headers_of: Any, exception: str) -> None:
    answer = await ask(headers_of)
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"].startswith(f"{exception}:")


def test_frames_are_read_by_botocore_and_one_that_is_spoilt_is_not() -> None:
    data = frame({":event-type": "messageStart", ":message-type": "event"}, b'{"role":"assistant"}')
    buffer = EventStreamBuffer()
    buffer.add_data(data[:9])
    buffer.add_data(data[9:])
    [message] = buffer
    assert message.headers == {":event-type": "messageStart", ":message-type": "event"}
    assert message.payload == b'{"role":"assistant"}'
    spoilt = EventStreamBuffer()
    spoilt.add_data(data[:-6] + b"x" + data[-5:])
    with pytest.raises(ChecksumMismatch):
        next(spoilt)
