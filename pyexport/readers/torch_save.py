"""Files of torch.save: a whole module, or the state_dict of one. Nothing in the file is executed, torch is not needed.

FX module       the topology is the source text of its forward (fx_source.py)
eager module    a chain's topology is its tree of modules (module_tree.py), of other classes the user names the source
state_dict      tensors by name: a chain of linear layers, or the source that the user names (state_dict.py)
micronet        either, where the source that the user names has micronet's layers (micronet.py)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyexport import ir
from pyexport.errors import IntactError
from pyexport.readers import converted, fx_source, inert, micronet, module_tree, state_dict, torchscript
from pyexport.readers.archive import Archive
from pyexport.readers.builder import Builder
from pyexport.readers.calls import Topology
from pyexport.readers.follow import Model
from pyexport.readers.options import Options

MODULE, STATE = "torch-module", "state-dict"
GRAPH_MODULE = "torch.fx.graph_module.reduce_graph_module"


def read(path: Path, archive: Archive, options: Options) -> ir.Graph:
    """The graph of a file that torch.save wrote. Raises IntactError for what is no quantised model."""
    if "byteorder" in archive and archive.text("byteorder").strip() != "little":
        raise IntactError(f"{archive.file}: was written on a big-endian machine; save it on a little-endian one")
    where = f"{archive.file}: data.pkl"
    top = inert.load(archive.read("data.pkl"), where, "data", inert.TORCH_SAVE)
    if options.arch is not None and micronet.is_micronet(options.arch):
        return micronet.read(path.stem, archive, top, options.arch, options)
    micronet.refuse_unnamed(archive, top)
    if isinstance(top, dict):
        kind, (model, notes) = STATE, _state(archive, top, options)
    else:
        kind, (model, notes) = MODULE, _module(archive, top, options)
    shape = options.input_shape
    if shape is None:
        shape = torchscript.solve(model)
        notes.append(f"input shape {shape}: the only one that fits all layers")
    builder = Builder(archive.file, shape)
    builder.notes += notes
    result = model.follow(builder)
    if result.quantised:
        builder.notes.append("the model returns codes; their scale and zero point are the output tensor's")
    return builder.finish(result, path.stem, kind, "fbgemm")


def _state(archive: Archive, top: dict[Any, Any], options: Options) -> tuple[Model, list[str]]:
    """The model of a file that holds a state_dict."""
    state = state_dict.state_of(archive.file, top)
    if options.arch is None:
        maps = options.input_shape is not None and len(options.input_shape) > 1
        topology = state_dict.chain(state, options.relu, maps)
        return Model(archive, topology, {}), ["topology: the linear layers in the file's order, a chain"]
    if options.relu is not None:
        raise IntactError(f"{archive.file}: --arch says where the ReLUs are; leave out --relu")
    topology = converted.topology(state, options.arch)
    return Model(archive, topology, state.entries), ["topology: traced from --arch"]


def _module(archive: Archive, top: Any, options: Options) -> tuple[Model, list[str]]:
    """The model of a file that holds a module."""
    where = f"{archive.file}: data.pkl"
    if options.relu is not None:
        raise IntactError(f"{archive.file}: holds a module, which says where its ReLUs are; leave out --relu")
    if isinstance(top, inert.Call) and top.name == GRAPH_MODULE:
        return _fx(archive, top, options)
    if not isinstance(top, inert.Instance):
        raise IntactError(f"{where}: holds a {type(top).__name__}; accepted are a module and a state_dict")
    if options.arch is None:
        return Model(archive, module_tree.chain(top, where), {}), ["topology: the modules in their order, a chain"]
    modules = module_tree.modules_of(top.state, where)
    topology = Topology(options.arch.input, options.arch.steps, options.arch.result, modules)
    return Model(archive, converted.with_functionals(topology), module_tree.attributes_of(top.state)), [
        "topology: traced from --arch"
    ]


def _fx(archive: Archive, top: inert.Call, options: Options) -> tuple[Model, list[str]]:
    where = f"{archive.file}: forward"
    if options.arch is not None:
        raise IntactError(f"{archive.file}: holds an FX module, which has its own forward; leave out --arch")
    body = top.args[0] if top.args else None
    code = body.get("_code", body.get("code")) if isinstance(body, dict) else None
    if not isinstance(code, str):
        raise IntactError(f"{where}: the FX module has no source text; the file is damaged, save it again")
    steps = fx_source.steps_of(code, where)
    topology = Topology(*steps, module_tree.modules_of(body, f"{archive.file}: data.pkl"))
    return Model(archive, topology, module_tree.attributes_of(body)), ["topology: the FX module's forward"]
