"""A finished student in use, from its run, an exported folder or an ONNX file: what `tcs predict`, `eval` and `latency` share."""
