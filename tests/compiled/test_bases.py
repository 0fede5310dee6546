"""What is compiled can have no subclass that is not: mypyc makes classes that only its own may inherit from."""

import ast
from collections.abc import Iterator

from appliance.compiled import source
from appliance.compiled.__main__ import MODULES

ROOT = source("appliance.model").parent


def bases() -> Iterator[tuple[str, str, str]]:
    """Yield each class of ours that has a base in another module: its module, its name, the module of the base."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        module = ".".join(("appliance", *path.relative_to(ROOT).with_suffix("").parts))
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names = {alias.asname or alias.name: (node.module or "", alias.name) for node in froms for alias in node.names}
        for node in ast.walk(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                if isinstance(base, ast.Name) and base.id in names:
                    yield module, node.name, names[base.id][0]
                elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id in names:
                    yield module, node.name, ".".join(names[base.value.id])


def test_no_class_that_is_not_compiled_has_a_base_that_is() -> None:
    found = list(bases())
    assert ("appliance.session.rigid", "Rigid", "appliance.session.core") in found
    wrong = [(module, name) for module, name, base in found if base in MODULES and module not in MODULES]
    assert wrong == []
