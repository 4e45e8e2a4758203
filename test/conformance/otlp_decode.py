"""Decodes an OTLP/HTTP body with OpenTelemetry's own package, refuses unknown fields, and prints it as JSON."""

import gzip
import sys

from google.protobuf.json_format import MessageToJson
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


def refuse_unknown(message):
    if len(UnknownFieldSet(message)) > 0:
        raise SystemExit(f"{message.DESCRIPTOR.full_name} has unknown fields")
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for one in value if field.is_repeated else [value]:
            refuse_unknown(one)


request = ExportMetricsServiceRequest()
request.ParseFromString(gzip.decompress(sys.stdin.buffer.read()))
if not request.IsInitialized():
    raise SystemExit("not initialized")
refuse_unknown(request)
print(MessageToJson(request))
