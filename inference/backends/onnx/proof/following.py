"""Follows the rows through a graph, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from sluice.inference.backends.onnx.proof import control
from sluice.inference.backends.onnx.proof.constants import of_constant, of_tensor
from sluice.inference.backends.onnx.proof.facts import Dependence, Fact, Padded, computed, constant, mixed, unknown
from sluice.inference.backends.onnx.proof.operation import Mixes, Operation, Rule, Unclear
from sluice.inference.backends.onnx.proof.rules import RULES
from sluice.inference.backends.onnx.proof.rules.drawing import DRAWING
from sluice.inference.backends.onnx.proof.rules.together import takes_first_axis
from sluice.inference.backends.onnx.proof.sizes import Symbols
from sluice.inference.backends.onnx.proof.structure_pb2 import Attribute, Function, Graph, Model, Node, OperatorSet

MOST_STEPS = 200_000
"""The most operators that are followed; those in loops and functions count each time."""

MOST_DEPTH = 40
"""The deepest nesting of graphs and functions."""


class OutOfBounds(Exception):
    """The graph takes too long, its functions call too deeply, or it is ambiguous. The message says which."""


class FollowedOperator(msgspec.Struct, frozen=True):
    """One operator that was followed: its name, its depth in loops and functions, and the facts of its outputs."""

    operator: str
    name: str
    depth: int
    outputs: tuple[tuple[str, Fact], ...]


class Scope(msgspec.Struct):
    """The tensors that a node may read, by name, including those of the graphs around it."""

    facts: dict[str, Fact]
    outer: Scope | None = None
    alone: bool = False
    """Whether rows of the graphs around it must not be read."""
    own: frozenset[str] = frozenset()
    """The outputs of all its nodes, including later ones: the engine accepts nodes in any order."""

    def find(self, name: str) -> Fact:
        """The fact of a tensor."""
        scope: Scope | None = self
        alone = False
        while scope is not None:
            fact = scope.facts.get(name)
            if fact is not None:
                if alone and fact.kind in (Dependence.ROWS, Dependence.COUNT):
                    return mixed("a loop through the rows reads all of them in each step")
                return fact
            if name in scope.own:
                break
            alone = alone or scope.alone
            scope = scope.outer
        return unknown(f"no operator before it gives the tensor {name!r}")


class Setting(msgspec.Struct, frozen=True):
    """The context of nodes: the versions of operator sets, the attributes of the function around them, the depth."""

    opsets: Mapping[str, int]
    attributes: Mapping[str, Attribute]
    depth: int


class Follower:
    """Follows the graphs of one model, within bounds. Raises `OutOfBounds`.

    `tick` is called before each operator and may raise it, too. If `recorded`, `steps` has all operators that were
    followed, in the main graph and deeper.
    """

    def __init__(self, model: Model, tick: Callable[[], None], *, recorded: bool = False) -> None:
        self.symbols = Symbols()
        self.steps: list[FollowedOperator] = []
        self._functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        self._tick = tick
        self._recorded = recorded
        self._count = 0
        self._turned = False

    def follow(self, graph: Graph, scope: Scope, setting: Setting) -> Scope:
        """Follows a graph whose inputs are in the scope. Adds its other tensors to the scope, and returns it."""
        scope.own = frozenset([name for node in graph.node for name in node.output])
        stored = [(tensor.name, of_tensor(tensor)) for tensor in graph.initializer]
        stored += [(sparse.values.name, constant()) for sparse in graph.sparse_initializer]
        for name, fact in stored:
            scope.facts[name] = _given_twice(name) if name in scope.facts else fact
        self._nodes(graph.node, scope, setting)
        return scope

    def _nodes(self, nodes: Sequence[Node], scope: Scope, setting: Setting) -> None:
        if setting.depth > MOST_DEPTH:
            raise OutOfBounds(f"its graphs and functions stand more than {MOST_DEPTH} deep in one another")
        for node in nodes:
            self._count += 1
            if self._count > MOST_STEPS:
                raise OutOfBounds(f"more than {MOST_STEPS:,} operators would have to be followed")
            self._tick()
            facts = self._outcome(node, scope, setting)
            named = [
                (name, facts[place] if place < len(facts) else unknown(f"{_title(node)} has an output {place}"))
                for place, name in enumerate(node.output)
                if name
            ]
            scope.facts.update([(name, _given_twice(name) if name in scope.facts else fact) for name, fact in named])
            if self._recorded:
                self.steps.append(FollowedOperator(node.op_type, node.name, setting.depth, tuple(named)))

    def _outcome(self, node: Node, scope: Scope, setting: Setting) -> Sequence[Fact]:
        inputs = [scope.find(name) if name else None for name in node.input]
        given = [fact for fact in inputs if fact is not None]
        attributes = _attributes(node, setting.attributes)
        try:
            function = self._functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                return self._called(function, inputs, attributes, setting)
            if node.domain in ("", "ai.onnx") and node.op_type == "Constant":
                return [of_constant(attributes)]
            opset = _opset(setting, node.domain)
            operation = Operation(node.op_type, opset, attributes, inputs, len(node.output), self.symbols)
            holds_graphs = control.OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            rule = RULES.get(node.domain, {}).get(node.op_type)
            if holds_graphs is not None:
                rule = _around(holds_graphs, self._block(operation, scope, setting))
            return self._by_rule(node, operation, rule, given)
        except Mixes as because:
            return self._all(node, given, mixed(f"{_title(node)} {because}"))
        except Unclear as because:
            return self._all(node, given, unknown(f"{_title(node)} {because}"))

    def _block(self, operation: Operation, scope: Scope, setting: Setting) -> control.Block:
        within = Setting(setting.opsets, setting.attributes, setting.depth + 1)

        def follow(graph: Graph, facts: dict[str, Fact], alone: bool) -> list[Fact]:
            inside = self.follow(graph, Scope(facts, scope, alone), within)
            return [inside.find(value.name) for value in graph.output]

        return control.Block(
            f"{operation.name} {self._count}",
            operation.opset,
            operation.attributes,
            operation.inputs,
            operation.outputs,
            self.symbols,
            follow,
        )

    def _by_rule(self, node: Node, operation: Operation, rule: Rule | None, given: Sequence[Fact]) -> Sequence[Fact]:
        worst = max(given, key=_badness, default=None)
        if node.op_type == "Shape" and worst is not None and worst.kind is Dependence.MIXED and worst.shape is not None:
            return rule.follow(operation) if rule is not None else [worst]
        if worst is not None and worst.kind is Dependence.UNKNOWN and takes_first_axis(operation):
            # The rows may not be along this axis any more. But they may, and a trial would not show a rare influence.
            may_mix = unknown(f"{_title(node)} takes axis 0 together, where the rows should be: {worst.because}")
            return [msgspec.structs.replace(may_mix, hidden=True)] * len(node.output)
        if worst is not None and worst.kind >= Dependence.UNKNOWN:
            return [msgspec.structs.replace(worst, shape=None)] * len(node.output)
        if rule is None:
            raise Unclear(f"is an operator{f' of {node.domain}' if node.domain else ''} that is not known here")
        if not rule.of_counts and any([fact.kind is Dependence.COUNT for fact in given]):
            raise Mixes("computes with how many rows there are")
        self._turned = self._turned or node.op_type == "Transpose"
        if node.op_type == "MatMul" and self._turned and any([fact.rank == 1 for fact in given]):
            # ONNX Runtime fuses the two operators; with a vector, the fused one reads elements of other rows.
            raise Unclear("multiplies by a vector behind a Transpose, which the engine does wrongly")
        operation.check_flags()
        if not rule.of_marks and not all([fact.plain for fact in given]):
            return self._of_marks(node, operation, rule)
        facts = rule.follow(operation)
        return [_titled(node, fact) if fact.because else fact for fact in facts]

    def _of_marks(self, node: Node, operation: Operation, rule: Rule) -> Sequence[Fact]:
        """The facts of outputs computed from the places of rows: MIXED elements, but the shape is known."""
        marks = [fact.mark for fact in operation.inputs if fact is not None and not fact.plain]
        if any([isinstance(mark, Padded) for mark in marks]):
            raise Mixes("reads rows that are filled up to the length of the longest of the batch")
        operation.inputs = tuple([None if fact is None else computed(fact, fact.content) for fact in operation.inputs])
        reads = mixed(f"{_title(node)} reads the places of rows in the batch")
        return [msgspec.structs.replace(reads, shape=fact.shape) for fact in rule.follow(operation)]

    def _all(self, node: Node, given: Sequence[Fact], fact: Fact) -> Sequence[Fact]:
        """One fact for all outputs. If all inputs are constants, so are the outputs of any operator.

        That does not hold for an operator with graphs in it, which may read other tensors, nor for one that draws
        random numbers.
        """
        own = node.op_type not in DRAWING and not any([each.HasField("g") or each.graphs for each in node.attribute])
        if own and all([each.kind is Dependence.CONSTANT for each in given]) and (given or node.op_type in _MAKERS):
            fact = constant()
        return [fact] * len(node.output)

    def _called(
        self, function: Function, inputs: Sequence[Fact | None], given: Mapping[str, Attribute], setting: Setting
    ) -> Sequence[Fact]:
        """Follows a function of the model with these inputs and attributes.

        ONNX Runtime prefers its own operator to a function of the same name. It runs functions with the model's
        versions of operator sets, not with their own.
        """
        if function.domain in RULES:
            raise Unclear("is a function of the model by the name of an operator")
        own = versions(function.opset_import)
        if any([setting.opsets[domain] != own[domain] for domain in own if domain in setting.opsets]):
            raise Unclear("is a function of another version of the operators than the model")
        attributes = {each.name: each for each in function.attribute_proto}
        attributes.update(
            {name: each for name, each in given.items() if name in function.attribute or name in attributes}
        )
        facts = {name: fact for name, fact in zip(function.input, inputs, strict=False) if fact is not None}
        scope = Scope(facts)
        within = Setting({**own, **setting.opsets}, attributes, setting.depth + 1)
        missing = [name for name in function.input if name not in facts]
        self._nodes(
            [_without_inputs(node, missing) for node in function.node] if missing else function.node, scope, within
        )
        return [scope.find(name) for name in function.output]


def _given_twice(name: str) -> Fact:
    return unknown(f"the tensor {name!r} is given twice in one graph")


def _opset(setting: Setting, domain: str) -> int:
    return setting.opsets.get("" if domain == "ai.onnx" else domain, 1)


def versions(sets: Iterable[OperatorSet]) -> dict[str, int]:
    """The versions of operator sets by domain. Raises `OutOfBounds` for a domain with two versions."""
    found: dict[str, int] = {}
    for each in sets:
        domain = "" if each.domain == "ai.onnx" else each.domain
        if found.setdefault(domain, each.version) != each.version:
            raise OutOfBounds(f"it asks for two versions of the operators of {domain or 'ai.onnx'}")
    return found


_MAKERS = frozenset({"HannWindow", "HammingWindow", "BlackmanWindow"})
"""Operators without inputs."""


def _badness(fact: Fact) -> int:
    return 2 * fact.kind + fact.hidden


def _around(operator: control.Operator, block: control.Block) -> Rule:
    def follow(_: Operation) -> Sequence[Fact]:
        return operator(block)

    return Rule(follow, of_counts=True, of_marks=True)


def _titled(node: Node, fact: Fact) -> Fact:
    """The fact with the operator's name before its reason, unless an inner operator's name is already there."""
    if fact.because.split(" ", 1)[0] == node.op_type or node.op_type in control.OPERATORS:
        return fact
    return msgspec.structs.replace(fact, because=f"{_title(node)}: {fact.because}")


def _title(node: Node) -> str:
    """`Conv 'features/3'`: the name of an operator in a sentence."""
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type


def _attributes(node: Node, of_function: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The node's attributes by name. References to attributes of the function are replaced by what its caller gave."""
    found = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in of_function:
            found[attribute.name] = of_function[attribute.ref_attr_name]
    return found


def _without_inputs(node: Node, missing: Sequence[str]) -> Node:
    """The node without the inputs that the function's caller left out."""
    if not any([name in missing for name in node.input]):
        return node
    copy = Node()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in missing else name for name in node.input]
    return copy
