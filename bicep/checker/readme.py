"""The table of parameters in README.md, made from main.bicep and compared with it."""

from __future__ import annotations

from collections.abc import Iterator

from .problem import Problem
from .syntax import Declaration, Templates, text

BEGIN, END = "<!-- parameters: made by check.py --write-readme -->\n", "<!-- end of parameters -->"


def row(param: Declaration) -> str:
    default = "required" if param.value is None else f"`{' '.join(text(param.value).split())}`"
    values = ", ".join(f"`{value}`" for value in param.allowed)
    return f"| `{param.name}` | {default} | {param.description}{' One of ' + values + '.' if values else ''} |"


def table(templates: Templates) -> str:
    rows = [row(param) for param in templates.main.of("param").values()]
    return "\n".join(["| Parameter | Default | What it says |", "|---|---|---|", *rows, ""])


def check(templates: Templates) -> Iterator[Problem]:
    file = templates.folder / "README.md"
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    if BEGIN not in content or END not in content:
        yield Problem("bicep/README.md", 1, "the table of parameters is not there", f"put the lines `{BEGIN.strip()}` and `{END}` where it belongs")
    elif content.partition(BEGIN)[2].partition(END)[0] != table(templates):
        number = content.partition(BEGIN)[0].count("\n") + 1
        yield Problem("bicep/README.md", number, "the table of parameters is not that of main.bicep", "write it anew: python3 bicep/check.py --write-readme")


def write(templates: Templates) -> None:
    file = templates.folder / "README.md"
    content = file.read_text(encoding="utf-8")
    before, _, rest = content.partition(BEGIN)
    after = rest.partition(END)[2]
    file.write_text(f"{before}{BEGIN}{table(templates)}{END}{after}", encoding="utf-8")
