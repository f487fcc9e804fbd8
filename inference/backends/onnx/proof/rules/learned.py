"""Operators of classical machine learning (ai.onnx.ml): from [N, features] to one result for each row."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, constant, rows
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, OperatorRules, Rule, Unclear, like
from sluice.inference.backends.onnx.proof.rules.picking import same_rows
from sluice.inference.backends.onnx.proof.rules.shaping import placed
from sluice.inference.backends.onnx.proof.sizes import ONE, Size, product


def _table(operation: Operation, place: int = 0) -> tuple[Fact, tuple[Size, ...]]:
    """The fact and shape of an input [N, features]. These operators take a single axis for the features of one row."""
    fact, shape = operation.shaped(place)
    if fact.kind is Dependence.ROWS and (len(shape) != 2 or fact.axis != 0):
        raise Mixes("takes axis 0 for rows and axis 1 for features, and the rows are not there")
    return fact, shape


def _classified(operation: Operation) -> Sequence[Fact]:
    """A label for each row, and a score for each class."""
    fact, shape = _table(operation)
    if fact.kind is not Dependence.ROWS:
        return [constant(), constant()]
    given = [name for name in _CLASSES if not operation.is_cut(name)]
    classes = [operation.integers(name) or operation.texts(name) for name in given]
    known = next((each for each in classes if each), None)
    # For two classes, and for support vectors, there may be one score for each row, or one for each pair of classes.
    told = known is not None and len(known) > 2 and operation.name != "SVMClassifier"
    scores = Size(len(known)) if told and known else operation.symbols.fresh()
    return [rows(shape[:1], 0, fact.outer), rows([shape[0], scores], 0, fact.outer)]


_CLASSES = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")


def _estimated(operation: Operation) -> Sequence[Fact]:
    fact, shape = _table(operation)
    if fact.kind is not Dependence.ROWS:
        return [constant()]
    targets = operation.integer("n_targets", operation.integer("targets", 1))
    return [rows([shape[0], Size(targets) if operation.name != "SVMRegressor" else ONE], 0, fact.outer)]


def _each(operation: Operation) -> Sequence[Fact]:
    """Combines each element with a number for its feature."""
    fact, shape = operation.shaped(0)
    if fact.kind is Dependence.ROWS and fact.axis != 0:
        raise Mixes("takes axis 0 for rows and axis 1 for features, and the rows are not there")
    if fact.kind is Dependence.ROWS and len(shape) == 1:
        raise Unclear("takes a single axis for one row of features")
    return [like(fact, shape, fact.axis)]


def _elements(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    return [like(fact, shape, fact.axis)]


def _one_hot(operation: Operation) -> Sequence[Fact]:
    fact, shape = operation.shaped(0)
    large = operation.is_cut("cats_int64s")
    categories = None if large else operation.integers("cats_int64s") or operation.texts("cats_strings")
    size = Size(len(categories)) if categories else operation.symbols.fresh()
    return [like(fact, [*shape, size], fact.axis)]


def _extracted(operation: Operation) -> Sequence[Fact]:
    """Picks features by their places along the last axis."""
    fact, shape = operation.shaped(0)
    places, at = operation.shaped(1)
    if places.kind is Dependence.ROWS:
        return [_looked_up(fact, shape, places, at)]
    if fact.kind is Dependence.ROWS and (len(shape) < 2 or fact.axis == len(shape) - 1):
        raise Mixes("takes rows by their places in the batch")
    size = product(at)
    whole = [*shape[:-1], size] if len(shape) > 1 else [ONE, size]
    return [like(fact, whole, fact.axis)]


def _looked_up(table: Fact, shape: Sequence[Size], places: Fact, at: tuple[Size, ...]) -> Fact:
    """Looks up each row's places in a table; all of them are along the last axis."""
    if table.kind is not Dependence.CONSTANT:
        raise Mixes("takes from each row what another row says")
    along = placed(places, at, (product(at),))
    assert along.shape is not None
    before = shape[:-1] if len(shape) > 1 else (ONE,)
    return like(along, [*before, along.shape[0]], len(before))


def _side_by_side(operation: Operation) -> Sequence[Fact]:
    tables = [_table(operation, place) for place in range(len(operation.inputs))]
    with_rows = same_rows([fact for fact, _ in tables])
    if with_rows is None:
        return [constant()]
    if any([fact.kind is not Dependence.ROWS for fact, _ in tables]):
        raise Unclear("joins to each row what has no rows")
    widths = operation.integers("inputdimensions")
    width = operation.symbols.fresh() if not widths else Size(sum(widths))
    assert with_rows.shape is not None
    return [rows([with_rows.shape[0], width], 0, with_rows.outer)]


RULES: OperatorRules = {
    **{name: Rule(_classified) for name in ("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier")},
    **{name: Rule(_estimated) for name in ("LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor", "TreeEnsemble")},
    "Scaler": Rule(_each),
    "Imputer": Rule(_each),
    "Normalizer": Rule(_each),
    "Binarizer": Rule(_elements),
    "OneHotEncoder": Rule(_one_hot),
    "ArrayFeatureExtractor": Rule(_extracted),
    "FeatureVectorizer": Rule(_side_by_side),
}
