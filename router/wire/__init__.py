"""Bytes and JSON on both sides of the relay, as pure functions: the shapes of OpenAI, Anthropic and vLLM. Opens no socket."""
