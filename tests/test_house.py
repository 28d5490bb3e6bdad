"""The house rules that a machine can check: light imports, short files, no prints, everything packed."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import lexivox

ROOT = Path(lexivox.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 350
FORBIDDEN = {"torchvision", "timm", "mmcv", "mmdet", "mmdet3d", "mmengine", "pickle5", "dill", "cloudpickle"}
LEAF_ONLY = {"transformers", "numba", "triton", "PIL", "huggingface_hub", "sklearn", "accelerate"}
"""Heavy third parties: only inside functions, or in a module that is itself imported inside one."""

LEAVES = {
    f"ops/kernels/{name}.py"
    for name in (
        "composite_numba",
        "deformable_numba",
        "deformable_triton",
        "distortion_numba",
        "first_hit_numba",
        "overlap_numba",
        "render_numba",
        "render_triton",
        "traversal_numba",
        "voxel_pool_numba",
        "walk_numba",
    )
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: list[ast.stmt]) -> set[str]:
    """Names of the packages that statements import; not those only for type checkers."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Try):
            found |= imported([*node.body, *node.orelse])
    return found


def in_a_new_python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_importing_the_package_loads_nothing_heavy():
    code = "import lexivox, sys, json; dir(lexivox); print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(in_a_new_python(code)))
    assert not loaded & {"torch", "numpy", "transformers", "torchvision", "pydantic", "numba", "triton", "PIL", "rich"}


def test_public_names_are_what_is_promised():
    promised = ["Prediction", "VoxelGrid", "__version__", "load", "open_dataset", "recipes", "vocabulary"]
    assert sorted(lexivox.__all__) == promised == dir(lexivox)
    assert all(getattr(lexivox, name) is not None for name in promised)
    with pytest.raises(AttributeError, match="module 'lexivox' has no attribute 'predict'"):
        lexivox.predict  # noqa: B018


def test_the_version_is_stated_once():
    from importlib.metadata import version

    assert lexivox.__version__ == version("lexivox")


def test_recipes_name_what_they_offer():
    recipes = importlib.import_module("lexivox.recipes")
    assert all(callable(recipe) for recipe in recipes.RECIPES.values())
    assert {recipe.__name__ for recipe in recipes.RECIPES.values()} <= set(recipes.__all__)


def test_every_module_imports_and_says_what_it_is():
    names = [module.name for module in pkgutil.walk_packages(lexivox.__path__, "lexivox.")]
    assert len(names) > 80
    for name in names:
        module = importlib.import_module(name)
        assert hasattr(module, "__path__") or module.__doc__, f"{name} has no docstring"


def test_every_folder_with_code_is_a_package():
    assert [relative(path.parent) for path in SOURCES if not (path.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_is_short_and_imports_what_it_may(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= MAX_LINES
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.stmt)]
    assert not imported(nodes) & FORBIDDEN
    if relative(path) not in LEAVES:
        assert not imported(tree(path).body) & LEAF_ONLY


def test_only_the_command_line_prints():
    for path in SOURCES:
        calls = [
            node.lineno
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        ]
        assert relative(path) == "commands/shared.py" or not calls, f"{relative(path)} prints in lines {calls}"


def keyword(call: ast.Call, name: str) -> object:
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def test_reading_runs_no_code():
    """torch.load says weights_only, np.load forbids pickles, yaml is safe; nothing is evaluated."""
    for path in SOURCES:
        for call in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)):
            called, where = ast.unparse(call.func), f"{relative(path)}:{call.lineno}"
            if called == "torch.load":
                assert keyword(call, "weights_only") is True, where
            if called in ("np.load", "numpy.load"):
                assert keyword(call, "allow_pickle") is False, where
            assert called not in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "os.system"), where


NUMBERED = {"data/classes.py", "data/benchmark_classes.py"}
"""The two pages of class numbers."""

OF_CLASSES = re.compile(r"(?<!num_)label|semantic|(?<!num_)class(?!es)", re.I)


def class_numbers(path: Path) -> list[str]:
    """Where a number that can only be a class is written: compared, stored, or given as the free one.

    0 and 255 mean "nothing" and "not known" everywhere.
    """

    def number(node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and type(node.value) is int and node.value not in (0, 255)

    def of_classes(node: ast.expr) -> bool:
        named = isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
        return named and OF_CLASSES.search(ast.unparse(node).split(".shape")[0].split("[")[0]) is not None

    found: list[ast.AST] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            text = ast.unparse(node)
            if any(map(number, sides)) and any(map(of_classes, sides)) and "ndim" not in text and "shape" not in text:
                found.append(node)
        elif isinstance(node, ast.Assign) and number(node.value):
            names = [t for t in node.targets if isinstance(t, ast.Subscript) or ast.unparse(t).isupper()]
            found += [node] if any(of_classes(name) for name in names) else []
        elif isinstance(node, ast.keyword) and node.arg in ("free", "free_label", "ignore", "free_class"):
            found += [node.value] if number(node.value) else []
    return [f"{relative(path)}:{node.lineno}: {ast.unparse(node)}" for node in found]  # type: ignore[attr-defined]


def test_class_numbers_stand_on_two_pages():
    found = [line for path in SOURCES if relative(path) not in NUMBERED for line in class_numbers(path)]
    assert found == []


def test_a_class_number_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "x.py"
    path.write_text("FREE_LABEL = 17\nlabel[a] = 4\nkept = semantic != 17\nf(free_label=17)\nif label == 0: pass\n")
    assert [line.split(":")[1] for line in class_numbers(path)] == ["1", "2", "3", "4"]


def test_no_path_of_one_machine():
    for path in [*SOURCES, *(p for p in ROOT.rglob("*") if p.suffix in (".js", ".css", ".html", ".json"))]:
        text = path.read_text(encoding="utf-8")
        found = re.search(r"""["'`]/(?!usr/|dev/|tmp/)[a-z]+/[a-z]""", text)
        assert found is None, f"{relative(path)}: {found}"
        assert "../" not in text, relative(path)


@pytest.mark.parametrize(
    "resource",
    ["teachers/weights/street.json", "teachers/weights/street.safetensors"]
    + [relative(path) for path in sorted(ROOT.rglob("*")) if path.suffix in (".js", ".css", ".html")],
)
def test_data_files_are_found_through_the_package(resource):
    found = files("lexivox").joinpath(*resource.split("/"))
    assert found.is_file()
    assert len(found.read_bytes()) > 100


def test_the_viewer_has_its_assets():
    from lexivox.view.html import page

    assert len(page("title", {"live": True})) > 10_000


def test_no_option_is_read_from_the_network():
    """Pages are whole: nothing is fetched from elsewhere when one is opened."""
    for path in ROOT.rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
            assert "http://" not in text, relative(path)
            assert "https://" not in text, relative(path)


def test_names_of_test_files_differ():
    """Without packages pytest knows a test file by its name alone, and stops where two have the same."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
