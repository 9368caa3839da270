"""What clients send in tests: a conversation, tools, a schema, a picture, a sound, a form."""

import io
import wave
from typing import Any

HELLO: Any = [{"role": "user", "content": "Say hello to the world, please."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "get_clock", "parameters": {"type": "object", "properties": {}}}}
CITY: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["name", "people"],
            "additionalProperties": False,
        },
    },
}
# A one-pixel PNG.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def sound(seconds: float = 1.0) -> bytes:
    """Silence as a WAV file, 16 kHz mono."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(bytes(int(seconds * 32_000)))
    return file.getvalue()


def form(*parts: tuple[str, str | bytes], boundary: str = "limit") -> bytes:
    """A multipart body with its parts in this order; bytes are a file."""
    lines = []
    for name, value in parts:
        is_file = isinstance(value, bytes)
        file_name = '; filename="sound.wav"\r\ncontent-type: audio/wav' if is_file else ""
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{file_name}\r\n\r\n'
        lines.append(head.encode() + (value if isinstance(value, bytes) else value.encode()) + b"\r\n")
    return b"".join(lines) + f"--{boundary}--\r\n".encode()
