"""Google Vertex AI where it speaks OpenAI's API. URL: https://<location>-aiplatform.googleapis.com

`project` and `location` are in the path (`location: global` goes with https://aiplatform.googleapis.com), `served_model` is such
as google/gemini-2.5-flash. Tokens are got by google-auth with the key of a service account in `credentials_file`, else with what
Google calls application default credentials (the machine's, a workload identity's, GOOGLE_APPLICATION_CREDENTIALS); they are
renewed in a thread before they end.

| asked for | |
|---|---|
| chat; tools, JSON with or without a schema, vision, audio, log-probabilities | as they come |
| `n`, `seed`, penalties, `reasoning_effort` | as they come |
| `logit_bias`, `user`, `parallel_tool_calls: false`, other members | not: Vertex leaves out in silence what it does not know |
| completions, responses, messages, embeddings, audio, rerank, score, tokenize | not |

Errors are wrapped in a list; what a quota or a full model asks us to wait stands in their details. Thought is counted beside the
completion, which its total gives away (`wire/usage.py`).
"""

from calendar import timegm
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import google.auth
import google.auth.exceptions
import google.auth.transport
import httpx
import orjson
from google.oauth2 import service_account
from pydantic import Field

from router.dispatch.credentials import CredentialsMissing, Lent, Vault
from router.dispatch.failure import AttemptFailed, limited, overloaded, refused, says_why
from router.dispatch.provider import FileBeside, Header, Order
from router.dispatch.providers.openai import Openai
from router.dispatch.upstream import Headers, UpstreamRequest
from router.domain.fleet import Replica
from router.domain.request import Capability
from router.wire.error_body import MESSAGE_CHARACTERS_MAX
from router.wire.outgoing import PATHS
from router.wire.rate_limits import duration_seconds

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_SECONDS_MAX = 30.0  # that getting one may take


class Vertex(Openai, frozen=True):
    """project, location: as in Google's URLs. credentials_file: of a service account, beside router.yaml unless absolute; the
    application default credentials unless told."""

    bills_to_the_end: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.CHAT,
            Capability.TOOLS,
            Capability.JSON_SCHEMA,
            Capability.JSON_OBJECT,
            Capability.VISION,
            Capability.AUDIO,
            Capability.IMAGE_URLS,
            Capability.LOGPROBS,
            Capability.N,
            Capability.SEED,
            Capability.PENALTIES,
            Capability.REASONING_EFFORT,
        }
    )
    needs_api_key: ClassVar[bool] = False

    project: str = Field(pattern=r"^[a-z0-9][a-z0-9:.-]*$")
    location: str = Field(pattern=r"^[a-z0-9-]+$")
    credentials_file: FileBeside | None = None

    def path(self, order: Order) -> str:
        place = f"/v1/projects/{self.project}/locations/{self.location}/endpoints/openapi"
        return place + PATHS[order.endpoint].removeprefix("/v1")

    def headers(self, order: Order, forwarded: Sequence[Header]) -> list[Header]:
        return [(name, value) for name, value in forwarded if name in (b"traceparent", b"tracestate")]

    async def authorize(self, request: UpstreamRequest, replica: Replica, vault: Vault) -> UpstreamRequest:
        if replica.api_key is not None:  # a token that somebody else keeps fresh
            return await super().authorize(request, replica, vault)
        token: str = await vault.get(self._vault_key, partial(_fetch, self.credentials_file))
        return request._replace(headers=[*request.headers, (b"authorization", b"Bearer " + token.encode())])

    async def renewed(self, replica: Replica, vault: Vault) -> Replica | None:
        if replica.api_key is not None:
            return await super().renewed(replica, vault)
        return replica if await vault.renewed(self._vault_key) else None

    def failure(self, status: int, headers: Headers, body: bytes) -> AttemptFailed:
        error = _error(body)
        failed = super().failure(status, headers, b"")
        if status == 429:
            wait = failed.retry_after_seconds
            return limited(status, _wait_seconds(error) if wait is None else wait)
        if status == 503:
            return overloaded(status, failed.retry_after_seconds)
        if says_why(status) and failed.fault == "refused":
            message, code = error.get("message"), error.get("status")
            text = message if type(message) is str else "The backend refused the request without saying why."
            return refused(status, text[:MESSAGE_CHARACTERS_MAX], code=code if type(code) is str else None)
        return failed

    @property
    def _vault_key(self) -> tuple[str, Path | None]:
        return ("google", self.credentials_file)


def _fetch(credentials_file: Path | None) -> Lent:
    """Blocks: a file is read, and a token asked for over the network."""
    try:
        if credentials_file is None:
            credentials, _ = google.auth.default(scopes=[SCOPE], request=_transport)
        else:
            credentials = service_account.Credentials.from_service_account_file(str(credentials_file), scopes=[SCOPE])
        credentials.refresh(_transport)
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        raise CredentialsMissing(f"a token of Google's cannot be had: {type(error).__name__}") from None
    if not credentials.token:
        raise CredentialsMissing("Google gave no token")
    until = timegm(credentials.expiry.utctimetuple()) if credentials.expiry is not None else 0
    return Lent(credentials.token, float(until))


class _Answer(google.auth.transport.Response):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.content


class _Transport(google.auth.transport.Request):
    """google-auth's way to the network, over httpx, which jeton has anyway."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Answer:
        try:
            answer = httpx.request(
                method,
                url,
                content=body,
                headers=headers,
                timeout=min(timeout or TOKEN_SECONDS_MAX, TOKEN_SECONDS_MAX),
                follow_redirects=False,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise google.auth.exceptions.TransportError(type(error).__name__) from None
        return _Answer(answer)


_transport = _Transport()


def _error(body: bytes) -> dict[str, Any]:
    """The error in a body, which may be a list of one."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if type(told) is list and told:
        told = told[0]
    error = told.get("error") if type(told) is dict else None
    return error if type(error) is dict else {}


def _wait_seconds(error: Mapping[str, Any]) -> float | None:
    """Of `google.rpc.RetryInfo` among the details."""
    details = error.get("details")
    for detail in details if type(details) is list else ():
        delay = detail.get("retryDelay") if type(detail) is dict else None
        if type(delay) is str:
            return duration_seconds(delay)
    return None
