"""What a key of the configuration accepts, from mixgan_cli/config or the signature of a component's class."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

from hydra.utils import get_class
from pydantic import TypeAdapter

from mixgan_cli.config import commands
from mixgan_cli.config import schema as schemas
from mixgan_cli.config.components import TYPE_CHECKS

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TYPES = {"boolean": "`true`, `false`", "string": "text", "null": "`null`", "object": "a component"}


def by_command(primary: str, path: str) -> str:
    """Return what a key accepts by the schema of a command's primary configuration, or "" if it has no schema."""
    schema = node = _of_command(primary)
    for step in path.split("."):
        inner = [_resolved(each, schema) for each in (node, *node.get("anyOf", ()))]
        node = next((each["properties"][step] for each in inner if step in each.get("properties", ())), {})
    return _in_words(node, schema)


def by_part(target: str, argument: str) -> str:
    """Return what an argument of a component's class accepts."""
    hints = get_type_hints(get_class(target).__init__, include_extras=True)  # type: ignore[misc]
    hint = hints.get(argument, str)  # a data set's `name` is a plain key
    schema = TypeAdapter(hint, config=TYPE_CHECKS).json_schema()
    return _in_words(schema, schema)


@cache
def _of_command(primary: str) -> dict[str, Any]:
    name = "Run" if primary == "config" else f"{primary.capitalize()}Command"
    found = getattr(commands, name, getattr(schemas, name, None))
    return found.model_json_schema() if found else {}


def _in_words(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """A node of a JSON schema in words: "integer > 0 or `null`"."""
    node = _resolved(node, schema)
    if "anyOf" in node:
        return " or ".join(_in_words(each, schema) for each in node["anyOf"])
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if "properties" in node:
        return f"{{{', '.join(f'{name}: {_in_words(each, schema)}' for name, each in node['properties'].items())}}}"
    if "prefixItems" in node:
        return f"[{', '.join(_in_words(each, schema) for each in node['prefixItems'])}]"
    if "items" in node:
        return f"a list, each {_in_words(node['items'], schema)}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"by name, each {_in_words(node['additionalProperties'], schema)}"
    kind = node.get("type", "")
    bounds = " and ".join(f"{sign} {node[bound]:,}" for bound, sign in BOUNDS.items() if bound in node)
    return f"{TYPES.get(kind, kind)} {bounds}".strip()


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
