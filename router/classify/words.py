"""Text to words, and words to hashed features: the one tokenization that rules and learned model share.

Everything is bounded, whatever comes in: at most `HEAD_BYTES + TAIL_BYTES` of UTF-8 are read (the head says what is asked,
the tail often repeats it), so a megabyte costs what a page costs. Hashes are CRC-32 and integer mixing, the same in every
process and on every platform; an array file trained elsewhere stays valid.
"""

import re
from itertools import pairwise
from zlib import crc32

import numpy as np
import numpy.typing as npt

HEAD_BYTES = 1280
TAIL_BYTES = 512
WORDS_MAX = 320

# Runs of ASCII letters and digits; any other character stands alone, so that scripts without spaces have words too.
_WORD = re.compile(rb"[a-z0-9]+|[\xc2-\xf4][\x80-\xbf]*")
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
# In ASCII alone the same words stand between spaces, once all that is no word has become one: a tenth of the time.
_ASCII_WORDS = bytes(byte if chr(byte).isalnum() else 32 for byte in _LOWER[:128]) + _LOWER[128:]

# Odd constants that scatter bits: 2^32 ÷ golden ratio (Knuth, TAOCP 6.4), and MurmurHash3's finalizer.
_GOLDEN = np.uint32(0x9E3779B1)
_MURMUR = np.uint32(0x85EBCA6B)

Hashes = npt.NDArray[np.uint32]

# Distinct buckets in ascending order.
Buckets = list[int] | Hashes

# Up to so many different words Python's own loops are quicker than numpy's calls.
FEW_WORDS = 24


def clip(text: str) -> str:
    """Head and tail of a text too long to be read whole, with a line between them."""
    if len(text) <= HEAD_BYTES + TAIL_BYTES:
        return text
    return f"{text[:HEAD_BYTES]}\n{text[-TAIL_BYTES:]}"


def words(text: str) -> list[bytes]:
    """The words of a text in order, lower case, at most WORDS_MAX (the middle goes first)."""
    data = clip(text).encode("utf-8", "replace")
    if len(data) > HEAD_BYTES + TAIL_BYTES + 1:
        data = data[:HEAD_BYTES] + b"\n" + data[-TAIL_BYTES:]
    found = data.translate(_ASCII_WORDS).split() if data.isascii() else _WORD.findall(data.translate(_LOWER))
    if len(found) <= WORDS_MAX:
        return found
    tail = WORDS_MAX // 4
    return found[: WORDS_MAX - tail] + found[-tail:]


def word_hashes(found: list[bytes]) -> Hashes:
    """One 32-bit hash per word, in order; repeats are kept."""
    return np.fromiter(map(crc32, found), np.uint32, len(found))


def pair_hashes(single: Hashes) -> Hashes:
    """One 32-bit hash per pair of neighbours. Order matters: "not all" is not "all not"."""
    mixed = single[:-1] * _GOLDEN + single[1:]
    mixed ^= mixed >> np.uint32(15)
    mixed *= _MURMUR
    mixed ^= mixed >> np.uint32(13)
    return mixed


def buckets(hashes: Hashes, bits: int) -> Hashes:
    """The distinct buckets, of 2^bits, that the hashes fall in, ascending. Presence counts, frequency does not: it
    ranked unseen questions slightly better."""
    if not hashes.size:
        return hashes
    sorted_buckets = hashes >> np.uint32(32 - bits)
    sorted_buckets.sort()
    is_first = np.empty(sorted_buckets.size, np.bool_)
    is_first[0] = True
    np.not_equal(sorted_buckets[1:], sorted_buckets[:-1], out=is_first[1:])
    return sorted_buckets[is_first]


def word_buckets(
    found: list[bytes], distinct: set[bytes], word_bits: int, feature_bits: int
) -> tuple[Buckets, Buckets]:
    """The buckets of the words alone, and those of words and pairs together, ascending. distinct: the words, each once.

    A text of few different words goes word by word: numpy's ten calls cost as much as that, the more so in a process that
    does other things in between. Both ways give the same buckets.
    """
    if len(distinct) > FEW_WORDS:
        single = word_hashes(found)
        return buckets(single, word_bits), buckets(np.concatenate((single, pair_hashes(single))), feature_bits)
    hash_of = {word: crc32(word) for word in distinct}
    hashes = set(hash_of.values())
    word_shift, feature_shift = 32 - word_bits, 32 - feature_bits
    kinds = sorted({one >> word_shift for one in hashes})
    for first, second in set(pairwise(found)):
        mixed = (hash_of[first] * 0x9E3779B1 + hash_of[second]) & 0xFFFFFFFF  # as `pair_hashes`
        mixed = ((mixed ^ mixed >> 15) * 0x85EBCA6B) & 0xFFFFFFFF
        hashes.add(mixed ^ mixed >> 13)
    return kinds, sorted({one >> feature_shift for one in hashes})
