"""One rewrite a file.

A pass is `run(model) -> int`: it edits the model in place and returns the number of rewrites; 0
means that the model is as it was. A pass rewrites only what is provably the same function, and
says through `graph.edit.skip` why it left a node alone; two do otherwise, and begin by saying so:
`remove_gate_noise`, and `harden_mixtures`, which is in no pipeline. A docstring draws the rewrite
in ONNX text, and that picture is its test.
"""
