"""Which front belongs to which dialect."""

from load.emulator.fronts.anthropic import Anthropic
from load.emulator.fronts.azure import Azure
from load.emulator.fronts.bedrock import Bedrock
from load.emulator.fronts.compatible import Deepinfra, Fireworks, Groq, Together
from load.emulator.fronts.front import Front
from load.emulator.fronts.openrouter import Openrouter
from load.emulator.fronts.vertex import Vertex
from load.emulator.spec import Dialect, ReplicaSpec

_FRONTS: dict[Dialect, type[Front]] = {
    Dialect.OPENAI: Front,
    Dialect.TOGETHER: Together,
    Dialect.FIREWORKS: Fireworks,
    Dialect.DEEPINFRA: Deepinfra,
    Dialect.GROQ: Groq,
    Dialect.OPENROUTER: Openrouter,
    Dialect.AZURE: Azure,
    Dialect.ANTHROPIC: Anthropic,
    Dialect.BEDROCK: Bedrock,
    Dialect.VERTEX: Vertex,
}


def front_of(spec: ReplicaSpec) -> Front | None:
    """None where there is nothing in front: vLLM itself."""
    front = _FRONTS.get(spec.dialect)
    return None if front is None else front(spec)
