"""Rasters and vectors: the only importers of rasterio and geopandas."""
