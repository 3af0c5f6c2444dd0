"""Run tests of Triton kernels where triton's interpreter stands in for a GPU: in a process of their own.

The interpreter is chosen by an environment variable before triton is first imported, and other tests must not see it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HERE = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not HERE, reason="runs in the process that run_again starts")


def need_triton():
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed; on this platform torch comes without it")


def run_again(path):
    """Run the interpreted tests of a file; all of them must pass, and there must be some."""
    need_triton()
    words = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-m", "not gpu", "-k", "interpreted"]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, path], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def quicken():
    """Keep the interpreter from preparing triton's language anew at each call of one kernel's part by another."""
    from triton.runtime import interpreter

    prepared = set()

    def call(self, *args, **kwargs):
        module = self.fn.__module__
        if module.startswith("triton") and module not in prepared:
            prepared.add(module)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call
