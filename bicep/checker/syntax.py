"""Reads .bicep and .bicepparam files with a real parser into the declarations that the checks ask about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

PARSER = Parser(Language(tree_sitter_bicep.language()))

DECLARATIONS = {
    "parameter_declaration": "param",
    "variable_declaration": "var",
    "resource_declaration": "resource",
    "module_declaration": "module",
    "output_declaration": "output",
}


def text(node: Node) -> str:
    return node.text.decode()


def line(node: Node) -> int:
    return node.start_point[0] + 1


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def literal(node: Node | None) -> str | int | bool | None:
    """The value of a literal; None for everything that is computed."""
    if node is None:
        return None
    if node.type == "string":
        if any(child.type == "interpolation" for child in node.named_children):
            return None
        # Escapes do not occur in the values that checks compare.
        return "".join(text(child) for child in node.named_children)
    if node.type == "number":
        return int(text(node))
    if node.type == "boolean":
        return text(node) == "true"
    return None


@dataclass
class Declaration:
    kind: str
    name: str
    node: Node
    value: Node | None
    # The type of a param or output, the type@version of a resource, the path of a module.
    target: str = ""
    decorators: dict[str, list[Node]] = field(default_factory=dict)
    condition: Node | None = None

    @property
    def line(self) -> int:
        return line(self.node)

    @property
    def description(self) -> str | None:
        arguments = self.decorators.get("description")
        return str(literal(arguments[0])) if arguments else None

    @property
    def allowed(self) -> list[str | int | bool | None]:
        arguments = self.decorators.get("allowed")
        return [literal(item) for item in arguments[0].named_children] if arguments else []

    @property
    def body(self) -> Node | None:
        """The object of a resource or module, inside its condition and loop."""
        node = self.value
        while node is not None and node.type in ("if_statement", "for_statement"):
            node = node.named_children[-1]
        return node


@dataclass
class Source:
    """One file. `path` is how problems name it."""

    path: str
    file: Path
    root: Node
    declarations: list[Declaration]
    using: str | None = None

    def of(self, kind: str) -> dict[str, Declaration]:
        return {item.name: item for item in self.declarations if item.kind == kind}

    def syntax_errors(self) -> list[Node]:
        return [node for node in walk(self.root) if node.type == "ERROR" or node.is_missing]

    # What a value can be: every branch of a condition, variables followed to their values.

    def outcomes(self, node: Node | None, depth: int = 0) -> Iterator[Node]:
        if node is None or depth > 20:
            return
        kind = node.type
        if kind == "ternary_expression":
            for branch in node.named_children[1:]:
                yield from self.outcomes(branch, depth + 1)
        elif kind == "parenthesized_expression" and node.named_child_count == 1:
            yield from self.outcomes(node.named_children[0], depth + 1)
        elif kind == "identifier" and text(node) in self.of("var"):
            yield from self.outcomes(self.of("var")[text(node)].value, depth + 1)
        else:
            yield node

    def elements(self, node: Node | None) -> Iterator[Node]:
        """The elements that a list can have, as far as they are written down."""
        for outcome in self.outcomes(node):
            if outcome.type == "array":
                for child in outcome.named_children:
                    if child.type not in ("comment", "line_comment"):
                        yield from self.outcomes(child)
            elif outcome.type == "for_statement":
                yield from self.outcomes(outcome.named_children[-1])
            elif outcome.type == "call_expression" and text(outcome.named_children[0]) in ("concat", "union"):
                for argument in outcome.named_children[1].named_children:
                    yield from self.elements(argument)

    def properties(self, node: Node | None) -> dict[str, tuple[Node, Node]]:
        """Property name to its key and value. Keys that are computed are left out."""
        found = {}
        if node is None or node.type != "object":
            return found
        for child in node.named_children:
            if child.type == "object_property" and child.named_child_count >= 2:
                key, value = child.named_children[0], child.named_children[-1]
                name = text(key) if key.type == "identifier" else literal(key)
                if name is not None:
                    found[str(name)] = (key, value)
        return found

    def at(self, node: Node | None, path: str) -> Iterator[Node]:
        """All values at a path such as `properties.ipConfigurations[].name`; nothing where it leads nowhere."""
        if not path:
            yield from self.outcomes(node)
            return
        first, _, rest = path.partition(".")
        name = first.removesuffix("[]")
        for outcome in self.outcomes(node):
            entry = self.properties(outcome).get(name)
            if entry is None:
                continue
            if first.endswith("[]"):
                for element in self.elements(entry[1]):
                    yield from self.at(element, rest)
            else:
                yield from self.at(entry[1], rest)


def read(file: Path, path: str) -> Source:
    content = file.read_text(encoding="utf-8")
    using = None
    if file.suffix == ".bicepparam":
        # The grammar knows templates only. An assignment there is a variable here; lines and columns stay.
        match = re.search(r"^using +'([^'\n]*)'[ ]*$", content, re.M)
        using = match.group(1) if match else None
        content = re.sub(r"^using [^\n]*$", "", content, flags=re.M)
        content = re.sub(r"^param( +\w+ *=)", r"var  \1", content, flags=re.M)
    root = PARSER.parse(content.encode()).root_node
    return Source(path, file, root, list(declarations(root)), using)


def declarations(root: Node) -> Iterator[Declaration]:
    decorators: dict[str, list[Node]] = {}
    for node in root.named_children:
        if node.type == "decorators":
            for call in (child for child in walk(node) if child.type == "decorator"):
                function = call.named_children[0]
                arguments = function.named_children[1].named_children if function.named_child_count > 1 else []
                decorators[text(function.named_children[0])] = arguments
            continue
        kind = DECLARATIONS.get(node.type)
        if kind is None:
            if node.type not in ("comment", "line_comment"):
                decorators = {}
            continue
        assigned = False
        value, target = None, ""
        name = text(node.named_children[0])
        for child in node.children[1:]:
            if child.type == "=":
                assigned = True
            elif assigned and child.is_named and child.type != "comment":
                value = child
            elif not assigned and child.type == "type":
                target = text(child)
            elif not assigned and child.type == "string" and kind in ("resource", "module"):
                target = str(literal(child))
        condition = value.named_children[0] if value is not None and value.type == "if_statement" else None
        yield Declaration(kind, name, node, value, target, decorators, condition)
        decorators = {}


@dataclass
class Templates:
    """All templates of one folder: main.bicep, its modules, and the parameter files."""

    folder: Path
    sources: dict[str, Source]

    @property
    def main(self) -> Source:
        return self.sources["main.bicep"]

    @property
    def bicep(self) -> list[Source]:
        return [source for name, source in self.sources.items() if name.endswith(".bicep")]

    @property
    def parameter_files(self) -> list[Source]:
        return [source for name, source in self.sources.items() if name.endswith(".bicepparam")]

    def module(self, source: Source, declaration: Declaration) -> Source | None:
        file = (source.file.parent / declaration.target).resolve()
        return next((other for other in self.sources.values() if other.file.resolve() == file), None)

    def resources(self) -> Iterator[tuple[Source, Declaration, str, str]]:
        """Every resource with its type and API version."""
        for source in self.bicep:
            for declaration in source.of("resource").values():
                kind, _, version = declaration.target.partition("@")
                yield source, declaration, kind, version


def load(folder: Path) -> Templates:
    files = sorted([*folder.rglob("*.bicep"), *folder.rglob("*.bicepparam")])
    sources = {}
    for file in files:
        name = file.relative_to(folder).as_posix()
        sources[name] = read(file, f"bicep/{name}")
    return Templates(folder, sources)
