"""Which SIMD level runs: what a CPU's answers allow, what LLAMAQ_ISA forces, what this machine is said to offer."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import NamedTuple

import pytest

from llamaq import _core
from llamaq.errors import ISAError

BUILT = {"x86_64": ["scalar", "avx2"], "aarch64": ["scalar", "neon"]}
AVX2 = 1  # the feature bit of csrc/cpu/features.h

SSE3, FMA, SSE41, XSAVE, OSXSAVE, AVX, F16C = (
    1 << 0,
    1 << 12,
    1 << 19,
    1 << 26,
    1 << 27,
    1 << 28,
    1 << 29,
)  # leaf 1, ECX
BMI1, AVX2_BIT, BMI2, AVX512F = 1 << 3, 1 << 5, 1 << 8, 1 << 16  # leaf 7, EBX
X87_STATE, XMM_STATE, YMM_STATE, ZMM_STATE = 1, 2, 4, 0xE0  # XCR0


class Answers(NamedTuple):
    """CPUID leaf 1 ECX, leaf 7 EBX, and XCR0 (0 where OSXSAVE is clear), as csrc/cpu/features.h takes them."""

    ecx1: int
    ebx7: int
    xcr0: int


HASWELL_ECX = SSE3 | FMA | SSE41 | XSAVE | OSXSAVE | AVX | F16C
STATES = X87_STATE | XMM_STATE | YMM_STATE
WITH_AVX2 = {
    "Haswell": Answers(HASWELL_ECX, BMI1 | AVX2_BIT | BMI2, STATES),
    "Skylake-SP": Answers(HASWELL_ECX, BMI1 | AVX2_BIT | BMI2 | AVX512F, STATES | ZMM_STATE),
}
WITHOUT = {
    "nothing": Answers(0, 0, 0),
    "Nehalem": Answers(SSE3 | SSE41, 0, 0),
    "Sandy Bridge": Answers(SSE3 | SSE41 | XSAVE | OSXSAVE | AVX, 0, STATES),
    "Ivy Bridge": Answers(SSE3 | SSE41 | XSAVE | OSXSAVE | AVX | F16C, 0, STATES),
    "AVX2 without FMA": Answers(HASWELL_ECX & ~FMA, AVX2_BIT, STATES),
    "AVX2 without F16C": Answers(HASWELL_ECX & ~F16C, AVX2_BIT, STATES),
    "OSXSAVE clear": Answers(HASWELL_ECX & ~OSXSAVE, AVX2_BIT, 0),
    "YMM not saved": Answers(HASWELL_ECX, AVX2_BIT, X87_STATE | XMM_STATE),
    "XMM not saved": Answers(HASWELL_ECX, AVX2_BIT, X87_STATE | YMM_STATE),
}


@pytest.mark.parametrize("cpu", WITH_AVX2)
def test_avx2_is_found(cpu: str) -> None:
    assert _core.features_of(*WITH_AVX2[cpu]) == AVX2


@pytest.mark.parametrize("cpu", WITHOUT)
def test_avx2_is_not_believed(cpu: str) -> None:
    assert _core.features_of(*WITHOUT[cpu]) == 0


def test_levels_of_this_machine() -> None:
    built = BUILT.get(platform.machine(), ["scalar"])
    isas = _core.isas()
    assert isas == built[: len(isas)]
    assert isas[0] == "scalar"


def test_the_expected_levels_are_there() -> None:
    """A job that knows its CPU says so: a level that is lost must not pass as one that the CPU lacks."""
    expected = os.environ.get("EXPECT_ISAS")
    if expected is not None:
        assert _core.isas() == expected.split(",")


def test_the_level_that_the_environment_names_is_the_one_that_runs() -> None:
    assert _core.chosen_isa() == (os.environ.get("LLAMAQ_ISA") or _core.isas()[-1])


def test_the_best_level_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMAQ_ISA", raising=False)
    assert _core.chosen_isa() == _core.isas()[-1]
    monkeypatch.setenv("LLAMAQ_ISA", "")
    assert _core.chosen_isa() == _core.isas()[-1]


@pytest.mark.parametrize("isa", _core.isas())
def test_a_level_is_forced(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    monkeypatch.setenv("LLAMAQ_ISA", isa)
    assert _core.chosen_isa() == isa


def test_an_unknown_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMAQ_ISA", "avx2048")
    with pytest.raises(ISAError, match="'avx2048' .*LLAMAQ_ISA.*" + ", ".join(_core.isas())):
        _core.chosen_isa()


def started_with(isa: str) -> subprocess.CompletedProcess[str]:
    script = "from llamaq import _core; print(_core.chosen_isa(), _core.Weights().isa)"
    env = {**os.environ, "LLAMAQ_ISA": isa}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)


@pytest.mark.subprocess
@pytest.mark.parametrize("isa", _core.isas())
def test_a_process_runs_the_level_that_its_environment_names(isa: str) -> None:
    assert started_with(isa).stdout.split() == [isa, isa]


@pytest.mark.subprocess
def test_a_process_refuses_an_unknown_level() -> None:
    ended = started_with("AVX2")
    assert ended.returncode == 1
    assert "ISAError: the SIMD level 'AVX2' (LLAMAQ_ISA) is not available" in ended.stderr
