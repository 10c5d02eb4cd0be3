"""A trained model outside of its run: what its file says about it, how to predict with it, and its graph in ONNX."""
