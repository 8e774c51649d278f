# Publishes one command within a span: publish.py <collector>/v1/traces <provider> <userId>. Prints the ids of trace and span.
import json
import os
import sys
import uuid

import pika
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

collector, provider, user = sys.argv[1:]
spans = TracerProvider(resource=Resource.create({"service.name": "publisher"}))
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=collector)))
tracer = spans.get_tracer("publish.py")

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
command = {"id": str(uuid.uuid4()), "provider": provider, "userId": user, "update": {"email": "alex@example.com"}}
# As where a vendor's agent, or a gateway, has put an entry of its own beside the context.
entry = trace.TraceState([("vendor", "opaque-1")])
root = trace.SpanContext(trace_id=0xC0FFEE, span_id=1, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=entry)
above = trace.set_span_in_context(trace.NonRecordingSpan(root))
with tracer.start_as_current_span("publish user.commands", above, trace.SpanKind.PRODUCER) as span:
    headers = {}
    TraceContextTextMapPropagator().inject(headers)
    channel.basic_publish(
        exchange="user.commands",
        routing_key=f"{provider}.{user}",
        body=json.dumps(command),
        properties=pika.BasicProperties(
            message_id=command["id"], content_type="application/json", delivery_mode=2, headers=headers
        ),
    )
    context = span.get_span_context()
connection.close()
spans.shutdown()
print(f"{context.trace_id:032x}", f"{context.span_id:016x}")
