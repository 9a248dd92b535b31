"""A float .pt2 (torch.export.save) through torchao's PT2E flow with the quantizer for x86."""

from __future__ import annotations

import logging
import operator
import warnings
from pathlib import Path

import torch
from torch import nn

logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of its optional C++ extensions on import

from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # noqa: E402
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: E402

from pyexport.calibrate import Calibrated, F32Array  # noqa: E402
from pyexport.errors import IntactError  # noqa: E402
from pyexport.readers.damage import reading  # noqa: E402
from pyexport.torch_program import Program  # noqa: E402

aten = torch.ops.aten
# torchao's quantizer looks for the modules that a layer was written as, which a saved program no longer names.
SOURCES = {
    aten.conv2d.default: nn.Conv2d,
    aten.batch_norm.default: nn.BatchNorm2d,
    aten.linear.default: nn.Linear,
    aten.relu.default: nn.ReLU,
    aten.relu_.default: nn.ReLU,
    aten.hardtanh.default: nn.Hardtanh,
    aten.hardtanh_.default: nn.Hardtanh,
    aten.max_pool2d.default: nn.MaxPool2d,
    aten.avg_pool2d.default: nn.AvgPool2d,
    aten.adaptive_avg_pool2d.default: nn.AdaptiveAvgPool2d,
    aten.add.Tensor: operator.add,
    aten.add_.Tensor: operator.iadd,
    aten.cat.default: torch.cat,
}


def _exported(program: Program, example: tuple[torch.Tensor]) -> torch.fx.GraphModule:
    module = torch.export.export(program.module, example).module()
    for node in module.graph.nodes:
        if node.target in SOURCES:
            node.meta["source_fn_stack"] = [(node.name, SOURCES[node.target])]
    return module


def calibrate(model: Path, inputs: F32Array, folder: Path) -> Calibrated:
    """int8 weights per channel, uint8 activations; the output stays real. Writes quantised.pt2."""
    with reading(model, "save a float model with torch.export.save"):
        program = Program(model)
    if inputs.shape[1:] != program.shape:
        raise IntactError(
            f"{model}: takes inputs of shape {program.shape}, the calibration data has {inputs.shape[1:]}"
        )
    example = (torch.from_numpy(inputs[: program.batch or 1]),)
    path = folder / "quantised.pt2"
    before = program.outputs(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
            prepared = prepare_pt2e(_exported(program, example), quantizer)
            with torch.no_grad():
                for part in torch.from_numpy(inputs).split(program.batch or 1):
                    prepared(part)
            torch.export.save(torch.export.export(convert_pt2e(prepared), example), str(path))
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, KeyError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise IntactError(f"{model}: torchao cannot quantise it: {reason[0][:200]}") from error
    return Calibrated(path, "torchao PT2E, X86InductorQuantizer", before, Program(path).outputs(inputs))
