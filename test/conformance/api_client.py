"""An API client that shares no code with the product: protoc's Python, Google's gRPC core, OpenSSL or BoringSSL."""

import json
import sys

import grpc
from google.protobuf import json_format

generated, address, root_path, key_path, node = sys.argv[1:]
sys.path.insert(0, generated)

from google.rpc import error_details_pb2  # noqa: E402
from gpuaas.nodes.v1 import nodes_pb2, nodes_pb2_grpc  # noqa: E402
from gpuaas.system.v1 import system_pb2, system_pb2_grpc  # noqa: E402
from gpuaas.tasks.v1 import tasks_pb2, tasks_pb2_grpc  # noqa: E402


def error_of(call):
    try:
        call()
    except grpc.RpcError as error:
        metadata = {name: value for name, value in error.trailing_metadata() or ()}
        status = metadata.get("grpc-status-details-bin", b"")
        return {"code": error.code().name, "message": error.details(), "reason": reason_of(status)}
    return None


def reason_of(status_bytes):
    # google.rpc.Status without its class: field 3 is a list of Any.
    info = error_details_pb2.ErrorInfo()
    at = status_bytes.find(b"type.googleapis.com/google.rpc.ErrorInfo")
    if at < 0:
        return ""
    rest = status_bytes[at + len(b"type.googleapis.com/google.rpc.ErrorInfo"):]
    length = rest[1]
    info.ParseFromString(rest[2:2 + length])
    return info.reason


with open(root_path, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
with open(key_path, encoding="ascii") as file:
    metadata = [("authorization", "Bearer " + file.read().strip())]

answers = {}
with grpc.secure_channel(address, credentials) as channel:
    system = system_pb2_grpc.SystemServiceStub(channel)
    nodes = nodes_pb2_grpc.NodeServiceStub(channel)
    tasks = tasks_pb2_grpc.TaskServiceStub(channel)
    answers["version"] = system.GetVersion(system_pb2.GetVersionRequest()).version
    answers["who"] = system.WhoAmI(system_pb2.WhoAmIRequest(), metadata=metadata).principal_id
    answers["nodes"] = [n.id for n in nodes.ListNodes(nodes_pb2.ListNodesRequest(), metadata=metadata).nodes]
    answers["anonymous"] = error_of(lambda: nodes.ListNodes(nodes_pb2.ListNodesRequest()))
    request = tasks_pb2.CreateTaskRequest(node=node, request_id="python-1")
    request.spec.run.argv.extend(["/bin/echo", "from python"])
    task = tasks.CreateTask(request, metadata=metadata, timeout=30).task
    answers["task"] = json_format.MessageToDict(task, preserving_proto_field_name=True)
    answers["again"] = tasks.CreateTask(request, metadata=metadata).task.id == task.id
    answers["invalid"] = error_of(lambda: tasks.CreateTask(tasks_pb2.CreateTaskRequest(), metadata=metadata))
    answers["cancelled"] = tasks.CancelTask(tasks_pb2.CancelTaskRequest(task_id=task.id), metadata=metadata).task.state
    answers["followed"] = [
        event.WhichOneof("event")
        for event in tasks.FollowTask(tasks_pb2.FollowTaskRequest(task_id=task.id), metadata=metadata, timeout=30)
    ]
print(json.dumps(answers))
