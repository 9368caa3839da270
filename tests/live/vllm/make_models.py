"""Makes tiny models with random weights that a real vLLM can serve, with nothing downloaded.

    python make_models.py DIRECTORY

DIRECTORY/small, DIRECTORY/large: Llamas, for chat and completions; their greedy text is whole lower-case words.
DIRECTORY/embed: a BERT, for embeddings, rerank and score.

The byte-pair tokenizer is trained on Python's own standard library and the weights come from a fixed seed, so two runs
on the same versions of the libraries make the same models. Runs in vLLM's environment, not in jeton's.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SEED = 20240607
LLAMA_VOCABULARY = 4096
BERT_VOCABULARY = 2048

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def corpus() -> Iterator[str]:
    """The standard library's sources, in a fixed order."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            yield path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def trained_tokenizer(vocabulary: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def make_llama(directory: Path, *, layers: int, hidden: int, seed: int) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    end_of_text, turn_end, pad = 0, 2, 3
    bpe = trained_tokenizer(LLAMA_VOCABULARY, special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(directory)

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=LLAMA_VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=end_of_text,
        eos_token_id=turn_end,
        pad_token_id=pad,
        initializer_range=0.2,  # large, for a varied greedy text instead of one token for ever
        dtype="float32",
    )
    model = LlamaForCausalLM(config).eval()
    # A row of zeros has the logit 0, and among thousands of random rows some are always above it: greedy decoding never
    # picks such a token. What is kept: words that tokenize to themselves, so that the text gives the same tokens again.
    words = {
        token_id
        for token, token_id in bpe.get_vocab().items()
        if re.fullmatch("\u0120[a-z]+", token) and bpe.encode(token.replace("\u0120", " ")).ids == [token_id]
    }
    with torch.no_grad():
        for token_id in set(range(LLAMA_VOCABULARY)) - words:
            model.lm_head.weight[token_id].zero_()
    model.generation_config = GenerationConfig(bos_token_id=end_of_text, eos_token_id=turn_end, pad_token_id=pad)
    model.save_pretrained(directory, safe_serialization=True)


def make_bert(directory: Path, *, seed: int) -> None:
    bpe = trained_tokenizer(BERT_VOCABULARY, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(directory)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=BERT_VOCABULARY,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=512,
        pad_token_id=0,
        dtype="float32",
    )
    BertModel(config).eval().save_pretrained(directory, safe_serialization=True)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    parent = Path(arguments[0])
    parent.mkdir(parents=True, exist_ok=True)
    make_llama(parent / "small", layers=2, hidden=128, seed=SEED)
    make_llama(parent / "large", layers=4, hidden=256, seed=SEED + 1)
    make_bert(parent / "embed", seed=SEED + 2)


if __name__ == "__main__":
    main(sys.argv[1:])
