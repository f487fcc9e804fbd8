"""From texts to a model's inputs, and from its outputs to embeddings. Pure, but the tokenizer has its own threads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from sluice.gateway.inputs.text.pooling import POOLINGS, scaled
from sluice.gateway.inputs.text.tokenizer import Tokenizer
from sluice.inference.config.model_config import TextConfig
from sluice.inference.errors import InvalidRequest, ModelFailed, RepositoryError, RequestTooLarge
from sluice.inference.types import STORAGE, Array, Datatype, Shape, Signature, Tensor, TensorSpec

IDS = (Datatype.INT64, Datatype.INT32)
FLOATS = (Datatype.FP32, Datatype.FP16, Datatype.FP64)

TOKEN_CHARACTERS, LONG_TIMES = 16, 4
"""A token seldom has more characters than this. A text is long if it has more than `LONG_TIMES` times as many for each
token that it may have: then its beginning is tokenised first."""

LAST_TOKENS = 64
"""The last tokens of a beginning, of which up to this many may differ in the whole text."""


class Parts(msgspec.Struct, frozen=True):
    """Texts by their length in tokens. `places[i]` has the indices of the texts that are the rows of `inputs[i]`.

    No text is padded to the length of another one here. Padding, if the model declares it, comes later, so the cache
    has each text under the tokens of that text alone.
    """

    places: tuple[tuple[int, ...], ...]
    inputs: tuple[tuple[Tensor, ...], ...]


class Embedder(msgspec.Struct, frozen=True):
    """How one model version embeds texts. `embedder_of` makes it."""

    config: TextConfig
    tokenizer: Tokenizer
    ids: TensorSpec
    mask: TensorSpec | None
    types: TensorSpec | None
    output: str
    batched: bool

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text. Raises `InvalidRequest`, naming the text, and `RequestTooLarge`."""
        characters = sum(map(len, texts))
        if characters > self.config.max_characters:
            raise RequestTooLarge(
                f"the texts have {characters} characters; one call takes at most {self.config.max_characters}"
            )
        if "" in texts:
            raise InvalidRequest(f"text {texts.index('')} is empty; a text has at least one character")
        long = TOKEN_CHARACTERS * self.config.max_tokens
        if max(map(len, texts), default=0) <= LONG_TIMES * long:
            ids = self.tokenizer.tokenise(texts)
        else:
            ids = [self._tokens_of(place, text, long) for place, text in enumerate(texts)]
        self._check_lengths(ids)
        return ids

    def _tokens_of(self, place: int, text: str, beginning: int) -> list[int]:
        """The token ids of one text, which may be long: longer and longer beginnings of it are tokenised.

        Without truncation, a beginning with too many tokens is enough to refuse the text. With truncation, the tokens
        are known once two beginnings, one twice as long as the other, have the same ones.
        """
        before: list[int] = []
        most = self.config.max_tokens
        while beginning < len(text):
            [ids] = self.tokenizer.tokenise([text[:beginning]])
            if not self.config.truncate and len(ids) > most + LAST_TOKENS:
                raise InvalidRequest(f"text {place} has more than {most} tokens; the model's maximum is {most}")
            if self.config.truncate and len(ids) == most and ids == before:
                return ids
            before, beginning = ids, 2 * beginning
        return self.tokenizer.tokenise([text])[0]

    def check(self, ids: Sequence[Sequence[int]]) -> None:
        """Raises `InvalidRequest` for token ids from a caller that the model does not have, or too many of them."""
        self._check_lengths(ids)
        for place, row in enumerate(ids):
            lowest, highest = min(row), max(row)
            if lowest < 0 or highest >= self.tokenizer.vocabulary:
                wrong = lowest if lowest < 0 else highest
                raise InvalidRequest(
                    f"text {place} has the token {_short(wrong)}; the model's tokens are 0 to "
                    f"{self.tokenizer.vocabulary - 1}"
                )

    def parts(self, ids: Sequence[Sequence[int]]) -> Parts:
        """The model's inputs for texts with these token ids: at least one text, each with at least one token."""
        places: dict[tuple[int, int], list[int]] = {}
        for place, row in enumerate(ids):
            # A model that is not batched takes one text at a time.
            places.setdefault((len(row), 0 if self.batched else place), []).append(place)
        return Parts(
            tuple([tuple(each) for each in places.values()]),
            tuple([self._inputs([ids[place] for place in each]) for each in places.values()]),
        )

    def embeddings(self, parts: Parts, outputs: Sequence[Array], dimensions: int | None) -> Array:
        """float32[texts, dimensions], in the order of the texts, out of the model's output for each part.

        Raises `InvalidRequest` if the model has fewer than the wanted dimensions, and `ModelFailed` for outputs of
        another shape than the model declared, and for numbers that are not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # infinite and NaN are refused below
            pooled = [
                self._pooled(output, inputs[0].array.shape)
                for output, inputs in zip(outputs, parts.inputs, strict=True)
            ]
        embeddings = np.empty((sum(map(len, parts.places)), pooled[0].shape[1]), np.float32)
        for places, vectors in zip(parts.places, pooled, strict=True):
            embeddings[list(places)] = vectors
        if dimensions is not None:
            if dimensions > embeddings.shape[1]:
                raise InvalidRequest(f"{dimensions} dimensions are wanted; the model has {embeddings.shape[1]}")
            embeddings = np.ascontiguousarray(embeddings[:, :dimensions])
        if not np.isfinite(embeddings).all():
            raise ModelFailed(f"output {self.output!r} holds numbers that are not finite")
        return scaled(embeddings) if self.config.normalise else embeddings

    def _check_lengths(self, ids: Sequence[Sequence[int]]) -> None:
        for place, row in enumerate(ids):
            if not row:
                raise InvalidRequest(f"text {place} has no tokens; a text has at least one")
            if len(row) > self.config.max_tokens:
                raise InvalidRequest(
                    f"text {place} has {len(row)} tokens; the model's maximum is {self.config.max_tokens}"
                )

    def _inputs(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        ids = np.array(rows, STORAGE[self.ids.datatype])
        tensors = [Tensor(self.ids.name, self.ids.datatype, ids)]
        if (mask := self.mask) is not None:
            tensors.append(Tensor(mask.name, mask.datatype, np.ones(ids.shape, STORAGE[mask.datatype])))
        if (types := self.types) is not None:
            tensors.append(Tensor(types.name, types.datatype, np.zeros(ids.shape, STORAGE[types.datatype])))
        return tuple(tensors)

    def _pooled(self, output: Array, ids: Shape) -> Array:
        """float32[rows, dimensions]. Vectors for padding, after those of the tokens, are ignored."""
        rows, tokens = ids
        pool = POOLINGS.get(self.config.pooling)
        if output.shape[0] != rows or output.ndim != (2 if pool is None else 3) or (pool and output.shape[1] < tokens):
            raise ModelFailed(
                f"output {self.output!r} has shape {list(output.shape)} for texts of {tokens} tokens; expected "
                + (f"[{rows}, dimensions]" if pool is None else f"[{rows}, {tokens}, dimensions]")
            )
        return output.astype(np.float32, copy=False) if pool is None else pool(output[:, :tokens])


def embedder_of(config: TextConfig, signature: Signature, tokenizer: Tokenizer) -> Embedder:
    """The embedder of a model. Raises `RepositoryError` if the configuration does not suit its signature."""
    inputs = {spec.name: spec for spec in signature.inputs}
    ids = _input(inputs, "ids", config.ids)
    mask = _optional_input(inputs, "mask", config.mask, "attention_mask")
    types = _optional_input(inputs, "types", config.types, "token_type_ids")
    taken = {spec.name for spec in (ids, mask, types) if spec is not None}
    if others := [name for name in inputs if name not in taken]:
        raise RepositoryError(
            f"text: nothing would be sent to the input {others[0]!r}; say with text.mask or text.types what it takes"
        )
    output = _output(config, signature)
    return Embedder(config, tokenizer, ids, mask, types, output, signature.batched)


def _optional_input(inputs: dict[str, TensorSpec], key: str, name: str | None, usual: str) -> TensorSpec | None:
    if name is None and usual not in inputs:
        return None
    return _input(inputs, key, usual if name is None else name)


def _input(inputs: dict[str, TensorSpec], key: str, name: str) -> TensorSpec:
    spec = inputs.get(name)
    if spec is None:
        raise RepositoryError(
            f"text.{key}: the model has no input {name!r}; it has {', '.join(map(repr, inputs)) or 'none'}"
        )
    if spec.datatype not in IDS or len(spec.shape) != 2 or spec.shape[1] is not None or spec.shape[0] not in (None, 1):
        raise RepositoryError(
            f"text.{key}: input {name!r} is {spec.datatype} of shape {_shape(spec)}; expected INT64 or INT32 of shape "
            "[-1, -1], a row for each text, of any length"
        )
    return spec


def _output(config: TextConfig, signature: Signature) -> str:
    outputs = {spec.name: spec for spec in signature.outputs}
    name = config.output
    if name is None:
        if len(outputs) > 1:
            raise RepositoryError(f"text.output: say which one of {', '.join(map(repr, outputs))} has the vectors")
        name = next(iter(outputs))
    spec = outputs.get(name)
    if spec is None:
        raise RepositoryError(f"text.output: the model has no output {name!r}; it has {', '.join(map(repr, outputs))}")
    rank = 2 if config.pooling == "none" else 3
    if spec.datatype not in FLOATS or len(spec.shape) != rank:
        wanted = "[-1, dimensions], a vector for each text" if rank == 2 else "[-1, -1, dimensions], one for each token"
        raise RepositoryError(
            f"text.output: output {name!r} is {spec.datatype} of shape {_shape(spec)}; with text.pooling = "
            f'"{config.pooling}", expected floats of shape {wanted}'
        )
    return name


def _shape(spec: TensorSpec) -> list[int]:
    return [-1 if size is None else size for size in spec.shape]


def _short(number: int) -> str:
    """A caller's number as a message shows it: it may have any number of digits."""
    return str(number) if abs(number) < 2**64 else "that needs more than 64 bits"
