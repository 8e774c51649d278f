# Takes events up to a terminal one, each within a span that has usher's as its parent: subscribe.py <collector>/v1/traces.
# Prints each event's type and the `tracestate` that came with it.
import json
import os
import sys

import pika
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

spans = TracerProvider(resource=Resource.create({"service.name": "subscriber"}))
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
tracer = spans.get_tracer("subscribe.py")

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "user.outcomes", "user.update.#")
print("waiting for events", flush=True)
for method, properties, body in channel.consume(queue):
    event = json.loads(body)
    above = TraceContextTextMapPropagator().extract(properties.headers or {})
    with tracer.start_as_current_span("process " + event["type"], above, trace.SpanKind.CONSUMER) as span:
        state = span.get_span_context().trace_state.to_header()
        print(event["type"], state, flush=True)
        channel.basic_ack(method.delivery_tag)
    if event["type"] != "USER_UPDATE_START":
        break
connection.close()
spans.shutdown()
