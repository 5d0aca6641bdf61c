"""Who may import whom, and what `import inflate3d` may cost.

`LAYERS` is the truth; `python tests/test_layers.py` writes it into CONTRIBUTING.md.
"""

import ast
import subprocess
import sys
from pathlib import Path

import inflate3d

ROOT = Path(inflate3d.__file__).parent
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
BEGIN, END = "<!-- layers: written by tests/test_layers.py -->", "<!-- end of layers -->"

LAYERS = [
    ["__main__", "cli"],
    ["server"],
    ["annotation", "comparison", "report", "viewer"],
    ["training", "inference", "export"],
    ["evaluation", "windows", "models", "presets"],
    ["provenance"],
    ["preparation"],
    ["datasets"],
    ["io"],
    ["volume", "resampling", "run_folder"],
    ["grid", "orientation", "units"],
    ["config", "environment"],
    ["settings", "named_encoders"],
    ["atomic", "documents", "distributed", "lock"],
    ["errors", "progress", "resources", "stopping", "version"],
]
"""A module imports those below it, and its neighbors where that makes no circle."""

HEAVY = {"torch", "timm", "monai", "pytorch_lightning", "matplotlib", "SimpleITK"}


def described():
    """The layers as CONTRIBUTING.md shows them."""
    lines = [" · ".join(name for name in layer if name != "__main__") for layer in LAYERS]
    return "\n".join([BEGIN, "", *(f"    {line}" for line in lines), "", END])


def level_of(room):
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path, *, at_start_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_start_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            assert node.module is not None
            yield from (_resolve(node.module, name.name) for name in node.names)


def _resolve(module, name):
    """`from package import module` imports the module, `from module import name` the module it is from."""
    inside = ROOT.parent.joinpath(*module.split("."), name)
    return f"{module}.{name}" if inside.is_dir() or inside.with_suffix(".py").exists() else module


def test_every_module_has_its_layer_and_every_layer_its_modules():
    rooms = {room_of(name) for name, _ in modules()} - {""}
    assert rooms == {room for layer in LAYERS for room in layer}


def test_modules_import_downwards_only():
    wrong = []
    for name, path in modules():
        if not room_of(name):
            continue  # the public face names everything, lazily
        for imported in imports_of(path):
            if imported.startswith("inflate3d.") and level_of(room_of(imported)) < level_of(room_of(name)):
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_modules_import_in_no_circle_when_they_are_loaded():
    names = {name for name, _ in modules()}
    graph = {name: {i for i in imports_of(path, at_start_only=True) if i in names} for name, path in modules()}
    done: set[str] = set()

    def visit(name, way):
        assert name not in way, " > ".join([*way, name])
        if name in done:
            return
        for imported in sorted(graph[name]):
            if imported != "inflate3d":
                visit(imported, [*way, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])


def test_contributing_shows_the_layers():
    assert described() in CONTRIBUTING.read_text(encoding="utf-8"), "renew it by `python tests/test_layers.py`"


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, inflate3d; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert HEAVY & set(shown.split()) == set()


if __name__ == "__main__":
    text = CONTRIBUTING.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    CONTRIBUTING.write_text(before + described() + rest.partition(END)[2], encoding="utf-8")
