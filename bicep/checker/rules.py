"""The cross-checks that need nothing but the templates: symbols, modules, parameter files, cloud-init, README."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .problem import Problem
from .syntax import Declaration, Source, Templates, line, literal, text, walk

# Functions that templates use. A name that is not here is taken for a slip until someone adds it.
FUNCTIONS = set(
    """any array base64 bool cidrSubnet concat contains empty endsWith environment fail filter first format guid int items
    join last length loadTextContent map max min range readEnvironmentVariable reduce replace resourceGroup resourceId split
    startsWith string subscription subscriptionResourceId substring take tenant toLower toObject toUpper trim union
    uniqueString uri uriComponent""".split()
)

LITERAL_TYPES = {"string": "string", "number": "int", "boolean": "bool", "array": "array", "object": "object"}

PLACEHOLDER = re.compile(r"@@([A-Z0-9_]+)@@")


def syntax(templates: Templates) -> Iterator[Problem]:
    """The first mistake of each file. What comes after it in the same file mostly follows from it."""
    for source in templates.sources.values():
        for node in source.syntax_errors()[:1]:
            yield Problem(source.path, line(node), f"not Bicep: `{text(node)[:60]}`", "mend the syntax; the parser gave up here")


def check(templates: Templates) -> Iterator[Problem]:
    for source in templates.bicep:
        yield from described(source)
        yield from symbols(source)
        yield from loops(source)
        yield from modules(templates, source)
        yield from versions(source)
    yield from reached(templates)
    for source in templates.parameter_files:
        yield from parameter_file(templates, source)
    yield from cloud_init(templates)


def described(source: Source) -> Iterator[Problem]:
    seen: dict[str, Declaration] = {}
    for item in source.declarations:
        key = item.name if item.kind != "output" else f"output {item.name}"
        if key in seen:
            yield Problem(source.path, item.line, f"`{item.name}` is declared twice", f"the first is on line {seen[key].line}; rename one")
        seen[key] = item
        if item.kind in ("param", "output") and not item.description:
            yield Problem(source.path, item.line, f"{item.kind} `{item.name}` has no @description", "say in one sentence what it is for")
        if item.kind == "param" and not item.target:
            yield Problem(source.path, item.line, f"param `{item.name}` has no type", "write `param name type`")
        if item.kind == "param" and item.allowed and item.value is not None and literal(item.value) not in item.allowed:
            yield Problem(source.path, item.line, f"the default of `{item.name}` is not among its @allowed values", "choose one of them")


def references(source: Source) -> Iterator[tuple]:
    """Every identifier that stands for a symbol, with the local names in force there."""

    def visit(node, locals: frozenset[str]):
        kind = node.type
        if kind == "identifier":
            yield node, locals
            return
        children = node.named_children
        if kind in ("parameter_declaration", "variable_declaration", "resource_declaration", "module_declaration", "output_declaration"):
            children = children[1:]
        elif kind == "type":
            return
        elif kind == "decorator":
            children = children[0].named_children[1:]
        elif kind == "object_property":
            children = children if children[0].type == "string" else children[1:]
        elif kind == "call_expression":
            callee = children[0]
            if callee.type == "identifier":
                yield callee, frozenset({"()"})
                children = children[1:]
        elif kind == "for_statement":
            if children[0].type == "for_loop_parameters":
                names = {text(child) for child in children[0].named_children}
            else:
                names = {text(children[0])}
            children, locals = children[1:], locals | names
        elif kind == "lambda_expression":
            names = {text(child) for child in walk(children[0]) if child.type == "identifier"}
            children, locals = children[1:], locals | names
        for child in children:
            yield from visit(child, locals)

    yield from visit(source.root, frozenset())


def symbols(source: Source) -> Iterator[Problem]:
    declared = {item.name: item for item in source.declarations if item.kind != "output"}
    used = set()
    for node, locals in references(source):
        name = text(node)
        if locals == {"()"}:
            if name not in FUNCTIONS:
                yield Problem(source.path, line(node), f"`{name}` is no function that is known here", "mend the name, or add it to FUNCTIONS in bicep/checker/rules.py")
        elif name in locals:
            continue
        elif name in declared:
            used.add(name)
        else:
            yield Problem(source.path, line(node), f"`{name}` is not declared in this file", "declare it or mend the name")
    for item in declared.values():
        if item.kind in ("param", "var") and item.name not in used:
            yield Problem(source.path, item.line, f"{item.kind} `{item.name}` is used nowhere", "use it or delete it")


def loops(source: Source) -> Iterator[Problem]:
    for node in walk(source.root):
        if node.type != "for_statement":
            continue
        above = node.parent
        while above is not None and above.type in ("object_property", "object", "array"):
            above = above.parent
        if above is not None and above.type in ("arguments", "ternary_expression", "interpolation", "binary_expression"):
            yield Problem(source.path, line(node), "a for-expression cannot stand inside another expression", "give it a variable of its own, or use map()")


def versions(source: Source) -> Iterator[Problem]:
    for resource in source.of("resource").values():
        kind, _, version = resource.target.partition("@")
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version):
            yield Problem(source.path, resource.line, f"`{kind}` has the API version `{version}`", "take a stable one: no preview, and never none")


def modules(templates: Templates, source: Source) -> Iterator[Problem]:
    children = {}
    for name, module in source.of("module").items():
        child = templates.module(source, module)
        if child is None:
            yield Problem(source.path, module.line, f"module `{name}` is in `{module.target}`, which does not exist", "mend the path; it begins at the folder of this file")
            continue
        children[name] = child
        properties = source.properties(module.body)
        if "name" not in properties:
            yield Problem(source.path, module.line, f"module `{name}` has no name", "give it one, so that it can be found among the deployments")
        given = source.properties(properties["params"][1]) if "params" in properties else {}
        wanted = child.of("param")
        for key, (node, value) in given.items():
            if key not in wanted:
                yield Problem(source.path, line(node), f"module `{name}` has no parameter `{key}`", f"it has {', '.join(sorted(wanted))}")
            else:
                yield from fits(source, wanted[key], value)
        for key, param in wanted.items():
            if param.value is None and key not in given:
                yield Problem(source.path, module.line, f"module `{name}` is not given `{key}`", f"add `{key}: …`: {param.description}")
    for node in walk(source.root):
        if node.type != "member_expression" or node.named_child_count < 2 or text(node.named_children[-1]) == "outputs":
            continue
        inner = node.named_children[0]
        if inner.type != "member_expression" or text(inner.named_children[-1]) != "outputs":
            continue
        name, output = text(inner.named_children[0]), text(node.named_children[-1])
        if name not in children:
            continue
        if output not in children[name].of("output"):
            yield Problem(source.path, line(node), f"module `{name}` has no output `{output}`", f"it has {', '.join(sorted(children[name].of('output')))}")
        if source.of("module")[name].condition is not None and "!" not in text(inner) and "?" not in text(inner):
            yield Problem(source.path, line(node), f"module `{name}` may not be there", f"write `{name}!.outputs.{output}` under the same condition")


def fits(source: Source, param: Declaration, value) -> Iterator[Problem]:
    """Whether what is written down can be the value of a parameter."""
    for outcome in source.outcomes(value):
        kind = LITERAL_TYPES.get(outcome.type)
        wanted = "array" if param.target.endswith("[]") else param.target
        if kind and kind != wanted:
            yield Problem(source.path, line(outcome), f"`{param.name}` is of type {param.target} and is given `{text(outcome)[:40]}`", f"write a value of type {param.target}")
            continue
        found = literal(outcome)
        if found is None:
            continue
        if param.allowed and found not in param.allowed:
            yield Problem(source.path, line(outcome), f"`{param.name}` cannot be `{found}`", f"it is one of {', '.join(map(str, param.allowed))}")
        size = len(found) if isinstance(found, str) else found
        for least, most in (("minLength", "maxLength"), ("minValue", "maxValue")):
            low, high = (literal(param.decorators[name][0]) if name in param.decorators else None for name in (least, most))
            if (low is not None and size < low) or (high is not None and size > high):
                yield Problem(source.path, line(outcome), f"`{param.name}` is out of bounds with `{found}`", f"{least} {low}, {most} {high}")


def reached(templates: Templates) -> Iterator[Problem]:
    if "main.bicep" not in templates.sources:
        yield Problem("bicep/main.bicep", 1, "there is no main.bicep", "it is what is deployed; everything begins there")
        return
    found, waiting = set(), [templates.main]
    while waiting:
        source = waiting.pop()
        if source.path in found:
            continue
        found.add(source.path)
        for module in source.of("module").values():
            child = templates.module(source, module)
            if child is not None:
                waiting.append(child)
    for source in templates.bicep:
        if source.path not in found:
            yield Problem(source.path, 1, "main.bicep does not lead to this module", "call it or delete it")


def parameter_file(templates: Templates, source: Source) -> Iterator[Problem]:
    if source.using is None or templates.sources.get(source.using) is not templates.main:
        yield Problem(source.path, 1, "the file is not for main.bicep", "begin it with: using 'main.bicep'")
        return
    given, wanted = source.of("var"), templates.main.of("param")
    for name, item in given.items():
        if name not in wanted:
            yield Problem(source.path, item.line, f"main.bicep has no parameter `{name}`", "mend the name or delete the line")
            continue
        yield from fits(source, wanted[name], item.value)
        if "secure" in wanted[name].decorators and literal(item.value):
            yield Problem(source.path, item.line, f"the secret `{name}` is written down", "take it from readEnvironmentVariable()")
    for name, param in wanted.items():
        if param.value is None and name not in given:
            yield Problem(source.path, 1, f"`{name}` is not set", f"add `param {name} = …`: {param.description}")
    for node, _ in references(source):
        name = text(node)
        if name not in FUNCTIONS and name not in given:
            yield Problem(source.path, line(node), f"`{name}` is not known", "mend the name")


def cloud_init(templates: Templates) -> Iterator[Problem]:
    """The document is there, and every placeholder of it has a value and the other way round."""
    for source in templates.bicep:
        for call in walk(source.root):
            if call.type != "call_expression" or text(call.named_children[0]) != "loadTextContent":
                continue
            path = str(literal(call.named_children[1].named_children[0]))
            file = source.file.parent / path
            if not file.is_file():
                yield Problem(source.path, line(call), f"`{path}` does not exist", "it is part of the deployment: put the file there")
                continue
            values = next((node for node in walk(call.parent) if node.type == "object"), None)
            given = source.properties(values)
            wanted = set(PLACEHOLDER.findall(file.read_text(encoding="utf-8")))
            for name in sorted(wanted - set(given)):
                yield Problem(source.path, line(call), f"`@@{name}@@` of `{path}` has no value", f"add `{name}: …` beside the call")
            for name in sorted(set(given) - wanted):
                yield Problem(source.path, line(given[name][0]), f"`{path}` has no placeholder `@@{name}@@`", "use it there or delete the value here")
