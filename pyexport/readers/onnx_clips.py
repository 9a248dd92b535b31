"""Codes of fewer bits than their type has: by a Clip between QuantizeLinear and DequantizeLinear (QCDQ), or by a zero
point of a 4-bit or 2-bit type."""

from __future__ import annotations

from dataclasses import replace

from pyexport.readers.onnx_file import Model, Op


def joined(model: Model, ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """The operations `ops`, each QuantizeLinear with the limits of the Clip that alone reads it, which disappears."""
    readers: dict[str, list[Op]] = {}
    for one in ops:
        for name in one.inputs:
            readers.setdefault(name, []).append(one)
    kept, clips = [], set[str]()
    for one in ops:
        if one.kind == "Clip" and one.outputs and one.outputs[0] in clips:
            continue
        if one.kind == "QuantizeLinear" and one.outputs:
            following = readers.get(one.outputs[0], [])
            limits = _limits(model, following[0]) if len(following) == 1 else None
            if limits and one.outputs[0] != model.outputs[0].name:
                one = replace(one, outputs=following[0].outputs, limits=limits)
                clips.add(following[0].outputs[0])
            elif len(one.inputs) > 2:
                one = replace(one, limits=model.narrow(one.inputs[2]))
        kept.append(one)
    return tuple(kept)


def _limits(model: Model, clip: Op) -> tuple[int, int] | None:
    """Lowest and highest code of a Clip with constant 8-bit limits; None if it is none."""
    if clip.kind != "Clip" or len(clip.inputs) != 3 or not clip.outputs:
        return None
    found = [model.constant(name) for name in clip.inputs[1:]]
    whole = [int(one.reshape(())) for one in found if one is not None and one.size == 1 and one.dtype.itemsize == 1]
    return (whole[0], whole[1]) if len(whole) == 2 and whole[0] <= whole[1] else None
