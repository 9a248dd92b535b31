"""intact-host: frames against the simulation's, the command against a board in Python behind a pseudo-terminal."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("serial", reason="pyserial is not installed: requirements/host.txt")

from host import deployed, intact_host
from host.client import memory_image
from host.deployed import Deployed
from pyexport import export, golden, quantise, runtimes
from pyexport.errors import IntactError
from sim.compare import from_words, to_words
from tests.fake_board import FakeBoard, Known, Wire, on_a_terminal
from tests.tflite_nets import CASES

ROOT = Path(__file__).resolve().parent.parent
TEST_SET = ROOT / "models" / "digits_test.npz"
COUNT = 6


@dataclass
class Net:
    """An exported network, its manifest read by the host, inputs as source codes, and their golden frames."""

    exported: export.Exported
    host: Deployed
    codes: np.ndarray
    frames: list[bytes]
    outputs: list[bytes]
    result: np.ndarray

    @property
    def known(self) -> Known:
        target_words = {target: self.host.image(target)[0] for target in self.host.used}
        ends = np.cumsum(self.exported.cycles).tolist()
        return Known(target_words, dict(zip(self.frames, self.outputs, strict=True)), ends)


def exported(model: Path, folder: Path, array: str = "8x8", codes: np.ndarray | None = None) -> Net:
    """Exports, and works out with the simulation's own functions what goes over the line."""
    found = export.export(str(model), array)
    export.write(found, folder)
    network, places = found.network, found.lowered.plan.placements
    first, last = network.tensors[network.input.tensor], network.tensors[network.output.tensor]
    if codes is None:
        low, high = first.quant.range
        codes = np.random.default_rng(5).integers(low, high + 1, (COUNT, *network.input.shape))
    chip = (network.input.to_hwc(codes) + first.shift).astype(np.int8)
    out = golden.run(network, chip)[last.name]
    rows = found.config.rows
    frames = [words.tobytes() for words in to_words(chip, places[first.name], rows)]
    outputs = [words.tobytes() for words in to_words(out, places[last.name], rows)]
    result = network.output.from_hwc((out.astype(np.int16) - last.shift).astype(last.quant.dtype))
    return Net(found, deployed.load(folder / "manifest.json"), codes, frames, outputs, result)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Net:
    folder = tmp_path_factory.mktemp("digits")
    with np.load(TEST_SET) as arrays:
        values = arrays["inputs"][:COUNT]
        np.savez(folder / "inputs.npz", **{name: arrays[name][:COUNT] for name in ("inputs", "labels", "codes")})
    found = export.export(str(ROOT / "models" / "digits.pt"))
    first = found.network.tensors[found.network.input.tensor]
    codes = quantise.input_codes(first, values, found.network.float_input)
    return exported(ROOT / "models" / "digits.pt", folder, codes=codes)


@pytest.fixture(scope="module")
def xor(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return exported(ROOT / "models" / "xor.pt", tmp_path_factory.mktemp("xor"))


def board_with(loaded: Net, *others: Net) -> FakeBoard:
    board = FakeBoard(loaded.exported.config, [net.known for net in (loaded, *others)])
    board.store(loaded.known.memories)
    return board


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command."""
    try:
        status = intact_host.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capfd.readouterr()
    return status, said.out, said.err


def refusal(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the command ends with."""
    status, out, err = run(capfd, *arguments)
    assert status == 1 and out == "" and err.startswith("error: ") and err.count("\n") == 1, (status, out, err)
    return err


# ------------------------------------------------------------------------------------------------ frames


@pytest.mark.parametrize("array", ["8x8", "4x4", "16x4", "5x3", "1x4"])
@pytest.mark.parametrize("model", ["digits", "xor", "qconvbnrelu", "affine"])
def test_frames_of_torch_models(model: str, array: str, tmp_path: Path) -> None:
    check_frames(exported(ROOT / "models" / f"{model}.pt", tmp_path, array))


@pytest.mark.parametrize("array", ["8x8", "4x4"])
@pytest.mark.parametrize("name", [name for name in CASES if "uint8" not in name or "conv" in name][::3])
def test_frames_of_tflite_models(name: str, array: str, tmp_path: Path) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(CASES[name](1).data)
    check_frames(exported(model, tmp_path, array))


def check_frames(net: Net) -> None:
    """The host's frames are the simulation's, from the manifest alone; its codes those of the golden model."""
    host = net.host
    assert host.encode(net.codes, "inputs") == net.frames
    assert (host.source.size, host.target.size) == (len(net.frames[0]), len(net.outputs[0]))
    assert np.array_equal(host.target.unpack(net.outputs), net.result)
    assert host.target.unpack(net.outputs).dtype == net.result.dtype
    # what lies between the codes has no meaning
    network, rows = net.exported.network, net.exported.config.rows
    tensor = network.tensors[network.output.tensor]
    place = net.exported.lowered.plan.placements[tensor.name]
    noise = np.random.default_rng(1).integers(-128, 128, (2, place.words, rows)).astype(np.int8)
    expected = network.output.from_hwc(
        (from_words(noise, place, tensor.shape).astype(np.int16) - tensor.shift).astype(tensor.quant.dtype)
    )
    assert np.array_equal(host.target.unpack([words.tobytes() for words in noise]), expected)


def test_both_layouts_were_met(digits: Net, xor: Net) -> None:
    assert digits.host.source.patches is not None and xor.host.source.patches is None


def test_images_are_those_of_the_files(digits: Net) -> None:
    lowered = digits.exported.lowered
    assert digits.host.image("PROGRAM") == (list(lowered.program), 64)
    folder = digits.host.path.parent
    for target, name in (("WEIGHTS", "weights.mem"), ("PARAMS", "params.mem")):
        words, width = digits.host.image(target)
        whole = memory_image(folder / name)
        assert words == whole[: len(words)] and not any(whole[len(words) :])
        assert width == {"WEIGHTS": 512, "PARAMS": 1280}[target]


@pytest.mark.parametrize("name", ["int8 softmax", "uint8 softmax"])
def test_the_softmax_is_the_hosts(name: str, tmp_path: Path) -> None:
    model = tmp_path / "net.tflite"
    model.write_bytes(CASES[name](2).data)
    net = exported(model, tmp_path)
    tail = net.exported.network.tail
    assert tail is not None
    match = net.exported.network.match
    expected = runtimes.softmax_codes(net.result, tail.source, tail.target, tail.beta, match)
    codes = net.host.decode(net.outputs)
    assert np.array_equal(codes, expected) and codes.dtype == np.dtype(tail.target.dtype)
    assert np.allclose(net.host.real(codes).sum(axis=-1), 1, atol=0.05)


def test_real_values(digits: Net) -> None:
    with np.load(TEST_SET) as arrays:
        assert digits.host.encode(arrays["inputs"][:COUNT], "inputs") == digits.frames
    quant = digits.exported.network.tensors[digits.exported.network.output.tensor].quant
    expected = (digits.result.astype(np.float32) - quant.zero_point) * quant.scale
    assert np.array_equal(digits.host.real(digits.result), expected)


def test_the_client_needs_neither_torch_nor_the_model() -> None:
    code = (
        "import sys\nimport host.intact_host\n"
        "print([n for n in ('torch', 'onnx', 'flatbuffers', 'cocotb', 'pyexport.readers', 'sim') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ the command


def test_labels_codes_and_real_values(digits: Net, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = digits.host.path.parent
    common = ("--manifest", digits.host.path, "--input", folder / "inputs.npz")
    with on_a_terminal(board_with(digits).feed) as port:
        status, out, err = run(capfd, "--port", port, *common, "--labels", "--counters")
        assert status == 0
        labels = digits.result.argmax(axis=1)
        assert list(map(int, out.split("\n")[:COUNT])) == labels.tolist()
        with np.load(TEST_SET) as arrays:
            assert f"accuracy on {COUNT} inputs: {(arrays['labels'][:COUNT] == labels).mean():.2%}" in err
        assert f"codes that differ from the framework's own: 0 of {COUNT * 10}" in err
        assert f"runs since reset: {COUNT}" in out
        for layer, cycles in zip(digits.host.layers, digits.exported.cycles, strict=True):
            assert f"{layer.name} {cycles:,} {cycles:,}" in " ".join(out.split())
        status, out, _ = run(capfd, "--port", port, *common, "--limit", 2)
        assert status == 0 and np.array_equal(
            np.array([row.split() for row in out.splitlines()], int), digits.result[:2]
        )
        given = tmp_path / "real.npy"
        assert run(capfd, "--port", port, *common, "--real", "--out", given)[:2] == (0, "")
        assert np.array_equal(np.load(given), digits.host.real(digits.result))
        status, out, _ = run(capfd, "--port", port, "--reset", "--counters", "--manifest", digits.host.path)
        assert status == 0 and "runs since reset: 0" in out
        status, out, _ = run(capfd, "--port", port)
        assert status == 0 and "rows 8, cols 8, lanes 8" in out


def test_another_framework_result_fails(digits: Net, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    codes = digits.result.copy()
    codes[0, 0] ^= 1
    np.savez(path, inputs=digits.codes, codes=codes)
    with on_a_terminal(board_with(digits).feed) as port:
        status, _, err = run(capfd, "--port", port, "--manifest", digits.host.path, "--input", path)
    assert status == 1 and f"framework's own: 1 of {COUNT * 10}" in err


def test_another_network_is_loaded_and_back(
    digits: Net, xor: Net, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    board = board_with(digits, xor)
    path = tmp_path / "xor.npy"
    np.save(path, xor.codes)
    wanted = [(xor, path), (digits, digits.host.path.parent / "inputs.npz")]
    with on_a_terminal(board.feed) as port:
        for net, inputs in wanted:
            arguments = ("--port", port, "--manifest", net.host.path, "--input", inputs)
            # before the load the board holds the other one
            assert "another network is in the board's memories" in refusal(capfd, *arguments)
            status, out, err = run(capfd, *arguments, "--load")
            assert status == 0, err
            assert np.array_equal(np.array([row.split() for row in out.splitlines()], int), net.result)
            assert "loaded weights, params, program in" in err and board.holds(net.known)


@pytest.mark.parametrize("name", ["int8 logistic", "uint8 activations", "int8 softmax"])
def test_networks_of_tflite_are_loaded(name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With tables, and with a softmax: into empty memories, a word of every width."""
    model = tmp_path / "net.tflite"
    model.write_bytes(CASES[name](1).data)
    net = exported(model, tmp_path)
    np.savez(tmp_path / "x.npz", inputs=net.codes, codes=net.host.decode(net.outputs))
    board = FakeBoard(net.exported.config, [net.known])
    with on_a_terminal(board.feed) as port:
        arguments = ("--port", port, "--manifest", net.host.path, "--input", tmp_path / "x.npz", "--load")
        status, out, err = run(capfd, *arguments, "--real")
    assert status == 0 and board.holds(net.known), err
    assert ("TABLES" in net.host.used) == ("softmax" not in name)
    wanted = net.host.real(net.host.decode(net.outputs)).reshape(COUNT, -1)
    assert np.allclose(np.array([row.split() for row in out.splitlines()], float), wanted)


def test_a_manifest_without_a_board_is_said(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    with on_a_terminal(board_with(digits).feed) as port:
        arguments = ("--port", port, "--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz")
        status, _, err = run(capfd, *arguments)
        assert status == 0 and "names no board" in err
        status, _, err = run(capfd, *arguments, "--load")
        assert status == 0 and "names no board" not in err


def test_what_was_loaded_and_is_refused_is_for_other_verilog(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    slower = replace(digits.known, layer_ends=[end + 1 for end in digits.known.layer_ends])
    board = FakeBoard(digits.exported.config, [slower])
    arguments = ("--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz", "--load")
    with on_a_terminal(board.feed) as port:
        status, _, err = run(capfd, "--port", port, *arguments)
    assert status == 1 and err.splitlines()[-1].startswith("error: ")
    assert "it was just loaded, so the bitstream is of other Verilog" in err.splitlines()[-1]


def test_parts_of_a_network(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(digits)
    for target in ("PROGRAM", "PARAMS", "WEIGHTS"):
        board.memories[target][1] ^= 1
    with on_a_terminal(board.feed) as port:
        assert run(capfd, "--port", port, "--manifest", digits.host.path, "--load", "program")[0] == 0
        assert not board.holds(digits.known)
        status, _, err = run(capfd, "--port", port, "--manifest", digits.host.path, "--load", "params,weights")
        assert status == 0 and "loaded weights, params, program in" in err
    assert board.holds(digits.known)


@pytest.mark.parametrize("part", ["all", "weights"])
def test_a_part_that_stops_leaves_nothing_that_runs(part: str, digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(digits)
    board.to_board = lambda data: data if board.requests < 40 else b""
    with on_a_terminal(board.feed) as port:
        refusal(capfd, "--port", port, "--manifest", digits.host.path, "--load", part)
    assert board.memories["PROGRAM"][0] == 0


def test_what_the_bitstream_cannot_fill_is_loaded_unasked(
    copy: Path, digits: Net, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on a board whose weights lie in memories that hold nothing at power-up."""
    board = board_with(digits)
    board.memories["WEIGHTS"].clear()
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"fit": {"load": ["weights"]}}))
    arguments = ("--manifest", copy / "manifest.json", "--input", copy / "inputs.npz")
    with on_a_terminal(board.feed) as port:
        status, _, err = run(capfd, "--port", port, *arguments)
        assert status == 0 and "loaded weights, program in" in err and board.holds(digits.known)
        board.memories["PARAMS"][1] ^= 1
        status, _, err = run(capfd, "--port", port, *arguments, "--load", "params")
        assert status == 0 and "loaded weights, params, program in" in err and board.holds(digits.known)


def test_a_load_that_stops_leaves_nothing_that_runs(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(digits)

    def cut(data: bytes) -> bytes:
        return data if board.requests < 40 else b""

    board.to_board = cut
    with on_a_terminal(board.feed) as port:
        assert "is --baud" in refusal(capfd, "--port", port, "--manifest", digits.host.path, "--load")
        assert board.illegal()
        board.to_board = bytes
        arguments = ("--port", port, "--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz")
        assert "error 1 of the accelerator" in refusal(capfd, *arguments)
        assert run(capfd, *arguments, "--load")[0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_line(seed: int, digits: Net, xor: Net, capfd: pytest.CaptureFixture[str]) -> None:
    """Bits flipped, bytes lost, garbage, both ways, while a network is loaded and runs: every code is right."""
    board = board_with(xor, digits)
    board.to_board, board.to_host = Wire(seed, 3000), Wire(seed + 100, 500)
    with on_a_terminal(board.feed) as port:
        arguments = ("--port", port, "--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz")
        status, out, err = run(capfd, *arguments, "--load")
    assert status == 0, err
    assert np.array_equal(np.array([row.split() for row in out.splitlines()], int), digits.result)
    assert board.to_board.faults >= 4 and board.to_host.faults >= 2 and "the line garbled something" in err


@pytest.mark.parametrize("request_too", [False, True])
def test_half_a_frame_from_before(request_too: bool, digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that was stopped left half an input frame, and half a request."""
    board = board_with(digits)
    if request_too:
        board.feed(b"\xa5\x04\x80\x00abc")
    board.take(b"an input frame's first part", last=False)
    arguments = ("--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz", "--limit", 1)
    with on_a_terminal(board.feed) as port:
        status, out, err = run(capfd, "--port", port, *arguments)
    assert status == 0, err
    assert out.split() == [str(code) for code in digits.result[0]]


# ------------------------------------------------------------------------------------------------ refusals


def test_no_answer_and_a_wrong_speed(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    with on_a_terminal(lambda data: b"") as port:
        assert "no answer; is the board on" in refusal(capfd, "--port", port)
    with on_a_terminal(lambda data: b"\x00\xfe\xf8" * 3) as port:
        assert "is --baud the bitstream's speed?" in refusal(capfd, "--port", port)
    board = board_with(digits)
    board.to_host = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with on_a_terminal(board.feed) as port:
        assert "the response's CRC is wrong" in refusal(capfd, "--port", port)


@pytest.mark.parametrize("served", [0, 3])
def test_the_port_goes_away(served: int, digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    board = board_with(digits)

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            for _ in range(served):
                connection.sendall(board.feed(connection.recv(4096)))
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        port = f"socket://127.0.0.1:{server.getsockname()[1]}"
        line = refusal(capfd, "--port", port, "--manifest", digits.host.path, "--load")
        thread.join()
    assert port in line and "disconnected" in line


def test_another_design_or_array(digits: Net, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = board_with(digits)
    small = exported(ROOT / "models" / "xor.pt", tmp_path, "4x4")
    with on_a_terminal(board.feed) as port:
        assert "an array 8x8 with 8 lanes answers" in refusal(
            capfd, "--port", port, "--manifest", small.host.path, "--load"
        )
    digits_path = digits.host.path
    for option, name in (("packed", "--packed"), ("prm_serial", "--serial-params")):
        other = FakeBoard(replace(digits.exported.config, **{option: 1}), [])
        with on_a_terminal(other.feed) as port:
            line = refusal(capfd, "--port", port, "--manifest", digits_path, "--load")
        assert f"the bitstream's hardware was built with {name}, {digits_path} was exported without it" in line
    shallow = FakeBoard(xor_config := type(digits.exported.config)(8, 8, 8, wgt_depth=128), [])
    with on_a_terminal(shallow.feed) as port:
        line = refusal(capfd, "--port", port, "--manifest", digits_path, "--load")
    assert f"wgt_depth of the board is {xor_config.wgt_depth}, the network needs 254" in line


def test_equal_sizes_but_other_cycles(digits: Net, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("--manifest", digits.host.path, "--input", digits.host.path.parent / "inputs.npz")
    board = board_with(digits)
    ends = board.known[0].layer_ends
    for changed, said in (
        ([*ends[:-1], ends[-1] + 1], "7,671 cycles, not 7,670"),
        ([ends[0] + 1, *ends[1:]], "layer 'conv1'"),
    ):
        board.known[0].layer_ends = changed
        with on_a_terminal(board.feed) as port:
            line = refusal(capfd, "--port", port, *arguments)
        assert "another network is in the board's memories" in line and said in line


@pytest.fixture
def copy(digits: Net, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(digits.host.path.parent, tmp_path / "copy")
    yield tmp_path / "copy"


NOWHERE = ("--port", "/nowhere/tty")


def test_what_is_wrong_without_a_board(digits: Net, copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest, load = copy / "manifest.json", (*NOWHERE, "--manifest", copy / "manifest.json", "--load")
    assert "/nowhere/tty: cannot be opened: No such file" in refusal(capfd, *NOWHERE)
    assert "cannot be opened" in refusal(capfd, "--port", "socket://127.0.0.1:1")
    assert "--manifest: the network's" in refusal(capfd, *NOWHERE, "--load")
    assert "need --input" in refusal(capfd, *NOWHERE, "--labels")
    out = copy / "nowhere" / "x.npy"
    np.save(copy / "x.npy", digits.codes)
    assert "cannot be written" in refusal(
        capfd, *NOWHERE, "--manifest", manifest, "--input", copy / "x.npy", "--out", out
    )
    assert "'rom' is no memory" in refusal(capfd, *load[:-1], "--load", "rom")
    for values, said in (
        (np.zeros((2, 8, 8)), "inputs have shape (2, 8, 8); the model takes [N, 1, 8, 8]"),
        (np.full((1, 1, 8, 8), 256), "input codes 256..256 lie outside uint8's 0..255"),
        (np.full((1, 1, 8, 8), np.nan), "is not a number"),
        (np.zeros((0, 1, 8, 8)), "inputs have shape (0, 1, 8, 8)"),
    ):
        np.save(copy / "x.npy", values)
        assert said in refusal(capfd, *NOWHERE, "--manifest", manifest, "--input", copy / "x.npy")
    lines = (copy / "weights.mem").read_text().splitlines()
    for text, said in (
        ("xyz\n", "is not a memory image"),
        ("\n".join(lines[:100]), "is not the image"),
        ("f" * 129, "is not"),
    ):
        (copy / "weights.mem").write_text(text)
        assert said in refusal(capfd, *load)
    (copy / "weights.mem").unlink()
    assert "cannot be read: No such file" in refusal(capfd, *load)


def test_a_damaged_manifest(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = copy / "manifest.json"
    arguments = (*NOWHERE, "--manifest", manifest, "--load")
    data = json.loads(manifest.read_text())
    for changes, said in (
        ({"version": 2}, "layout version 2"),
        ({"input": {**data["input"], "words": 7}}, "is not a manifest"),
        ({"input": {k: v for k, v in data["input"].items() if k != "real_values"}}, "real_values"),
        ({"layers": data["layers"][1:]}, "layers is 6, manifest.json says 5"),
        ({"hardware": []}, "is not a manifest"),
    ):
        manifest.write_text(json.dumps(data | changes))
        assert said in refusal(capfd, *arguments)
    for text in ("[]", "{", "null", '"x"'):
        manifest.write_text(text)
        assert str(manifest) in refusal(capfd, *arguments)


def test_labels_of_a_map_are_refused(digits: Net) -> None:
    with pytest.raises(IntactError, match="no list of scores"):
        digits.host.labels(np.zeros((1, 4, 4, 2), np.uint8))
