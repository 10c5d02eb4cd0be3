"""A trained model out of its run: what its file says of itself, prediction with it, and its graph in ONNX."""
