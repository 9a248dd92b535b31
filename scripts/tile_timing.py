"""Writes the timing table of docs/architecture.md from a simulation of rtl/ in Icarus.

    python -m scripts.tile_timing [--check]

The case: an 8x8 array, a fully connected layer of 24 inputs and 16 outputs (two tiles of three words), and the first
word of the layer after it. Activation word k holds k + 1 in every byte; the weights of tile 0 are 1 and those of tile 1
are 2, so that a value names its word. Every number in the table is a signal's value in that cycle, checked against the
one expected from the latencies.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyexport import isa
from pyexport.arith import Requant
from pyexport.hwconfig import HwConfig
from pyexport.images import memory_images
from pyexport.ir import Port, Quant
from pyexport.lower import lower, with_depths
from pyexport.qlayers import Network, QLayer, QTensor
from scripts.format_tables import ROOT, main, markdown_table

DOCUMENT = ROOT / "docs" / "architecture.md"
SET = "core.array.gen_set[0]"
MUL = f"{SET}.gen_row[0].gen_single.mul"
LANE = f"{SET}.gen_lane[0].lane"

COLUMNS = (
    "read", "memory", "word", "operands", "product", "again", "tree 2", "tree 3", "acc", "drain",
    "requantise", "write", "next job",
)  # fmt: skip

# name -> signal of intact_sim, read in each cycle of the run
SIGNALS = {
    "issue": "core.issue",
    "act_addr": "core.dense_addr",
    "wgt_addr": "core.wgt_addr",
    "act_data": "$signed(core.act_data[7:0])",
    "x": "$signed(core.x[7:0])",
    "wgt_data": "$signed(core.wgt_data[7:0])",
    "operand": f"$signed({MUL}.a_in)",
    "weight": f"$signed({MUL}.b_in)",
    "multiplied": f"$signed({MUL}.multiplied)",
    "product": f"$signed({MUL}.product)",
    "tree_2": f"$signed({LANE}.gen_level[2].gen_sums.gen_add[0].gen_register.kept)",
    "tree_3": f"$signed({LANE}.gen_level[3].gen_sums.gen_add[0].gen_register.kept)",
    "sum_valid": "core.sum_valid",
    "acc": f"$signed({LANE}.result)",
    "tile_last": "core.tile_last",
    "prm_addr": "core.prm_addr",
    "chain": "$signed(core.writer.chain[31:0])",
    "code": "$signed(core.writer.codes[7:0])",
    "write": "|core.drain_enable",
    "write_addr": "core.drain_addr",
    "job_done": "core.job_done",
    "job_start": "core.job_start",
    "loops_load": "core.loops_load",
    "loops_primed": "core.loops_primed",
    "here": "core.control.here",
}


def dense_network(sizes: tuple[int, ...], weights: tuple[npt.NDArray[np.int64], ...]) -> Network:
    """Fully connected layers that hand their accumulator on as the code, saturated. weights[i]: (out, in)."""
    quant = Quant(np.float32(1), 0, "int8")
    tensors = {f"t{i}": QTensor(f"t{i}", (1, 1, size), 0, 0, quant) for i, size in enumerate(sizes)}
    layers = []
    for i, matrix in enumerate(weights):
        out, inputs = matrix.shape
        zeros, ones = np.zeros(out, np.int64), np.ones(out, np.int64)
        layers.append(
            QLayer(
                name=f"dense{i}",
                op="linear",
                input=f"t{i}",
                output=f"t{i + 1}",
                kernel=(1, 1),
                stride=(1, 1),
                padding=(0, 0, 0, 0),
                dilation=(1, 1),
                groups=1,
                weights=matrix.reshape(out, 1, 1, inputs).astype(np.int16),
                maximum=False,
                requant=Requant(zeros, ones << 24, ones * 24, zeros, zeros, zeros, zeros, zeros, 0, -128, 127),
                macs=out * inputs,
            )
        )
    ports = [Port(f"t{i}", (sizes[i],), (None, None, 0)) for i in (0, len(weights))]
    return Network("dense", "exact", tensors, tuple(layers), ports[0], ports[1], "torch")


def testbench(config: HwConfig) -> str:
    """A Verilog module that starts one run and prints every signal in each of its cycles."""
    parameters = ", ".join(f".{name}({value})" for name, value in config.verilog_parameters().items())
    shown = " ".join(["%0d"] * (1 + len(SIGNALS)))
    values = ", ".join(["dut.core.cycles"] + [s.replace("core.", "dut.core.", 1) for s in SIGNALS.values()])
    return f"""
module tile_timing;
    reg clk = 1'b0, rst = 1'b1, valid = 1'b0;
    always #5 clk = ~clk;
    intact_sim #({parameters}) dut (
        .clk(clk), .rst(rst), .irq(), .s_axil_awaddr(8'd{isa.REGISTERS["CTRL"][0]}), .s_axil_awvalid(valid),
        .s_axil_awready(), .s_axil_wdata(32'd1), .s_axil_wstrb(4'hf), .s_axil_wvalid(valid), .s_axil_wready(),
        .s_axil_bresp(), .s_axil_bvalid(), .s_axil_bready(1'b1), .s_axil_araddr(8'd0), .s_axil_arvalid(1'b0),
        .s_axil_arready(), .s_axil_rdata(), .s_axil_rresp(), .s_axil_rvalid(), .s_axil_rready(1'b1)
    );
    initial begin
        repeat (4) @(negedge clk);
        rst = 1'b0;
        @(negedge clk);
        while (!(dut.core.idle && dut.core.frame_loaded)) @(negedge clk);
        valid = 1'b1;
        @(negedge clk) valid = 1'b0;
        while (!dut.core.control.in_run) @(negedge clk);
        while (dut.core.control.in_run) begin
            $display("{shown}", {values});
            @(negedge clk);
        end
        $finish;
    end
    initial #1000000 $finish;
endmodule
"""


def simulate(network: Network, array: HwConfig, frame: Iterable[bytes]) -> list[dict[str, int | None]]:
    """One run in Icarus: for each of its cycles the signals by name (None: undefined).

    array: its depths are not looked at. frame: the input's activation words, lowest channel first.
    """
    lowered = with_depths(lower(network, array))
    config = lowered.config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in memory_images(lowered).items():
            (folder / file).write_text(text)
        (folder / "frames.hex").write_text("".join(word[::-1].hex() + "\n" for word in frame))
        (folder / "tile_timing.v").write_text(testbench(config))
        sources = [*sorted(map(str, (ROOT / "rtl").glob("*.v"))), str(ROOT / "sim" / "intact_sim.v"), "tile_timing.v"]
        build = ["iverilog", "-g2005", "-I", str(ROOT / "rtl"), "-s", "tile_timing", "-o", "run", *sources]
        subprocess.run(build, cwd=folder, check=True)
        run = ["vvp", "run", "+frames=frames.hex"]
        printed = subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout
    cycles = []
    for number, line in enumerate(text for text in printed.splitlines() if not text.startswith("VCD")):
        cycle, *values = (None if "x" in word.lower() else int(word) for word in line.split())
        assert cycle == number, f"unexpected output of the simulation: {line}"
        cycles.append(dict(zip(SIGNALS, values, strict=True)))
    return cycles


def timing_table() -> str:
    """The case of the module's docstring: one row a cycle, up to the next job's first word."""
    config = HwConfig(rows=8, cols=8, lanes=8)
    weights = np.repeat(np.array([1, 2]), 8)[:, None] * np.ones((16, 24), np.int64)
    network = dense_network((24, 16, 8), (weights, np.ones((8, 16), np.int64)))
    cycles = simulate(network, config, [bytes([k + 1] * 8) for k in range(3)])
    issued = [number for number, cycle in enumerate(cycles) if cycle["issue"]]
    cells = [dict.fromkeys(COLUMNS, "") for _ in range(issued[6] + 1)]

    def put(cycle: int, column: str, text: str, **expected: int) -> None:
        for signal, value in expected.items():
            got = cycles[cycle][signal]
            assert got == value, f"cycle {cycle}: {signal} is {got}, not {value}: the latencies in {__file__} are wrong"
        cells[cycle][column] = text

    for n, cycle in enumerate(issued[:6]):
        tile, k = divmod(n, 3)
        x, w = k + 1, tile + 1
        put(cycle, "read", f"x{k} w{n}", act_addr=k, wgt_addr=n)
        put(cycle + 3, "memory", f"{x}", act_data=x)
        put(cycle + 4, "word", f"{x}, {w}", x=x, wgt_data=w)
        put(cycle + 5, "operands", f"{x}, {w}", operand=x, weight=w)
        put(cycle + 6, "product", f"{x * w}", multiplied=x * w)
        put(cycle + 7, "again", f"{x * w}", product=x * w)
        put(cycle + 8, "tree 2", f"{4 * x * w}", tree_2=4 * x * w, sum_valid=1)
        put(cycle + 9, "tree 3", f"{8 * x * w}", tree_3=8 * x * w, tile_last=int(k == 2))
        total = 8 * w * sum(range(x + 1))
        put(cycle + 10, "acc", f"{total}", acc=total)
        if k == 2:
            put(cycle + 9, "drain", f"read p{tile}", prm_addr=tile)
            put(cycle + 11, "drain", f"chain {total}", chain=total)
            for stage in range(1, 15):
                cells[cycle + 11 + stage]["requantise"] += f"{'AB'[tile]}{stage} "
            put(cycle + 25, "write", f"{total} to x{3 + tile}", code=total, write=1, write_addr=3 + tile, job_done=tile)
    after = cells[issued[5] :]
    after[0]["next job"] = "fetch begins"
    for signal, text in (("loops_load", "loops here"), ("loops_primed", "address ready"), ("here", "all here")):
        number = next(n for n in range(2, len(after)) if cycles[issued[5] + n][signal])
        after[number]["next job"] = text
    put(issued[6], "read", "x3 w6", act_addr=3, wgt_addr=6, job_start=1)
    after[-1]["next job"] = "issues"
    return markdown_table(("cycle", *COLUMNS), [(str(n), *map(str.strip, row.values())) for n, row in enumerate(cells)])


if __name__ == "__main__":
    sys.exit(main(DOCUMENT, {"tile": timing_table}, __doc__ or ""))
