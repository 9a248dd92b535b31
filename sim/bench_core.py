"""rtl/intact_core.v through its ports alone, as a host sees it: AXI4-Lite, AXI4-Stream, the interrupt.

Environment: CORE_NETWORKS, a folder with first.npz, overlapped.npz (the same with its input overlapped), second.npz,
tiny.npz and tables.npz: program, weights, params and tables (32-bit slices as the host writes them), frames and outputs
(N, words, ROWS), layer_ends. Nothing is in the memories at power-up.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout

from pyexport import isa
from sim.core_host import DESCRIPTOR, HEADER, CoreHost, Loaded
from sim.runner import bench_parameters
from sim.streams import cycles

P = {name: int(value) for name, value in bench_parameters().items()}
DEPTHS = [P["PRG_DEPTH"], P["WGT_DEPTH"], P["PRM_DEPTH"]]
NETWORKS = Path(os.environ["CORE_NETWORKS"])
NAMES = ("first", "overlapped", "second", "tiny", "tables")
FIRST, OVERLAPPED, SECOND, TINY, TABLES = (Loaded.read(NETWORKS / f"{name}.npz") for name in NAMES)


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def identification(dut: Any) -> None:
    """Before anything is loaded the registers say what this is, and a start is refused."""
    host = await CoreHost(dut).start()
    expected = {
        "ID": isa.MAGIC,
        "ARRAY": isa.FORMAT_VERSION << 24 | P["LANES"] << 16 | P["COLS"] << 8 | P["ROWS"],
        **{f"{name}_DEPTH": P[f"{name}_DEPTH"] for name in ("ACT", "WGT", "PRM", "PRG")},
        "OPTIONS": P["PRM_SERIAL"] << 9 | P["PACKED"] << 8 | P["TABLES"],
    }
    for name, value in expected.items():
        assert await host.read(name) == value, name
    await host.begin()
    await host.ends_with("PROGRAM")
    assert await host.read("RUNS") == 0


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.6])
async def runs_of_a_network(dut: Any, stall: float) -> None:
    """Codes, cycle counters and RUNS, frame before start and start before frame; stalls change nothing."""
    host = await CoreHost(dut).start(stall)
    await host.load(FIRST)
    for i, frame in enumerate(FIRST.frames):
        if i % 2:
            await host.send(frame)
            await cycles(dut, random.randrange(100))
            await host.begin()
        else:
            await host.begin()
            await cycles(dut, random.randrange(100))
            await host.send(frame)
        await host.receive(FIRST.outputs[i])
        assert await host.status("done") and not await host.status("error")
        assert await host.read("CYCLES") == FIRST.layer_ends[-1]
        assert await host.layer_ends(len(FIRST.layer_ends)) == FIRST.layer_ends
        assert await host.read("RUNS") == i + 1


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.7])
async def auto_start(dut: Any, stall: float) -> None:
    """Frames back to back, no host: as many runs, every code right, the same cycles."""
    host = await CoreHost(dut).start(stall)
    await host.load(FIRST)
    await host.write("CTRL", 1 << 8)
    count = 3 * len(FIRST.frames)
    for i in range(count):
        await host.send(FIRST.frames[i % len(FIRST.frames)])
    for i in range(count):
        await host.receive(FIRST.outputs[i % len(FIRST.frames)])
        # a following run may be under way, but the first layer's counter is the same in each
        assert (await host.layer_ends(1))[0] == FIRST.layer_ends[0]
    assert await host.read("RUNS") == count and await host.layer_ends(len(FIRST.layer_ends)) == FIRST.layer_ends
    assert host.overlapped or stall, "no frame came in while another one's output went out or waited"
    words_in, words_out = FIRST.frames.shape[1], FIRST.outputs.shape[1]
    for i in range(1, count):
        came, left = host.taken.beats[i * words_in][0], host.given.beats[i * words_out - 1][0]
        assert came > left, f"frame {i} came in during a run"


async def until_waiting(host: CoreHost) -> None:
    """The next frame is in while the run goes on."""
    for _ in range(2000):
        if await host.status("loaded"):
            assert await host.status("running"), "the run ended before the next frame was in"
            return
    raise AssertionError("no frame came in during the run")


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5, 0.9])
async def overlapped_input(dut: Any, stall: float) -> None:
    """Frames come in during runs, after the last job that reads one and not before; codes and cycles stay."""
    host = await CoreHost(dut).start(stall)
    await host.load(OVERLAPPED)
    await host.write("CTRL", 1 << 8)
    count, frames = 3 * len(OVERLAPPED.frames), OVERLAPPED.frames
    for i in range(count):
        await host.send(frames[i % len(frames)])
    for i in range(count):
        await host.receive(OVERLAPPED.outputs[i % len(frames)])
    await host.settle()
    assert await host.read("RUNS") == count and await host.error() == "NONE"
    assert await host.layer_ends(len(FIRST.layer_ends)) == OVERLAPPED.layer_ends == FIRST.layer_ends
    taken = [edge for edge, _ in host.taken.beats]
    given = [edge for edge, _ in host.given.beats]
    words_in, words_out, run = frames.shape[1], OVERLAPPED.outputs.shape[1], OVERLAPPED.layer_ends[-1]
    assert len(taken) == count * words_in and len(given) == count * words_out
    free = OVERLAPPED.descriptor(OVERLAPPED.header()["free_job"])["layer"]
    opens = OVERLAPPED.layer_ends[free - 1]
    for i in range(1, count):
        start = given[i * words_out - 1] - run - words_out if i > 1 else taken[words_in - 1]
        if not stall:
            first, last = taken[i * words_in], taken[(i + 1) * words_in - 1]
            assert opens - 40 < first - start < opens + 10, f"frame {i}: {first - start}, the input is free at {opens}"
            assert last < given[(i - 1) * words_out], f"frame {i} came in after the run"
            period = given[(i + 1) * words_out - 1] - given[i * words_out - 1]
            assert run < period < run + words_out + 40, f"run {i}: {period} cycles"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def one_run_a_frame(dut: Any) -> None:
    """A frame that came in during a run waits for its start, and runs once."""
    host = await CoreHost(dut).start()
    await host.load(OVERLAPPED)
    await host.begin()
    for frame in OVERLAPPED.frames[:2]:
        await host.send(frame)
    await host.receive(OVERLAPPED.outputs[0])
    await host.settle()
    assert await host.status("loaded") and await host.read("RUNS") == 1
    await host.begin()
    await host.receive(OVERLAPPED.outputs[1])
    await host.begin()
    await cycles(dut, 2 * OVERLAPPED.layer_ends[-1])
    assert await host.status("running") and not await host.status("loaded") and await host.read("RUNS") == 2
    await host.send(OVERLAPPED.frames[2])
    await host.receive(OVERLAPPED.outputs[2])


@cocotb.test(timeout_time=60, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def abort_with_a_frame_behind(dut: Any, stall: float) -> None:
    """At any moment of two frames' way: the next one is dropped where it was partly in, or it stays whole and runs."""
    host = await CoreHost(dut).start(stall)
    await host.load(OVERLAPPED)
    words = OVERLAPPED.frames.shape[1]
    span = OVERLAPPED.layer_ends[-1] + words + OVERLAPPED.outputs.shape[1] + 60 + int(2 * stall * words)
    opens = OVERLAPPED.layer_ends[0] + words  # about where the second frame comes in
    delays = [*range(0, span, span // 4), *range(opens - 20, opens + 2 * words, 5)]
    seen = set()
    for delay in delays:
        host.taken.beats.clear()
        await host.begin()
        for frame in OVERLAPPED.frames[:2]:
            await host.send(frame)
        while not host.taken.beats:
            await RisingEdge(dut.clk)
        await cycles(dut, delay)
        began = await host.status("running"), await host.status("loaded")
        await host.write("CTRL", 1 << 1)
        await host.sent()
        await host.settle()
        assert await host.error() in ("NONE", "ABORTED")
        host.sink.clear()
        await host.write("CTRL", 1 << 2)
        stays = await host.status("loaded")
        seen.add((*began, stays))
        if stays:
            await host.begin()
            await host.receive(OVERLAPPED.outputs[1])
        await host.run(OVERLAPPED)
    assert seen >= {(True, False, False), (True, True, True)}, seen


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def faults_with_a_frame_behind(dut: Any) -> None:
    """The next frame outlives a run that fails; a frame of the wrong length during a run does not disturb that."""
    host = await CoreHost(dut).start()
    await host.load(OVERLAPPED)
    job = OVERLAPPED.header()["jobs"] - 1
    await host.poke(DESCRIPTOR, job, OVERLAPPED.descriptor(job) | {"opcode": 0})
    for frame in (0, 1):
        await host.send(OVERLAPPED.frames[frame])
    for behind in (True, False):  # both frames fail, each in a run of its own
        await host.begin()
        await host.finished()
        await host.settle()
        assert await host.error() == "DESCRIPTOR" and await host.status("loaded") == behind
    await host.poke(DESCRIPTOR, job, OVERLAPPED.descriptor(job))
    await host.run(OVERLAPPED)
    for length in (1, OVERLAPPED.frames.shape[1] + 3):
        await host.begin()
        await host.send(OVERLAPPED.frames[1])
        await host.send(np.resize(OVERLAPPED.frames[0], (length, P["ROWS"])))
        await host.receive(OVERLAPPED.outputs[1])
        assert await host.status("done") and await host.error() == "FRAME"
        await host.write("CTRL", 1 << 2)
        await host.run(OVERLAPPED)


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def program_changed_under_a_frame(dut: Any) -> None:
    """A frame in, or on its way in, for the old program is dropped; the new one's is whole."""
    host = await CoreHost(dut).start()
    await host.load(OVERLAPPED)
    await host.begin()
    for frame in OVERLAPPED.frames[:2]:
        await host.send(frame)
    await until_waiting(host)
    await host.receive(OVERLAPPED.outputs[0])
    await host.load(SECOND)
    assert not await host.status("loaded")
    await host.run(SECOND)
    await host.load(OVERLAPPED)
    for delay in range(2, OVERLAPPED.frames.shape[1] + 2):
        assert await host.write("LOAD_ADDR", 0)
        await host.send(OVERLAPPED.frames[2])
        await cycles(dut, delay)
        assert await host.write("LOAD_DATA", OVERLAPPED.memories[0][0])
        await host.sent()
        await cycles(dut, 4)
        assert not await host.status("loaded"), f"after {delay} cycles"
        await host.settle()
    await host.run(OVERLAPPED)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def networks_swapped(dut: Any) -> None:
    """Another network at run time, and back again."""
    host = await CoreHost(dut).start(0.2)
    for network in (FIRST, TABLES, SECOND, TABLES, FIRST):
        await host.load(network)
        await host.run(network)
        assert await host.layer_ends(len(network.layer_ends)) == network.layer_ends


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def headers_refused(dut: Any) -> None:
    """A program for another configuration never runs; the right header put back, it does."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    right = FIRST.header()
    wrong = {name: right[name] ^ 1 for name in ("magic", "version", "rows", "cols", "lanes", "packed", "prm_serial")}
    wrong |= {"act_words": P["ACT_DEPTH"] + 1, "wgt_words": P["WGT_DEPTH"] + 1, "prm_words": P["PRM_DEPTH"] + 1}
    wrong |= {"layers": P["LAYERS"] + 1, "tables": P["TABLES"] + 1, "in_words": 0, "out_words": 0, "jobs": 0}
    wrong |= {"in_base": P["ACT_DEPTH"] - right["in_words"] + 1, "out_base": P["ACT_DEPTH"] - right["out_words"] + 1}
    wrong |= {"jobs ": (P["PRG_DEPTH"] - isa.HEADER_WORDS) // isa.DESCRIPTOR_WORDS + 1, "reserved0": 1}
    wrong |= {"in_words ": (1 << 24) - 1, "out_words ": (1 << 24) - 1}
    for name, value in wrong.items():
        await host.poke(HEADER, 0, right | {name.strip(): value})
        await host.begin()
        await host.ends_with("PROGRAM", f"{name}={value}")
        assert dut.s_axis_tready.value == 0, "a refused program takes no frames"
    await host.poke(HEADER, 0, right)
    await host.run(FIRST)


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def illegal_descriptors(dut: Any) -> None:
    """Each stops the run with its job's number and drops the frame; put right, the next frame runs."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    jobs = FIRST.header()["jobs"]
    assert jobs >= 3
    cases: list[tuple[str, int]] = [("opcode", 0), ("opcode", 2), *((f"reserved{i}", 1) for i in (0, 1, 3))]
    cases += [("wgt_base", P["WGT_DEPTH"]), ("prm_base", P["PRM_DEPTH"]), ("out_base", P["ACT_DEPTH"])]
    cases += [("layer", P["LAYERS"]), ("out_group", P["ROWS"] // P["LANES"]), ("last_beat", P["COLS"] // P["LANES"])]
    cases += [("reserved0", 4), ("reserved3", 1 << 15), ("table", P["TABLES"] + 1), ("table", 255)]
    for i, (name, value) in enumerate(cases):
        job = i % jobs
        await host.poke(DESCRIPTOR, job, FIRST.descriptor(job) | {name: value})
        await host.begin()
        await host.send(FIRST.frames[0])
        await host.ends_with("DESCRIPTOR", f"{name}={value} in job {job}", job)
        await host.poke(DESCRIPTOR, job, FIRST.descriptor(job))
    for job in (0, jobs - 1):  # the end comes too early; it does not come
        fields = FIRST.descriptor(job)
        await host.poke(DESCRIPTOR, job, fields | {"program_end": 1 - fields["program_end"]})
        await host.begin()
        await host.send(FIRST.frames[0])
        await host.ends_with("DESCRIPTOR", f"program_end in job {job}", job)
        await host.poke(DESCRIPTOR, job, fields)
    await host.run(FIRST)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def illegal_job_of_one_word(dut: Any) -> None:
    """The job is over before the error shows; it is still the one that is named."""
    host = await CoreHost(dut).start()
    await host.load(TINY)
    await host.run(TINY)
    for job in (0, 1):
        await host.poke(DESCRIPTOR, job, TINY.descriptor(job) | {"opcode": 0})
        await host.begin()
        await host.send(TINY.frames[0])
        await host.ends_with("DESCRIPTOR", f"job {job}", job)
        await host.poke(DESCRIPTOR, job, TINY.descriptor(job))
        await host.run(TINY)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def gap_too_small(dut: Any) -> None:
    """A tile that would overrun the drain stops the run."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    job = next(i for i in range(FIRST.header()["jobs"]) if FIRST.descriptor(i)["gap"])
    await host.poke(DESCRIPTOR, job, FIRST.descriptor(job) | {"gap": 0})
    await host.begin()
    await host.send(FIRST.frames[0])
    await host.ends_with("OVERRUN", "gap", job)
    await host.poke(DESCRIPTOR, job, FIRST.descriptor(job))
    await host.run(FIRST)


@cocotb.test(timeout_time=60, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def abort(dut: Any, stall: float) -> None:
    """At any moment of a frame's way through: never a hang, and the next frame is whole."""
    host = await CoreHost(dut).start(stall)
    await host.load(FIRST)
    rng = random.Random(int(10 * stall))
    span = FIRST.layer_ends[-1] + FIRST.frames.shape[1] + FIRST.outputs.shape[1] + 60
    span += int(2 * stall * FIRST.frames.shape[1])
    seen = set()
    for i in range(12):
        await host.begin()
        await host.send(FIRST.frames[0])
        await cycles(dut, i * span // 11 + rng.randrange(20))
        seen.add(await host.status("running"))
        await host.write("CTRL", 1 << 1)
        await host.sent()
        await host.settle()
        if await host.status("loaded"):  # the frame had not begun to come in when it was told to stop
            await host.begin()
            await host.finished()
            await host.settle()
        assert await host.error() in ("NONE", "ABORTED")
        host.sink.clear()
        await host.write("CTRL", 1 << 2)
        await host.run(FIRST)
    assert seen == {True, False}


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def abort_between_jobs(dut: Any) -> None:
    """In every cycle around the end of a job, when the next descriptor is on its way."""
    host = await CoreHost(dut).start()
    await host.load(SECOND)
    for delay in range(0, 40, 2):
        await host.begin()
        await host.send(SECOND.frames[0])
        await host.sent()
        await cycles(dut, SECOND.layer_ends[0] - 30 + delay)
        await host.write("CTRL", 1 << 1)
        await host.settle()
        assert await host.error() == "ABORTED", f"{delay}: too late"
        await host.run(SECOND)


@cocotb.test(timeout_time=40, timeout_unit="ms")
@cocotb.parametrize(stall=[0.0, 0.5])
async def frames_of_the_wrong_length(dut: Any, stall: float) -> None:
    """TLAST too early or too late: an error, no run; the next good frame runs."""
    host = await CoreHost(dut).start(stall)
    await host.load(FIRST)
    words = FIRST.frames.shape[1]
    for length in (1, words - 1, words + 1, words + 7, 2 * words):
        await host.begin()
        await host.send(np.resize(FIRST.frames[0], (length, P["ROWS"])))
        await host.sent()
        await cycles(dut, 6)
        assert await host.error() == "FRAME", f"{length} words instead of {words}"
        assert await host.status("running"), "the start still waits for its frame"
        await host.send(FIRST.frames[0])
        await host.receive(FIRST.outputs[0])
        await host.write("CTRL", 1 << 2)
        assert await host.error() == "NONE"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def load_while_running(dut: Any) -> None:
    """Refused, whatever the memory; the run is not disturbed."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    await host.begin()
    for target in range(4):
        await host.write("LOAD_ADDR", target << 28)
        assert not await host.write("LOAD_DATA", 0xFFFFFFFF), "accepted between start and frame"
    await host.send(FIRST.frames[0])
    while dut.s_axis_tready.value != 0:
        await RisingEdge(dut.clk)
    refused = 0
    while await host.status("running"):
        refused += not await host.write("LOAD_DATA", 0xFFFFFFFF)
    assert refused > 3
    await host.receive(FIRST.outputs[0])
    await host.run(FIRST)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def interrupt(dut: Any) -> None:
    """Follows done and error while it is enabled, and only then."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    await host.run(FIRST)
    await cycles(dut, 4)
    assert await host.status("done") and dut.irq.value == 0
    await host.write("CTRL", 1 << 9)
    await cycles(dut, 3)
    assert dut.irq.value == 1
    await host.write("CTRL", 1 << 9 | 1 << 2)
    await cycles(dut, 3)
    assert dut.irq.value == 0 and not await host.status("done")
    await host.write("CTRL", 1 << 9 | 1)
    await host.send(FIRST.frames[0])
    await with_timeout(RisingEdge(dut.irq), 1, "ms")
    assert await host.status("done")
    await host.receive(FIRST.outputs[0])
    await host.write("CTRL", 1 << 9 | 1)
    await cycles(dut, 3)
    assert dut.irq.value == 0, "a start clears done"
    await host.send(FIRST.frames[0][:1])
    await with_timeout(RisingEdge(dut.irq), 1, "ms")
    assert await host.error() == "FRAME"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reset_in_the_middle(dut: Any) -> None:
    """A reset at any moment; what the memories hold stays, and the next frame is whole."""
    host = await CoreHost(dut).start()
    await host.load(FIRST)
    for _ in range(5):
        await host.begin()
        await host.send(FIRST.frames[0])
        await host.sent()
        await cycles(dut, random.randrange(FIRST.layer_ends[-1]))
        await host.reset()
        assert await host.read("RUNS") == 0 and await host.error() == "NONE"
        await host.run(FIRST)
