"""Operators on texts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, Padded, computed, constant, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, like


def _each(operation: Operation) -> Sequence[Fact]:
    fact = operation.needed(0)
    return [computed(fact)]


def _normalised(operation: Operation) -> Sequence[Fact]:
    """Normalises texts one by one. Stopwords are removed from the axis, which changes its size."""
    fact, shape = operation.shaped(0)
    if fact.kind is Dependence.ROWS and len(shape) != 1:
        raise Unclear("takes texts along one axis, and no more than one row of them")
    if not operation.texts("stopwords"):
        return [computed(fact)]
    if fact.kind is Dependence.ROWS:
        raise Mixes("takes stopwords out, so that the number of rows changes with what stands in them")
    return [like(fact, [*shape[:-1], operation.symbols.fresh()], 0)]


def _split(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    if fact.kind is not Dependence.ROWS:
        return [constant([*shape, operation.symbols.fresh()]), constant(shape)]
    longest = Fact(Dependence.MIXED, because="StringSplit fills each row up to the length of the longest of the batch")
    return [longest, like(fact, shape, fact.axis)]


def _tokenized(operation: Operation) -> Sequence[Fact]:
    """[N] -> [N, most tokens], or [N, C] -> [N, C, most tokens], padded to the longest text of the batch."""
    fact, shape = operation.shaped(0)
    whole = [*shape, operation.symbols.fresh()]
    if fact.kind is not Dependence.ROWS:
        return [constant(whole)]
    filler = operation.attribute("pad_value")
    tokens = rows(whole, fact.axis, fact.outer)
    return [msgspec.structs.replace(tokens, mark=Padded(b"" if filler is None else filler.s))]


def _counted(operation: Operation) -> Sequence[Fact]:
    """TfIdfVectorizer: [N, C] -> [N, features]; n-grams that are not in the pool are ignored."""
    fact, shape = operation.shaped(0)
    if fact.kind is not Dependence.ROWS:
        return [constant([*shape[:-1], operation.symbols.fresh()])]
    if len(shape) != 2 or fact.axis != 0:
        raise Mixes("counts the words of all rows together")
    if not fact.plain and not isinstance(fact.mark, Padded):
        raise Mixes("counts the places of rows")
    if isinstance(fact.mark, Padded):
        pool = operation.texts("pool_strings")
        if not pool:  # a large pool is left out when the file is read
            raise Unclear("counts words of padded rows, and it is not known whether the filler is one of them")
        if fact.mark.filler in pool:
            raise Mixes("counts the filler of rows, which are as long as the longest of the batch")
    return [rows([shape[0], operation.symbols.fresh()], 0, fact.outer)]


RULES: OperatorRules = {
    "StringNormalizer": Rule(_normalised),
    "StringSplit": Rule(_split),
    "RegexFullMatch": Rule(_each),
    "TfIdfVectorizer": Rule(_counted, of_marks=True),
}

LEARNED_RULES: OperatorRules = {"LabelEncoder": Rule(_each), "CategoryMapper": Rule(_each)}

MICROSOFT_RULES: OperatorRules = {"Tokenizer": Rule(_tokenized)}
