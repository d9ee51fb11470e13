"""Run an exported model in a bare onnxruntime and compare it with expected outputs.

    python run_stock.py m.onnx inputs.npz expected.npz [outputs.npz]

With a fourth file it also writes what the runtime computed. Needs nothing but numpy and
onnxruntime 1.16 or later: what this accepts, any machine can run. Integer outputs (selections)
must be equal; floats may differ by 1e-4 of the largest value.
"""

import sys

import numpy as np
import onnxruntime

BOUND = 1e-4


def main(model, inputs, expected, outputs=None):
    """Print one line per output; return how many are wrong."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    with np.load(inputs) as feed:
        values = session.run(None, {name: feed[name] for name in feed.files})
    actual = dict(zip(names, values, strict=True))
    if outputs:
        np.savez(outputs, **actual)
    wrong = 0
    with np.load(expected) as reference:
        if not reference.files:
            raise SystemExit("expected.npz names no output")
        for name in reference.files:
            fault = difference(actual.get(name), reference[name])
            wrong += bool(fault)
            print(f"{name}: {fault or 'ok'}")
    print(f"onnxruntime {onnxruntime.__version__}: {wrong} of {len(names)} outputs are wrong")
    return wrong


def difference(actual, reference):
    """What is wrong with an output, or None."""
    if actual is None:
        return "the model has no such output"
    if actual.shape != reference.shape or actual.dtype != reference.dtype:
        return f"{actual.dtype}{actual.shape} instead of {reference.dtype}{reference.shape}"
    if reference.dtype.kind != "f":
        count = int(np.count_nonzero(actual != reference))
        return f"{count} of {reference.size} values differ" if count else None
    largest = max(float(np.max(np.abs(reference))), 1e-6)
    error = float(np.max(np.abs(actual.astype(np.float64) - reference))) / largest
    return None if error <= BOUND else f"relative error {error:.1e}"


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    sys.exit(1 if main(*sys.argv[1:]) else 0)
