"""What a SavedModel may do: compute. A look at its graph that runs nothing of it, for files from strangers.

TensorFlow runs whatever a graph asks for, when it loads it and when it computes: reading and writing files,
calling Python, talking to other machines. So the engines load a graph only if all of its operations, those of
its functions included, are in a list of such that take and give numbers: no model of ours needs another.
A list of what is forbidden would have to grow with TensorFlow; this one is wrong on the safe side. A new
architecture that needs more fails in its own export, which loads what it has written, with a sentence that
names the operation.

Weights are read by one function and written by another, which the graph's ``saver_def`` names. Only these may
touch files. The loader alone runs the first one, which reads only the file that it is given; nobody runs the
other one. So neither may be called from anywhere else, nor may anything depend on them.

Not promised: that a stranger's graph ends soon, needs little memory, or meets no defect of TensorFlow itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dlts_beam import storage
from dlts_beam.errors import DltsError

GRAPH = "saved_model.pb"
# What the exports of all architectures hold (on a GPU with CudnnRNNV3), and their like: pure functions of
# tensors, the model's own variables, calls and loops.
_NAMES = """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh AssignVariableOp Atan Atan2 Atanh AvgPool
    AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BroadcastArgs BroadcastTo Cast
    Ceil ClipByValue ConcatV2 Const Conv2D Conv3D Cos Cosh CudnnRNNV3 Cumprod Cumsum DecodeRaw
    DepthwiseConv2dNative DisableCopyOnRead Div DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims
    Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GatherNd GatherV2
    Greater GreaterEqual Identity IdentityN If InvertPermutation IsFinite IsInf IsNan L2Loss LeakyRelu Less
    LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart Max MaxPool
    MaxPool3D MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike
    Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod Range Rank
    ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResourceGather ResourceGatherNd ReverseSequence
    ReverseV2 Rint Roll Round Rsqrt ScatterNd SegmentMax SegmentMean SegmentMin SegmentSum Select SelectV2
    Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND Split SplitV
    Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile
    StaticRegexFullMatch StopGradient StridedSlice StringJoin Sub Sum Tan Tanh TensorListConcatV2
    TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
    TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2
    TensorListSetItem TensorListSplit TensorListStack TensorScatterAdd TensorScatterUpdate Tile TopKV2
    Transpose TruncateDiv TruncateMod Unpack UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum
    VarHandleOp VarIsInitializedOp Where While Xdivy Xlogy ZerosLike
"""
OPERATIONS = frozenset(_NAMES.split())
_SAVING = frozenset({"SaveV2", "ShardedFilename", "MergeV2Checkpoints"})
_RESTORING = frozenset({"RestoreV2"})
_STARTS = frozenset({"saved_model_main_op", "saved_model_init_op"})  # collections: nodes that loaders run


def read_graph(folder: str, told: str | None = None) -> Any:
    """The only meta graph (``MetaGraphDef``) of a SavedModel, once it is known that it only computes.

    Args:
        folder: local or gs://, with ``saved_model.pb`` in it.
        told: the folder that sentences name, where this one is its copy.

    Raises:
        DltsError: there is none, it cannot be read, or holds what no model of ours needs.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = told or folder
    if not storage.exists(storage.join(folder, GRAPH)):
        raise DltsError(f"there is no SavedModel in {path}: export the model again, or use --engine onnx")
    # In place of the graph that is looked at here, other versions of TensorFlow take one written otherwise.
    for entry in storage.list_files(folder):
        name = storage.name(entry.path)
        if name.startswith("saved_model.") and name != GRAPH:
            raise _refusal(path, f"a second graph, {name}")
    try:
        (meta,) = SavedModel.FromString(storage.read_bytes(storage.join(folder, GRAPH))).meta_graphs
    except (DecodeError, ValueError) as error:
        raise DltsError(f"{path} is not a SavedModel of ours: export the model again ({error})") from error
    what = next(_surplus(meta), None)
    if what is not None:
        raise _refusal(path, what)
    return meta


def _refusal(path: str, what: str) -> DltsError:
    return DltsError(
        f"{path} holds {what}, which no model of ours does: it is not loaded, since it might run code of"
        " whoever made it; take a folder that you trust, train the model again, or use --engine onnx"
    )


def _surplus(meta: Any) -> Iterator[str]:
    """What a meta graph holds beyond computing."""
    graph, saver = meta.graph_def, meta.saver_def
    nodes = {node.name: node for node in graph.node}
    save, restore = (nodes.get(_node(name)) for name in (saver.save_tensor_name, saver.restore_op_name))
    saving, restoring = _called(save), _called(restore)
    yield from _foreign(graph.node, OPERATIONS, "its graph")
    for function in graph.library.function:
        name = function.signature.name
        if name in OPERATIONS | _SAVING | _RESTORING:
            yield f"a function with the name of an operation, {name}"  # it would be run in its place
        if name in (saving, restoring) and "api_implements" in function.attr:
            yield f"another implementation of {name}"  # TensorFlow exchanges those when it optimises
        more = _SAVING if name == saving else _RESTORING if name == restoring else frozenset()
        yield from _foreign(function.node_def, OPERATIONS | more, f"its function {name}")
        if name == restoring:
            prefix = [argument.name for argument in function.signature.input_arg[:1]]
            if any(node.op in _RESTORING and node.input[:1] != prefix for node in function.node_def):
                yield "a reader of other files than its weights"
    given = _node(saver.filename_tensor_name)
    if restore is not None and [_node(name) for name in restore.input[:1]] != [given]:
        yield "a reader of other files than its weights"
    functions = {name for name in (saving, restoring) if name is not None}
    yield from _used_elsewhere(meta, functions, save, restore)
    if meta.asset_file_def:
        yield "files beside its weights"
    for part in meta.object_graph_def.nodes:
        if part.registered_name or part.registered_saver:
            yield f"the Python class {part.registered_name or part.registered_saver}"
    for name in meta.collection_def:
        if name not in _STARTS:
            yield f"the collection {name}"


def _foreign(nodes: Iterable[Any], allowed: frozenset[str], where: str) -> Iterator[str]:
    for node in nodes:
        if node.op not in allowed:
            yield f"the operation {node.op} in {where}"


def _used_elsewhere(meta: Any, functions: set[str], save: Any, restore: Any) -> Iterator[str]:
    """Uses of the functions that touch files, other than by the two nodes that the saver names."""
    graph = meta.graph_def
    own = {node.name for node in (save, restore) if node is not None}
    calling = [node for node in graph.node if node.name not in own]
    calling += [node for function in graph.library.function for node in function.node_def]
    used = [name for node in calling for name in _functions(node)]
    used += [name for node in (save, restore) if node is not None for name in _functions(node)[1:]]
    used += [gradient.gradient_func for gradient in graph.library.gradient]
    used += meta.object_graph_def.concrete_functions
    calls = functions.intersection(used)
    if calls or (save is not None and save is restore) or len(functions) < len(own):
        yield f"calls of what reads and writes its weights, {', '.join(sorted(calls or functions))}"
    inputs = [name for node in graph.node for name in node.input]
    for signature in meta.signature_def.values():
        inputs += [tensor.name for tensor in (*signature.inputs.values(), *signature.outputs.values())]
    for collection in meta.collection_def.values():
        inputs += collection.node_list.value
    if own.intersection(map(_node, inputs)):
        yield "results that depend on reading and writing its weights"


def _node(tensor: str) -> str:
    """Name of the node that a tensor or control input comes from."""
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> str | None:
    """The function that a node calls."""
    names = [] if node is None else _functions(node)
    return names[0] if names else None


def _functions(part: Any) -> list[str]:
    """All functions that a node, or a function that one is given, names."""
    found = []
    for value in part.attr.values():
        for function in (*([value.func] if value.HasField("func") else []), *value.list.func):
            found += [function.name, *_functions(function)]
    return found
