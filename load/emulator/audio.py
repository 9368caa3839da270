"""/v1/audio/transcriptions and /v1/audio/translations: a form with a sound file in, text out.

How long a sound is, is read from a WAV header; other containers are taken at 128 kbit/s. What was said is the emulated model's
own invention, about three tokens a second.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from load.emulator import language
from load.emulator.errors import DONE, bad_request, invalid_body
from load.emulator.generation import Choice, Generation, Rendering, add_choices, new_generation
from load.emulator.http import Answer, HttpRequest
from load.emulator.reply import Channel, ReplyOptions
from load.emulator.wire import data_event

if TYPE_CHECKING:
    from load.emulator.replica import Replica

Task = Literal["transcribe", "translate"]

FILE_MB_MAX = 25  # vLLM's VLLM_MAX_AUDIO_CLIP_FILESIZE_MB
WINDOW_SECONDS = 30  # Whisper hears half a minute at a time
FRAMES_PER_SECOND = 100
DECODER_PROMPT_TOKENS = 4
TOKENS_PER_SECOND = 3
WINDOW_TOKENS_MAX = 444  # 448 positions of the decoder, less its prompt
COMPRESSED_BYTES_PER_SECOND = 16_000
FORMATS = ("json", "text", "verbose_json", "diarized_json")
LANGUAGES = (
    "af ar hy az be bs bg ca zh hr cs da nl en et fi fr gl de el he hi hu is id it ja kn kk ko lv lt mk ms mr mi ne no fa pl pt "
    "ro ru sr sk sl es sw sv tl ta th tr uk ur vi cy"
)
_MAGIC = (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"OggS", b"fLaC", b"\x1aE\xdf\xa3")


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: plain fields, and the bytes of the one named `file`."""

    fields: Mapping[str, str]
    file: bytes | None

    def is_true(self, name: str) -> bool:
        return self.fields.get(name, "").lower() in ("true", "1", "yes", "on")


def transcriptions(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    _answer(replica, request, answer, "transcribe")


def translations(replica: "Replica", request: HttpRequest, answer: Answer) -> None:
    _answer(replica, request, answer, "translate")


def _answer(replica: "Replica", request: HttpRequest, answer: Answer, task: Task) -> None:
    form = parse_form(request.body, request.headers.get("content-type", ""))
    if form.file is None:
        told = f"<dict of {len(form.fields)} items>"
        problem = {"type": "missing", "loc": "body.file", "msg": "Field required", "input": told}
        raise invalid_body([str(problem)], "body.file")
    replica.check_model(form.fields.get("model"))
    if form.fields.get("response_format", "json") not in FORMATS:
        raise bad_request("Currently only support response_format: `text`, `json`, `verbose_json` or `diarized_json`")
    spoken = form.fields.get("language")
    if spoken and spoken not in LANGUAGES.split():
        raise bad_request(f"Unsupported language: '{spoken}'.  Must be one of {LANGUAGES.split()}.")
    size_mb = len(form.file) / 2**20
    if size_mb > FILE_MB_MAX:
        raise bad_request("Maximum file size exceeded", "audio_filesize_mb", size_mb)
    seconds = audio_seconds(form.file)
    generation = new_generation(replica, answer, request, task, None)
    # The encoder hears one window at a time, so a long sound holds no more of the cache than half a minute does.
    frames = math.ceil(min(seconds, WINDOW_SECONDS) * FRAMES_PER_SECOND)
    prompt = [language.digest(form.file) % language.VOCABULARY_TOKENS] * (DECODER_PROMPT_TOKENS + frames)
    options = ReplyOptions(tokens_max=_tokens(form, seconds), ignores_eos=True)
    add_choices(generation, prompt, options, count=1, seed=0, salt="")
    is_stream = form.is_true("stream")
    rendering: Rendering = (
        AudioStream(generation, form, task) if is_stream else AudioAnswer(generation, form, task, seconds)
    )
    generation.start(rendering, is_stream=is_stream)


def _tokens(form: Form, seconds: float) -> int:
    """Tokens of the whole text. The client's bound holds for each window of sound, as in vLLM."""
    windows = max(1, math.ceil(seconds / WINDOW_SECONDS))
    bound = form.fields.get("max_completion_tokens", "")
    per_window = min(int(bound), WINDOW_TOKENS_MAX) if bound.isdigit() and int(bound) else WINDOW_TOKENS_MAX
    return max(1, min(windows * per_window, math.ceil(seconds * TOKENS_PER_SECOND)))


def parse_form(body: bytes, content_type: str) -> Form:
    """A multipart/form-data body. Raises the 400s that FastAPI answers."""
    kind, _, parameters = content_type.partition(";")
    marker = parameters.partition("boundary=")[2].strip().strip('"')
    if kind.strip().lower() != "multipart/form-data" or not marker:
        return Form({}, None)
    fields: dict[str, str] = {}
    file: bytes | None = None
    delimiter = f"\r\n--{marker}".encode("latin-1")
    for part in (b"\r\n" + body).split(delimiter)[1:]:
        head, separator, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if part.startswith(b"--") or not separator:
            continue
        name = head.partition(b'name="')[2].partition(b'"')[0].decode("utf-8", "replace")
        if name == "file":
            file = value
        elif name:
            fields[name] = value.decode("utf-8", "replace")
    return Form(fields, file)


def audio_seconds(sound: bytes) -> float:
    """The length of a sound. Raises vLLM's 400 for bytes that are none."""
    if sound[:4] == b"RIFF" and sound[8:12] == b"WAVE":
        position, bytes_per_second = 12, 0
        while position + 8 <= len(sound):
            name, size = struct.unpack_from("<4sI", sound, position)
            if name == b"fmt " and position + 20 <= len(sound):
                bytes_per_second = struct.unpack_from("<I", sound, position + 16)[0]
            elif name == b"data" and bytes_per_second:
                return float(min(size, len(sound) - position - 8) / bytes_per_second)
            position += 8 + size + size % 2
    elif sound.startswith(_MAGIC) or sound[4:8] == b"ftyp":
        return len(sound) / COMPRESSED_BYTES_PER_SECOND
    raise bad_request(
        "Invalid or corrupted audio data. Ensure the input is a valid audio or video file (e.g. a complete WAV, MP3, or MP4)."
    )


class AudioAnswer:
    """One JSON body at the end; `text` is JSON too, as recorded."""

    def __init__(self, generation: Generation, form: Form, task: Task, seconds: float) -> None:
        self._generation = generation
        self._form = form
        self._task = task
        self._seconds = seconds

    def begin(self) -> None:
        pass

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        pass

    def end(self) -> None:
        text = self._generation.choices[0].reply.text(Channel.CONTENT)
        value: dict[str, Any] = {"text": text}
        if self._form.fields.get("response_format") == "verbose_json":
            value = {
                "duration": float(self._seconds),
                "language": self._form.fields.get("language") or "en",
                "text": text,
                "segments": [self._segment(text)],
                "words": None,
            }
        elif self._task == "transcribe":
            value["usage"] = {"type": "duration", "seconds": math.ceil(self._seconds)}
        self._generation.answer.respond(200, orjson.dumps(value))

    def _segment(self, text: str) -> dict[str, Any]:
        return {
            "id": 0,
            "avg_logprob": -0.5,
            "compression_ratio": 1.5,
            "end": float(self._seconds),
            "no_speech_prob": None,
            "seek": 0,
            "start": 0.0,
            "temperature": float(self._form.fields.get("temperature") or 0),
            "text": text,
            "tokens": list(self._generation.choices[0].reply.token_ids),
        }


class AudioStream:
    """Chunks, one per token, under a name of their own."""

    def __init__(self, generation: Generation, form: Form, task: Task) -> None:
        self._generation = generation
        self._has_usage = form.is_true("stream_include_usage")
        self._is_continuous = self._has_usage and form.is_true("stream_continuous_usage_stats")
        self._object = "transcription.chunk" if task == "transcribe" else "translation.chunk"

    def begin(self) -> None:
        pass

    def tokens(self, choice: Choice, start: int, end: int) -> None:
        value: dict[str, Any] = {"delta": {"content": "".join(delta.text for delta in choice.reply.deltas[start:end])}}
        if end == len(choice.reply.token_ids):
            value |= {"finish_reason": choice.reply.finish_reason, "stop_reason": choice.reply.stop_reason}
        self._send([value], end if self._is_continuous else None)

    def end(self) -> None:
        if self._has_usage:
            self._send([], len(self._generation.choices[0].reply.token_ids))
        self._generation.answer.send(DONE)
        self._generation.answer.finish()

    def _send(self, choices: list[dict[str, Any]], produced: int | None) -> None:
        generation = self._generation
        event: dict[str, Any] = {"id": generation.id, "object": self._object, "created": generation.created}
        event |= {"model": generation.replica.spec.model, "choices": choices}
        if produced is not None:
            prompt = len(generation.choices[0].prompt)
            event["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt + produced, "completion_tokens": produced}
        generation.answer.send(data_event(event))
