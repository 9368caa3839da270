"""What kind of task a prompt is, and how long an answer of that kind usually gets: for labels, people, and unknown prompts.

A decision list read from top to bottom: the first line that holds names the category. Where labels teach better lengths,
`learned.py` does; nothing here is trained.
"""

from collections.abc import Collection
from enum import StrEnum
from functools import lru_cache

from router.classify.words import clip, words
from router.domain.request import Prompt


class Category(StrEnum):
    """Every value `Prediction.category` can take."""

    TOOLS = "tools"
    TRANSLATION = "translation"
    CODE = "code"
    MATH = "math"
    EXTRACTION = "extraction"
    WRITING = "writing"
    REASONING = "reasoning"
    KNOWLEDGE = "knowledge"
    CHAT = "chat"
    OTHER = "other"


# Expected completion tokens where nothing better is known. Sources:
# tools: mean of 4,913 recorded tool calls in the BFCL result dump of 2024-08-11, characters ÷ 4.
# code: mean over RouterBench's MBPP of what gpt-4-1106-preview cost, less the prompt, at $10 and $30 per million tokens.
# math, knowledge: means of llama-3.1-70b-instruct on GSM8K (ZeroEval) and MMLU-Pro, characters ÷ 4.
# the rest: mean of the Azure conversation trace of 2023 (Patel et al., Splitwise, ISCA 2024).
COMPLETION_TOKENS = {
    Category.TOOLS: 40.0,
    Category.CODE: 304.0,
    Category.MATH: 144.0,
    Category.REASONING: 211.0,
    Category.KNOWLEDGE: 127.0,
    Category.EXTRACTION: 211.0,
    Category.WRITING: 211.0,
    Category.CHAT: 211.0,
    Category.OTHER: 211.0,
}


def _vocabulary(text: str) -> frozenset[bytes]:
    return frozenset(word.encode() for word in text.split())


_TRANSLATION = _vocabulary("translate translates translating translation translator")
_CODE = _vocabulary(
    "python javascript typescript java rust golang kotlin sql regex html css bash dockerfile yaml json api numpy pandas "
    "def import const printf println traceback stacktrace refactor debug compile compiler codebase unittest assert"
)
_CODE_WEAK = _vocabulary(
    "write function class method code program script algorithm array string loop return variable bug"
)
_MATH = _vocabulary(
    "solve equation equations integral derivative integer integers polynomial probability prove theorem triangle "
    "perimeter radius sqrt frac cdot modulo divisible remainder factorial logarithm sum product"
)
_QUANTITY = _vocabulary(
    "many much each every per twice half double triple percent total remaining left average times altogether cost costs"
)
_EXTRACTION = _vocabulary(
    "summarize summarise summary tldr extract classify categorize label sentiment keywords entities paraphrase"
)
_WRITING = _vocabulary(
    "write draft compose rewrite poem story essay email letter blog slogan headline lyrics song speech tweet caption novel "
    "brainstorm proofread haiku"
)
_REASONING = _vocabulary(
    "why explain analyze analyse compare contrast evaluate argue argument conclude infer deduce therefore suppose assume "
    "plan strategy derive justify implies puzzle plaintiff defendant critique tradeoffs"
)
_KNOWLEDGE = _vocabulary("who whom whose what when where which")
_HOW_MUCH = _vocabulary("many much long far old fast")
_ALL = _CODE | _CODE_WEAK | _MATH | _QUANTITY | _REASONING | _KNOWLEDGE | _HOW_MUCH | {b"how"}
# In a short text one sign makes a formula; a longer one may hold it by the way.
_FORMULA_WORDS = 20
# Longer texts hold numbers and words of quantity by the way.
_PROBLEM_WORDS = 150
_FIRST_OPTION = ("\nA.", "\nA)", "\n(A)")
# An instruction stands near the start; what follows is often the material it is about.
_INSTRUCTION_WORDS = 24


def categorize(prompt: Prompt, found: list[bytes], distinct: set[bytes]) -> Category:
    """The category of a prompt; `found` are the words of `prompt.text`, `distinct` the same without repetition."""
    if prompt.has_tools:
        return Category.TOOLS
    if not found:
        return Category.OTHER
    opening = found[:_INSTRUCTION_WORDS]
    if prompt.system_text:
        opening = [*opening, *_system_opening(prompt.system_text[:256])]
    vocabulary = _ALL & distinct
    text = clip(prompt.text)
    if _any(_TRANSLATION, opening):
        return Category.TRANSLATION
    if "```" in text or _any(_CODE, vocabulary) or _count(_CODE_WEAK, vocabulary) >= 2:
        return Category.CODE
    if _is_math(text, found, vocabulary):
        return Category.MATH
    if prompt.has_json_schema or _any(_EXTRACTION, opening):
        return Category.EXTRACTION
    if _any(_WRITING, opening):
        return Category.WRITING
    if _any(_REASONING, vocabulary):
        return Category.REASONING
    if _any(_KNOWLEDGE, vocabulary) or any(option in text for option in _FIRST_OPTION):
        return Category.KNOWLEDGE
    return Category.CHAT if text.isascii() or not _is_foreign(found) else Category.OTHER


@lru_cache(maxsize=256)
def _system_opening(text: str) -> tuple[bytes, ...]:
    """An application sends the same system text with every request."""
    return tuple(words(text)[:_INSTRUCTION_WORDS])


def _is_math(text: str, found: list[bytes], vocabulary: frozenset[bytes]) -> bool:
    """Formulas, the vocabulary of mathematics, or a word problem: a short text with numbers and words of quantity."""
    if "\\frac" in text or _count(_MATH, vocabulary) >= 2:
        return True
    numbers = sum(map(bytes.isdigit, found))
    if not numbers:
        return False
    signs = sum(map(text.count, "=+*×÷^\\"))
    if numbers >= 2 and signs >= (1 if len(found) <= _FORMULA_WORDS else 2):
        return True
    asks_quantity = b"how" in vocabulary and _any(_HOW_MUCH, vocabulary)
    return len(found) <= _PROBLEM_WORDS and (
        (numbers >= 1 and asks_quantity) or (numbers >= 2 and _count(_QUANTITY, vocabulary) >= 2)
    )


def expected_completion_tokens(category: Category, prompt: Prompt) -> float:
    """Tokens that an answer of this category usually has; a translation is as long as its text."""
    if category is Category.TRANSLATION:
        return float(max(8, prompt.said_tokens_estimate, len(prompt.text) // 4))
    return COMPLETION_TOKENS[category]


def _any(vocabulary: frozenset[bytes], found: Collection[bytes]) -> bool:
    return not vocabulary.isdisjoint(found)


def _count(vocabulary: frozenset[bytes], found: frozenset[bytes]) -> int:
    return len(vocabulary & found)


def _is_foreign(found: list[bytes]) -> bool:
    """Most words are single non-ASCII characters: a script whose words we do not know."""
    return 2 * sum(word[0] >= 0x80 for word in found) > len(found)
