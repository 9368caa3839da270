"""Every refusal: its status, OpenAI type and code, whether the client may try again, and one message for each reader.

    Refusal
    ├── BadRequest            400  invalid_request_error
    │   ├── ContextTooLong    400  context_length_exceeded
    │   ├── PriceCeiling      400  price_ceiling
    │   └── Untranslatable    400  unsupported_parameter
    ├── Unauthenticated       401  invalid_api_key
    ├── Forbidden             403  model_not_allowed
    ├── UnknownModel          404  model_not_found
    ├── UnknownPath           404  unknown_path
    ├── UnknownReplica        404  unknown_replica         on the admin port
    ├── WrongMethod           405  method_not_allowed
    ├── ClientTooSlow         408  request_timeout
    ├── RepeatRefused         409
    │   ├── RepeatRunning     409  idempotency_key_in_use  Retry-After
    │   └── RepeatNotKept     409  idempotency_not_kept
    ├── BodyTooLarge          413  request_too_large
    ├── UnsupportedBody       415  unsupported_media_type
    ├── RepeatWithOtherBody   422  idempotency_key_reused
    ├── HeadersTooLarge       431  headers_too_large
    ├── RateLimited           429  rate_limit_exceeded     Retry-After
    ├── BudgetRefusal         429  tenant
    │   ├── BudgetExceeded    429  budget_exceeded         Retry-After where waiting helps
    │   └── BudgetUnavailable 429  budget_unavailable      Retry-After
    ├── BackendRefused        4xx  as the backend said     its own words, in OpenAI's shape
    ├── BackendFailed         502  backend_failed
    ├── Unavailable           503  unavailable             Retry-After
    │   └── Overloaded        503  overloaded              Retry-After
    ├── DeadlineUnreachable   504  deadline_unreachable    Retry-After
    ├── DeadlinePassed        504  deadline_passed
    └── BackendTimedOut       504  backend_timeout

`message` is for the caller and never carries a backend's text of a 5xx, an address or a key; `detail` is for the log.
"""


class Refusal(Exception):
    """A request that ends without an answer. Subclasses fix status, type and code.

    param: the body's member that is wrong, in OpenAI's notation ("messages.0.content"), or None.
    retry_after_seconds: sent as `Retry-After`, rounded up.
    tenant, api_key_name: whose request it was, for the log; empty where that is not known.
    """

    status = 500
    type = "api_error"
    code: str | None = None
    is_retryable = False
    tenant = ""
    api_key_name = ""

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None, detail: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail


class BadRequest(Refusal):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class ContextTooLong(BadRequest):
    code = "context_length_exceeded"


class PriceCeiling(BadRequest):
    """The request's own ceiling is below what any backend can promise, beside what earlier attempts at it have cost."""

    code = "price_ceiling"


class Untranslatable(BadRequest):
    """A provider's own API has no place for what the request asks for. Another backend may have one."""

    code = "unsupported_parameter"


class Unauthenticated(Refusal):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class Forbidden(Refusal):
    status, type, code = 403, "permission_error", "model_not_allowed"


class UnknownModel(Refusal):
    status, type, code = 404, "invalid_request_error", "model_not_found"


class UnknownPath(Refusal):
    status, type, code = 404, "invalid_request_error", "unknown_path"


class UnknownReplica(Refusal):
    status, type, code = 404, "invalid_request_error", "unknown_replica"


class WrongMethod(Refusal):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class ClientTooSlow(Refusal):
    status, type, code = 408, "invalid_request_error", "request_timeout"
    is_retryable = True


class RepeatRefused(Refusal):
    """A request under an `Idempotency-Key` that was seen before, and whose answer cannot be given (`access/repeats.py`)."""

    status, type = 409, "invalid_request_error"


class RepeatRunning(RepeatRefused):
    code = "idempotency_key_in_use"
    is_retryable = True

    def __init__(self) -> None:
        super().__init__(
            "A request with this `Idempotency-Key` is still running; ask again for its answer.", retry_after_seconds=1.0
        )


class RepeatNotKept(RepeatRefused):
    code = "idempotency_not_kept"

    def __init__(self) -> None:
        super().__init__(
            "The request with this `Idempotency-Key` was answered, but its answer was too large to be kept; "
            "use another key to have it answered anew."
        )


class RepeatWithOtherBody(Refusal):
    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This `Idempotency-Key` was used for another request; use a key of its own for each.")


class BodyTooLarge(Refusal):
    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedBody(Refusal):
    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class HeadersTooLarge(Refusal):
    status, type, code = 431, "invalid_request_error", "headers_too_large"


class RateLimited(Refusal):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"
    is_retryable = True


class BudgetRefusal(Refusal):
    """tenant: whose budget it is, for the metrics."""

    status = 429
    tenant = ""

    def of(self, tenant: str) -> "BudgetRefusal":
        self.tenant = tenant
        return self


class BudgetExceeded(BudgetRefusal):
    """A budget cannot take the most that the request may cost. OpenAI's type for it, but a code that says whose limit it is.

    SDKs try a 429 again at once unless told otherwise: not retryable, so that they are told.
    """

    type, code = "insufficient_quota", "budget_exceeded"


class BudgetUnavailable(BudgetRefusal):
    """What is left of a budget cannot be known now (Redis is away), and this process has no share of it left."""

    type, code = "rate_limit_error", "budget_unavailable"
    is_retryable = True


class BackendRefused(Refusal):
    """The backend found the request wrong (400, 404, 413, 422): its status and message are passed on; nobody else is asked."""

    type, code = "invalid_request_error", "backend_refused"

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code or type(self).code


class BackendFailed(Refusal):
    status, type, code = 502, "api_error", "backend_failed"
    is_retryable = True


class Unavailable(Refusal):
    status, type, code = 503, "api_error", "unavailable"
    is_retryable = True


class Overloaded(Unavailable):
    """Work of this criticality is turned away until there is room again."""

    code = "overloaded"


class DeadlineUnreachable(Refusal):
    """Nobody is forecast to answer within the request's own deadline; no backend was asked."""

    status, type, code = 504, "api_error", "deadline_unreachable"


class DeadlinePassed(Refusal):
    """The request's own deadline passed before its answer was there; what ran was stopped."""

    status, type, code = 504, "api_error", "deadline_passed"


class BackendTimedOut(Refusal):
    status, type, code = 504, "api_error", "backend_timeout"
    is_retryable = True
