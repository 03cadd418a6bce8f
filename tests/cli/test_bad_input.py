"""What is broken is refused by every tool: status 3 (2 for a wrong option), one line on stderr that says what and where, nothing
on stdout, and nothing half-written on disk."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import unittest

import h5py
import numpy as np

from hone_cli import damaged_files, run, sentences, tiny_model, tool, tools, write
from model_files import QUICK, ModelTest, put_text, read_text, sha256, text_of

MODEL, OUTPUT, TEXT = "<model>", "<output>", "<text>"

# How each tool takes a model file.
COMMANDS = [
    ["train", "--init", MODEL, "--steps", 0, "--output", OUTPUT],
    ["train", "--init", MODEL, "--data", TEXT, "--steps", 1, "--output", OUTPUT],
    ["train", "--resume", MODEL, "--data", TEXT, "--output", OUTPUT],
    ["train", "--tokenizer", MODEL, "--steps", 0, "--output", OUTPUT],
    ["prune", MODEL, "--sparsity", 0.5, "--output", OUTPUT],
    ["quantize", MODEL, "--output", OUTPUT],
    ["eval", MODEL, "--data", TEXT],
    ["generate", MODEL, "--prompt", "the", "--tokens", 2],
    ["inspect", MODEL],
    ["convert", MODEL, "--to", "safetensors", "--output", OUTPUT],
    ["convert", MODEL, "--to", "gguf", "--output", OUTPUT],
    ["bench", MODEL, "--prompt", 8, "--generate", 2, "--repeat", 1],
]


def present():
    return [command for command in COMMANDS if command[0] in tools()]


class BadInput(ModelTest):
    train = {"layers": 1, "untied": True}

    def run_on(self, command, model):
        replace = {MODEL: model, OUTPUT: self.path("output.h5"), TEXT: self.corpus}
        return run(command[0], *[replace.get(a, a) for a in command[1:]])

    def assert_model_refused(self, path, *parts, commands=None, status=3):
        before = sorted(os.listdir(self.directory))
        for command in commands or present():
            with self.subTest(command=" ".join(map(str, command))):
                self.assert_refused(self.run_on(command, path), status, *parts)
                self.assertEqual(sorted(os.listdir(self.directory)), before)

    def loads(self, path):
        return self.run_on(COMMANDS[0][:-2] + ["--dry-run", "--output", OUTPUT], path)

    def copy(self):
        return shutil.copyfile(self.model, self.path("copy.h5"))


class ModelFiles(BadInput):
    def test_every_kind_of_damage_in_every_tool(self):
        """Flipped bits in each command, which finds them where it reads; each other kind in every second command, and
        the next kind in the others."""
        self.assertTrue({"train", "prune", "quantize"} <= set(tools()))
        for turn, (kind, path) in enumerate(damaged_files(self.directory, self.model).items()):
            if kind == "newer format":
                continue  # test_newer_format
            with self.subTest(kind=kind):
                # Where only the tokenizer is read, damage to the parameters does not matter; what does not end in .h5 is no file there.
                commands = [c for c in (present() if kind == "bits flipped" else present()[turn % 2 :: 2])
                            if kind not in ("bits flipped", "truncated", "directory") or "--tokenizer" not in c]
                if kind == "directory":  # which convert takes for a model of others
                    commands = [c for c in commands if c[0] != "convert"]
                self.assert_model_refused(path, path, commands=commands)

    def test_several_models_one_is_broken(self):
        broken = write(self.path("broken.h5"), "no model")
        for command in (["eval", MODEL, broken, "--data", TEXT], ["eval", MODEL, "--data", TEXT, "--baseline", broken],
                        ["inspect", MODEL, broken], ["bench", MODEL, broken, "--prompt", 8, "--generate", 2, "--repeat", 1]):
            if command[0] in tools():
                with self.subTest(command=command[0]):
                    self.assert_refused(self.run_on(command, self.model), 3, broken)

    def test_newer_format(self):
        path = self.copy()
        with h5py.File(path, "r+") as file:
            file.attrs.modify("format_version", 99)
        self.assert_model_refused(path, path, "99", "newer")

    def test_cut_at_any_place(self):
        with open(self.model, "rb") as file:
            whole = file.read()
        chance = random.Random(3)
        for size in [1, 8, 100, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(4))]:
            with self.subTest(bytes=size):
                self.assert_refused(self.loads(write(self.path("cut.h5"), whole[:size])), 3, "cut.h5")

    def places(self):
        """A byte of every dataset: the first, one between or the last, in turn."""
        found = []

        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                offset, size = item.id.get_offset(), item.id.get_storage_size()
                if offset is not None and size:
                    found.append((name, offset + (0, size // 2, size - 1)[len(found) % 3]))

        with h5py.File(self.model) as file:
            file.visititems(visit)
        return found

    def test_one_bit_in_any_dataset(self):
        with open(self.model, "rb") as file:
            whole = bytearray(file.read())
        places = self.places()
        self.assertGreater(len({name for name, _ in places}), 8)
        for i, (name, at) in enumerate(places):
            with self.subTest(dataset=name, at=at):
                flipped = bytearray(whole)
                flipped[at] ^= 1 << i % 8
                self.assert_refused(self.loads(write(self.path("flipped.h5"), bytes(flipped))), 3, "flipped.h5")

    def test_bits_between_the_datasets_never_crash_a_tool(self):
        with open(self.model, "rb") as file:
            whole = file.read()
        chance = random.Random(5)
        refused = 0
        for _ in range(16):
            at, bit = chance.randrange(2048), chance.randrange(8)  # superblock, groups, attributes: HDF5's own structures
            with self.subTest(at=at, bit=bit):
                path = write(self.path("flipped.h5"), whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
                done = self.loads(path)
                if done.returncode:
                    refused += 1
                    self.assert_refused(done, 3, "flipped.h5")
        self.assertGreater(refused, 5)

    def test_checksums_are_what_the_format_says(self):
        path = self.copy()
        put_text(path, "config", json.dumps(text_of(path, "config")))
        done = self.loads(path)
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(path, "r+") as file:
            file["config"].attrs["checksum"] = np.bytes_("0" * 16)
        self.assert_refused(self.loads(path), 3, "config", "checksum")

    def test_impossible_configurations(self):
        """Some that reading finds (more in tests/lib/model/transformer_test.cpp), and those that the parameters tell."""
        layer = text_of(self.model, "config")["layers"][0]
        changes = [{"dim": 0}, {"dim": 33}, {"dim": None}, {"head_dim": 15}, {"vocabulary": 300}, {"layers": [layer] * 2},
                   {"layers": [{**layer, "heads": 3, "kv_heads": 2}]}, {"layers": [{**layer, "heads": 0}]},
                   {"layers": [{**layer, "attention": "sideways"}]}, {"layers": [7]}, {"norm": "batch"}, {"tied": True},
                   {"rope_theta": 0}]
        for change in changes:
            with self.subTest(change=str(change)[:60]):
                path = self.copy()
                put_text(path, "config", json.dumps({**text_of(path, "config"), **change}))
                self.assert_refused(self.loads(path), 3, path)
        for key in ("dim", "layers"):
            with self.subTest(missing=key):
                path = self.copy()
                config = text_of(path, "config")
                del config[key]
                put_text(path, "config", json.dumps(config))
                self.assert_refused(self.loads(path), 3, path, key)

    def test_impossible_configurations_in_every_tool(self):
        path = self.copy()
        put_text(path, "config", json.dumps({**text_of(path, "config"), "dim": 1 << 22}))
        # Only the tokenizer is taken from the file there.
        self.assert_model_refused(path, path, commands=[c for c in present() if "--tokenizer" not in c])

    def test_texts_that_are_no_json(self):
        for turn, name in enumerate(("config", "lineage", "tokenizer")):
            for text in ("{", "7", '"text"', "[" * 100000, "\xff\xfe".encode("latin-1"), " ")[turn % 2 :: 2]:
                with self.subTest(dataset=name, text=text[:10]):
                    path = self.copy()
                    put_text(path, name, text)
                    self.assert_refused(self.loads(path), 3, path)

    def test_parameters_that_do_not_fit(self):
        group = "parameters/blocks/0/attention/qkv/weight"

        def missing(file):
            del file[group]

        def stray(file):
            file.copy(file[group], "parameters/blocks/0/attention/extra/weight")

        def shape(file):
            file[group].attrs.modify("shape", np.array([48, 64]))

        def huge(file):
            file[group].attrs.modify("shape", np.array([1 << 40, 1 << 40]))

        def form(file):
            file[group].attrs.modify("form", np.bytes_("jpeg"))

        def values(file):
            del file[group]["values"]

        for change in (missing, stray, shape, huge, form, values):
            with self.subTest(change=change.__name__):
                path = self.copy()
                with h5py.File(path, "r+") as file:
                    change(file)
                self.assert_refused(self.loads(path), 3, path, "blocks.0.attention")

    def test_a_path_with_a_line_break_stays_one_line(self):
        done = self.loads(self.path("no\nsuch\nmodel.h5"))
        self.assertEqual(done.returncode, 3)
        self.assertEqual(len([l for l in done.stderr.splitlines() if not l.startswith("hone ")]), 1, done.stderr)


class Texts(BadInput):
    def fit(self, path, *arguments):
        return run("train", "--data", path, *QUICK, "--steps", 1, *arguments, "--output", self.path("m.h5"), "--force")

    def test_missing_and_empty(self):
        for path in (self.path("none.txt"), write(self.path("empty.txt"), ""), self.directory,
                     write(self.path("empty.jsonl"), "\n\n")):
            with self.subTest(path=path):
                self.assert_refused(self.fit(path), 3, path)
        self.assert_refused(run("train", "--data", "-", *QUICK, "--output", self.path("m.h5"), stdin=""), 3, "standard input")

    def test_an_empty_value_is_no_option(self):
        """As of a variable of the shell that is not set: it would quietly do something else."""
        model = self.path("m.h5")
        for tool, before, option in (("train", ["--output", self.path("x.h5")], "--init"), ("train", ["--steps", 0], "--output"),
                                     ("prune", [model, "--output", self.path("x.h5")], "--structure"), ("quantize", [model], "--output"),
                                     ("eval", [model, "--data", self.path("none.txt")], "--baseline"),
                                     ("generate", [model], "--draft"), ("bench", [model], "--requests")):
            with self.subTest(tool=tool, option=option):
                self.assert_refused(run(tool, *before, option, ""), 2, option, "empty value")

    def test_errors_of_values_name_their_option(self):
        for option, value in (("--average", "ema:"), ("--average", "tail:nan"), ("--recompute", "foo"), ("--quantize-aware", "int4:")):
            with self.subTest(option=option, value=value):
                done = run("train", "--data", self.path("none.txt"), "--steps", 1, option, value, "--output", self.path("m.h5"))
                self.assert_refused(done, 2, option)

    def test_options_that_would_do_nothing_or_cannot_be_are_named(self):
        new = ["--steps", 0, "--output", self.path("m.h5")]
        for tool, arguments, parts in (
            ("train", [*new, "--positions", "learned", "--rope-theta", 100], ["--rope-theta has no effect", "learned positions"]),
            ("train", [*new, "--preset", "gpt2", "--rope-theta", 100], ["--rope-theta"]),
            ("train", [*new, "--attention", "windw:4"], ["did you mean 'window'?"]),
            ("train", [*new, "--attention-score", "softcp:4"], ["--attention-score", "did you mean 'softcap'?"]),
            ("train", [*new, "--layer-dropout", "0.1:linar"], ["--layer-dropout", "did you mean 'linear'?"]),
            ("prune", [self.model, "--output", self.path("m.h5"), "--sparsity", 1], ["--sparsity"]),
            ("quantize", [self.model, "--output", self.path("m.h5"), "--override", "x=int9"], ["--override", "did you mean 'int"]),
        ):
            with self.subTest(tool=tool, arguments=arguments):
                self.assert_refused(run(tool, *arguments), 2, *parts)

    def test_a_dry_run_rounds_nothing(self):
        text = write(self.path("some.txt"), sentences(60))
        run("train", "--data", text, *QUICK, "--quantize-aware", "int4:32", "--dry-run", "--output", self.path("m.h5"), check=True)

    def test_any_bytes_are_text(self):
        wild = random.Random(2).randbytes(4000)
        for text in (wild, b"\0" * 4000, b"\xff\xfe" * 2000, sentences(30).encode("utf-16")):
            self.assertEqual(self.fit(write(self.path("wild.txt"), text)).returncode, 0)
        for text in (wild, sentences(30).encode("utf-16"), sentences(30).encode() + b"\xc3(\xed\xa0\x80\xf8"):
            done = self.fit(write(self.path("wild.txt"), text), "--tokenizer", "bpe:280")
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_jsonl_says_which_line(self):
        good = json.dumps({"text": sentences(20)}).encode() + b"\n"
        for line in (b'{"text": "caf\xe9"}', b'{"text": ', b"plain text", b'{"body": "no text"}', b'{"text": 7}', b"[]", b"null"):
            with self.subTest(line=line):
                path = write(self.path("bad.jsonl"), good + good + line + b"\n" + good)
                self.assert_refused(self.fit(path), 3, "bad.jsonl, line 3")

    def test_jsonl_tolerates_empty_lines_and_no_last_line_end(self):
        good = json.dumps({"text": sentences(20)})
        done = self.fit(write(self.path("a.jsonl"), f"{good}\n\n  \r\n{good}"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_validation_without_a_single_prediction(self):
        done = self.fit(self.corpus, "--valid", write(self.path("v.txt"), "1"))
        self.assert_refused(done, 3, "v.txt")


class Outputs(BadInput):
    COMMANDS = [c for c in COMMANDS if c[0] != "convert" and OUTPUT in c and "--resume" not in c and "--tokenizer" not in c]

    def setUp(self):
        super().setUp()
        self.target = None

    def run_to(self, command, target, model=None, **options):
        replace = {MODEL: model or self.model, OUTPUT: target, TEXT: self.corpus}
        arguments = [str(replace.get(a, a)) for a in command[1:]]
        return subprocess.run([tool(command[0]), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
                              **options)

    def test_no_such_directory(self):
        file = write(self.path("file"), "x")
        for turn, command in enumerate(self.COMMANDS):
            target = (self.path("none/out.h5"), os.path.join(file, "out.h5"))[turn % 2]
            with self.subTest(command=command[0], target=target):
                self.assert_refused(self.run_to(command, target), 3, target)

    def test_no_permission(self):
        if os.geteuid() == 0:
            self.skipTest("root may write anywhere")
        closed = self.path("closed")
        os.mkdir(closed, 0o500)
        for command in self.COMMANDS:
            with self.subTest(command=command[0]):
                self.assert_refused(self.run_to(command, os.path.join(closed, "out.h5")), 3, "closed")

    def full_disk(self, size):
        """A directory with room for `size` bytes and options for subprocess that keep to it. A file system of its own where
        this user may mount one; else a limit on the size of files, which fails writes in the same way."""
        place = self.path("disk")
        os.mkdir(place)
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        if mount.returncode == 0:
            self.addCleanup(subprocess.run, ["umount", "-l", place], check=True)
            return place, {}

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        return place, {"preexec_fn": limit}

    def test_full_disk(self):
        model = tiny_model(self.directory, "large.h5", layers=2, dim=128, heads=4, ffn=256)
        room = os.path.getsize(model) // 6
        place, options = self.full_disk(room)
        for command in self.COMMANDS:
            for old in (None, "old"):
                with self.subTest(command=command, old=old):
                    target = os.path.join(place, "out.h5")
                    if old:
                        write(target, old)
                    done = self.run_to([*command, "--force"], target, model, **options)
                    self.assert_refused(done, 3, target)
                    self.assertEqual(os.listdir(place), ["out.h5"] if old else [])
                    if old:
                        self.assertEqual(read_text(target), old)
                        os.remove(target)

    def test_full_disk_for_checkpoints_logs_and_plots(self):
        place, options = self.full_disk(16384)
        if options:
            self.skipTest("a limit on the size of files is one of the model, too")
        base = ["train", "--data", TEXT, *QUICK, "--steps", 400]
        for option, name, more in (("--checkpoint", "c.h5", ["--save-every", 1]), ("--log", "l.jsonl", ["--log-every", 1])):
            with self.subTest(option=option):
                target = os.path.join(place, name)
                output = self.path("out.h5")
                done = self.run_to([*base, option, target, *more, "--output", OUTPUT, "--force"], output, **options)
                self.assert_error(done, 3, target, "all else is done")
                self.assertIn("warning: ", done.stderr)
                self.assertIn(sha256(output), done.stdout)  # whole all the same: what is secondary does not cost it
                self.assertEqual([f for f in os.listdir(place) if ".tmp" in f], [])

    def test_stdout_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([tool("train"), "--steps", "0", "--layers", "1", "--output", self.path("m.h5"), "--quiet"],
                                  stdout=full, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, r"\Aerror: [^\n]+\n\Z")

    def test_output_over_its_own_input(self):
        path = self.copy()
        with open(path, "rb") as file:
            before = file.read()
        for command in (["prune", MODEL, "--sparsity", 0.5], ["quantize", MODEL]):
            done = self.run_to([*command, "--output", OUTPUT, "--force"], path, path)
            self.assert_refused(done, 2, "--output")
            with open(path, "rb") as file:
                self.assertEqual(file.read(), before)


if __name__ == "__main__":
    unittest.main()
