"""A module that a forward calls -> the operations of its class, by the names of torch_ops.TABLE.

One small function for each class, given the module's attributes: what its pickled object or its traced class holds, and
tensors as records of the file. Float layers are no part of this: what is not quantised is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyexport.readers.calls import Module
from pyexport.readers.inert import Global, Instance
from pyexport.readers.packed import ConvParams, LinearParams
from pyexport.readers.tensors import TensorError
from pyexport.readers.torch_ops import Context

DTYPES = {"torch.quint8": 13, "torch.qint8": 12, "torch.qint32": 14, "torch.float32": 6, "torch.float": 6}

Attributes = Mapping[str, Any]
Layer = Callable[[Context, Attributes, list[Any]], Any]
# "quantized.<class>" is a class of torch's quantised modules, "<class>" one that works on codes as on real numbers.
LAYERS: dict[str, Layer] = {}


def layer(*classes: str) -> Callable[[Layer], Layer]:
    def register(function: Layer) -> Layer:
        LAYERS.update(dict.fromkeys(classes, function))
        return function

    return register


def kind_of(dotted: str) -> str:
    """The key of LAYERS for a class, "" for one that is not torch's."""
    *folders, name = dotted.split(".")
    if not folders or folders[0] != "torch" or "dynamic" in folders:
        return ""
    return f"quantized.{name}" if "quantized" in folders else name


def call(context: Context, path: str, module: Module, args: list[Any]) -> Any:
    """Calls a module. Raises IntactError for a class that is not known, by what torch calls it."""
    known = LAYERS.get(kind_of(module.kinds[0]))
    if known is None:
        # A class of the user's own that only renames one of torch's is not read by its base: its forward may differ.
        name = module.kinds[0][:80]
        context.builder.fail(
            path,
            f"module {name} is not supported here: it is not quantised, or its forward is not in the file; convert the "
            "model first, and save one with classes of its own by torch.jit.save",
        )
    context.kind = module.kinds[0].rsplit(".", 1)[-1]
    try:
        return known(context, module.attributes, args)
    except KeyError as error:
        context.builder.fail(path, f"attribute {error} of the module is missing; the file is damaged, save it again")
    except TensorError as error:
        context.builder.fail(path, str(error))


def dtype_of(value: Any) -> Any:
    """A dtype as TorchScript numbers it."""
    name = value.name if isinstance(value, Global) else value
    return DTYPES.get(name, value) if isinstance(name, str) else value


# --- quantised layers ----------------------------------------------------------------------------------------------


def conv_params(context: Context, attributes: Attributes) -> ConvParams:
    """The weights of a quantised convolution, from the attributes that torch pickles."""
    return _prepacked(context, attributes, "conv2d", ("stride", "padding", "dilation", "groups"))


def transposed_params(context: Context, attributes: Attributes) -> ConvParams:
    sizes = ("stride", "padding", "output_padding", "dilation", "groups")
    return _prepacked(context, attributes, "conv_transpose2d", sizes)


def _prepacked(context: Context, attributes: Attributes, kind: str, sizes: tuple[str, ...]) -> ConvParams:
    if attributes["padding_mode"] != "zeros":
        context.fail(f"padding mode {str(attributes['padding_mode'])[:20]!r} is not supported; use zeros")
    given = [attributes[name] for name in ("weight", "bias", *sizes)]
    packed: ConvParams = context.call(f"ops.quantized.{kind}_prepack", given, {})
    return packed


def linear_params(context: Context, attributes: Attributes) -> LinearParams:
    """The weights of a quantised linear layer: packed in the module that torch pickles, or (weight, bias)."""
    packed = attributes["_packed_params"]
    if isinstance(packed, Instance) and isinstance(packed.state, dict):
        packed = packed.state.get("_packed_params")
    if isinstance(packed, tuple) and len(packed) == 2:
        weight, bias = (context.unpacker.tensors.decode(record) for record in packed)
        return LinearParams.of(weight, bias)
    return context.unpacker.linear(packed)


def _weighted(name: str, params: Callable[[Context, Attributes], Any]) -> Layer:
    def run(context: Context, attributes: Attributes, args: list[Any]) -> Any:
        # Decoded once for a module, however often the model is followed.
        packed = context.unpacker.known.get(id(attributes))
        if packed is None:
            packed = context.unpacker.known[id(attributes)] = params(context, attributes)
        return context.call(name, [*args, packed, attributes["scale"], attributes["zero_point"]], {})

    return run


LAYERS["quantized.Conv2d"] = _weighted("ops.quantized.conv2d", conv_params)
LAYERS["quantized.ConvReLU2d"] = _weighted("ops.quantized.conv2d_relu", conv_params)
LAYERS["quantized.ConvTranspose2d"] = _weighted("ops.quantized.conv_transpose2d", transposed_params)
LAYERS["quantized.Linear"] = _weighted("ops.quantized.linear", linear_params)
LAYERS["quantized.LinearReLU"] = _weighted("ops.quantized.linear_relu", linear_params)


@layer("quantized.Quantize")
def _quantize(context: Context, attributes: Attributes, args: list[Any]) -> Any:
    wanted = [attributes["scale"], attributes["zero_point"], dtype_of(attributes["dtype"])]
    return context.call("torch.quantize_per_tensor", [*args, *wanted], {})


@layer("quantized.DeQuantize")
def _dequantize(context: Context, attributes: Attributes, args: list[Any]) -> Any:
    return context.call("torch.dequantize", args, {})


# --- layers with attributes of their own, in the order of their operation's arguments --------------------------------


def _plain(operation: str, *names: str) -> Layer:
    def run(context: Context, attributes: Attributes, args: list[Any]) -> Any:
        given = [() if name == "stride" and attributes[name] is None else attributes[name] for name in names]
        return context.call(operation, [*args, *given], {})

    return run


LAYERS.update(
    {
        "MaxPool2d": _plain("torch.max_pool2d", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        "AvgPool2d": _plain(
            "torch.avg_pool2d", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
        ),
        "AdaptiveAvgPool2d": _plain("torch.adaptive_avg_pool2d", "output_size"),
        "Flatten": _plain("torch.flatten", "start_dim", "end_dim"),
        "ReLU": _plain("torch.relu"),
        "ReLU6": _plain("torch.relu6"),
        "quantized.ReLU6": _plain("ops.quantized.relu6"),
        "Hardtanh": _plain("torch.hardtanh", "min_val", "max_val"),
        "Dropout": _plain("torch.dropout", "p", "training"),
        "Sigmoid": _plain("torch.sigmoid"),
        "Tanh": _plain("torch.tanh"),
        "Hardsigmoid": _plain("torch.hardsigmoid"),
        "Hardswish": _plain("torch.hardswish"),
        "LeakyReLU": _plain("torch.leaky_relu", "negative_slope"),
        "Softmax": _plain("torch.softmax", "dim"),
        "quantized.Sigmoid": _plain("ops.quantized.sigmoid", "output_scale", "output_zero_point"),
        "quantized.Hardswish": _plain("ops.quantized.hardswish", "scale", "zero_point"),
        "quantized.LeakyReLU": _plain("ops.quantized.leaky_relu", "negative_slope", "inplace", "scale", "zero_point"),
        "quantized.ELU": _plain("ops.quantized.elu", "scale", "zero_point", "alpha"),
        "quantized.Softmax": _plain("ops.quantized.softmax", "dim", "scale", "zero_point"),
    }
)


@layer("Identity", "quantized.Dropout", "Dropout2d")
def _identity(context: Context, attributes: Attributes, args: list[Any]) -> Any:
    return args[0]


# --- torch's functional modules, whose methods are operations --------------------------------------------------------

FUNCTIONALS = {"quantized.QFunctional", "quantized.FXFloatFunctional", "quantized.FloatFunctional"}


def method(context: Context, module: Module, name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
    """A method of a QFunctional, such as add or cat: the operation of that name, at the module's own scale."""
    scale = [module.attributes["scale"], module.attributes["zero_point"]]
    if name == "cat":
        dim = keywords.get("dim", args[1] if len(args) > 1 else 0)
        return context.call("ops.quantized.cat", [args[0], dim, *scale], {})
    if name.endswith("_scalar"):
        return context.call(f"ops.quantized.{name}", args, keywords)
    return context.call(f"ops.quantized.{name}", [*args, *scale], keywords)
