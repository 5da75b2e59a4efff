"""A process keeps to the threads that it was given."""

import os
import subprocess
import sys

SHOWN = """
import numba, torch
from espdl_quantize.ppq.fast._memory import set_threads
for _ in range(2):
    set_threads(torch.get_num_threads())
print(torch.get_num_threads(), numba.get_num_threads())
"""


def test_the_compiled_kernels_leave_torch_its_threads() -> None:
    # numba starts a thread for each processor, by default; here for four.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], env=environment, capture_output=True, text=True, check=True
    )
    # esp-ppq prints its banner above.
    assert done.stdout.split()[-2:] == ["1", "1"]
