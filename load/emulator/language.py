"""The emulated model's language: a tokenizer that can be undone, a chat template, and text that reads like prose.

Pure. Tokens are common words (one id each, with their leading blank) and pieces of up to three UTF-8 bytes for all else, so
that any text survives `decode(encode(text))`, and English costs about what a real tokenizer would charge. What the model
says is drawn from a seed by a small grammar; what it *means* is nobody's concern.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from random import Random

from load.emulator.words import (
    ADJECTIVES,
    ADVERBS,
    CONNECTIVES,
    DETERMINERS,
    FUNCTION_WORDS,
    NOUNS,
    PREPOSITIONS,
    VERBS,
)

IM_START, IM_END, THINK_START, THINK_END = 1, 2, 3, 4
SPECIAL = {0: "", IM_START: "<|im_start|>", IM_END: "<|im_end|>", THINK_START: "<think>", THINK_END: "</think>"}

_CAPITALISED = [*DETERMINERS, *PREPOSITIONS, *CONNECTIVES, *FUNCTION_WORDS]
_WORDS = list(
    dict.fromkeys(
        form
        for word in [
            *NOUNS, *VERBS, *ADJECTIVES, *ADVERBS, *DETERMINERS, *PREPOSITIONS, *CONNECTIVES, *FUNCTION_WORDS,
            *(word.capitalize() for word in _CAPITALISED), *(str(number) for number in range(100)),
        ]
        for form in (f" {word}", word)
    )
)  # fmt: skip
_PUNCTUATION = [
    ",",
    ".",
    "!",
    "?",
    ":",
    ";",
    "-",
    "\n",
    "\n\n",
    '"',
    "'",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "/",
    '":',
    '",',
    ' "',
    "  ",
]

_FIRST_WORD = 16
_WORD_IDS = {text: _FIRST_WORD + position for position, text in enumerate([*_PUNCTUATION, *_WORDS])}
_ID_WORDS = {number: text for text, number in _WORD_IDS.items()}
WORD_IDS = tuple(_ID_WORDS)
_FIRST_PIECE = 4096
_PIECE_STARTS = {1: _FIRST_PIECE, 2: _FIRST_PIECE + 2**8, 3: _FIRST_PIECE + 2**8 + 2**16}
VOCABULARY_TOKENS = _FIRST_PIECE + 2**8 + 2**16 + 2**24
PIECE_BYTES = 3

_SPLIT = re.compile(r"\n\n|  | ?[A-Za-z']+| ?\d{1,2}|[\":,]{2}| \"|\s|[^\sA-Za-z\d]")


def encode(text: str) -> list[int]:
    """Token ids of a text. Special tokens are never read out of text: they come from the chat template alone."""
    ids: list[int] = []
    known = _WORD_IDS.get
    for match in _SPLIT.findall(text):
        token = known(match)
        if token is not None:
            ids.append(token)
        else:
            ids.extend(_pieces(match.encode("utf-8", "surrogatepass")))
    return ids


def _pieces(raw: bytes) -> Iterable[int]:
    for start in range(0, len(raw), PIECE_BYTES):
        piece = raw[start : start + PIECE_BYTES]
        yield _PIECE_STARTS[len(piece)] + int.from_bytes(piece, "big")


def token_bytes(token: int) -> bytes:
    """What one token stands for; nothing, for an id that the vocabulary leaves unused."""
    if token in _ID_WORDS:
        return _ID_WORDS[token].encode()
    if token in SPECIAL:
        return SPECIAL[token].encode()
    for size in (3, 2, 1):
        if _PIECE_STARTS[size] <= token < _PIECE_STARTS[size] + 256**size:
            return (token - _PIECE_STARTS[size]).to_bytes(size, "big")
    return b""


def decode(ids: Iterable[int]) -> str:
    """The text of token ids; bytes that are no UTF-8 become U+FFFD, as in vLLM."""
    return b"".join(map(token_bytes, ids)).decode("utf-8", "replace")


def decode_each(ids: Sequence[int]) -> list[str]:
    """The text that each token adds to a stream: a token that ends inside a character adds nothing until it is whole."""
    texts: list[str] = []
    pending = b""
    for position, token in enumerate(ids):
        word = _ID_WORDS.get(token)
        if word is not None and not pending:
            texts.append(word)
            continue
        pending += token_bytes(token)
        try:
            text = pending.decode()
        except UnicodeDecodeError as error:
            is_cut = error.end == len(pending) and error.reason == "unexpected end of data"
            if is_cut and position + 1 < len(ids):
                texts.append("")
                continue
            text = pending.decode("utf-8", "replace")
        texts.append(text)
        pending = b""
    return texts


def chat_prompt(messages: Iterable[tuple[str, str]], *, has_generation_prompt: bool = True) -> list[int]:
    """ChatML, as the tiny models of the recordings use it: (role, text) pairs to token ids."""
    ids: list[int] = []
    for role, text in messages:
        ids += [IM_START, *encode(f"{role}\n{text}"), IM_END, *encode("\n")]
    if has_generation_prompt:
        ids += [IM_START, *encode("assistant\n")]
    return ids


_ASSISTANT_HEAD = [IM_START, *encode("assistant\n")]


def split_partial(prompt: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """A prompt, and the answer already begun at its end: what follows the last assistant head that is not closed.

    This is what makes a generation resumable from text or from token ids: the model goes on where it was cut off.
    """
    for start in range(len(prompt) - len(_ASSISTANT_HEAD), -1, -1):
        if prompt[start] == IM_END:
            break
        if prompt[start] == IM_START:
            head_end = start + len(_ASSISTANT_HEAD)
            if list(prompt[start:head_end]) == _ASSISTANT_HEAD:
                return prompt[:head_end], prompt[head_end:]
            break
    return prompt, ()


def digest(*parts: object) -> int:
    """A 64-bit number from anything with a repr; the same in every process, unlike `hash` of text."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def block_hashes(ids: Sequence[int], block_tokens: int, salt: str = "") -> list[int]:
    """Content names of the full blocks of a sequence, each covering everything before it; `salt` keeps tenants apart."""
    parent = digest(salt)
    hashes: list[int] = []
    for start in range(0, len(ids) - block_tokens + 1, block_tokens):
        parent = hash((parent, *ids[start : start + block_tokens]))  # of integers: the same in every process
        hashes.append(parent)
    return hashes


def prose(random: Random, tokens: int) -> list[int]:
    """Exactly `tokens` ids of plausible English. A longer text with the same seed begins with the shorter one."""
    ids: list[int] = []
    pick = random.choice
    while len(ids) < tokens:
        words = [
            pick(DETERMINERS).capitalize(),
            pick(ADJECTIVES),
            pick(NOUNS),
            pick(VERBS),
            pick(DETERMINERS),
            pick(NOUNS),
        ]
        if random.random() < 0.5:
            words += [pick(PREPOSITIONS), pick(DETERMINERS), pick(ADJECTIVES), pick(NOUNS)]
        if random.random() < 0.4:
            words += [pick(CONNECTIVES), pick(DETERMINERS), pick(NOUNS), pick(VERBS), pick(ADVERBS)]
        is_opening = not ids or ids[-1] == _WORD_IDS["\n\n"]
        ids += [_WORD_IDS[words[0] if is_opening else f" {words[0]}"], *(_WORD_IDS[f" {word}"] for word in words[1:])]
        ids.append(_WORD_IDS["."])
        if random.random() < 0.08:
            ids.append(_WORD_IDS["\n\n"])
    return ids[:tokens]
