"""Tokenizers of the library `tokenizers`. Only this file imports it; the extra `sluice-gateway[text]` installs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sluice.inference.errors import InvalidRequest, RepositoryError, StartError

if TYPE_CHECKING:
    import tokenizers


class Tokenizer(Protocol):
    """Makes token ids out of texts. Threads may share it."""

    vocabulary: int
    """Every token id is below this."""

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, special tokens included. Raises `InvalidRequest` for a text that it cannot tokenise."""
        ...


class FileTokenizer:
    """The tokenizer of a `tokenizer.json`, the format of Hugging Face's `tokenizers`. It never changes.

    The library releases the interpreter's lock while it works, and divides many texts among threads of its own.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = 1 + max(tokenizer.get_vocab().values(), default=-1)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. Raises `InvalidRequest` for a word outside a vocabulary without an unknown token."""
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        except Exception as error:  # the library has no error class of its own
            raise InvalidRequest(f"the model's tokenizer does not take the input: {error}") from error


def load_tokenizer(file: Path, truncate_to: int | None) -> FileTokenizer:
    """The tokenizer in a file. It truncates texts with more tokens than `truncate_to`; `None` is no bound.

    Truncation and padding in the file are ignored. Raises `StartError` if the library is not installed, and
    `RepositoryError`, naming the file, if that has no tokenizer.
    """
    try:
        import tokenizers  # late: an optional extra
    except ModuleNotFoundError as error:
        raise StartError(
            f"{file} is a tokenizer, but {error.name} is not installed; install the extra sluice-gateway[text]"
        ) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if truncate_to is not None:
            tokenizer.enable_truncation(truncate_to)
    except Exception as error:  # the library has no error class of its own
        # The library's message may quote the file, which may be no tokenizer but something private.
        place = re.search(r"at line \d+ column \d+", str(error))
        raise RepositoryError(
            f"text.tokenizer: {file} holds no tokenizer that can be used{f'; see {place[0][3:]}' if place else ''}"
        ) from None
    return FileTokenizer(tokenizer)
