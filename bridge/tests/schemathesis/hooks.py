"""How schemathesis reads the bridge's answers: one line of JSON, then perhaps stored bytes behind a line feed."""

import json

import schemathesis


@schemathesis.deserializer("application/vnd.routecache")
def head(ctx, response):
    return json.loads(response.content.split(b"\n", 1)[0])


@schemathesis.hook
def map_body(ctx, body):
    """JSON Schema takes 5.0 for an integer; the bridge, as most programs, doesn't."""
    if isinstance(body, dict):
        return {name: map_body_value(value) for name, value in body.items()}
    return body


def map_body_value(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: map_body_value(inner) for name, inner in value.items()}
    return value
