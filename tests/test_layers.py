"""The architecture as a test: imports never turn back, and light modules stay light.

``pipelines`` may use all; ``dlts_beam.beam`` (L2) may use ``dlts_beam.io`` (L1), which may use the pure rest
of ``dlts_beam`` (L0); ``trainer`` may use L0 only. Heavy libraries belong to one layer each.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = ("dlts_beam", "pipelines", "trainer")

GEO = {"rasterio", "geopandas", "shapely", "pyproj", "pyogrio", "fiona", "osgeo"}
BEAM = {"apache_beam", "tfx_bsl", "tensorflow_metadata"}
LEARNING = {"tensorflow", "keras", "sklearn", "tf2onnx", "onnx", "tensorboard"}

# What a layer may not import at all, wherever the statement stands.
FORBIDDEN = {
    "L0": GEO | BEAM | LEARNING | {"dlts_beam.io", "dlts_beam.beam", "trainer", "pipelines"},
    "L1": BEAM | LEARNING | {"dlts_beam.beam", "trainer", "pipelines"},
    "L2": GEO | LEARNING | {"trainer", "pipelines"},
    "trainer": GEO | BEAM | {"dlts_beam.io", "dlts_beam.beam", "pipelines"},
    "pipelines": GEO,
}
# The pure places that may reach for runtimes, inside functions: what runs models, and what writes, reads
# and summarises records.
RUNTIME_PLACES = {("dlts_beam", name) for name in ("engines", "tfrecord.py", "centres.py", "statistics.py")}
RUNTIMES = {"onnxruntime", "tensorflow", "keras", "tfx_bsl", "tensorflow_metadata"}
# What L0 may import when it is loaded; all else waits inside functions.
PURE = set(sys.stdlib_module_names) | {"numpy", "msgspec", "dlts_beam"}


def modules() -> list[Path]:
    """Every module of the three trees, relative to the root."""
    return sorted(path.relative_to(ROOT) for tree in TREES for path in (ROOT / tree).rglob("*.py"))


def layer_of(module: Path) -> str:
    """The layer that a module's place puts it in."""
    if module.parts[0] != "dlts_beam":
        return module.parts[0]
    return {"beam": "L2", "io": "L1"}.get(module.parts[1], "L0")


def imports(module: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it is imported when the module is) for each import, type checking left out."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    package = module.parent.parts

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_load) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) - child.level + 1] if child.level else ()
                base = ".".join([*above, *([child.module] if child.module else [])])
                yield from ((f"{base}.{alias.name}", at_load) for alias in child.names)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_load and not inside)

    return walk(tree, True)


def within(name: str, packages: set[str]) -> bool:
    """True when ``name`` is one of ``packages`` or lies inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offences(module: Path) -> list[str]:
    """What a module imports against the rules of its layer."""
    layer = layer_of(module)
    forbidden = FORBIDDEN[layer]
    if module.parts[:2] in RUNTIME_PLACES:
        forbidden = forbidden - RUNTIMES
    return [
        f"{module} ({layer}) imports {name}"
        for name, at_load in imports(module)
        if within(name, forbidden) or (layer == "L0" and at_load and not within(name, PURE))
    ]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_never_turn_back(module: Path):
    assert offences(module) == []


def test_the_scan_sees_an_arrow_that_turns_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = Path("dlts_beam/spec/bad.py")
    (tmp_path / module).parent.mkdir(parents=True)
    (tmp_path / module).write_text(
        "import onnxruntime\nfrom .. import io\n"
        "def f():\n    from rasterio.windows import Window\n    import onnx\n"
    )
    assert [line.rpartition(" ")[2] for line in offences(module)] == [
        "onnxruntime",
        "dlts_beam.io",
        "rasterio.windows.Window",
        "onnx",
    ]


def loads(code: str, watched: set[str]) -> set[str]:
    """Which of the ``watched`` modules a fresh interpreter has loaded after ``code``."""
    script = f"import sys\n{code}\nprint(*(name for name in {sorted(watched)!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loads("import dlts_beam", GEO | BEAM | LEARNING | {"numpy", "onnxruntime"}) == set()


def test_the_pure_layer_loads_nothing_heavy():
    pure = [module for module in modules() if layer_of(module) == "L0"]
    code = "import " + ", ".join(dotted(module) for module in pure)
    assert loads(code, GEO | BEAM | LEARNING | {"onnxruntime", "google.cloud.storage"}) == set()


def test_the_trainer_loads_neither_beam_nor_gdal():
    trainer = [module for module in modules() if layer_of(module) == "trainer"]
    code = "import " + ", ".join(dotted(module) for module in trainer)
    assert loads(code, GEO | BEAM) == set()


def dotted(module: Path) -> str:
    """The name that a module is imported by."""
    parts = module.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
