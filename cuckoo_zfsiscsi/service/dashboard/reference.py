"""A page about the control API, made of its OpenAPI description: no script, nothing to download."""

from __future__ import annotations

from typing import Any

from cuckoo_zfsiscsi.service.dashboard.render import render


def reference(openapi: dict[str, Any]) -> str:
    """Return the page.

    Args:
        openapi: description of the API, OpenAPI 3.
    """
    schemas = openapi.get("components", {}).get("schemas", {})
    verbs = [
        {
            "method": method.upper(),
            "path": path,
            "text": verb.get("description", verb.get("summary", "")),
            "fields": [*_parameters(verb), *_body(verb, schemas)],
        }
        for path, methods in openapi["paths"].items()
        for method, verb in methods.items()
    ]
    return render("reference.html", verbs=verbs, version=openapi["info"]["version"])


def _parameters(verb: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "name": one["name"],
            "where": one["in"],
            "type": _type(one["schema"]),
            "needed": "yes" if one.get("required") else "",
            "text": one.get("description", ""),
        }
        for one in verb.get("parameters", [])
    ]


def _body(verb: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, str]]:
    content = verb.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    schema = schemas.get(name, {})
    return [
        {
            "name": field,
            "where": "JSON body",
            "type": _type(about),
            "needed": "yes" if field in schema.get("required", []) else "",
            "text": about.get("description", ""),
        }
        for field, about in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return str(schema.get("type", "any"))
