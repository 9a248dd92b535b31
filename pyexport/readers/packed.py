"""torch's packed parameters (weights, bias and a convolution's sizes) -> ir.Weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyexport import ir
from pyexport.readers.builder import Pair
from pyexport.readers.inert import Instance
from pyexport.readers.tensors import QTensor, TensorError, Tensors

CLASSES = "__torch__.torch.classes.quantized."


@dataclass(frozen=True, eq=False)
class LinearParams:
    """A linear layer's weights, shape (out, 1, 1, in) in the source's order of features."""

    weights: ir.Weights

    @staticmethod
    def of(weight: Any, bias: Any) -> LinearParams:
        if not isinstance(weight, QTensor) or weight.codes.ndim != 2 or weight.codes.size == 0:
            raise TensorError("linear weights are no quantised matrix; quantise with qint8 weights")
        return LinearParams(_weights(weight, weight.codes[:, None, None, :], bias))


@dataclass(frozen=True, eq=False)
class ConvParams:
    """A 2-D convolution's weights, shape (out, kh, kw, in / groups), and sizes.

    output_padding: of a transposed convolution; None for the plain one.
    """

    weights: ir.Weights
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    output_padding: Pair | None = None

    @staticmethod
    def of(weight: Any, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> ConvParams:
        if not isinstance(weight, QTensor) or weight.codes.ndim != 4 or weight.codes.size == 0:
            raise TensorError("conv2d weights are no quantised (out, in, kh, kw) tensor; use qint8 weights")
        weights = _weights(weight, weight.codes.transpose(0, 2, 3, 1), bias)
        return ConvParams(weights, stride, padding, dilation, groups)

    @staticmethod
    def of_transposed(
        weight: Any, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int, output_padding: Pair
    ) -> ConvParams:
        """weight: (in, out / groups, kh, kw), as torch keeps a transposed convolution's."""
        if not isinstance(weight, QTensor) or weight.codes.ndim != 4 or weight.codes.size == 0:
            raise TensorError("conv_transpose2d weights are no quantised (in, out, kh, kw) tensor; use qint8 weights")
        if weight.per_channel:
            raise TensorError("conv_transpose2d with per-channel weights; torch quantises it per tensor")
        inputs, per_group, kh, kw = weight.codes.shape
        if groups < 1 or inputs % groups:
            raise TensorError(f"conv_transpose2d of {inputs} channels in {groups} groups; the file is damaged")
        apart = weight.codes.reshape(groups, inputs // groups, per_group, kh, kw).transpose(0, 2, 3, 4, 1)
        codes = apart.reshape(groups * per_group, kh, kw, inputs // groups)
        return ConvParams(_weights(weight, codes, bias), stride, padding, dilation, groups, output_padding)


def _weights(weight: QTensor, codes: Any, bias: Any) -> ir.Weights:
    out = codes.shape[0]
    if codes.dtype != np.int8:
        raise TensorError(f"weights of type {codes.dtype} are not supported; use qint8 weights")
    count = out if weight.per_channel else 1
    if weight.scale.shape != (count,) or weight.zero_point.shape != (count,):
        raise TensorError(f"{weight.scale.size} weight scales for {out} output channels; the file is damaged")
    if np.abs(weight.zero_point).max() > 128:
        raise TensorError("a weight zero point lies outside int8; the file is damaged")
    if bias is not None and (not isinstance(bias, np.ndarray) or bias.dtype != np.float32 or bias.shape != (out,)):
        raise TensorError(f"the bias is not {out} float32 values; the file is damaged")
    with np.errstate(over="ignore"):
        scale = weight.scale.astype(np.float32)
    return ir.Weights(
        np.ascontiguousarray(codes, np.int16),
        np.ascontiguousarray(np.broadcast_to(scale, out)),
        np.ascontiguousarray(np.broadcast_to(weight.zero_point.astype(np.int32), out)),
        None if bias is None else bias.astype(np.float64),
        False,
        weight.per_channel,
    )


class Unpacker:
    """Finds the parameters behind a layer's packed object; each object is decoded once."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.known: dict[int, ConvParams | LinearParams] = {}

    def linear(self, packed: Any) -> LinearParams:
        params = self._params(packed, "LinearPackedParamsBase")
        if not isinstance(params, LinearParams):
            raise TensorError("linear parameters of another kind than static int8; use static quantisation")
        return params

    def conv(self, packed: Any) -> ConvParams:
        params = self._params(packed, "Conv2dPackedParamsBase")
        if not isinstance(params, ConvParams):
            raise TensorError("convolution parameters of another kind than static int8 conv2d; use static quantisation")
        return params

    def _params(self, packed: Any, cls: str) -> Any:
        if not isinstance(packed, Instance):
            return packed
        if packed.name == CLASSES + cls and id(packed) not in self.known:
            state = packed.state
            self.known[id(packed)] = self._linear_state(state) if cls.startswith("L") else self._conv_state(state)
        return self.known.get(id(packed))

    def _linear_state(self, state: Any) -> LinearParams:
        """The state of a pickled LinearPackedParamsBase: (weight, bias)."""
        if not isinstance(state, tuple) or len(state) != 2:
            raise TensorError("linear parameters are incomplete; the file is damaged")
        return LinearParams.of(self.tensors.decode(state[0]), self.tensors.decode(state[1]))

    def _conv_state(self, state: Any) -> ConvParams:
        """The state of a pickled Conv2dPackedParamsBase, version 2: ("2", [config, weight], [bias]).

        config holds the number of spatial axes, then stride, padding, dilation and output padding for each, the groups,
        and a flag for transposed convolution.
        """
        if not isinstance(state, tuple) or len(state) != 3 or state[0] != "2":
            raise TensorError("convolution parameters of an unknown version; save it again with torch 1.8 or later")
        lists = [self.tensors.decode(record) for record in state[1:]]
        if not all(isinstance(item, list) for item in lists) or [len(item) for item in lists] != [2, 1]:
            raise TensorError("convolution parameters are incomplete; the file is damaged")
        (config, weight), (bias,) = lists
        if not isinstance(config, np.ndarray) or config.shape != (11,) or config[0] != 2:
            raise TensorError("the convolution is not two-dimensional; accepted is conv2d")
        n = [int(value) for value in config]
        if n[10]:
            return ConvParams.of_transposed(weight, bias, (n[1], n[2]), (n[3], n[4]), (n[5], n[6]), n[9], (n[7], n[8]))
        return ConvParams.of(weight, bias, (n[1], n[2]), (n[3], n[4]), (n[5], n[6]), n[9])
