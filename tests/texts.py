"""A small tokenizer, made in code, for models such as `tests.models.texts`."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = "to be or not that is the question whether tis nobler in mind suffer slings and arrows of outrageous fortune"
EMBEDDER = """
[text]
pooling = "mean"
ids = "ids"
mask = "mask"
output = "logits"
max_tokens = 24
dimensions = true

[padding.inputs.ids]
buckets = [8, 16, 32]

[padding.inputs.mask]
like = "ids"
"""
"""A model.toml for `tests.models.texts`."""

UNKNOWN, CLS, SEP = "[UNK]", "[CLS]", "[SEP]"


def word_tokenizer() -> Tokenizer:
    """Each word is a token, between `[CLS]` and `[SEP]`."""
    vocabulary = {token: place for place, token in enumerate([UNKNOWN, CLS, SEP, *WORDS.split()])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, vocabulary[CLS]), (SEP, vocabulary[SEP])]
    )
    return tokenizer


def write_tokenizer(folder: Path, name: str = "tokenizer.json") -> Path:
    file = folder / name
    word_tokenizer().save(str(file))
    return file
