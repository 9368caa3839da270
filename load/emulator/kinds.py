"""What kind of answer is asked for, so that an engine can accept drafts of one kind more often than of another.

The kinds are those that the router tells apart, by its own words' rules: an emulated engine that knew others would test whether
the two agree on names, not what is learned.
"""

from load.emulator.language import decode
from load.emulator.reply import ReplyOptions
from router.classify.category import Category, categorize
from router.classify.words import words
from router.domain.request import Prompt
from router.pricing.yields import STRUCTURED

# All that there are.
ANSWER_KINDS = frozenset({STRUCTURED, *(category.value for category in Category)})


def kind_of(prompt: list[int], options: ReplyOptions) -> str:
    """STRUCTURED where a shape is laid down, else a task category."""
    if options.schema is not None or options.choices:
        return STRUCTURED
    text = options.user_text or decode(prompt)
    found = words(text)
    return categorize(Prompt(text, has_tools=bool(options.tools)), found, set(found)).value
