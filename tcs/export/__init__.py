"""`tcs export`: a finished student as a timm or Hub folder, an ONNX file or a `torch.export` program, compared with the run."""
