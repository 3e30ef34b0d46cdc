"""The development script.

    python nbs/make.py export             clean the notebooks, write trustlab/, its data and README.md from them
    python nbs/make.py readme             write README.md from nbs/index.ipynb
    python nbs/make.py test               run the notebooks of the library, each in a process of its own
    python nbs/make.py run NOTEBOOK...    run notebooks in a kernel and store what they show
    python nbs/make.py lock               write constraints.txt from a fresh environment
"""
import argparse
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

root = Path(__file__).resolve().parent.parent
COPIES = {"nbs/reports/*.ipynb": "trustlab/_data/reports", "nbs/signals/*": "trustlab/_data/signals", "nbs/mappings/*.toml": "trustlab/_data/mappings", "data/town/*": "trustlab/_data/town"}


def tool(name, *args):
    "Run a command of this environment at the project's root"
    subprocess.run([Path(sys.executable).parent / name, *args], cwd=root, check=True)


def copy(pattern, folder):
    "Make `folder` hold the files that match `pattern`, byte for byte, and nothing else"
    shutil.rmtree(root / folder, ignore_errors=True)
    (root / folder).mkdir(parents=True)
    for path in sorted(root.glob(pattern)): shutil.copyfile(path, root / folder / path.name)


def export():
    "Everything that is made from notebooks: modules, package data, README"
    tool("nbdev-clean")
    tool("nbdev-export")
    for pattern, folder in COPIES.items(): copy(pattern, folder)
    readme()


def relink(text):
    "Links that start at nbs/ rewritten to start at the project's root"
    def start(match): return f"]({posixpath.normpath(posixpath.join('nbs', match[1]))})"
    return re.sub(r"\]\((?![a-z]+:|#|/)([^)\s]+)\)", start, text)


def shown(output):
    "What a cell printed or showed, as text"
    if output["output_type"] == "stream": return "".join(output["text"]) if output["name"] == "stdout" else ""
    return "".join(output.get("data", {}).get("text/plain", ""))


def blocks(cell):
    "A notebook cell as Markdown: prose as it is, code and what it shows in fences, hidden cells as nothing"
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown": return [relink(source)]
    if cell["cell_type"] != "code" or re.search(r"^#\|\s*hide\b", source, re.M): return []
    code = re.sub(r"^#\|.*\n?", "", source, flags=re.M).strip()
    results = [text for text in (shown(o).strip("\n") for o in cell["outputs"]) if text]
    return [f"```python\n{code}\n```" if code else "", *(f"```\n{text}\n```" for text in results)]


def readme_text():
    "README.md as nbs/index.ipynb says it"
    notebook = json.loads((root / "nbs/index.ipynb").read_text(encoding="utf-8"))
    return "\n\n".join(block for cell in notebook["cells"] for block in blocks(cell) if block) + "\n"


def readme(): (root / "README.md").write_text(readme_text(), encoding="utf-8")


def execute(path):
    "The notebook at `path`, run in a kernel in its own folder, with neither counts nor times in what it stores"
    import nbformat
    from nbclient import NotebookClient
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(Path(path).parent)}}).execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code": cell.execution_count = None
        for output in cell.get("outputs", []):
            if output.output_type == "execute_result": output.execution_count = None
    return notebook


def run(paths):
    import nbformat
    for path in paths:
        nbformat.write(execute(path), path)
        print(path)


def tested(path):
    "Run one notebook by nbdev-test; a page attaches its own methods to shared classes, so no two share a process"
    env = os.environ | {"PLOTLY_RENDERER": "plotly_mimetype"}
    done = subprocess.run([Path(sys.executable).parent / "nbdev-test", "--n-workers", "0", path.name], cwd=path.parent, env=env, capture_output=True, text=True)
    return path, done.returncode, done.stdout + done.stderr


def test():
    "The notebooks that make modules, and index; tutorials and reports run in kernels under pytest"
    paths = sorted([*(root / "nbs").glob("*.ipynb"), *(root / "nbs/sources").glob("*.ipynb")])
    with ThreadPoolExecutor(os.cpu_count()) as pool: done = list(pool.map(tested, paths))
    for _, code, said in done:
        if code: print(said)
    failed = [path.name for path, code, _ in done if code]
    print(f"{len(done) - len(failed)} notebooks passed{', failed: ' + ', '.join(failed) if failed else ''}")
    sys.exit(bool(failed))


def needs_newer(folder):
    "Requirements for something older in the place of each installed version that does not take the oldest Python of settings.ini, its first release"
    oldest = f"{re.search(r'^min_python *= *(.+)$', (root / 'settings.ini').read_text(encoding='utf-8'), re.M)[1]}.0"
    found = distributions(path=[str(path) for path in Path(folder).rglob("site-packages")])
    return [f"{d.name}<{d.version}" for d in found if not SpecifierSet(d.metadata["Requires-Python"] or "").contains(oldest)]


def lock():
    "Exact versions of all that the package and its extras need, as a fresh environment resolves them for any Python that the package takes"
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [next(path for path in Path(folder).glob("*/python*") if path.is_file()), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "-e", f"{root}[lab,dev]"], check=True)
        while late := needs_newer(folder): subprocess.run([*pip, "install", "--quiet", *late], check=True)
        subprocess.run([*pip, "check"], check=True)
        frozen = subprocess.run([*pip, "freeze", "--all", "--exclude-editable", "--exclude", "pip"], check=True, capture_output=True, text=True)
    (root / "constraints.txt").write_text("# made by `make lock`\n" + frozen.stdout, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["export", "readme", "test", "run", "lock"])
    parser.add_argument("notebook", nargs="*")
    args = parser.parse_args()
    if args.task == "run": run(args.notebook)
    else: {"export": export, "readme": readme, "test": test, "lock": lock}[args.task]()


if __name__ == "__main__": main()
