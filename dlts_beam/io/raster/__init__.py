"""Raster files: headers, windows, tiles, maps."""
