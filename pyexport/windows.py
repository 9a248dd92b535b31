"""Window jobs: which layers take their operands from the 3x3 window (docs/architecture.md, rtl/operand_window.v).

Lane c of the array then computes channel c from its own channel alone: a depthwise convolution, or a residual add.
"""

from __future__ import annotations

from pyexport.fit_add import digits
from pyexport.hwconfig import HwConfig
from pyexport.qlayers import Network, QLayer

SIDE = 3  # rows and columns of the window
BANKS = 4  # of the activation memory (rtl/activation_memory.v)


def windowed(layer: QLayer, network: Network, config: HwConfig) -> bool:
    """Whether the layer runs as a window job on this array."""
    if not config.window or any(joined(network, name) for name in (*layer.inputs, layer.output)):
        return False
    channels = network.tensors[layer.input].shape[2]
    if layer.second is not None:
        return (
            operands_at_once(layer)
            and channels % config.rows == 0
            and all(len(partners(network, name)) < BANKS for name in layer.inputs)
        )
    depthwise = layer.groups == channels == network.tensors[layer.output].shape[2]
    if layer.weights is None or layer.transposed or layer.wide or not depthwise or channels == 1:
        return False
    return max(layer.kernel) <= SIDE and layer.dilation == (1, 1) and max(layer.stride) < 256


def operands_at_once(layer: QLayer) -> bool:
    """Whether the layer adds two different tensors with factors of two digits each: then it reads both in a cycle."""
    return layer.second not in (None, layer.input) and len(digits(layer.factors)[0]) == 2


def alike(network: Network, name: str) -> set[str]:
    """The tensors that must lie as `name` does, and itself: an add takes the same steps through both operands."""
    found = {name}
    while True:
        adds = [set(layer.inputs) for layer in network.layers if layer.second is not None]
        more = set().union(*(operands for operands in adds if operands & found)) - found
        if not more:
            return found
        found |= more


def joined(network: Network, name: str) -> bool:
    """Whether a concatenation reads or writes the tensor or one that lies as it does: its rows follow without a gap."""
    ends = {end for layer in network.layers if layer.operands for end in (*layer.operands, layer.output)}
    return bool(ends & alike(network, name))


def partners(network: Network, name: str) -> set[str]:
    """The other operands of the adds that read `name` together with another tensor."""
    adds = [set(layer.inputs) for layer in network.layers if operands_at_once(layer) and name in layer.inputs]
    return set().union(*adds) - {name}


def odd_rows(network: Network, name: str, config: HwConfig) -> bool:
    """Whether a window reads three rows at once of the tensor, or of one that lies as it does: a row then takes an odd
    number of words.
    """
    same = alike(network, name)
    return any(
        layer.input in same and layer.second is None and windowed(layer, network, config) for layer in network.layers
    )
