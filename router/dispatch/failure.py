"""Why one attempt did not deliver: whose fault it is, whether another replica may be asked, what the client would hear.

What a status means is the same for every backend that speaks OpenAI's API; a provider with other words brings its own
(`provider.py`).
"""

from router.errors import (
    BackendFailed,
    BackendRefused,
    BackendTimedOut,
    ContextTooLong,
    RateLimited,
    Refusal,
    Unavailable,
)
from router.wire.error_body import read_error

FAILED = "The backend failed to answer; nothing is wrong with the request, try again."
CUT = "The backend failed while answering; what was sent so far is incomplete."
LIMITED = "Every backend that could answer is at its rate limit."
BUSY = "Every backend that could answer is busy or away."
# How it is said that a prompt does not fit: OpenAI's code, which few others send, then vLLM's and OpenAI's words, Anthropic's,
# Bedrock's, Vertex AI's.
TOO_LONG_CODE = "context_length_exceeded"
# OpenAI's for an account without credit: under 429, as if it were a limit.
NO_CREDIT_CODE = "insufficient_quota"
TOO_LONG = (
    "maximum context length",
    "prompt is too long",
    "input is too long for requested model",
    "exceeds the maximum number of tokens allowed",
)


class AttemptFailed(Exception):
    """One attempt did not deliver.

    fault: connect | reset | eof | stall | protocol | too_large | limited | overloaded | no_credit | credentials | refused |
    untranslatable | http_<status> | leaving | not_json | not_sse | bad_event | error_event | error_body | aborted | unfinished.
    is_retryable: another replica may do better. is_too_long: one with a larger context window may, and no other. refusal: what
    the client is told if nobody else can answer. body: what had come of a whole answer that broke off.
    """

    def __init__(
        self,
        fault: str,
        refusal: Refusal,
        *,
        http_status: int = 0,
        is_retryable: bool = True,
        is_too_long: bool = False,
        retry_after_seconds: float | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(fault)
        self.fault = fault
        self.refusal = refusal
        self.http_status = http_status
        self.is_retryable = is_retryable
        self.is_too_long = is_too_long
        self.retry_after_seconds = retry_after_seconds
        self.body = body

    @classmethod
    def leaving(cls, *, has_begun: bool) -> "AttemptFailed":
        """Given up, because the replica is about to be taken away. has_begun: some of its answer is at the client."""
        return cls("leaving", BackendFailed(CUT if has_begun else FAILED, detail="the replica is leaving"))

    @classmethod
    def from_answer(cls, fault: str, wait_seconds: float | None = None) -> "AttemptFailed":
        """An answer with status 200 that is none, and of which nothing has come. A limit or too much work that is told so is what
        it would be by its status."""
        if fault == "limited":
            return limited(200, wait_seconds)
        if fault == "overloaded":
            return overloaded(200, wait_seconds)
        return cls(fault, BackendFailed(FAILED, detail=fault), http_status=200)


def says_why(status: int) -> bool:
    """Whether the body of an answer with this status is for the client: the request was found wrong."""
    return 400 <= status < 500 and status not in (401, 402, 403, 408, 429)


def is_read(status: int) -> bool:
    """Whether the body of an answer with this status says more than the status does."""
    return status == 429 or says_why(status)


def status_failure(status: int, wait_seconds: float | None, body: bytes) -> AttemptFailed:
    """What a status other than 200 means. Nothing of a 5xx or of a refusal of our own credentials reaches the client.

    body: read where `is_read`, else b"".
    """
    if status == 402 or (status == 429 and read_error(body)[2] == NO_CREDIT_CODE):
        return no_credit(status)
    if status == 429:
        return limited(status, wait_seconds)
    if status == 529:  # Anthropic's and others', for too much work
        return overloaded(status, wait_seconds)
    if status in (401, 403):
        return credentials_refused(status)
    if says_why(status):
        message, param, code = read_error(body)
        return refused(status, message, param, code)
    fault = f"http_{status}" if status in (408, 500, 502, 503, 504) else "http_other"
    if status == 503:
        refusal = Unavailable(BUSY, retry_after_seconds=wait_seconds or 1.0)
        return AttemptFailed(fault, refusal, http_status=status, retry_after_seconds=wait_seconds)
    if status in (408, 504):
        return AttemptFailed(fault, BackendTimedOut("The backend did not answer in time."), http_status=status)
    return AttemptFailed(fault, BackendFailed(FAILED, detail=f"status {status}"), http_status=status)


def limited(status: int, wait_seconds: float | None) -> AttemptFailed:
    """We asked too much of it: it is left alone for as long as it says."""
    refusal = RateLimited(LIMITED, retry_after_seconds=wait_seconds or 1.0)
    return AttemptFailed("limited", refusal, http_status=status, retry_after_seconds=wait_seconds)


def overloaded(status: int, wait_seconds: float | None) -> AttemptFailed:
    """It has more work than it can do, whoever asks: left alone like one that limits us, and no sign of a defect."""
    refusal = Unavailable(BUSY, retry_after_seconds=wait_seconds or 1.0)
    return AttemptFailed("overloaded", refusal, http_status=status, retry_after_seconds=wait_seconds)


def no_credit(status: int) -> AttemptFailed:
    """Our account there is empty. Somebody must fill it; until then it is tried now and then."""
    refusal = BackendFailed(FAILED, detail="our account with the provider is out of credit")
    return AttemptFailed("no_credit", refusal, http_status=status, retry_after_seconds=float("inf"))


def credentials_refused(status: int) -> AttemptFailed:
    refusal = BackendFailed(FAILED, detail=f"the backend refused our credentials ({status})")
    return AttemptFailed("credentials", refusal, http_status=status)


def refused(
    status: int, message: str, param: str | None = None, code: str | None = None, *, is_retryable: bool = False
) -> AttemptFailed:
    """It found the request wrong, and says so in its own words. Prompts are only estimated before they are sent, so that one may
    turn out to be longer than its backend's context window."""
    words = message.lower()
    if code == TOO_LONG_CODE or any(known in words for known in TOO_LONG):
        return AttemptFailed("refused", ContextTooLong(message), http_status=status, is_too_long=True)
    refusal = BackendRefused(status, message, param=param, code=code)
    return AttemptFailed("refused", refusal, http_status=status, is_retryable=is_retryable)
