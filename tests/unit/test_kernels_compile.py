"""Every Triton kernel compiles for cards that are not here: the interpreter accepts what a compiler may not."""

import json
import os
import subprocess
import sys

import pytest

from tests.interpreted import ROOT, need_triton

# Compiled in a process of its own: other tests must not find triton imported, and this one must not be interpreted.
COMPILE = """
import json
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from papers.mle_llp import kernels as e_step
from shared.transport import kernels

OTHERS = {"offsets": "*i64", "counts": "*i64", "places": "*i64", "done_out": "*i32", "done_in": "*i32"}
OTHERS |= dict.fromkeys(("classes", "iterations", "every", "steps"), "i32")
OTHERS |= dict.fromkeys(("scale_high", "scale_low", "tau_high", "tau_low", "tolerance"), "fp32")
flags = {"KEEP": True, "STOPS": True, "BALANCED": False, "PLAN": True, "HAS_PLAN": True}
flags |= {"BLOCK_N": 8, "BLOCK_K": 4, "BLOCK_S": 8}
names = []
for kernel in (kernels.forward, kernels.backward, kernels.backward_blocks, kernels.probe, e_step.posterior):
    for whole in (True, False) if "WHOLE" in kernel.arg_names else (None,):
        constants = {name: value for name, value in (flags | {"WHOLE": whole}).items() if name in kernel.arg_names}
        kinds = {name: OTHERS.get(name, "*fp32") for name in kernel.arg_names if name not in constants}
        source = ASTSource(kernel, kinds | dict.fromkeys(constants, "constexpr"), constants)
        done = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
        names += [kernel.__name__] * (len(done.asm["cubin"]) > 0)
print(json.dumps(names))
"""


def test_kernels_compile_for_a_card_that_is_not_here(tmp_path):
    need_triton()
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    words = [sys.executable, "-W", "ignore", "-c", COMPILE]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    if "nvidia" in done.stderr and "not found" in done.stderr:
        pytest.skip("this triton has no compiler for NVIDIA's cards")
    assert done.returncode == 0, done.stderr
    every = ["forward", "forward", "backward", "backward", "backward_blocks", "probe", "posterior"]
    assert json.loads(done.stdout) == every
