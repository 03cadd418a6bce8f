"""What memory cannot hold is refused with numbers before any is taken, and what fits is not."""

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import unittest

from hone_cli import CliTest, corpus, run, tiny_model, tool, write
from model_files import parameters

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def run_measured(name, *args):
    """A tool's result and the most memory that it held, in bytes."""
    process = subprocess.Popen([tool(name), *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
    with process.stderr:
        errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return subprocess.CompletedProcess(args, process.returncode, "", errors), usage.ru_maxrss * 1024


class Memory(CliTest):
    def assert_refused(self, done, *parts):
        self.assert_error(done, 2, "takes at least", "of memory", " is ", *parts)

    def test_a_dry_run_makes_no_model(self):
        text = corpus(self.directory)
        for options, statuses in ((["--layers", 4000], [0, 2]),  # a run takes 150 GB
                                  (["--layers", 40, "--dim", 512, "--heads", 8, "--batch", 1], [0])):
            # In bf16 on every machine: in f32 there are no copies of the weights for the products.
            done, most = run_measured("train", "--data", text, "--dry-run", "--precision", "bf16", "--output", self.path("x.h5"),
                                      *options)
            self.assertIn(done.returncode, statuses, done.stderr)
            self.assertLess(most, 400e6)  # the second has 125M parameters: 500 MB, and 3.3 GB of a run's
            if statuses == [0]:
                self.assertIn("125M parameters", done.stderr)
                self.assertIn("at least 3.", done.stderr)
        self.assertEqual(os.listdir(self.directory), ["corpus.txt"])

    def test_a_dry_run_turns_no_model_into_a_mixture(self):
        model, text = tiny_model(self.directory), corpus(self.directory)
        done = run("train", "--init", model, "--experts", 4, "--data", text, "--dry-run", "--output", self.path("x.h5"),
                   check=True)
        self.assertIn("into a mixture", done.stderr)

    def test_what_fits_no_memory(self):
        model, text, x = tiny_model(self.directory), corpus(self.directory), self.path("x.h5")
        largest, most = 1 << 30, 10**15  # of a batch, and of counts
        for arguments in ([], ["--dry-run"]):
            with self.subTest(arguments):
                train = ["train", "--data", text, "--output", x, *arguments]
                self.assert_refused(run(*train, "--batch", 100000000), "--batch")
                self.assert_refused(run(*train, "--init", model, "--batch", largest), "--batch")
                self.assert_refused(run("bench", model, "--batch", largest, *arguments), "--batch")
                self.assert_refused(run("bench", model, "--train", "--batch", largest, *arguments), "--batch")
                self.assert_refused(run("bench", model, "--generate", most, *arguments), "--generate")
                self.assert_refused(run("generate", model, "--prompt", "a", "--tokens", most, *arguments), "--tokens")
        self.assertFalse(os.path.exists(x))

    @classmethod
    def large_model(cls):
        """A model of more than 110 MB, made once."""
        if not hasattr(cls, "large"):
            folder = tempfile.mkdtemp(prefix="hone-test-")
            cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
            cls.large = os.path.join(folder, "m.h5")
            run("train", "--steps", 0, "--layers", 16, "--dim", 384, "--heads", 6, "--output", cls.large, check=True)
        return cls.large

    def test_a_model_is_changed_weight_by_weight(self):
        model, out = self.large_model(), self.path("x.h5")
        self.assertGreater(os.path.getsize(model), 110e6)
        for tool_and_options in (["quantize", "--type", "int8"], ["quantize", "--type", "bf16"],
                                 ["prune", "--method", "magnitude", "--sparsity", 0.5]):
            with self.subTest(tool_and_options):
                done, most = run_measured(tool_and_options[0], model, "--output", out, "--force", *tool_and_options[1:])
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertLess(most, 100e6)
        self.assertEqual(os.listdir(self.directory), ["x.h5"])

    def test_a_model_is_read_tensor_by_tensor(self):
        """What only goes through a file holds a tensor of it, and 64 MB beside: not the 110 MB of each of these."""
        dense, masked = self.large_model(), self.path("sparse.h5")
        run("prune", dense, "--method", "magnitude", "--sparsity", 0.5, "--output", masked, check=True)
        for arguments in (["inspect", dense], ["inspect", masked], ["inspect", dense, masked],
                          ["convert", dense, "--to", "safetensors"], ["convert", dense, "--to", "safetensors", "--type", "bf16"],
                          ["convert", dense, "--to", "gguf"], ["convert", dense, "--to", "gguf", "--type", "q8_0"],
                          ["convert", masked, "--to", "gguf", "--densify"]):
            with self.subTest(arguments):
                self.assertGreater(min(os.path.getsize(path) for path in arguments[1:] if os.path.exists(path)), 110e6)
                if arguments[0] == "convert":
                    out = self.path(f"{arguments[3]}-{len(os.listdir(self.directory))}")
                    arguments += ["--output", out]
                done, most = run_measured(*arguments)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertLess(most, 90e6)
                if arguments[0] == "convert":
                    self.assertTrue(os.path.exists(out))

    def test_a_checkpoint_is_shown_without_its_state(self):
        path = self.path("run.h5")
        run("train", "--data", corpus(self.directory), "--steps", 1, "--layers", 12, "--dim", 256, "--heads", 4, "--batch", 1,
            "--context", 32, "--checkpoint", path, "--output", self.path("m.h5"), check=True)
        self.assertGreater(os.path.getsize(path), 110e6)
        done, most = run_measured("inspect", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(most, 90e6)

    def test_a_model_that_does_not_fit_an_address_space(self):
        command = f"ulimit -v 3000000; '{tool('train')}' --steps 0 --layers 100 --dim 1024 --heads 8 --output "
        done = subprocess.run(["bash", "-c", f"{command} '{self.path('x.h5')}'"], capture_output=True, text=True)
        self.assertIn(done.returncode, (1, 2), done.stderr)  # 1: an allocation fails before
        self.assertIn("memory", done.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    def test_a_text_whose_loss_takes_more_than_an_address_space(self):
        model = tiny_model(self.directory, layers=1, dim=1024, heads=8)
        text = write(self.path("long.txt"), "the river " * 100_000)  # 4.1 GB of hidden states
        for command in ("prune --sparsity 0.5", "quantize --type int8", "quantize --target-bits 6 --calibration-context 8"):
            name, _, options = command.partition(" ")
            with self.subTest(command):
                line = (f"ulimit -v 3000000; '{tool(name)}' '{model}' {options} --data '{text}' --calibration-windows 1000000 "
                        f"--dry-run --output '{self.path('x.h5')}'")
                done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("memory", done.stderr)
                self.assertIn("--calibration-windows", done.stderr)

    def test_the_estimate_is_less_than_what_a_run_takes(self):
        text = corpus(self.directory)
        shapes = ("--layers 4 --dim 256 --heads 4 --context 128 --batch 24",
                  "--layers 3 --dim 256 --heads 4 --context 128 --batch 16 --activation gelu --experts 4 --top-k 2",
                  "--layers 3 --dim 128 --heads 8 --kv-heads 2 --context 256 --batch 32 --untied")
        for shape, precisions in zip(shapes, (("f32", "bf16"), ("bf16",), ("f32",))):
            for precision in precisions:
                with self.subTest(shape=shape, precision=precision):
                    done, most = run_measured("train", "--data", text, "--steps", 1, "--precision", precision,
                                              "--output", self.path("x.h5"), "--force", *shape.split())
                    self.assertEqual(done.returncode, 0, done.stderr)
                    number, unit = re.search(r"at least ([\d.]+) (\w+): ", done.stderr).groups()
                    estimate = float(number) * UNITS[unit]
                    self.assertLess(estimate, most)
                    self.assertGreater(estimate, 0.25 * most)  # and of some use

    SHAPE = "--layers 6 --dim 256 --heads 4 --context 256 --steps 2".split()

    def test_recomputation_takes_less_and_changes_no_bit(self):
        text, results, peaks = corpus(self.directory), {}, {}
        for plan in ("none", "feed_forward", "blocks"):
            log, model = self.path(f"{plan}.jsonl"), self.path(f"{plan}.h5")
            done, peaks[plan] = run_measured("train", "--data", text, *self.SHAPE, "--batch", 8, "--recompute", plan, "--log", log,
                                             "--log-every", 1, "--output", model)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(log) as file:
                results[plan] = (json.loads(file.read().splitlines()[-1])["activation_bytes"], parameters(model))
        self.assertLess(results["feed_forward"][0] * 1.5, results["none"][0])
        self.assertLess(results["blocks"][0] * 2.5, results["none"][0])
        self.assertLess(peaks["blocks"] + 0.5 * (results["none"][0] - results["blocks"][0]), peaks["none"])
        for name, values in results["none"][1].items():
            for plan in ("feed_forward", "blocks"):
                self.assertEqual(values.values.tobytes(), results[plan][1][name].values.tobytes(), name)

    def test_a_limit_chooses_the_least_work_that_fits(self):
        train = ["train", "--data", corpus(self.directory), "--output", self.path("x.h5"), "--force", *self.SHAPE, "--batch", 16]
        chosen = []
        for limit in ("100GB", "330MB"):
            done, most = run_measured(*train, "--memory-limit", limit)
            self.assertEqual(done.returncode, 0, done.stderr)
            plan, said = re.search(r"--recompute (\S+), ([\d.]+ \w+) in all", done.stderr).groups()
            number, unit = said.split()
            self.assertLess(0.5 * float(number) * UNITS[unit], most)
            self.assertLess(most, float(re.match(r"\d+", limit).group()) * UNITS[re.sub(r"\d", "", limit)])
            chosen.append(plan)
        self.assertEqual(chosen[0], "none")
        self.assertNotEqual(chosen[1], "none")
        done = run(*train, "--memory-limit", "150MB")
        self.assert_error(done, 2, "--memory-limit", "at the least", "--recompute blocks", "--batch")

    def test_a_device_without_an_end_is_one_error(self):
        model = tiny_model(self.directory)
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        for name, arguments in (("train", ["--data", "/dev/zero", "--steps", "1", "--output", self.path("x.h5")]),
                                ("generate", [model, "--prompt-file", "/dev/zero"])):
            with self.subTest(tool=name):
                done = subprocess.run([tool(name), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                      preexec_fn=limit, timeout=300)
                self.assert_error(done, 3, "/dev/zero", "no more memory is free")


if __name__ == "__main__":
    unittest.main()
