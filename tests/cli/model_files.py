"""Reading model files without the tools, by h5py alone, and what the tests of the tools that write them share."""

import ctypes
import ctypes.util
import functools
import hashlib
import json
import os
import shutil
import tempfile

import h5py
import numpy as np

from hone_cli import CliTest, corpus, tiny_model

# On machines that do other work beside, threads that wait for each other cost more than models this small gain by them.
os.environ["HONE_THREADS"] = "1"

# Sizes that train in well under a second.
QUICK = ["--layers", 2, "--dim", 64, "--heads", 2, "--context", 32, "--batch", 4]
LINEAR = ["attention.qkv.weight", "attention.output.weight", "feed_forward.gate_up.weight", "feed_forward.down.weight"]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def read_text(path):
    with open(path) as file:
        return file.read()


def log_lines(path):
    """The objects of a JSONL file."""
    return [json.loads(line) for line in read_text(path).splitlines()]


@functools.cache
def xxhash():
    """The library, which is looked for by starting another process."""
    library = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library


def xxh3(data):
    """The checksum of docs/format.md, by the library that the tools link too."""
    return f"{xxhash().XXH3_64bits(data, len(data)):016x}"


def text_of(path, dataset):
    """The JSON of a dataset such as "config", or None where there is none."""
    with h5py.File(path) as file:
        return json.loads(file[dataset][()]) if dataset in file else None


def put_text(path, name, text):
    """Replaces a text dataset, with the right checksum."""
    data = text.encode() if isinstance(text, str) else text
    with h5py.File(path, "r+") as file:
        del file[name]
        dataset = file.create_dataset(name, data=np.bytes_(data))
        dataset.attrs["checksum"] = np.bytes_(xxh3(data))


def lineage(path):
    return text_of(path, "lineage")


class Stored:
    """A parameter as it lies in the file: attributes and arrays by name."""

    def __init__(self, group):
        self.form, self.element = (bytes(group.attrs[name]).decode() for name in ("form", "element"))
        self.shape = tuple(int(n) for n in group.attrs["shape"])
        self.arrays = {name: item[()] for name, item in group.items()}

    @property
    def values(self):
        return self.arrays["values"]

    def kept(self):
        """The mask as booleans [rows, cols], True where the weight is kept, or None; of forms that store it by rows."""
        bits = self.arrays.get("mask") if self.form != "bitmask" else None
        if bits is None:
            return None
        return np.unpackbits(bits, axis=1, bitorder="little")[:, : self.shape[1]].astype(bool)


def parameters(path):
    """All parameters by their names."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Group) and "form" in item.attrs:
            found[name.replace("/", ".")] = Stored(item)

    with h5py.File(path) as file:
        file["parameters"].visititems(visit)
    return found


def fewest(sparsity, size):
    """The fewest of `size` weights that are at least that part of them: what a sparsity asked for prunes."""
    return next(n for n in range(int(sparsity * size), size + 1) if n / size >= sparsity)


def zeros(stored):
    return int(np.count_nonzero(stored.values == 0))


class ModelTest(CliTest):
    """Tests with a text and, where a class asks for one, a model that all of them share."""

    train = None  # options of the shared model, as of tiny_model()

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="hone-shared-")
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        cls.corpus = corpus(cls.shared)
        if cls.train is not None:
            cls.model = tiny_model(cls.shared, "dense.h5", **cls.train)

    def assert_refused(self, done, status, *parts):
        """As assert_error, and nothing went to stdout and nothing half-written was left behind."""
        self.assert_error(done, status, *parts)
        self.assertEqual(done.stdout, "")
        self.assert_no_leftovers()

    def assert_no_leftovers(self):
        self.assertEqual([name for name in os.listdir(self.directory) if ".tmp" in name], [])

    def assert_same_parameters(self, first, second):
        a, b = parameters(first), parameters(second)
        self.assertEqual(a.keys(), b.keys())
        for name in a:
            self.assertEqual(a[name].arrays.keys(), b[name].arrays.keys())
            for array in a[name].arrays:
                self.assertEqual(a[name].arrays[array].tobytes(), b[name].arrays[array].tobytes(), f"{name} {array}")

    def assert_different_parameters(self, first, second):
        a, b = parameters(first), parameters(second)
        self.assertTrue(any(a[name].values.tobytes() != b[name].values.tobytes() for name in a))
