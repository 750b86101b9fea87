"""dlts-beam: class maps from satellite image time series, on Apache Beam.

Importing this package loads the standard library only; Beam, GDAL and TensorFlow come with the modules that
need them.
"""

from __future__ import annotations

__version__ = "0.1.0"
