"""What jeton knows of one inference request once its body is parsed."""

from enum import StrEnum

from router.domain.immutable import immutable
from router.domain.usage import ToolCalls


class Endpoint(StrEnum):
    """The kinds of billable work; the value is the name in metrics, logs and the ledger."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"
    TOKENIZE = "tokenize"


# Whose answer is generated text: it can be predicted, and recalled.
GENERATING = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES})
# Whose answer tells how likely its tokens were, whole or streamed: it can be put to a cascade's test.
TESTABLE = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})

# What is sent to them is sound.
AUDIO = frozenset({Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS})
# Whisper's frames (arXiv:2212.04356, 2.2), which a sound's prompt is estimated in; models that count it in tokens make fewer.
AUDIO_TOKENS_PER_SECOND = 50


def heard_seconds(endpoint: str, prompt_tokens: float) -> float:
    """How long a sound is whose prompt is estimated to have so many tokens; 0 where none is sent."""
    return prompt_tokens / AUDIO_TOKENS_PER_SECOND if endpoint in AUDIO else 0.0


def less_text(endpoint: Endpoint) -> str:
    """What a client can do so that its request may cost less, in the words of its API."""
    if endpoint not in GENERATING:
        return "send less"
    return f"set a smaller `{'max_output_tokens' if endpoint is Endpoint.RESPONSES else 'max_tokens'}`"


class Capability(StrEnum):
    """What a request may need of a backend. Each endpoint needs the capability of the same name.

    vision: images and videos. audio: sound in a conversation, heard or spoken. n: more than one choice. penalties: frequency and
    presence. single_tool_call: `parallel_tool_calls: false`. image_urls: images by their address, not in the body. extensions:
    members that are not in the core of OpenAI's chat completions.
    """

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    SCORE = "score"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"
    TOKENIZE = "tokenize"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    VISION = "vision"
    AUDIO = "audio"
    LOGPROBS = "logprobs"
    # What every backend that speaks OpenAI's API is taken to do; a provider with an API of its own may not.
    N = "n"
    SEED = "seed"
    LOGIT_BIAS = "logit_bias"
    PENALTIES = "penalties"
    JSON_OBJECT = "json_object"
    SINGLE_TOOL_CALL = "single_tool_call"
    REASONING_EFFORT = "reasoning_effort"
    USER = "user"
    IMAGE_URLS = "image_urls"
    EXTENSIONS = "extensions"


# Nobody lists these in a configuration: a backend has them unless its provider has not.
ASSUMED = frozenset(
    {
        Capability.N,
        Capability.SEED,
        Capability.LOGIT_BIAS,
        Capability.PENALTIES,
        Capability.JSON_OBJECT,
        Capability.SINGLE_TOOL_CALL,
        Capability.REASONING_EFFORT,
        Capability.USER,
        Capability.IMAGE_URLS,
        Capability.EXTENSIONS,
    }
)


@immutable
class Prompt:
    """The part of a request that the classifier reads. Never logged, never stored.

    text: the last user message (chat), the prompt (completions) or the input; at most a few kilobytes.
    system_text: the system message, shortened likewise.
    turns: messages in the conversation, 1 for a plain prompt.
    tokens_estimate: language tokens in the whole input, estimated; the backend's own count replaces it in the ledger.
    attached_tokens_estimate: of these, those of tools, their calls, and their results where these are no messages; not for the
        classifier.
    has_tools, has_json_schema, has_images, has_audio: what accompanies the text; images may be moving ones. has_files: so do
        files, or what the backend has kept of earlier answers.
    """

    text: str
    system_text: str = ""
    turns: int = 1
    tokens_estimate: int = 0
    attached_tokens_estimate: int = 0
    has_tools: bool = False
    has_json_schema: bool = False
    has_images: bool = False
    has_audio: bool = False
    has_files: bool = False

    @property
    def is_partly_elsewhere(self) -> bool:
        """Whether its tokens do not follow from the length of what was sent."""
        return self.has_images or self.has_audio or self.has_files

    @property
    def said_tokens_estimate(self) -> int:
        """Of what people and models said."""
        return self.tokens_estimate - self.attached_tokens_estimate


class Criticality(StrEnum):
    """Who goes first when there is not enough for all: sheddable work is turned away first, critical work last."""

    CRITICAL = "critical"
    STANDARD = "standard"
    SHEDDABLE = "sheddable"


@immutable
class Terms:
    """What a client asks of the routing of one request, in headers of ours.

    cost_nanousd_max: the most that an attempt may cost. deadline_seconds: from its arrival to the last byte. region: where the
    client is, as pools' round trips name it; "" where nothing says so.
    """

    cost_nanousd_max: int | None = None
    deadline_seconds: float | None = None
    criticality: Criticality = Criticality.STANDARD
    region: str = ""


NO_TERMS = Terms()


@immutable
class PrefixMark:
    """The conversation up to some point: a hash of the text until there (the tenant's salt included), and its tokens."""

    key: int
    tokens: int


@immutable
class HostedTools:
    """Tools that a provider is asked to run itself (`domain/usage.py`). calls: the most calls that there can be of each, by its
    name; calls_max: of all together."""

    calls: ToolCalls
    calls_max: int

    @property
    def expected_calls(self) -> ToolCalls:
        """One of each: nobody says how often a model will call."""
        return tuple((tool, 1) for tool, most in self.calls if most)[: self.calls_max]


@immutable
class InferenceRequest:
    """One request after parsing. `model` is what the client asked for: an alias, a backend, or a model's name.

    completion_tokens_max: the client's bound per choice, None where it set none.
    choices: how many completions it asked for, all prompts together; prompts: how many they share evenly.
    wants_usage, wants_continuous_usage: what the client itself asked of `stream_options`.
    body_bytes: the body's size; of one that is still arriving, the most that it may have.
    prefix: marks along the prompt, the shortest first; empty where nobody asks for prefix caches.
    service_tier: asked of whoever bills by the token, by its own name there; "" where that is the plain one.
    hosted_tools: that it asks for; None where it asks for none.
    """

    request_id: str
    tenant: str
    api_key_name: str
    endpoint: Endpoint
    model: str
    is_streaming: bool
    prompt: Prompt
    needs: frozenset[Capability]
    completion_tokens_max: int | None = None
    choices: int = 1
    prompts: int = 1
    wants_usage: bool = False
    wants_continuous_usage: bool = False
    body_bytes: int = 0
    terms: Terms = NO_TERMS
    prefix: tuple[PrefixMark, ...] = ()
    service_tier: str = ""
    hosted_tools: HostedTools | None = None
