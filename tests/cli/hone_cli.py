"""What the command-line tests share: running a tool as a user would, tiny models, a little text, and damaged files."""

import atexit
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ.get("HONE_BIN", os.path.join(os.path.dirname(__file__), "..", "..", "build", "bin"))
ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

# What a tool says to OpenMP for itself (lib/cli/brief_spin.h), for those whose environment leaves it no place to.
# test_streams.py looks at a tool without it, and test_pipeline.py's tools have none.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# The sizes of tiny_model(); an option of the same name replaces one.
TINY = {"layers": 2, "dim": 32, "heads": 2, "ffn": 64, "context": 32}


def tool(name):
    """The path of an executable."""
    return os.path.join(BIN, name)


def tools():
    """The names of all tools that were built, without `hone`, the command in front of them."""
    return sorted(f for f in os.listdir(BIN) if os.access(tool(f), os.X_OK) and not f.startswith(("test_", "hone")))


def run(name, *args, stdin=None, env=None, check=False, text=True, timeout=120, cwd=None):
    """Runs a tool to its end. `stdin` is text (bytes with text=False), or None for an empty standard input; `env` adds variables;
    with `check`, any exit status but 0 fails the test with what the tool said."""
    environment = dict(os.environ, **{k: str(v) for k, v in (env or {}).items()})
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run([tool(name), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                          text=text, timeout=timeout, cwd=cwd, **source)
    if check and done.returncode != 0:
        raise AssertionError(f"{name} {' '.join(map(str, args))}: status {done.returncode}\n{done.stderr}")
    return done


def run_json(name, *args, **options):
    """The JSON that a tool prints with --format json; any exit status but 0 fails the test."""
    return json.loads(run(name, *args, "--format", "json", check=True, **options).stdout)


@functools.cache
def help_of(name, columns=""):
    """What --help of a tool says, `columns` wide where a width is given; asked once."""
    return run(name, "--help", env={"COLUMNS": columns}, check=True).stdout


def element_names():
    """The elements that quantize --help names."""
    options = help_of("quantize")
    return [name for name in re.search(r"--type (\S+)=", options).group(1).split("|") if name != "keep"]


def sentences(count=400, first=0):
    """Text that is easy to predict in part: English-like, ASCII, the same at every call."""
    subjects = ["the river", "a small bird", "the old king", "our neighbour", "the north wind", "a child"]
    verbs = ["follows", "remembers", "carries", "leaves", "finds", "sings to"]
    objects = ["the stone bridge", "a silver coin", "the evening light", "the long road", "a quiet house"]
    lines = []
    for i in range(first, first + count):
        k = i * i + 7 * i
        lines.append(f"{subjects[k % 6]} {verbs[(k // 3 + i) % 6]} {objects[(k // 5 + 2 * i) % 5]}.")
    return "\n".join(lines) + "\n"


def write(path, data):
    """Writes text or bytes and returns the path."""
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def corpus(directory, name="corpus.txt", count=400, first=0):
    """A small text file: about 14 kB."""
    return write(os.path.join(directory, name), sentences(count, first))


def tiny_model(directory, name="tiny.h5", **options):
    """Writes a model with `train` and returns its path. Options are train's, with _ for -; `steps` is 0 (initialized, not
    trained) unless given. Replaces sizes of TINY; True gives a flag, a list repeats its option. What is made of numbers alone is
    made once, and copied: its lineage then tells of the first."""
    path = os.path.join(directory, name)
    arguments = []
    for key, value in {"steps": 0, **({} if "init" in options else TINY), **options}.items():
        flag = "--" + key.replace("_", "-")
        for item in value if isinstance(value, (list, tuple)) else [value]:
            arguments += [flag] if item is True else [flag, str(item)]
    if options.get("steps", 0) == 0 and not any(os.sep in argument for argument in arguments):
        return shutil.copyfile(initialized(tuple(arguments)), path)
    run("train", *arguments, "--output", path, "--quiet", check=True)
    return path


@functools.cache
def initialized(arguments):
    """A new model of these options of train's, in a folder that goes with this process."""
    folder = tempfile.mkdtemp(prefix="hone-models-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "new.h5")
    run("train", *arguments, "--output", path, "--quiet", check=True)
    return path


class CliTest(unittest.TestCase):
    """A test with a directory of its own, `self.directory`, that is gone afterwards."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="hone-test-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def assert_error(self, done, status, *parts):
        """`done` failed with this status and one `error:` line that has all `parts`, and without a stack trace."""
        self.assertEqual(done.returncode, status, done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        self.assertEqual(len(errors), 1, done.stderr)
        for part in parts:
            self.assertIn(part, errors[0])
        for trace in ("terminate called", "what():", "HDF5-DIAG", "Traceback"):
            self.assertNotIn(trace, done.stderr)


def damaged_files(directory, model):
    """Files that are no usable models, by what is wrong with them; `model` is a whole one. A path that does not exist is
    among them."""
    with open(model, "rb") as file:
        whole = file.read()
    middle = len(whole) // 2
    files = {
        "missing": os.path.join(directory, "missing.h5"),
        "empty": write(os.path.join(directory, "empty.h5"), b""),
        "truncated": write(os.path.join(directory, "truncated.h5"), whole[: len(whole) * 2 // 3]),
        "bits flipped": write(os.path.join(directory, "flipped.h5"),
                              whole[:middle] + bytes(b ^ 0x55 for b in whole[middle : middle + 64]) + whole[middle + 64 :]),
        "text": write(os.path.join(directory, "text.h5"), sentences(20)),
        "directory": directory,
    }
    try:
        import h5py
    except ImportError:
        return files
    other = os.path.join(directory, "other.h5")
    with h5py.File(other, "w") as file:
        file.attrs["format"] = "somebody-elses"
        file["weights"] = list(range(10))
    files["another format"] = other
    newer = os.path.join(directory, "newer.h5")
    shutil.copyfile(model, newer)
    with h5py.File(newer, "r+") as file:
        file.attrs.modify("format_version", 99)
    files["newer format"] = newer
    return files
