"""A trained generator in files for others: safetensors and ONNX."""
