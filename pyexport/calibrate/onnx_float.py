"""A float ONNX model through onnxruntime's `quantize_static`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from pyexport.calibrate import Calibrated, F32Array
from pyexport.errors import IntactError


class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """The calibration data, one input at a time."""

    def __init__(self, name: str, inputs: F32Array) -> None:
        self.feeds: Iterator[dict[str, F32Array]] = ({name: one[None]} for one in inputs)

    def get_next(self) -> dict[str, F32Array] | None:
        return next(self.feeds, None)


def calibrate(model: Path, inputs: F32Array, folder: Path) -> Calibrated:
    """QDQ format, int8 weights per channel, uint8 activations. Writes quantised.onnx."""
    prepared, path = folder / "prepared.onnx", folder / "quantised.onnx"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            before = outputs(model, inputs)
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(path),
                Reader(_input(model), inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return Calibrated(path, "onnxruntime quantize_static", before, outputs(path, inputs))
    except IntactError:
        raise
    except Exception as error:  # onnxruntime's own exceptions derive from Exception only
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise IntactError(f"{model}: onnxruntime cannot quantise it: {reason[0][:200]}") from error
    finally:
        logging.disable(logging.NOTSET)


def outputs(model: Path, inputs: F32Array) -> F32Array:
    """The model's outputs for inputs float32 (N, *shape), one at a time."""
    session = _session(model)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in inputs])


def _input(model: Path) -> str:
    return str(_session(model).get_inputs()[0].name)


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    counts = len(session.get_inputs()), len(session.get_outputs())
    if counts != (1, 1):
        raise IntactError(f"{model}: has {counts[0]} inputs and {counts[1]} outputs; one of each is accepted")
    return session
