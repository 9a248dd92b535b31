# The commands of a checkout. Each does its own set-up first (scripts/setup.sh); the work itself lives in the scripts.

##! MODEL=FILE          sim, bitstream, weights, program: the quantised model (default: models/digits.pt)
##! SIM=NAME            sim: verilator (default) or icarus
##! INPUT=FILE          sim: .npy or .npz with inputs [N, ...]: integers are codes, floats are real values
##! ARRAY=RxC           sim, bitstream, latency: rows x columns of the MAC array, input lanes x output lanes (default: 8x8, the board's,
##!                     the last bitstream's);
##!                     auto: bitstream: the fastest of those tried that the board holds
##! MATCH=RUNTIME       sim, bitstream, weights: whose arithmetic to follow bit for bit (default: the model's own framework's)
##! EXPORT_ARGS=ARGS    sim, bitstream, weights: more options of pyexport/export.py, those that say what is built, as one string
##!                     (--overlap: input overlapped)
##! CHECK=WHAT          sim: layers: compare every layer's memory; output: the last one only (default: by the model's size)
##! WAVES=1             sim: write a waveform of the run
##! OUT=DIR             sim, bench, bitstream, weights, area, fuzz: where the results go (default: a folder in build/; bitstreams: inside the
##!                     checkout); program: where the bitstream is
##! MODELS=FOLDER       bench: .tflite files: published ones in place of random weights, others too
##! ARRAYS=RxC,RxC      bench: the arrays to measure (default: 4x4,8x8,16x4,16x16); area: default,4x4,8x8,16x8,largest
##! PNR_ARGS=ARGS       bitstream, area: more options of nextpnr, as one string
##! BAUD=NUMBER         bitstream: speed of the serial port (default: the board's)
##! CLOCK=MHZ           bench, latency: for times in seconds (default: 100; the last bitstream's); bitstream, area: the clock
##!                     to build for (default: the board's)
##! BOARD=NAME          bitstream, weights, program: ulx3s (default), icebreaker, tangnano9k, tangnano20k, arty_a7_35t,
##!                     arty_a7_100t, pynq_z2
##! REUSE=DIR           weights: the finished build to put MODEL into (default: the board's newest in build/bitstream/)
##! FLASH=1             program: into the board's flash, where it stays when power goes
##! BOARDS=NAMES        area: devices of which boards (default: all)
##! FMAX=1              area: place and route too
##! SEEDS=NUMBER        area: placements of each array (default: 3)
##! READERS=NAMES       fuzz: which readers (default: all)
##! FILES=NUMBER        fuzz: damaged files for each reader (default: 20000)
##! SEED=NUMBER         bitstream: another placement (default: 1); fuzz: another sequence of files
##! PYTHON=COMMAND      the Python to build .venv with (default: the first of 3.11 or later that is found)
##! TORCH_INDEX=URL     setup, model, test: where the CPU build of torch comes from (default: PyTorch's own index)
VARIABLES := PNR_ARGS BAUD BOARDS FMAX SEEDS MODEL MODELS ARRAYS CLOCK SIM INPUT ARRAY MATCH EXPORT_ARGS CHECK WAVES OUT BOARD REUSE FLASH READERS FILES SEED PYTHON TORCH_INDEX

# Values reach the recipes through the environment and are quoted there by the shell, so that spaces, quotes and dollar
# signs in a path are only characters: $(value) keeps make itself from expanding them.
$(foreach v,$(VARIABLES),$(eval override $v := $$(value $v)))
$(foreach v,$(VARIABLES),$(if $(value $v),$(eval export $v)))

# The simulators' own builds run make: they must not take this one's flags, variables or Verilator's from elsewhere.
unexport MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS VERILATOR_ROOT
# So that what is installed in .venv is found by name, Verilator above all.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PY := .venv/bin/python
RUN = $(PY) sim/run.py $${MODEL:+"$$MODEL"} $${SIM:+--sim "$$SIM"} $${INPUT:+--input "$$INPUT"} \
	$${ARRAY:+--array "$$ARRAY"} $${MATCH:+--match "$$MATCH"} $${EXPORT_ARGS:+--export-args="$$EXPORT_ARGS"} \
	$${CHECK:+--check "$$CHECK"} $(if $(filter-out 0,$(WAVES)),--waves) $${OUT:+--out "$$OUT"}

.DEFAULT_GOAL := help
.PHONY: help setup sim report test test-all test-gate formal fuzz lint bench quantizers model bitstream weights program area latency clean distclean

help: ## list the targets and variables
	@awk -f scripts/help.awk Makefile

setup: ## install everything that any target needs, in one go
	@scripts/setup.sh all

sim: ## export MODEL, simulate it and compare every output: make sim SIM=icarus
	@scripts/setup.sh sim $(if $(filter icarus,$(SIM)),icarus)
	@$(RUN)

report: ## what sim does, with its variables, and one HTML page of it
	@scripts/setup.sh sim $(if $(filter icarus,$(SIM)),icarus)
	@$(RUN) --page

test: ## run the tests
	@scripts/setup.sh test
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/test_rtl_core.py tests/test_random_networks.py tests

test-all: test ## the tests, then those that need TensorFlow or Brevitas, in environments of their own (downloads gigabytes)
	@scripts/test_all.sh

test-gate: ## run synthesised netlists against the golden model, build bitstreams and compare them (many minutes)
	@scripts/setup.sh test
	@INTACT_GATES=ecp5,ice40,xilinx $(PY) -m pytest -q -s tests/test_gates.py tests/test_weights.py tests/test_xilinx.py \
		tests/test_board_icebreaker.py::test_keyword_spotting_through_the_pins

formal: ## prove properties of streams, AXI4-Lite, address generators, requantiser (yosys' SMT back end, z3)
	@scripts/setup.sh formal
	@$(PY) scripts/formal.py

fuzz: ## damaged files through every reader: make fuzz FILES=1000 READERS=tflite SEED=7 (default: 20,000 for each reader)
	@scripts/setup.sh test
	@$(PY) scripts/fuzz.py $${READERS:-} $${FILES:+--files "$$FILES"} $${SEED:+--seed "$$SEED"} $${OUT:+--out "$$OUT"}

lint: ## check style, types and the Verilog (ruff, mypy, Verilator, Icarus, Yosys)
	@scripts/setup.sh lint
	@$(PY) scripts/lint.py

bench: ## measure cycles, utilisation and rate of the MLPerf Tiny networks on several arrays
	@scripts/setup.sh sim
	@$(PY) sim/bench.py $${MODELS:+--models "$$MODELS"} $${ARRAYS:+--arrays "$$ARRAYS"} $${CLOCK:+--clock "$$CLOCK"} \
		$${OUT:+--out "$$OUT"}

quantizers: ## make models with each quantiser, export them, compare with their runtimes and on the Verilog
	@scripts/setup.sh test
	@$(PY) -m models.quantizers --rtl

model: ## train and quantise the demo network (needs torch): models/digits.py
	@scripts/setup.sh model
	@$(PY) models/digits.py

bitstream: ## build MODEL for BOARD with open tools: make bitstream BOARD=ulx3s CLOCK=125
	@scripts/setup.sh board
	@$(PY) constraints/build.py "$${BOARD:-ulx3s}" $${MODEL:+"$$MODEL"} $${ARRAY:+--array "$$ARRAY"} \
		$${MATCH:+--match "$$MATCH"} $${EXPORT_ARGS:+--export-args="$$EXPORT_ARGS"} $${CLOCK:+--clock "$$CLOCK"} \
		$${BAUD:+--baud "$$BAUD"} $${SEED:+--seed "$$SEED"} $${PNR_ARGS:+--pnr-args="$$PNR_ARGS"} $${OUT:+--out "$$OUT"}

weights: ## put MODEL into a finished bitstream without placing and routing again: make weights BOARD=ulx3s MODEL=new.pt
	@scripts/setup.sh board
	@$(PY) constraints/weights.py "$${BOARD:-ulx3s}" $${MODEL:+"$$MODEL"} $${REUSE:+--reuse "$$REUSE"} \
		$${MATCH:+--match "$$MATCH"} $${EXPORT_ARGS:+--export-args="$$EXPORT_ARGS"} $${OUT:+--out "$$OUT"}

program: ## load the bitstream of MODEL into BOARD over USB: make program BOARD=ulx3s FLASH=1
	@scripts/setup.sh program
	@$(PY) constraints/program.py "$${BOARD:-ulx3s}" $${MODEL:+"$$MODEL"} $${OUT:+--out "$$OUT"} \
		$(if $(filter-out 0,$(FLASH)),--flash)

area: ## what the hardware costs, array by array and part by part: make area ARRAYS=8x8 FMAX=1 SEEDS=3
	@scripts/setup.sh board
	@$(PY) constraints/area.py $${BOARDS:+--boards "$$BOARDS"} $${ARRAYS:+--arrays "$$ARRAYS"} \
		$(if $(filter-out 0,$(FMAX)),--fmax) $${CLOCK:+--clock "$$CLOCK"} $${SEEDS:+--seeds "$$SEEDS"} \
		$${PNR_ARGS:+--pnr-args="$$PNR_ARGS"} $${OUT:+--out "$$OUT"}

latency: ## times of the MLPerf Tiny networks beside published ones: make latency CLOCK=80, or of the newest bitstream
	@scripts/setup.sh sim
	@$(PY) scripts/latency.py $${ARRAY:+--array "$$ARRAY"} $${CLOCK:+--clock "$$CLOCK"}

clean: ## remove what was built
	rm -rf build .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find pyexport sim tests models constraints host scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv too
	rm -rf .venv
