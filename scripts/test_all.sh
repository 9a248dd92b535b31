#!/bin/sh
# The tests that need frameworks which do not share one environment: a virtual environment for each, then its tests.
#
#   scripts/test_all.sh [NAME...]      NAME: tensorflow, brevitas (default: both); requirements/NAME.txt is what it holds
#
# The environments lie in build/venvs and are made again when their requirements change. The tests of an environment are
# those files that pytest.importorskip one of its packages; what they then still skip is listed by pytest.
set -eu

cd "$(dirname "$0")/.."
TORCH_INDEX=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
LOG=build/setup.log

die() {
    echo "error: $*" >&2
    exit 1
}

packages_of() {
    case $1 in
        tensorflow) echo 'tensorflow|tensorflow_model_optimization|tf_keras' ;;
        brevitas) echo 'brevitas|qonnx[.a-z_]*|micronet' ;;
        *) die "scripts/test_all.sh knows no environment '$1'; there are tensorflow and brevitas" ;;
    esac
}

# tests_of NAME: the files that ask for its packages.
tests_of() { grep -lE "importorskip\(\s*\"($(packages_of "$1"))\"" tests/test_*.py || true; }

# make_venv NAME: build/venvs/NAME as requirements/NAME.txt says, unless it is there.
make_venv() {
    folder=build/venvs/$1
    key=$(cat "requirements/$1.txt" scripts/test_all.sh | cksum)
    [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$key" ] && return
    echo "set-up: $folder (log: $LOG)"
    rm -rf "$folder"
    .venv/bin/python -m venv "$folder"
    pip="$folder/bin/python -m pip --disable-pip-version-check --no-input install"
    if [ "$1" = brevitas ]; then
        pin=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/torch.txt)
        $pip --index-url "$TORCH_INDEX" "$pin+cpu" >>"$LOG" 2>&1 || $pip "$pin" >>"$LOG" 2>&1 ||
            die "pip could not install $pin into $folder (details: $LOG)"
    fi
    $pip -r "requirements/$1.txt" >>"$LOG" 2>&1 || die "pip could not install requirements/$1.txt (details: $LOG)"
    echo "$key" >"$folder/.stamp"
}

status=0
for name in ${*:-tensorflow brevitas}; do
    tests=$(tests_of "$name")
    [ -n "$tests" ] || die "no test asks for a package of $name"
    make_venv "$name"
    echo "$name: $tests" | tr '\n' ' ' && echo
    "build/venvs/$name/bin/python" -m pytest -q $tests || status=1
done
exit $status
