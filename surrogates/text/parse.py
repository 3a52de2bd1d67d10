"""Text back to an ONNX graph: the inverse of ``linearize``, with functions inlined and weights as graph inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import onnx
import onnx.defs
from onnx import TensorProto, helper

from search_spaces.errors import InvalidGraphError
from search_spaces.graph import BATCH, DATA_INPUTS, IR_VERSION, OPSET
from search_spaces.tensors import Tensor, constant, infer
from surrogates.text.attributes import read_attributes
from surrogates.text.literals import read_literal
from surrogates.text.spelling import ABSENT, CONSTANT, DATA, WEIGHT
from surrogates.text.weights import FREE_DIMENSION, default_weight, input_features, weight_shape, weight_type

_QUOTED = r"(?=(?:[^']*'[^']*')*[^']*$)"  # only outside quotes
#: Between the operators of a line, and between the words of an operator.
PIPE = re.compile(r"\|" + _QUOTED)
SPACE = re.compile(r" " + _QUOTED)
#: A line, a call, an operator.
LINE = re.compile(r"(?P<body>.*?)(?: <(?P<references>[\d. ]*))?(?: @(?P<mark>\S+))?")
CALL = re.compile(r"F(?P<number>\d+)(?:\*(?P<times>\d+))?(?::(?P<slots>\S*))?")
OPERATOR = re.compile(r"(?P<words>.*?)(?:\((?P<operands>.*)\))?(?P<bias> b)?(?: >(?P<outputs>[01]+))?")


class Named(NamedTuple):
    """A value of the graph under construction."""

    name: str
    tensor: Tensor


class Slots(Iterator[str]):
    """Slots of a call, in order; those left out at the end hold their defaults.

    Attributes:
        left: Those that are not taken yet.
    """

    def __init__(self, left: tuple[str, ...]) -> None:
        self.left = left

    def __next__(self) -> str:
        first, self.left = (self.left[0], self.left[1:]) if self.left else ("", ())
        return first


class Body(NamedTuple):
    """Lines of a function or of the main graph.

    Attributes:
        inputs: Number of inputs.
        first: Number of the first line in the text.
        lines: The lines, without headers.
    """

    inputs: int
    first: int
    lines: list[str]


class Sections(NamedTuple):
    """A text in its parts.

    Attributes:
        functions: In order.
        headers: Lines that name the inputs of the main graph.
        main: The main graph.
    """

    functions: list[Body]
    headers: list[str]
    main: Body


def parse(text: str) -> onnx.ModelProto:
    """The graph that ``text`` describes.

    The model is flat; data inputs are ``input``, ``input_2``, …, weights are graph inputs ``w0``, ``w1``, …, and the
    batch axis is symbolic.

    Raises:
        InvalidGraphError: A line that cannot be read; the message quotes it.
    """
    return GraphReader(sections(text)).read()


def sections(text: str) -> Sections:
    """Functions, headers and main graph of ``text``.

    Raises:
        InvalidGraphError: It does not start with a header, or has no main graph.
    """
    functions: list[Body] = []
    headers: list[str] = []
    main: Body | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if line == "def" or line.startswith("def "):
            functions.append(Body(int(line[4:] or 1), number, []))
        elif line == "in" or line.startswith("in "):
            headers.append(line)
            main = Body(len(headers), number, [])
        elif main is not None:
            main.lines.append(line)
        elif functions:
            functions[-1].lines.append(line)
        else:
            raise InvalidGraphError(f"a text starts with 'def' or 'in', not {line!r}")
    if main is None:
        raise InvalidGraphError("the text has no main graph: no line starts with 'in'")
    return Sections(functions, headers, main)


class GraphReader:
    """Reads a text line by line, in the order in which the network runs them.

    Args:
        text: What to read.
    """

    def __init__(self, text: Sections) -> None:
        self.text = text
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: list[onnx.ValueInfoProto] = []

    def read(self) -> onnx.ModelProto:
        """The whole text as a flat model."""
        return self.model(self.run())

    def run(self) -> list[Named]:
        """Go through all lines; what the main graph returns."""
        return self._body(self.text.main, [self._input(line) for line in self.text.headers], None)

    def model(self, outputs: Sequence[Named]) -> onnx.ModelProto:
        """What has been read so far as a model with these ``outputs``."""
        graph = helper.make_graph(
            self.nodes,
            "parsed",
            [*self.inputs, *self.weights],
            [helper.make_tensor_value_info(o.name, o.tensor.elem_type, o.tensor.shape) for o in outputs if o.name],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=_opsets(self.nodes), ir_version=IR_VERSION)
        model.metadata_props.add(key=DATA_INPUTS, value=",".join(value.name for value in self.inputs))
        return model

    def _input(self, line: str) -> Named:
        words = line.split(" ")[1:]
        elem_type = int(words.pop(0)[1:]) if words and words[0].startswith("t") else TensorProto.FLOAT
        shape: tuple[int | str | None, ...] | None = None
        if words:
            text = words[0]
            dims = [None if dim == "?" else int(dim) for dim in text.lstrip("*").split("x") if dim]
            shape = tuple(dims) if text.startswith("*") else (BATCH, *dims)
        return self.data_input(Tensor(elem_type, shape))

    def data_input(self, tensor: Tensor) -> Named:
        """A new input of the graph."""
        name = "input" if not self.inputs else f"input_{len(self.inputs) + 1}"
        self.inputs.append(helper.make_tensor_value_info(name, tensor.elem_type, tensor.shape))
        return Named(name, tensor)

    def _body(self, body: Body, inputs: list[Named], slots: Slots | None) -> list[Named]:
        """Values that a body returns; ``slots`` fill those of a function, in the main graph they stand in the lines."""
        values: list[list[Named]] = [[value] for value in inputs]
        for number, line in enumerate(body.lines, start=body.first):
            match, read = _line_parts(line)
            sources = [self._value(values, word, line) for word in read]
            if line.startswith("out "):
                return sources
            values.append(self._line(number, match, sources, slots))
        return values[-1][:1]

    def _line(self, number: int, line: re.Match[str], sources: list[Named], slots: Slots | None) -> list[Named]:
        """What a ``LINE``, the text's ``number``-th, writes."""
        call = CALL.fullmatch(line["body"])
        if call is None:
            return self.chain(line["body"], sources, slots)
        return self._call(call, sources, slots, line[0])

    @staticmethod
    def _value(values: list[list[Named]], word: str, line: str) -> Named:
        steps, _, output = word.partition(".")
        try:
            if int(steps) < 1:
                raise IndexError
            return values[-int(steps)][int(output or 0)]
        except IndexError:
            raise InvalidGraphError(f"{line!r} reads {word!r}, where nothing is") from None

    def _call(self, call: re.Match[str], sources: list[Named], slots: Slots | None, line: str) -> list[Named]:
        number, functions = int(call["number"]), self.text.functions
        if not 1 <= number <= len(functions):
            raise InvalidGraphError(f"{line!r} calls a function that is not defined; there are {len(functions)}")
        function = functions[number - 1]
        if len(sources) != function.inputs:
            raise InvalidGraphError(f"{line!r} gives {len(sources)} inputs; F{number} takes {function.inputs}")
        for _ in range(int(call["times"] or 1)):
            own = Slots(tuple((call["slots"] or "").split(";"))) if slots is None else slots
            sources = self._body(function, sources, own)
        return sources

    def chain(self, text: str, sources: list[Named], slots: Slots | None) -> list[Named]:
        """What a line of operators writes.

        Args:
            text: Operators joined by ``|``.
            sources: What the first of them reads.
            slots: See ``_body``.
        """
        for operator in PIPE.split(text):
            sources = self._operator(operator, sources, slots)
        return sources

    def _operator(self, text: str, sources: list[Named], slots: Slots | None) -> list[Named]:
        match = OPERATOR.fullmatch(text)
        assert match is not None
        words = SPACE.split(match["words"])
        if words[0] == "Weight":
            elem_type, shape = _typed(words[1] if slots is None else next(slots), TensorProto.FLOAT)
            shared = self._weight(shape, elem_type)
            return [Named(shared.name, shared.tensor._replace(parameter=False))]
        domain, _, op_type = words[0].rpartition("::")
        slot = ""
        if match["operands"] is None and op_type in FREE_DIMENSION and not domain:
            shown = [w for w in words[1:] if re.fullmatch(r"c\d+|w[\dx]+", w)]
            words = [w for w in words if w not in shown]
            slot = (shown[0] if shown else "") if slots is None else next(slots).strip()
        x = sources[0].tensor.shape if sources else None
        attributes = read_attributes(op_type, domain, words[1:], x)
        if match["operands"] is not None:
            operands = self._operands(op_type, match["operands"], sources, slots)
        else:
            usual = [] if domain else self._usual(op_type, sources, attributes, slot, match["bias"] is not None)
            operands = [*sources, *usual]
        kept = match["outputs"] or "1"
        first = len(self.nodes)
        names = [f"v{first}_{i}" if keep == "1" else "" for i, keep in enumerate(kept)]
        node = helper.make_node(op_type, [o.name if o else "" for o in operands], names, domain=domain, **attributes)
        self.nodes.append(node)
        tensors = infer(node, tuple(o.tensor if o else None for o in operands), opset_of(node))
        return [Named(name, tensor) for name, tensor in zip(names, tensors, strict=True)]

    def _usual(
        self, op_type: str, sources: list[Named], attributes: dict[str, object], slot: str, biased: bool
    ) -> list[Named]:
        """The weights of an operator that does not show its operands."""
        if len(sources) != 1:
            return []
        x, elem_type = sources[0].tensor.shape, weight_type([sources[0].tensor])
        if op_type in ("BatchNormalization", "LayerNormalization"):
            size = x[1 if op_type == "BatchNormalization" else -1] if x else None
            if not isinstance(size, int):
                raise InvalidGraphError(f"the weights of {op_type!r} do not follow from its input of shape {x}")
            count = 4 if op_type == "BatchNormalization" else 1 + biased
            return [self._weight((size,), elem_type) for _ in range(count)]
        if op_type not in FREE_DIMENSION:
            return []
        if slot.startswith("w"):
            shape: tuple[int, ...] | None = _dims(slot[1:])
        elif x is None:
            shape = None
        else:
            features = input_features(op_type, x)
            free = int(slot[1:]) if slot else features
            kernel = attributes.get("kernel_shape", ())
            assert isinstance(kernel, (list, tuple))
            shape = weight_shape(op_type, x, free, kernel, attributes) if free is not None else None
        if shape is None:
            raise InvalidGraphError(f"the weight of {op_type!r} does not follow from its input of shape {x}")
        weights = [self._weight(shape, elem_type)]
        if biased:
            transposed = op_type == "Conv" or (op_type == "Gemm" and attributes.get("transB"))
            group = attributes.get("group", 1)
            assert isinstance(group, int)
            size = shape[0] if transposed else shape[1] * (group if op_type == "ConvTranspose" else 1)
            weights.append(self._weight((size,), elem_type))
        return weights

    def _operands(self, op_type: str, text: str, sources: list[Named], slots: Slots | None) -> list[Named | None]:
        operands: list[Named | None] = []
        computed = iter(sources)
        signs = text.split(",")
        known: list[Tensor | None] = [None] * len(signs)
        places = [i for i, sign in enumerate(signs) if sign == DATA]
        for place, source in zip(places, sources, strict=True):
            known[place] = source.tensor
        for position, sign in enumerate(signs):
            if sign == DATA:
                operands.append(next(computed))
            elif sign == ABSENT:
                operands.append(None)
            elif sign.startswith(CONSTANT):
                operands.append(self._constant(sign[1:]))
            elif sign.startswith(WEIGHT):
                shown = sign[1:] if slots is None else next(slots)
                elem_type, shape = weight_type(known), default_weight(op_type, position, known)
                if shown:
                    elem_type, shape = _typed(shown, elem_type)
                if shape is None:
                    raise InvalidGraphError(f"the shape of weight {position} of {op_type!r} is not given")
                operands.append(self._weight(shape, elem_type))
            else:
                raise InvalidGraphError(f"{sign!r} in {op_type}({text}) is not an operand")
        return operands

    def _weight(self, shape: tuple[int, ...], elem_type: int) -> Named:
        name = f"w{len(self.weights)}"
        self.weights.append(helper.make_tensor_value_info(name, elem_type, shape))
        return Named(name, Tensor(elem_type, shape, parameter=True))

    def _constant(self, text: str) -> Named:
        tensor = read_literal(text)
        tensor.name = f"c{len(self.constants)}"
        self.constants.append(tensor)
        return Named(tensor.name, constant(tensor, exact=True))


@lru_cache(maxsize=1 << 14)
def _line_parts(line: str) -> tuple[re.Match[str], list[str]]:
    """A line as ``LINE`` takes it apart, and what it reads."""
    match = LINE.fullmatch(line)
    assert match is not None
    text = match["references"]
    return match, ["1"] if text is None else text.split()


def _dims(text: str) -> tuple[int, ...]:
    text = text.strip()
    return () if text == "scalar" else tuple(int(dim) for dim in text.split("x"))


def _typed(text: str, usual_type: int) -> tuple[int, tuple[int, ...]]:
    """Element type and shape of ``t10:64x3x3x3`` or ``64x3x3x3``."""
    kind, _, dims = text.strip().rpartition(":")
    return (int(kind[1:]) if kind else usual_type), _dims(dims)


def opset_of(node: onnx.NodeProto) -> int:
    """The lowest opset from ours on that knows the operator with its attributes; ours if none does."""
    return _opset_of(node.op_type, node.domain, tuple(attribute.name for attribute in node.attribute))


@lru_cache(maxsize=4096)
def _opset_of(op_type: str, domain: str, attributes: tuple[str, ...]) -> int:
    for opset in range(OPSET, onnx.defs.onnx_opset_version() + 1):
        try:
            schema = onnx.defs.get_schema(op_type, opset, domain)
        except onnx.defs.SchemaError:
            continue
        if schema.attributes.keys() >= set(attributes):
            return opset
    return OPSET


def _opsets(nodes: Sequence[onnx.NodeProto]) -> list[onnx.OperatorSetIdProto]:
    foreign = sorted({node.domain for node in nodes} - {"", "ai.onnx"})
    opset = max(map(opset_of, nodes), default=OPSET)
    return [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in foreign)]
