"""The compiler's report and the disassembly, read right: kernels with known faults and known instruction counts."""

import dataclasses
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kernels.cuda import nvrtc
from kernels.cuda.compile import MODULES, KernelModule
from kernels.cuda.linear_forms import FORMS
from tools import cuda_compile, cuda_count, sass

CASES = Path(__file__).parents[1] / "cuda" / "compile_cases.cu"
CASE_KERNELS = ("counted", "spilling", "indexing", "calling")
CASE_MODULE = KernelModule("cases", str(CASES), CASE_KERNELS, weights_per_iteration={"counted": 16})
#: One module of every .cu file; `make cuda-compile` takes all of them for all architectures.
SUBSET = {module.source: module for module in reversed(MODULES.values())}.values()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compile")


@pytest.fixture(scope="module")
def cases(cache: Path) -> tuple[bytes, cuda_compile.Report]:
    return cuda_compile.compiled(CASE_MODULE, "sm_90", cache)


def test_the_report_tells_spills_local_arrays_and_calls(cases: tuple[bytes, cuda_compile.Report]) -> None:
    report = cases[1]
    assert set(report) == set(CASE_KERNELS)
    assert report["counted"].faults() == []
    assert 8 <= report["counted"].registers <= 64
    assert report["spilling"].registers == 64  # what 1024 threads leave of 65536
    assert report["spilling"].spill_bytes > 0
    assert report["indexing"].stack_bytes == 64 * 4
    assert report["indexing"].spill_bytes == 0
    assert len(report["calling"].called) == 1
    assert "helper" in report["calling"].called[0]


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ("spilling", "moved by spills"),
        ("indexing", "256 bytes of local memory"),
        ("calling", "calls of .*helper"),
    ],
)
def test_only_hot_kernels_may_not_need_it(
    cases: tuple[bytes, cuda_compile.Report], kernel: str, words: str
) -> None:
    assert cuda_compile.faults(CASE_MODULE, cases[1]) == []
    hot = dataclasses.replace(CASE_MODULE, hot=frozenset({kernel}))
    (fault,) = cuda_compile.faults(hot, cases[1])
    assert fault.startswith(f"{kernel} needs ")
    assert re.search(words, fault)


def test_a_kernel_that_the_table_names_must_be_there(cases: tuple[bytes, cuda_compile.Report]) -> None:
    module = dataclasses.replace(CASE_MODULE, kernels=(*CASE_KERNELS, "absent"))
    assert cuda_compile.faults(module, cases[1]) == ["absent is not in it"]


def test_a_second_look_compiles_nothing(
    cases: tuple[bytes, cuda_compile.Report], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(nvrtc, "compile_cubin")
    assert cuda_compile.compiled(CASE_MODULE, "sm_90", cache) == cases


def test_a_file_that_does_not_compile_is_named_with_the_compilers_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cu"
    broken.write_text('extern "C" __global__ void k() { undeclared = 1; }')
    with pytest.raises(nvrtc.NvrtcError, match=r"(?s)broken.cu does not compile for sm_90.*undeclared"):
        cuda_compile.compiled(KernelModule("broken", str(broken), ("k",)), "sm_90", tmp_path)


@pytest.mark.parametrize("module", SUBSET, ids=lambda module: module.name)
def test_hot_kernels_stay_in_registers(module: KernelModule) -> None:
    """Of one architecture; kept in build/ like those of `make cuda-compile`."""
    assert cuda_compile.faults(module, cuda_compile.compiled(module, "sm_90")[1]) == []


def test_instructions_of_a_loop_are_counted_by_kind(cases: tuple[bytes, cuda_compile.Report]) -> None:
    kernels = sass.kernels_in(sass.disassemble(cases[0]))
    assert set(kernels) >= set(CASE_KERNELS)
    loop = kernels["counted"].main_loop()
    kinds = loop.kinds()
    assert (kinds["dp4a"], kinds["global"], kinds["tensor"], kinds["float"]) == (4, 2, 0, 0)
    assert loop.contains == 0
    assert 0 < kinds["branch"] <= 4
    assert kinds["other"] == 0
    with pytest.raises(ValueError, match="no loop"):
        sass.kernels_in("\t.section\t.text.k,\n        /*0000*/  EXIT ;\n")["k"].main_loop()


LISTING = """
	.section	.text.k,"ax",@progbits
.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/                   IMAD R4, R3, R2, RZ ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
.L_x_0:
        /*0030*/                   IDP.4A.S8.S8 R5, R4, R6, R5 ;
        /*0040*/               @P1 BRA `(.L_x_0) ;
.L_x_1:
        /*0050*/              @!UP0 IMAD.MOV.U32 R7, RZ, RZ, R5 ;
        /*0060*/               @P2 BRA `(.L_x_2) ;
        /*0070*/                   EXIT ;
.L_x_3:
        /*0080*/                   BRA `(.L_x_3);
        /*0090*/                   NOP;
"""


def test_a_loop_in_a_loop_is_seen_and_the_endless_one_at_the_end_is_none() -> None:
    kernel = sass.kernels_in(LISTING)["k"]
    assert [(len(loop.instructions), loop.contains) for loop in kernel.loops()] == [(2, 0), (6, 1)]
    assert kernel.main_loop().kinds() == {"multiply": 1, "branch": 3, "dp4a": 1, "move": 1}


def test_the_main_loop_is_one_with_products_even_if_another_is_larger() -> None:
    epilogue = "".join(f"        /*0{n}00*/                   FADD R1, R1, R2 ;\n" for n in range(9))
    listing = LISTING.replace(
        ".L_x_3:\n", f".L_x_4:\n{epilogue}        /*0a00*/              @P3 BRA `(.L_x_4) ;\n.L_x_3:\n"
    )
    kernel = sass.kernels_in(listing)["k"]
    assert max(len(loop.instructions) for loop in kernel.loops()) == 10
    assert len(kernel.main_loop().instructions) == 6


def test_counts_are_per_weight(cache: Path) -> None:
    (count,) = cuda_count.counts(CASE_MODULE, "sm_90", cache)
    assert count.of_kind("dp4a") == 4 / 16
    assert count.per_weight == len(count.loop.instructions) / 16
    assert (
        list(cuda_count.counts(dataclasses.replace(CASE_MODULE, weights_per_iteration={}), "sm_90", cache))
        == []
    )


@pytest.mark.slow
@pytest.mark.parametrize("type_name", cuda_count.PEER_PER_WEIGHT)
def test_decoding_one_token_takes_fewer_instructions_per_weight_than_the_peer(type_name: str) -> None:
    """Of the kernels that the table of forms has for it; instructions, not bytes, bound it on server GPUs."""
    module = MODULES[f"tiles_{type_name}"]
    per_weight = {count.kernel: count.per_weight for count in cuda_count.counts(module, "sm_90")}
    for form in FORMS["tiles"]:
        if form.max_tokens == 1:
            assert 1 < per_weight[form.kernel] < cuda_count.PEER_PER_WEIGHT[type_name], form.kernel


@pytest.mark.parametrize("tool", [cuda_compile, cuda_count])
def test_the_tools_refuse_a_module_that_is_not_there(tool: object) -> None:
    import typer

    app = typer.Typer()
    app.command()(tool.main)  # type: ignore[attr-defined]
    result = CliRunner().invoke(app, ["rows_IQ9_KT"])
    assert result.exit_code == 2
    assert "no module rows_IQ9_KT" in result.output
