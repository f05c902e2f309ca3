"""No code out of data: nothing in the package unpickles, evaluates or runs a shell where it is not shown safe."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("grasp_nodes", "launch", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
ALLOWED = {
    (
        "grasp_nodes/plain_pickle.py",
        "pickle.Unpickler",
    ): "stands for every name with a class of its own: test_plain_pickle",
    ("grasp_nodes/embedded/parameters.py", "yaml.load"): "with a loader derived from SafeLoader",
    (
        "grasp_nodes/evaluation/inception.py",
        "torch.jit.load",
    ): "a file that the user names, of a network that he exported",
    ("grasp_nodes/embedded/launch_files.py", "exec"): "launch files are programs that the user starts",
}
FORBIDDEN = (
    *("eval", "exec", "compile", "__import__"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "joblib.load", "marshal.loads", "shelve.open"),
    *("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.jit.load", "cloudpickle.loads"),
)


def name_of(node):
    """Dotted name of what is called or derived from, '' where it has none."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def keyword(call, name):
    return next(
        (one.value.value for one in call.keywords if one.arg == name and isinstance(one.value, ast.Constant)), None
    )


def faults(path, text):
    where = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    found = []
    for node in ast.walk(ast.parse(text)):
        names = [name_of(node.func)] if isinstance(node, ast.Call) else []
        names += [name_of(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
        bad = [name for name in names if name in FORBIDDEN and (where, name) not in ALLOWED]
        found += [f"{where}:{node.lineno}: {name}" for name in bad]
        if not isinstance(node, ast.Call):
            continue
        name = names[0]
        if name in ("np.load", "numpy.load", "np.lib.format.read_array") and keyword(node, "allow_pickle") is not False:
            found.append(f"{where}:{node.lineno}: {name} without allow_pickle=False")
        if name == "torch.load" and keyword(node, "weights_only") is not True:
            found.append(f"{where}:{node.lineno}: torch.load without weights_only=True")
        if name.startswith("subprocess.") and keyword(node, "shell"):
            found.append(f"{where}:{node.lineno}: a shell")
    return found


def test_nothing_runs_what_a_file_says():
    assert len(FILES) > 300
    assert [fault for path in FILES for fault in faults(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "pickle.load(stream)",
        "class U(pickle.Unpickler): pass",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run('ls', shell=True)",
        "yaml.load(text)",
    ],
)
def test_the_look_sees(line, tmp_path):
    assert len(faults(tmp_path / "x.py", f"import pickle\n{line}\n")) == 1
