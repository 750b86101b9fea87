"""Serving graphs: from trained Keras models to ONNX models and SavedModels that take strips.

One module per architecture that is folded by hand; ``generic`` wraps what Keras exports for all others.
"""
