"""The built-in roles that templates may give, and the check that every role is given the right way.

Ids as listed at https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .problem import Problem
from .syntax import Source, Templates, line, literal, text, walk

ROLES = {
    "Key Vault Secrets User": "4633458b-17de-408a-874b-0445c86b69e6",
    "Key Vault Secrets Officer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "Key Vault Certificates Officer": "a4417e6f-fecd-4de8-b567-7b0420556985",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Delegator": "db58b8e5-c6ad-4a2a-8342-4190687cbf4a",
}

# What the gateway's own identity may be given; everything else is for people.
GATEWAY_ROLES = {"Key Vault Secrets User", "Storage Blob Data Contributor", "Storage Blob Delegator"}

GUID = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")


def variable(role: str) -> str:
    words = role.split()
    return words[0].lower() + "".join(words[1:]) + "RoleId"


def check(templates: Templates) -> Iterator[Problem]:
    for source in templates.bicep:
        yield from ids(source)
    for source, resource, kind, _ in templates.resources():
        if kind == "Microsoft.Authorization/roleAssignments":
            yield from assignment(source, resource)


def ids(source: Source) -> Iterator[Problem]:
    names = {id: role for role, id in ROLES.items()}
    for node in walk(source.root):
        if node.type != "string_content":
            continue
        for id in GUID.findall(text(node)):
            if id not in names:
                yield Problem(
                    source.path,
                    line(node),
                    f"`{id}` is not the id of a role in the table",
                    "compare it with the list of built-in roles; add the role to ROLES in bicep/checker/roles.py if it is right",
                )
    for name, declaration in source.of("var").items():
        id = literal(declaration.value)
        if id in names and name != variable(names[id]):
            yield Problem(
                source.path,
                declaration.line,
                f"`{name}` holds the id of the role {names[id]}",
                f"call it `{variable(names[id])}`, or give it the id that its name promises",
            )
        if name.endswith("RoleId") and name not in {variable(role) for role in ROLES}:
            yield Problem(source.path, declaration.line, f"`{name}` is not a role of the table", "add it to ROLES in bicep/checker/roles.py")


def assignment(source: Source, resource) -> Iterator[Problem]:
    properties = source.properties(resource.body)
    name = properties.get("name", (None, None))[1]
    if name is None or not text(name).startswith("guid("):
        yield Problem(
            source.path,
            resource.line,
            f"the name of role assignment `{resource.name}` is not made by guid()",
            "write `name: guid(scope.id, principalId, roleId)`, so that deploying again finds the same assignment",
        )
    if "scope" not in properties:
        yield Problem(
            source.path,
            resource.line,
            f"role assignment `{resource.name}` is for the whole resource group",
            "give it the resource it is for as `scope`",
        )
    if not list(source.at(resource.body, "properties.principalType")):
        yield Problem(
            source.path,
            resource.line,
            f"role assignment `{resource.name}` has no principalType",
            "add it: without it Azure may not find an identity that is a few seconds old",
        )
    for value in source.at(resource.body, "properties.principalId"):
        if text(value) != "gatewayPrincipalId":
            continue
        for role in source.at(resource.body, "properties.roleDefinitionId"):
            given = [name for name in ROLES if variable(name) in text(role)]
            if not given or given[0] not in GATEWAY_ROLES:
                yield Problem(
                    source.path,
                    line(role),
                    f"role assignment `{resource.name}` gives the gateway {given[0] if given else 'an unknown role'}",
                    f"the gateway needs only: {', '.join(sorted(GATEWAY_ROLES))}",
                )
