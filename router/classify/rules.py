"""The hand-written half: how much a larger model is likely to be worth on a prompt, from what the prompt asks for.

The rules exist for prompts unlike anything with labels, where learned models are at chance. They are few, each a list of
words and a weight that a person can dispute; the weights are round numbers set by hand. Nothing here knows of the learned
model.
"""

from dataclasses import dataclass
from math import log2

from router.domain.request import Prompt


@dataclass(frozen=True, slots=True)
class Rule:
    """`points` for each occurrence of a word, counted at most `cap` times: a long text must not win by repetition."""

    name: str
    points: float
    cap: int
    words: str


# A word belongs to one rule. The reason for each rule stands beside it.
RULES = (
    # Cases to keep apart.
    Rule("conditions", 0.2, 6, "if suppose assume assuming given let when unless whether provided otherwise"),
    # The classic slip of small models: the answer to the opposite question.
    Rule("negation", 0.3, 6, "not except least never cannot without neither nor none no false incorrect unlike"),
    # Several things must hold, or be done, at once.
    Rule("conjunction", 0.2, 6, "both and or either also respectively together than"),
    # Constraints to keep in mind to the end.
    Rule("obligation", 0.1, 6, "must should only exactly most ensure required need needs allowed"),
    # Steps whose order matters.
    Rule("sequence", 0.1, 6, "then after before next first second finally last until while during later"),
    # Arithmetic in words.
    Rule(
        "quantity",
        0.1,
        6,
        "each every per twice half double triple third percent times more less fewer total remaining left rest "
        "average many altogether",
    ),
    # Reasons instead of facts.
    Rule("explanation", 0.1, 6, "why explain because therefore cause causes reason how hence thus since"),
    # Programs either run or do not.
    Rule(
        "program",
        0.3,
        6,
        "python function code program return def class assert array string list algorithm method write implement "
        "sql javascript java regex",
    ),
    # Dense prose with exact terms.
    Rule("law", 0.2, 6, "plaintiff defendant court law contract state rights jury constitutional statute"),
)

# A bare look-up ("who sang …", "when did …"): both tiers know it, or neither does.
LOOKUP_OPENINGS = frozenset({b"who", b"when", b"where"})
LOOKUP_POINTS = -1.0
# A doubling of what is read, of the turns, of what was too long to be read. Length is the strongest single sign there is.
LENGTH_POINTS = 1.0
TURNS_POINTS = 0.3
UNREAD_POINTS = 0.25
# A call has to name one function among several and fill it in exactly.
TOOLS_POINTS = 0.5

# By word: the number of its rule, from 1.
_RULE_OF = {word.encode(): number for number, rule in enumerate(RULES, 1) for word in rule.words.split()}


def difficulty(prompt: Prompt, found: list[bytes]) -> float:
    """Points, about 2 (a greeting) to 20 (a long brief full of conditions); `found` are the words of `prompt.text`.

    Only the order means something; the classifier calibrates it.
    """
    hits = [*filter(None, map(_RULE_OF.get, found))]
    points = LENGTH_POINTS * log2(4 + len(found))
    for number in sorted(set(hits)):  # in the rules' order: a sum of floats depends on it
        rule = RULES[number - 1]
        points += rule.points * min(hits.count(number), rule.cap)
    if found and found[0] in LOOKUP_OPENINGS:
        points += LOOKUP_POINTS
    points += TURNS_POINTS * log2(max(1, prompt.turns))
    points += UNREAD_POINTS * log2(max(1.0, prompt.said_tokens_estimate / (32 + 2 * len(found))))
    if prompt.has_tools:
        points += TOOLS_POINTS
    return points
