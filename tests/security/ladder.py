"""Not a test: seal this interpreter by one METHOD only and go on with enter.py. METHOD ROOTFS PROGRAM."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(os.path.dirname(HERE)))

from gosudacon.launcher import seal  # noqa: E402

method, *arguments = sys.argv[1:]
seal._LADDER = tuple(rung for rung in seal._LADDER if rung[0] == method)
seal.ensure(arguments, f"{HERE}/enter.py")
