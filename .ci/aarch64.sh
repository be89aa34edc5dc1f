#!/usr/bin/env bash
# Builds the aarch64 wheel and runs tests of it under qemu: aarch64.sh WORK_FOLDER PYTHON PART..., from the root of the
# checkout; the parts are the functions below, and run side by side.
# PYTHON is a CPython 3.11 with scikit-build-core, pybind11, cmake and ninja; Debian's g++-aarch64-linux-gnu,
# qemu-user-static and mmdebstrap must be installed. Nothing is registered with the system or run in a chroot.
set -euo pipefail
work=$1 python=$2
project=$PWD
export LLAMAQ_SYSROOT=$work/sysroot
mkdir -p "$work"

if [ ! -x "$LLAMAQ_SYSROOT/usr/bin/python3.11" ]; then
  rm -rf "$LLAMAQ_SYSROOT"
  mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=python3.11,libpython3.11-dev,libstdc++6,zlib1g bookworm "$LLAMAQ_SYSROOT"
fi

# pip does not expand platform tags: every one that wheels are published for is named.
"$python" -m pip install --quiet --upgrade --target "$work/site" --only-binary=:all: \
  --python-version 3.11 --implementation cp --abi cp311 \
  --platform manylinux_2_17_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
  --platform manylinux2014_aarch64 \
  numpy jinja2 regex tqdm pytest pytest-timeout hypothesis gguf

# The host's Python takes the build settings of the target's.
mkdir -p "$work/settings"
cp "$LLAMAQ_SYSROOT/usr/lib/python3.11/_sysconfigdata__aarch64-linux-gnu.py" "$work/settings/"
rm -rf "$work/wheel" "$work/package" "$work/build"
env PYTHONPATH="$work/settings" _PYTHON_HOST_PLATFORM=linux-aarch64 \
  _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__aarch64-linux-gnu SETUPTOOLS_EXT_SUFFIX=.cpython-311-aarch64-linux-gnu.so \
  "$python" -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir "$work/wheel" "$project" \
  --config-settings cmake.define.CMAKE_TOOLCHAIN_FILE="$project/.ci/aarch64.cmake" \
  --config-settings cmake.define.LLAMAQ_WERROR=ON --config-settings build-dir="$work/build" \
  --config-settings cmake.define.Python_INCLUDE_DIR="$LLAMAQ_SYSROOT/usr/include/python3.11" \
  --config-settings cmake.define.Python_LIBRARY="$LLAMAQ_SYSROOT/usr/lib/aarch64-linux-gnu/libpython3.11.so"
"$python" -m zipfile -e "$work"/wheel/*linux_aarch64.whl "$work/package"

emulated() { # emulated CPU LEVELS [pytest arguments]: LEVELS are those that the CPU must offer
  printf '%s: %s\n' "$1" "$2"
  env PYTHONPATH="$work/site:$work/package" PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 EXPECT_ISAS="$2" \
    qemu-aarch64-static -cpu "$1" -L "$LLAMAQ_SYSROOT" "$LLAMAQ_SYSROOT/usr/bin/python3.11" \
    -m pytest -p no:cacheprovider -m "not slow and not subprocess" "${@:3}"
}
# The emulator is 25 times slower than the machine: the CPU with all levels compares their bits, the others show that a
# level runs on a CPU that has nothing beyond it. Not `max` with SVE: numpy's matrix product warns without cause there.
models=tests/models/test_real_models.py::test_every_choice_is_the_recorded_one_but_at_near_ties
bits=tests/sampling/test_properties.py
all_levels=(max,sve=off scalar,neon,neon_dotprod,neon_i8mm)
cortex_a72() {
  emulated cortex-a72 scalar,neon tests/kernels/test_isa.py tests/kernels/test_dequantize.py tests/kernels/test_kernels.py tests/engine/test_engine.py \
    tests/kernels/test_quantize_search.py "$models[stories260K-F16]" -k "test_isa or test_dequantize or equals_the_specification \
    or equals_the_reference or stories or (same_bytes and (Q4_0 or Q4_K or IQ2_XS))"
}
neoverse_n1() {
  emulated neoverse-n1 scalar,neon,neon_dotprod tests/kernels/test_isa.py tests/kernels/test_kernels.py tests/engine/test_engine.py \
    "$models[stories260K-Q8_0]" -k "test_isa or equals_the_specification or equals_the_reference or stories"
}
kernels() {
  emulated "${all_levels[@]}" tests/kernels/test_kernels.py "$bits::test_every_level_gives_the_same_bits" \
    "$bits::test_every_machine_gives_the_same_bits"
}
engine() {
  emulated "${all_levels[@]}" tests/kernels/test_isa.py tests/engine/test_engine.py "$models[stories260K-Q4_0]" \
    "tests/models/test_bundled.py::test_greedy_answers_are_golden[Hello]" \
    tests/llm/test_verify.py::test_the_receipt_in_the_repository_holds -k "not bits_do_not_depend or f16-Q4_K"
}
running=()
for part in "${@:3}"; do
  "$part" >"$work/$part.log" 2>&1 &
  running+=("$part:$!")
done
failed=0
for each in "${running[@]}"; do
  wait "${each#*:}" || failed=$?
  cat "$work/${each%:*}.log"
done
exit "$failed"
