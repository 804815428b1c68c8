"""Trained weights, one ONNX file each, with a model card."""
