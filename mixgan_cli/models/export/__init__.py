"""Export of a trained generator: safetensors (mixgan's own file) and ONNX (other programs)."""
