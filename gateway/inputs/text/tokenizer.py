"""The door to the `tokenizers` library, which is there with the extra `sluice-gateway[text]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sluice.inference.errors import InvalidRequest, RepositoryError, StartError

if TYPE_CHECKING:
    import tokenizers


class Tokenizer(Protocol):
    """Makes token ids of texts. Threads may share it."""

    vocabulary: int
    """Every token id is below this."""

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, special tokens included. Raises `InvalidRequest` for a text that has none."""
        ...


class FileTokenizer:
    """The tokenizer of a `tokenizer.json`, the format of Hugging Face's `tokenizers`. It is never changed once made.

    The library gives the interpreter free while it works, and shares many texts out among its own threads.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = 1 + max(tokenizer.get_vocab().values(), default=-1)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. Raises `InvalidRequest` for what is not in a vocabulary without an unknown token."""
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        except Exception as error:  # the library has no kind of its own
            raise InvalidRequest(f"the model's tokenizer does not take the input: {error}") from error


def load_tokenizer(file: Path, truncate_to: int | None) -> FileTokenizer:
    """The tokenizer in a file; it cuts what has more tokens than `truncate_to`.

    What the file says of truncation and padding is set aside. Raises `StartError` where the library is not installed,
    and `RepositoryError`, naming the file, where it holds no tokenizer.
    """
    try:
        import tokenizers
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
    except Exception as error:  # the library has no kind of its own
        # The library's words may have parts of the file in them, which is not always what it was taken for.
        place = re.search(r"at line \d+ column \d+", str(error))
        raise RepositoryError(
            f"text.tokenizer: {file} holds no tokenizer that can be used{f'; see {place[0][3:]}' if place else ''}"
        ) from None
    return FileTokenizer(tokenizer)
