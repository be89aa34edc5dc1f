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

BUILT = {
    "x86_64": ["scalar", "avx2", "avxvnni", "avx512", "amx"],
    "aarch64": ["scalar", "neon", "neon_dotprod", "neon_i8mm"],
}
AVX2, AVX_VNNI, AVX512, AMX = 1 << 0, 1 << 2, 1 << 3, 1 << 4  # feature bits of csrc/cpu/features.h


class Answers(NamedTuple):
    """What CPUID and XGETBV say, as csrc/cpu/features.h takes it: names of bits, each with its number."""

    ecx1: str = ""
    ebx7: str = ""
    ecx7: str = ""
    edx7: str = ""
    eax7_1: str = ""
    xcr0: str = ""


BITS = Answers(
    ecx1="sse3:0 fma:12 sse4.1:19 xsave:26 osxsave:27 avx:28 f16c:29",
    ebx7="bmi1:3 avx2:5 bmi2:8 f:16 dq:17 adx:19 ifma:21 cd:28 bw:30 vl:31",
    ecx7="vbmi:1 vnni:11 bitalg:12",
    edx7="amx_bf16:22 avx512_fp16:23 amx_tile:24 amx_int8:25",
    eax7_1="avx_vnni:4 avx512_bf16:5",
    xcr0="x87:0 xmm:1 ymm:2 mask:5 zmm_low:6 zmm_high:7 tile_config:17 tile_data:18",
)

ECX1 = "sse3 fma sse4.1 xsave osxsave avx f16c"
EBX7 = "avx2 bmi1 bmi2"
EBX7_512 = f"{EBX7} f dq cd bw vl"
AMX_BITS = "amx_bf16 amx_tile amx_int8"
YMM = "x87 xmm ymm"
ZMM = f"{YMM} mask zmm_low zmm_high"
TILES = f"{ZMM} tile_config tile_data"

HASWELL = Answers(ECX1, EBX7, xcr0=YMM)
CASCADE_LAKE = Answers(ECX1, EBX7_512, "vnni", xcr0=ZMM)
SAPPHIRE_RAPIDS = Answers(ECX1, EBX7_512, "vnni vbmi", AMX_BITS, "avx_vnni avx512_bf16", TILES)
KNOWN = {
    "nothing": (Answers(), 0),
    "Nehalem": (Answers("sse3 sse4.1"), 0),
    "Sandy Bridge": (Answers("sse3 sse4.1 xsave osxsave avx", xcr0=YMM), 0),
    "Ivy Bridge": (Answers("sse3 sse4.1 xsave osxsave avx f16c", xcr0=YMM), 0),
    "Haswell": (HASWELL, AVX2),
    "AVX2 without FMA": (HASWELL._replace(ecx1=ECX1.replace("fma ", "")), 0),
    "AVX2 without F16C": (HASWELL._replace(ecx1=ECX1.replace(" f16c", "")), 0),
    "OSXSAVE clear": (SAPPHIRE_RAPIDS._replace(ecx1=ECX1.replace("osxsave ", ""), xcr0=""), 0),
    "YMM not saved": (SAPPHIRE_RAPIDS._replace(xcr0="x87 xmm"), 0),
    "XMM not saved": (HASWELL._replace(xcr0="x87 ymm"), 0),
    "Skylake-X, no VNNI": (Answers(ECX1, EBX7_512, xcr0=ZMM), AVX2),
    "Cascade Lake": (CASCADE_LAKE, AVX2 | AVX512),
    "Cascade Lake, ZMM not saved": (CASCADE_LAKE._replace(xcr0=YMM), AVX2),
    "Cascade Lake, upper ZMM not saved": (CASCADE_LAKE._replace(xcr0=f"{YMM} mask zmm_low"), AVX2),
    "Knights Mill, VNNI without BW and VL": (CASCADE_LAKE._replace(ebx7=f"{EBX7} f cd"), AVX2),
    "Zen 4": (Answers(ECX1, f"{EBX7_512} ifma", "vnni vbmi bitalg", eax7_1="avx512_bf16", xcr0=ZMM), AVX2 | AVX512),
    "Alder Lake": (Answers(ECX1, EBX7, eax7_1="avx_vnni", xcr0=YMM), AVX2 | AVX_VNNI),
    "Sapphire Rapids": (SAPPHIRE_RAPIDS, AVX2 | AVX_VNNI | AVX512 | AMX),
    "Sapphire Rapids, tiles not saved": (SAPPHIRE_RAPIDS._replace(xcr0=ZMM), AVX2 | AVX_VNNI | AVX512),
    "Sapphire Rapids, tile data not saved": (
        SAPPHIRE_RAPIDS._replace(xcr0=f"{ZMM} tile_config"),
        AVX2 | AVX_VNNI | AVX512,
    ),
    "tiles without int8": (SAPPHIRE_RAPIDS._replace(edx7="amx_tile amx_bf16"), AVX2 | AVX_VNNI | AVX512),
}


def registers(answers: Answers) -> list[int]:
    numbers = [{name: int(n) for name, n in (field.split(":") for field in bits.split())} for bits in BITS]
    return [sum(1 << known[name] for name in names.split()) for known, names in zip(numbers, answers, strict=True)]


@pytest.mark.parametrize("cpu", KNOWN)
def test_features_of_known_cpus(cpu: str) -> None:
    answers, features = KNOWN[cpu]
    assert _core.features_of(*registers(answers)) == features


def test_levels_of_this_machine() -> None:
    """Slowest first; a level may lack the one before it, as AVX-512 without AVX-VNNI does."""
    isas = _core.isas()
    assert isas == [level for level in BUILT.get(platform.machine(), ["scalar"]) if level in isas]
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
