"""Every property that is written down, against the official type data.

Two sources, both offline. `azmcp bicepschema get` (package msmcp-azure) prints the Bicep types of most resources; for
those it leaves out, the models of the official Python SDK, made from the same specifications, say the same.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from .problem import Problem
from .syntax import Source, Templates, line, literal, text, walk

CACHE = Path(__file__).resolve().parent.parent / ".types"

# Type to its package, its model, and the module of operations that tells the API version.
SDK = {
    "Microsoft.Insights/actionGroups": ("azure.mgmt.monitor", "ActionGroupResource", "_action_groups_operations"),
    "Microsoft.Insights/dataCollectionEndpoints": ("azure.mgmt.monitor", "DataCollectionEndpointResource", "_data_collection_endpoints_operations"),
    "Microsoft.Insights/dataCollectionRules": ("azure.mgmt.monitor", "DataCollectionRuleResource", "_data_collection_rules_operations"),
    "Microsoft.Insights/dataCollectionRuleAssociations": ("azure.mgmt.monitor", "DataCollectionRuleAssociationProxyOnlyResource", "_data_collection_rule_associations_operations"),
    "Microsoft.Insights/scheduledQueryRules": ("azure.mgmt.monitor", "ScheduledQueryRuleResource", "_scheduled_query_rules_operations"),
    "Microsoft.DBforPostgreSQL/flexibleServers": ("azure.mgmt.postgresqlflexibleservers", "Server", "_operations"),
    "Microsoft.DBforPostgreSQL/flexibleServers/administrators": ("azure.mgmt.postgresqlflexibleservers", "AdministratorMicrosoftEntraAdd", "_operations"),
    "Microsoft.DBforPostgreSQL/flexibleServers/databases": ("azure.mgmt.postgresqlflexibleservers", "Database", "_operations"),
    "Microsoft.Network/privateDnsZones": ("azure.mgmt.privatedns", "PrivateZone", "_operations"),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": ("azure.mgmt.privatedns", "VirtualNetworkLink", "_operations"),
}

# Set by Bicep itself, not by the resource.
META = {"parent", "scope", "dependsOn", "name"}

PRIMITIVES = {"string": {"string"}, "int": {"number"}, "bool": {"boolean"}}


class Missing(Exception):
    """The type data cannot be read here."""


@dataclass
class Shape:
    """What a value may be: one of some literals, a list, an object, or anything of a primitive kind."""

    kinds: set[str] = field(default_factory=set)
    literals: set[str] = field(default_factory=set)
    open: bool = True
    element: Shape | None = None
    properties: dict[str, Shape] | None = None
    required: bool = False
    read_only: bool = False
    # The type of values under names of one's own.
    additional: Shape | None = None
    discriminator: str = ""
    variants: dict[str, Shape] = field(default_factory=dict)


ANY = Shape()


class Types:
    """The type data, read when it is asked for."""

    def __init__(self, said=lambda words: None) -> None:
        self.known: dict[str, tuple[str, Shape]] = {}
        self.said = said
        beside = Path(sys.executable).parent / "azmcp"
        self.azmcp = str(beside) if beside.exists() else shutil.which("azmcp")
        if self.azmcp is None:
            raise Missing("`azmcp` of the package msmcp-azure is not installed")
        try:
            for package in {entry[0] for entry in SDK.values()}:
                importlib.import_module(package)
            self.cache = CACHE / metadata.version("msmcp-azure")
        except (ImportError, metadata.PackageNotFoundError) as error:
            raise Missing(str(error)) from error

    def of(self, kind: str) -> tuple[str, Shape] | None:
        """The API version and the shape of a resource type."""
        if kind not in self.known:
            found = sdk(*SDK[kind]) if kind in SDK else self.bicep(kind)
            if found is None:
                return None
            self.known[kind] = found
        return self.known[kind]

    def bicep(self, kind: str) -> tuple[str, Shape] | None:
        file = self.cache / f"{kind.replace('/', '.')}.json"
        if not file.exists():
            self.said(f"reading the type {kind}")
            environment = os.environ | {"AZURE_MCP_COLLECT_TELEMETRY": "false"}
            command = [self.azmcp, "bicepschema", "get", "--resource-type", kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
            answer = json.loads(done.stdout or "{}").get("results", {})
            if "BicepSchemaResult" not in answer:
                return None
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(answer["BicepSchemaResult"]), encoding="utf-8")
        return bicep_types(json.loads(file.read_text(encoding="utf-8")))


# From the JSON of azmcp.


def bicep_types(entries: list[dict]) -> tuple[str, Shape]:
    named = {entry["name"]: entry for entry in entries if entry["$type"] in ("Object", "DiscriminatedObject")}
    made: dict[str, Shape] = {}

    def shape(type: str) -> Shape:
        if type == "any":
            return Shape()
        result = Shape(open=False)
        for part in type.split(" | "):
            if part.endswith("[]"):
                result.kinds.add("array")
                result.element = shape(part[:-2])
            elif part in named:
                inner = entity(part)
                result.kinds.add("object")
                result.properties, result.additional = inner.properties, inner.additional
                result.discriminator, result.variants = inner.discriminator, inner.variants
            elif part in PRIMITIVES:
                result.kinds |= PRIMITIVES[part]
                result.open = True
            elif part in ("object", "array"):
                result.kinds.add(part)
                result.open = True
            elif part == "any":
                return Shape()
            elif part in ("True", "False"):
                result.kinds.add("boolean")
            else:
                result.kinds.add("string")
                result.literals.add(part)
        return result

    def entity(name: str) -> Shape:
        if name not in made:
            made[name] = Shape(kinds={"object"}, open=False)
            fill(made[name], named[name])
        return made[name]

    def fill(target: Shape, entry: dict) -> None:
        fields = entry.get("properties", entry.get("baseProperties")) or []
        target.properties = {item["name"]: member(item) for item in fields}
        if entry.get("additionalPropertiesType"):
            target.additional = shape(entry["additionalPropertiesType"])
        if entry["$type"] == "DiscriminatedObject":
            target.discriminator = entry["discriminator"]
            for element in entry["elements"]:
                variant = Shape(kinds={"object"}, open=False)
                fill(variant, element)
                variant.properties |= target.properties
                target.variants |= {value: variant for value in variant.properties[target.discriminator].literals}

    def member(item: dict) -> Shape:
        flags = item.get("flags") or ""
        result = shape(item["type"])
        return Shape(**{**result.__dict__, "required": "Required" in flags, "read_only": "ReadOnly" in flags})

    resource = next(entry for entry in entries if entry["$type"] == "Resource")
    body = Shape(kinds={"object"}, open=False)
    fill(body, resource["bodyType"])
    return resource["name"].partition("@")[2], body


# From the models of the SDK, which come in two styles.


def sdk(package: str, model: str, operations: str) -> tuple[str, Shape]:
    models = importlib.import_module(f"{package}.models")
    written = inspect.getsource(importlib.import_module(f"{package}.operations.{operations}"))
    versions = set(re.findall(r'"api-version", "(\d{4}-\d{2}-\d{2})"', written))
    made: dict[str, Shape] = {}

    def entity(name: str) -> Shape:
        cls = getattr(models, name, None)
        if cls is None or not (hasattr(cls, "_attribute_map") or hasattr(cls, "_is_model")):
            return Shape()
        if name not in made:
            made[name] = Shape(kinds={"object"}, open=False, properties={})
            (attribute_map if hasattr(cls, "_attribute_map") else rest_fields)(made[name], cls)
        return made[name]

    def typed(type: str) -> Shape:
        if type.startswith("["):
            return Shape(kinds={"array"}, open=False, element=typed(type[1:-1]))
        if type.startswith("{"):
            return Shape(kinds={"object"}, open=False, properties={}, additional=typed(type[1:-1]))
        kinds = {"str": {"string"}, "bool": {"boolean"}, "int": {"number"}, "float": {"number"}, "duration": {"string"}}
        return Shape(kinds=kinds[type]) if type in kinds else entity(type)

    def attribute_map(target: Shape, cls) -> None:
        for attribute, entry in cls._attribute_map.items():
            rules = cls._validation.get(attribute, {})
            place = target
            *outer, last = entry["key"].split(".")
            for name in outer:
                place = place.properties.setdefault(name, Shape(kinds={"object"}, open=False, properties={}))
            found = typed(entry["type"])
            place.properties[last] = Shape(**{**found.__dict__, "required": bool(rules.get("required")), "read_only": bool(rules.get("readonly"))})

    def rest_fields(target: Shape, cls) -> None:
        cls.__new__(cls)  # The first instance names the fields.
        for base in reversed(cls.__mro__):
            for attribute, annotation in getattr(base, "__annotations__", {}).items():
                rest = cls._attr_to_rest_field.get(attribute)
                if rest is None:
                    continue
                found = annotated(str(annotation))
                visible = rest._visibility or []
                target.properties[rest._rest_name] = Shape(
                    **{**found.__dict__, "required": not re.search("Optional|NoneType", str(annotation)), "read_only": visible == ["read"]}
                )

    def annotated(annotation: str) -> Shape:
        inner = re.sub(r"^(typing\.)?Optional\[(.*)\]$", r"\2", annotation)
        if re.match(r"(typing\.)?[Ll]ist\[", inner):
            return Shape(kinds={"array"}, open=False, element=annotated(re.sub(r"^[\w.]*ist\[(.*)\]$", r"\1", inner)))
        if re.match(r"(typing\.)?[Dd]ict\[", inner):
            return Shape(kinds={"object"}, open=False, properties={}, additional=Shape())
        named = re.search(r"_models\.(?:_models\.)?(\w+)", inner)
        if "Union[str, " in inner and named:
            enum = getattr(models, named.group(1), None)
            return Shape(kinds={"string"}, literals={item.value for item in enum or ()}, open=enum is None)
        if named:
            return entity(named.group(1))
        plain = {"str": {"string"}, "bool": {"boolean"}, "int": {"number"}, "float": {"number"}}
        return Shape(kinds=plain[inner]) if inner in plain else Shape()

    body = entity(model)
    if not body.properties:
        raise Missing(f"{package} has no model {model}")
    return max(versions), body


# The check itself.


def check(templates: Templates, types: Types) -> Iterator[Problem]:
    for source, resource, kind, version in templates.resources():
        found = types.of(kind)
        if found is None:
            yield Problem(source.path, resource.line, f"`{kind}` is not a resource type", "mend the name")
            continue
        current, shape = found
        if version != current:
            yield Problem(source.path, resource.line, f"`{kind}` is at `{version}`; the type data has `{current}`", f"write `{kind}@{current}`")
        given = source.properties(resource.body)
        if "name" not in given:
            yield Problem(source.path, resource.line, f"`{resource.name}` has no name", "every resource needs one")
        # Child and extension resources stand under their parent or scope.
        if kind.count("/") > 1 and "parent" not in given:
            yield Problem(source.path, resource.line, f"`{resource.name}` has no parent", "name the resource it belongs to as `parent`")
        yield from members(source, resource.body, shape, resource.name, META)
        if resource.value.type != "for_statement":
            yield from reads(source, resource.name, shape)


def reads(source: Source, name: str, shape: Shape) -> Iterator[Problem]:
    """What is read from a resource, such as `vault.properties.vaultUri`."""
    for node in walk(source.root):
        outermost = node.type == "member_expression" and node.parent.type != "member_expression"
        path = re.split(r"!?\.\??", text(node)) if outermost else []
        if path[:1] != [name] or any(not part.isidentifier() for part in path):
            continue
        place = shape
        for part in path[1:]:
            known = (place.properties or {}) | {"name": ANY, "id": ANY}
            if place.open or place.properties is None:
                break
            if part not in known and place.additional is None:
                yield Problem(source.path, line(node), f"`{text(node)}` does not exist", f"`{part}` is one of {', '.join(sorted(known))}")
                break
            place = known.get(part) or place.additional


def members(source: Source, node, shape: Shape, path: str, allowed: set[str] = frozenset()) -> Iterator[Problem]:
    given = source.properties(node)
    if shape.discriminator:
        chosen = literal(given.get(shape.discriminator, (None, None))[1])
        if chosen not in shape.variants:
            yield Problem(source.path, line(node), f"`{path}.{shape.discriminator}` is `{chosen}`", f"it is one of {', '.join(sorted(shape.variants))}")
            return
        shape = shape.variants[chosen]
    properties = shape.properties or {}
    for name, (key, value) in given.items():
        if name in allowed:
            continue
        member = properties.get(name, shape.additional)
        if member is None:
            yield Problem(source.path, line(key), f"`{path}` has no property `{name}`", f"it has {', '.join(sorted(name for name, item in properties.items() if not item.read_only))}")
        elif member.read_only:
            yield Problem(source.path, line(key), f"`{path}.{name}` is set by Azure", "leave it out")
        else:
            yield from value_fits(source, value, member, f"{path}.{name}")
    for name, member in properties.items():
        if member.required and not member.read_only and name not in given and name not in allowed:
            yield Problem(source.path, line(node), f"`{path}` lacks `{name}`", "it is required: add it")


def value_fits(source: Source, value, shape: Shape, path: str) -> Iterator[Problem]:
    for outcome in source.outcomes(value):
        kind = "array" if outcome.type == "for_statement" else outcome.type
        if kind not in ("string", "number", "boolean", "object", "array", "call_expression"):
            continue
        if kind != "call_expression" and shape.kinds and kind not in shape.kinds:
            yield Problem(source.path, line(outcome), f"`{path}` is given `{text(outcome)[:40]}`", f"it takes {' or '.join(sorted(shape.kinds))}")
            continue
        found = literal(outcome)
        if kind == "string" and isinstance(found, str) and not shape.open and shape.literals and found not in shape.literals:
            yield Problem(source.path, line(outcome), f"`{path}` cannot be `{found}`", f"it is one of {', '.join(sorted(shape.literals))}")
        elif kind == "object" and (shape.properties is not None or shape.discriminator):
            yield from members(source, outcome, shape, path)
        elif kind in ("array", "call_expression") and shape.element is not None:
            for element in source.elements(outcome):
                yield from value_fits(source, element, shape.element, f"{path}[]")
