"""An audio form streamed through: read as far as its `model`, then sent on as it arrives, never whole in memory.

OpenAI's SDKs send the fields before the file. Where the file comes first it has to be held, within the body limit, until the
model is known. What has been sent on is gone: such a request is tried once, unless the backend could not be reached at all.
"""

from collections.abc import AsyncIterator
from secrets import token_hex

from router.conversation import Conversation
from router.domain.fleet import Backend, EngineKind
from router.domain.request import AUDIO_TOKENS_PER_SECOND, Capability, Endpoint, Prompt
from router.errors import BadRequest
from router.wire.multipart import MultipartForm
from router.wire.parse import ParsedBody

# 16 kHz 16-bit mono, the least compressed of what is sent; so the estimate is low for compressed audio, and replaced by the
# backend's own count.
AUDIO_BYTES_PER_SECOND = 32_000


class Upload:
    """One form. parsed: what routing needs of it; is_begun: some of it has gone to a backend."""

    def __init__(
        self, call: Conversation, form: MultipartForm, pieces: AsyncIterator[bytes], parsed: ParsedBody
    ) -> None:
        self.parsed = parsed
        self.is_begun = False
        self._call = call
        self._form = form
        self._pieces = pieces

    @property
    def content_type(self) -> bytes:
        return b"multipart/form-data; boundary=" + self._form.boundary

    @property
    def is_streaming(self) -> bool:
        """Known for certain once the form has passed: its `stream` may come after the file."""
        return self._form.is_streaming

    @property
    def wants_usage(self) -> bool:
        return self._form.wants_usage

    async def body(self, backend: Backend) -> AsyncIterator[bytes]:
        """The form as the backend gets it. From its end on, the client is watched."""
        self.is_begun = True
        yield self._form.opening(backend.served_model) + self._form.take()
        async for piece in self._pieces:
            self._form.feed(piece)
            if out := self._form.take():
                yield out
        self._call.watch()
        yield self._form.closing(forces_usage=backend.engine is EngineKind.VLLM)


async def read_upload(
    call: Conversation, endpoint: Endpoint, content_type: bytes, bytes_max: int, silence_seconds: float
) -> Upload:
    """Read until the model is known. Raises BadRequest when the form names none."""
    form = MultipartForm(content_type, token_hex(16).encode())
    pieces = call.pieces(bytes_max, silence_seconds)
    async for piece in pieces:
        form.feed(piece)
        if "model" in form.fields:
            break
    model = form.fields.get("model", "").strip()
    if not model:
        raise BadRequest("The form must have a field `model`.", param="model")
    seconds = (call.content_length() or 0) / AUDIO_BYTES_PER_SECOND
    parsed = ParsedBody(
        members={},
        model=model,
        is_streaming=form.is_streaming,
        prompt=Prompt(text="", tokens_estimate=round(seconds * AUDIO_TOKENS_PER_SECOND)),
        needs=frozenset({Capability(endpoint.value)}),
        completion_tokens_max=None,
        choices=1,
        prompts=1,
        wants_usage=False,
        wants_continuous_usage=False,
    )
    return Upload(call, form, pieces, parsed)
