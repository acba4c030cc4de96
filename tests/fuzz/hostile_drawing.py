"""Hostile requests to an exported student, drawn by seed and number: what is good, and then what is done to it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

import numpy as np

from features.schema import TEXT
from features.strict import MAX_LINE_BYTES
from models.backend import tf
from models.serving import input_names
from models.serving_features import ServingFeatures

NUMBERS = (
    *(0.0, -0.0, 1.0, -1.0, 2.0, 2.5, 1e-38, 1e-45, -1e-45, 16777217.0, 1e10, -1e10, 1e38),
    *(float(np.finfo(np.float32).max), -float(np.finfo(np.float32).max)),
    *(float("nan"), float("inf"), -float("inf")),
)
TEXTS = (
    *(b"", b" ", b"\0", b"\n", b"\r\n", b"\t", b"NaN", b"null", b"-", b".", b"+", b"\xff\xfe", b"\xef\xbb\xbf"),
    *("\u00f1and\u00fa".encode(), "\u202e\U0001f600".encode(), "\uff11\uff12".encode(), b"\xc3", b"a b", b"%s%n{}"),
    *(b"nan", b"inf", b"-inf", b"1e999", b"-1e999", b"1e-999", b"0x1f", b"1_000", b"+5", b" 5", b"5 ", b"-0", b"007"),
    *(b"99999999999999999999", b"-2147483649", b"4294967296", b"1.5", b"1e3", b"1,5", b"True", b"0" * 400, b"\\x00"),
)
DTYPES = (
    *(np.float16, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64, np.bool_, np.complex64),
    *(np.float32, np.object_),
)
SIZES = (0, 1, 1, 1, 2, 3, 7, 64)
UNKNOWN = ("", "serving", "TSV", "__saved_model_init_op", "tsv ", "predict")


@dataclass(frozen=True)
class Request:
    """A call of a signature.

    Args:
        signature: name.
        inputs: by name; texts are object arrays of bytes.
    """

    signature: str
    inputs: dict[str, np.ndarray]


class Drawing:
    """Draws requests for one student.

    Args:
        features: of the student.
    """

    def __init__(self, features: ServingFeatures) -> None:
        self._schema = schema = features.schema
        self._values = [values.slice(0, 1000).to_pylist() for values in features.values]
        self._ids = [len(values) + 2 + features.buckets for values in features.values]
        self._names = input_names((*schema.numeric, *schema.categorical))
        delimited = ["tsv", "tsv_unlabelled"] if schema.format == TEXT else []
        self.signatures = ["serving_default", "strings", *delimited, "examples", "features"]

    def request(self, seed: int, number: int) -> Request:
        """The request of a number: the same on every machine."""
        rng = Random(f"{seed}/{number}")
        signature = rng.choice(self.signatures)
        hostility = rng.choice((0.0, 0.02, 0.3, 1.0))
        size = 1000 if rng.random() < 0.002 else rng.choice(SIZES)
        request = Request(signature, self._inputs(signature, rng, size, hostility))
        return self._broken(request, rng) if rng.random() < 0.3 else request

    def good(self, signature: str, rows: int = 3) -> Request:
        """A request with nothing wrong in it."""
        return Request(signature, self._inputs(signature, Random(0), rows, 0.0))

    def _inputs(self, signature: str, rng: Random, size: int, hostility: float) -> dict[str, np.ndarray]:
        schema = self._schema
        if signature == "features":
            return self._features(rng, size, hostility)
        if signature == "examples":
            return {"examples": _texts([self._example(rng, hostility) for _ in range(size)])}
        if signature.startswith("tsv"):
            labelled = signature == "tsv"
            return {"lines": _texts([self._line(rng, hostility, labelled) for _ in range(size)])}
        inputs = {}
        for name in schema.numeric:
            if signature == "strings":
                inputs[self._names[name]] = _texts([self._number_text(rng, hostility) for _ in range(size)])
            else:
                inputs[self._names[name]] = np.array([_number(rng, hostility) for _ in range(size)], np.float32)
        for index, name in enumerate(schema.categorical):
            inputs[self._names[name]] = _texts([self._value(index, rng, hostility) for _ in range(size)])
        return inputs

    def _features(self, rng: Random, size: int, hostility: float) -> dict[str, np.ndarray]:
        def one(known: int) -> int:
            return rng.randrange(-(2**31), 2**31) if rng.random() < hostility else rng.randrange(known)

        ids = [[one(known) for known in self._ids] for _ in range(size)]
        dense = [[_number(rng, hostility) for _ in self._schema.numeric] for _ in range(size)]
        return {
            "ids": np.array(ids, np.int32).reshape(size, len(self._ids)),
            "dense": np.array(dense, np.float32).reshape(size, len(self._schema.numeric)),
        }

    def _value(self, column: int, rng: Random, hostility: float) -> bytes:
        if rng.random() < hostility:
            return _text(rng)
        value: bytes = rng.choice(self._values[column] or [b""])
        return value

    @staticmethod
    def _number_text(rng: Random, hostility: float) -> bytes:
        return _text(rng) if rng.random() < hostility / 10 else rng.choice((b"", b"%d" % rng.randrange(3000)))

    def _line(self, rng: Random, hostility: float, labelled: bool) -> bytes:
        schema, columns = self._schema, dict(zip(self._schema.categorical, range(len(self._values)), strict=True))
        fields = []
        for column in schema.columns if labelled else schema.without_label():
            if column.name in columns:
                fields.append(self._value(columns[column.name], rng, hostility / 10))
            else:
                fields.append(_text(rng) if rng.random() < hostility / 20 else b"%d" % rng.randrange(2))
        if rng.random() < hostility / 10:
            fields = rng.choice((fields[1:], fields[:-1], fields * 2, [*fields, b""], [], fields[:1]))
        line = schema.delimiter.encode().join(fields)
        return _damaged(line, rng) if rng.random() < hostility / 3 else line + rng.choice((b"", b"\n", b"\r\n"))

    def _example(self, rng: Random, hostility: float) -> bytes:
        example = tf.train.Example()
        feature = example.features.feature
        for name in self._schema.numeric:
            feature[name].float_list.value.append(_number(rng, hostility))
        for index, name in enumerate(self._schema.categorical):
            feature[name].bytes_list.value.append(self._value(index, rng, hostility))
        for name in (*self._schema.numeric, *self._schema.categorical):
            if rng.random() < hostility / 50:
                _spoil(feature[name], rng)
        if rng.random() < hostility / 5:
            feature[rng.choice(("", "label", "C27", "\0"))].int64_list.value.append(1)
        data: bytes = example.SerializeToString()
        return _damaged(data, rng) if rng.random() < hostility / 5 else data

    def _broken(self, request: Request, rng: Random) -> Request:
        """The request with something wrong in its form."""
        inputs, name = dict(request.inputs), rng.choice(list(request.inputs))
        what = rng.choice(("signature", "absent", "further", "dtype", "shape", "batch", "batch"))
        if what == "signature":
            return Request(rng.choice(UNKNOWN), inputs)
        if what == "absent":
            del inputs[name]
        elif what == "further":
            inputs[rng.choice(("label", "lines", "x" * 1000, "ids"))] = inputs[name]
        elif what == "dtype":
            inputs[name] = _cast(inputs[name], np.dtype(rng.choice(DTYPES)))
        elif what == "shape":
            inputs[name] = _reshaped(inputs[name], rng)
        else:
            inputs[name] = np.concatenate([inputs[name], inputs[name][:1]]) if rng.random() < 0.5 else inputs[name][:1]
        return Request(request.signature, inputs)


def _texts(values: list[bytes]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _text(rng: Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(TEXTS)
    if kind < 0.97:
        return rng.randbytes(rng.randrange(40))
    return rng.choice(TEXTS[1:]) * rng.randrange(1, 5000)


def _number(rng: Random, hostility: float) -> float:
    if rng.random() >= hostility:
        return rng.choice((float("nan"), float(rng.randrange(3000))))
    if rng.random() < 0.5:
        return rng.choice(NUMBERS)
    found: float = struct.unpack("<f", rng.randbytes(4))[0]
    return found


def _damaged(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    kind = rng.randrange(7)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + _text(rng) + data[place:]
    if kind == 2 and data:
        changed = bytearray(data)
        changed[place - 1] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 3:
        return _text(rng)
    if kind == 4:
        return rng.choice((b"\n", b"\r", b"\xef\xbb\xbf")) + data + rng.choice((b"\n\n", b"\r", b"\0"))
    if kind == 5 and rng.random() < 0.02:
        return data + b"x" * (MAX_LINE_BYTES + rng.randrange(-100, 100))
    return data * 2


def _spoil(feature: tf.train.Feature, rng: Random) -> None:
    """Gives a feature another kind, more values than one, or none."""
    feature.Clear()
    values = rng.choice(([], [1], [1, 2], [0] * 500))
    kind = rng.randrange(4)
    if kind == 0:
        feature.int64_list.value.extend(values)
    elif kind == 1:
        feature.float_list.value.extend(values)
    elif kind == 2:
        feature.bytes_list.value.extend(b"%d" % value for value in values)


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.hasobject:
        return _texts([str(value).encode() for value in values.ravel()]).reshape(values.shape)
    numbers = np.arange(values.size, dtype=np.float64).reshape(values.shape)
    return numbers.astype(dtype)


def _reshaped(values: np.ndarray, rng: Random) -> np.ndarray:
    kind = rng.randrange(5)
    if kind == 0:
        return values[..., np.newaxis]
    if kind == 1:
        return values[np.newaxis]
    if kind == 2 and values.size:
        return values.ravel()[0:1].reshape(())
    if kind == 3:
        return values[:0]
    return np.repeat(values[..., np.newaxis], 3, axis=-1)
