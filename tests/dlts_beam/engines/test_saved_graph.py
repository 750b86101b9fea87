"""What the engines of TensorFlow load: graphs that compute, and nothing that could run a stranger's code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from dlts_beam.engines import load_engine
from dlts_beam.engines.saved_graph import read_graph
from dlts_beam.errors import DltsError
from dlts_beam.spec import ServingSpec

SPEC = ServingSpec(batch=4, halo=0, time_steps=2, bands=1, classes=2)


def save_module(folder: Path, marker: Path | None = None) -> None:
    """A SavedModel with the endpoints of ours; it writes to ``marker``, where given, when it computes."""
    module = tf.Module()
    module.gain = tf.Variable(2.0)
    wanted = [tf.TensorSpec(SPEC.strip_shape, tf.float32, name="strip")]

    @tf.function(input_signature=wanted)
    def serve(strip):
        if marker is not None:
            tf.io.write_file(str(marker), "run")
        return module.gain * tf.transpose(strip[:, 0, :, 0])

    @tf.function(input_signature=[tf.TensorSpec((1,), tf.string, name="request")])
    def serve_bytes(request):
        strip = tf.reshape(tf.io.decode_raw(request, tf.float32), SPEC.strip_shape)
        return tf.expand_dims(serve(strip), 0)

    module.serve, module.serve_bytes = serve, serve_bytes
    tf.saved_model.save(module, str(folder), {"serve": serve, "serve_bytes": serve_bytes})


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest") / "saved_model"
    save_module(folder)
    return folder


def test_an_honest_graph_is_read(honest: Path) -> None:
    assert "serve_bytes" in read_graph(str(honest)).signature_def


@pytest.mark.parametrize("engine", ["tensorflow", "tfx-bsl"])
def test_a_hostile_saved_model_is_refused_before_anything_runs(tmp_path: Path, engine: str) -> None:
    marker, saved = tmp_path / "marker", tmp_path / "saved_model"
    save_module(saved, marker)
    told = rf"^{saved} holds the operation WriteFile in its function \w+, which no model of ours does"
    with pytest.raises(DltsError, match=told):
        load_engine(str(tmp_path), SPEC, engine)
    assert not marker.exists()


def saver_nodes(meta: Any) -> tuple[Any, Any]:
    """The nodes of the main graph that write and that read the weights."""
    nodes = {node.name: node for node in meta.graph_def.node}
    return nodes[meta.saver_def.save_tensor_name.split(":")[0]], nodes[meta.saver_def.restore_op_name]


def function_of(meta: Any, node: Any) -> Any:
    name = node.attr["f"].func.name
    return next(made for made in meta.graph_def.library.function if made.signature.name == name)


def initialise_by(op: str) -> Callable[[Any], None]:
    def change(meta: Any) -> None:
        meta.graph_def.node.add(name="hostile", op=op)
        meta.collection_def["saved_model_main_op"].node_list.value[:] = ["hostile"]

    return change


def read_another_file(meta: Any) -> None:
    body = function_of(meta, saver_nodes(meta)[1]).node_def
    next(node for node in body if node.op == "RestoreV2").input[0] = "RestoreV2/tensor_names:output:0"


def restore_another_name(meta: Any) -> None:
    meta.graph_def.node.add(name="fixed", op="Const")
    saver_nodes(meta)[1].input[0] = "fixed"


def write_where_weights_are_read(meta: Any) -> None:
    function_of(meta, saver_nodes(meta)[1]).node_def.add(name="hostile", op="SaveV2")


def restore_by_writing(meta: Any) -> None:
    meta.saver_def.restore_op_name = saver_nodes(meta)[0].name


def call_from_the_graph(meta: Any) -> None:
    copy = meta.graph_def.node.add()
    copy.CopyFrom(saver_nodes(meta)[0])
    copy.name = "hostile"


def call_from_a_function(meta: Any) -> None:
    save, _ = saver_nodes(meta)
    other = next(f for f in meta.graph_def.library.function if "serve" in f.signature.name)
    call = other.node_def.add(name="hostile", op="If")
    call.attr["then_branch"].func.name = "harmless"
    call.attr["then_branch"].func.attr["f"].func.name = save.attr["f"].func.name


def give_to_python(meta: Any) -> None:
    meta.object_graph_def.concrete_functions[saver_nodes(meta)[0].attr["f"].func.name].SetInParent()


def depend_on_writing(meta: Any) -> None:
    save, restore = saver_nodes(meta)
    restore.input.append(f"^{save.name}")


def answer_by_writing(meta: Any) -> None:
    next(iter(meta.signature_def["serve"].outputs.values())).name = saver_nodes(meta)[0].name + ":0"


def optimise_to_writing(meta: Any) -> None:
    function_of(meta, saver_nodes(meta)[0]).attr["api_implements"].s = b"serve"


def name_like_an_operation(meta: Any) -> None:
    meta.graph_def.library.function.add().signature.name = "Identity"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (initialise_by("EagerPyFunc"), "the operation EagerPyFunc in its graph"),
        (initialise_by("ReadFile"), "the operation ReadFile in its graph"),
        (initialise_by("MatchingFiles"), "the operation MatchingFiles in its graph"),
        (initialise_by("RestoreV2"), "the operation RestoreV2 in its graph"),
        (read_another_file, "a reader of other files than its weights"),
        (restore_another_name, "a reader of other files than its weights"),
        (write_where_weights_are_read, "the operation SaveV2 in its function __inference__traced_restore"),
        (restore_by_writing, "RestoreV2 in its function|calls of what reads and writes its weights"),
        (call_from_the_graph, "calls of what reads and writes its weights"),
        (call_from_a_function, "calls of what reads and writes its weights"),
        (give_to_python, "calls of what reads and writes its weights"),
        (depend_on_writing, "results that depend on reading and writing its weights"),
        (answer_by_writing, "results that depend on reading and writing its weights"),
        (optimise_to_writing, "another implementation of __inference__traced_save"),
        (name_like_an_operation, "a function with the name of an operation, Identity"),
        (lambda meta: meta.asset_file_def.add(filename="/etc/passwd"), "files beside its weights"),
        (lambda meta: setattr(meta.object_graph_def.nodes[0], "registered_name", "A>B"), "Python class A>B"),
        (lambda meta: meta.collection_def["variables"].SetInParent(), "the collection variables"),
    ],
)
def test_what_could_run_code_is_told(
    honest: Path, tmp_path: Path, change: Callable[[Any], None], told: str
) -> None:
    model = SavedModel.FromString((honest / "saved_model.pb").read_bytes())
    change(model.meta_graphs[0])
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(DltsError, match=rf"^{tmp_path} holds .*({told}).*use --engine onnx$"):
        read_graph(str(tmp_path))


def test_only_one_graph_is_loaded(honest: Path, tmp_path: Path) -> None:
    content = (honest / "saved_model.pb").read_bytes()
    model = SavedModel.FromString(content)
    model.meta_graphs.add()
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(DltsError, match="is not a SavedModel of ours: export the model again"):
        read_graph(str(tmp_path))
    shutil.copy(honest / "saved_model.pb", tmp_path)
    read_graph(str(tmp_path))
    (tmp_path / "saved_model.cpb").write_bytes(content)
    with pytest.raises(DltsError, match=r"holds a second graph, saved_model\.cpb"):
        read_graph(str(tmp_path))
