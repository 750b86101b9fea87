"""Composite Beam transforms and the way pipelines are run (layer 2)."""
