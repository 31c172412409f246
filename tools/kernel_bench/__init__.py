"""`make bench-kernels`: speed of the CPU kernels beside what the machine can do, measured in the same run.

    python -m tools.kernel_bench [--quick] [--types IQ2_KT,Q4_K] [--shapes llama-0.85b.ffn_up,5632x2048] ...

Every tier runs in a process of its own with ESPALIER_ISA set. Writes kernels.csv and kernels.png. Row-interleaved
types are loaded as their plain ones, so they have no line of their own.
"""
