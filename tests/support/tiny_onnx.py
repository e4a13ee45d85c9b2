"""A small ONNX file with the inputs and outputs of SFace, written byte by byte.

It stands in for a model that cannot be part of the tests: one convolution whose answer says which picture went in.
The format: onnx/onnx.proto of the ONNX project, in protobuf's wire format.
"""

from __future__ import annotations

import numpy as np

FLOAT, INTS = 1, 7  # of TensorProto.DataType and AttributeProto.AttributeType


def _varint(value: int) -> bytes:
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field: a number as a varint, a text or message with its length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(*fields: tuple[int, int | str | bytes]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def _value(name: str, *shape: int) -> bytes:
    dimensions = _message(*((1, _message((1, side))) for side in shape))
    return _message((1, name), (2, _message((1, _message((1, FLOAT), (2, dimensions))))))


def _ints(name: str, *values: int) -> bytes:
    return _message((1, name), *((8, value) for value in values), (20, INTS))


def sface_like(seed: int = 0) -> bytes:
    """A model of 1x3x112x112 -> 1x128: the means, weighted at random, of 64 squares of 14 x 14 pixels, twice."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (2, 3, 14, 14)).astype("<f4")
    tensor = _message(*((1, side) for side in weights.shape), (2, FLOAT), (8, "weights"), (9, weights.tobytes()))
    convolution = _message(
        (1, "data"), (1, "weights"), (2, "squares"), (4, "Conv"),
        (5, _ints("kernel_shape", 14, 14)), (5, _ints("strides", 14, 14)),
    )  # fmt: skip
    flatten = _message((1, "squares"), (2, "fc1"), (4, "Flatten"))
    graph = _message(
        (1, convolution), (1, flatten), (2, "tiny"), (5, tensor),
        (11, _value("data", 1, 3, 112, 112)), (12, _value("fc1", 1, 128)),
    )  # fmt: skip
    return _message((1, 7), (7, graph), (8, _message((1, ""), (2, 11))))
