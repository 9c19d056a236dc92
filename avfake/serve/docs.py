"""The API's description as one page, without script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
code, pre { font: 14px/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; }
section { border: 1px solid #ccc; border-radius: 6px; padding: 0 1rem; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
.method { font-weight: 700; text-transform: uppercase; }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #16181c; }
  a { color: #8ab4f8; } section, h2 { border-color: #444; } }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
DOCS_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


def document(openapi: dict[str, Any]) -> str:
    """HTML of an OpenAPI description."""
    info = openapi["info"]
    about = "".join(f"<p>{_prose(part)}</p>" for part in info["description"].split("\n\n"))
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        _schema(name, schema) for name, schema in openapi["components"]["schemas"].items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>avfake: the API</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>
<body><h1>avfake {escape(info["version"])}: the API</h1>{about}
<p>The same for machines: <a href="/openapi.json">/openapi.json</a>.</p>
<h2>What can be asked</h2>{operations}<h2>What the answers hold</h2>{schemas}</body></html>"""


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"{parameter['name']} ({parameter['in']})", _type(parameter["schema"], parameter))
        for parameter in operation.get("parameters", [])
    ]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(("body", f"{escape(kind)}: {_type(body['schema'])}"))
    for status, response in sorted(operation["responses"].items()):
        if status.endswith("XX"):
            continue  # they are the same everywhere
        content = response.get("content", {})
        kinds = ", ".join(f"{escape(k)} {_type(v.get('schema', {}))}" for k, v in content.items())
        rows.append((status, f"{_prose(response['description'])} {kinds}"))
    return (
        f'<section><h3><code><span class="method">{method}</span> {escape(path)}</code></h3>'
        f"<p>{_prose(operation.get('description', ''))}</p>{_table(rows)}</section>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    fields = schema.get("properties", {})
    rows = [(field, _type(facts, facts)) for field, facts in fields.items()]
    about = _prose(schema.get("description", ""))
    head = f'<section id="{escape(name)}"><h3>{escape(name)}</h3>'
    examples = "".join(
        f"<pre>{escape(json.dumps(example, indent=2))}</pre>"
        for example in schema.get("examples", [])
    )
    return f"{head}<p>{about}</p>{_table(rows)}{examples}</section>"


def _prose(text: str) -> str:
    """A description; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (f"<tr><th><code>{escape(name)}</code></th><td>{text}</td></tr>" for name, text in rows)
    return f"<table>{''.join(cells)}</table>"


def _type(schema: dict[str, Any], facts: dict[str, Any] | None = None) -> str:
    """A schema in a few words, with links to those that have a name."""
    about = _prose((facts or {}).get("description", ""))
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        text = f'<a href="#{name}">{name}</a>'
    elif "anyOf" in schema:
        text = " or ".join(_type(one) for one in schema["anyOf"])
    elif "enum" in schema:
        text = " or ".join(escape(repr(value)) for value in schema["enum"])
    elif schema.get("type") == "array":
        text = f"list of {_type(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        text = f"object of {_type(schema['additionalProperties'])}"
    else:
        text = escape(str(schema.get("const", schema.get("format", schema.get("type", "")))))
    return f"{text}. {about}" if about else text
