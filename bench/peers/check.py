"""Whether every peer computes the same tower: its cosine to PyTorch's f32 for the first batch of a case.

    check.py [--arch altclip|altclip-m18]

int8 is calibrated on random inputs, so it only has to come near. Ends with 1
where an engine is further off than its precision explains.
"""

import argparse
import sys
import warnings

import numpy as np

from cases import CASES, batches
from engines import ENGINES
from towers import ARCHS

LEAST = {"f32": 0.99999, "bf16": 0.99, "int8": 0.9}
CHECKED = ("image-8", "text-32", "text-mixed")


def cosine(a, b):
    """The least cosine among the rows of two batches."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def main():
    """Check every engine on three cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", choices=ARCHS, default="altclip")
    arch = parser.parse_args().arch
    warnings.simplefilter("ignore")
    good = True
    for case in (case for case in CASES if case.name in CHECKED):
        inputs, expected = batches(case)[0], None
        for (engine, precision), load in ENGINES.items():
            found = load(arch, case, 2)(*inputs)
            expected = found if expected is None else expected
            found = found.reshape(expected.shape)  # OpenVINO puts an axis of 1 before the text tower's int8 output
            value = cosine(found, expected)
            good &= value >= LEAST[precision]
            print(f"{case.name:12} {engine:12} {precision:5} {value:.6f}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
