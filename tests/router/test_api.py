"""The API beside the relay path, where nothing is dispatched."""

import httpx
from fastapi import FastAPI

from router.api import add_refusal_handlers


async def test_what_nobody_expected_has_openais_shape_too() -> None:
    """As a policy of somebody's own that raises when it is asked to explain itself."""
    api = FastAPI()
    add_refusal_handlers(api)

    @api.post("/jeton/explain")
    async def explained() -> None:
        raise RuntimeError("a secret of the policy's")

    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://jeton") as client:
        answer = await client.post("/jeton/explain")
    assert answer.status_code == 500
    assert answer.json()["error"] == {
        "message": "jeton failed; the fault is not in your request.", "type": "api_error", "param": None, "code": None,
    }  # fmt: skip
    assert answer.headers["x-request-id"].startswith("req_")
