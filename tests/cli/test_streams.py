"""Standard streams that are closed or full: no tool loses its work over a message, or writes one into another file."""

import os
import subprocess
import unittest

from hone_cli import TINY, CliTest, run, run_json, tool

MODEL = " ".join(f"--{key} {value}" for key, value in TINY.items())


class Streams(CliTest):
    def train(self, redirections, name="m.h5"):
        command = f"'{tool('train')}' --steps 0 {MODEL} --output '{self.path(name)}' {redirections}"
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def test_messages_that_nobody_can_read_change_nothing(self):
        run("train", "--steps", 0, *MODEL.split(), "--output", self.path("m.h5"), check=True)
        with open(self.path("m.h5"), "rb") as file:
            size = len(file.read())
        for i, redirection in enumerate(("2>&-", "2>/dev/full", "<&- 2>&-")):
            with self.subTest(redirection):
                done = self.train(redirection, f"{i}.h5")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("sha256", done.stdout)
                self.assertEqual(len(run_json("inspect", self.path(f"{i}.h5"))["tensors"]),
                                 len(run_json("inspect", self.path("m.h5"))["tensors"]))
                with open(self.path(f"{i}.h5"), "rb") as file:
                    self.assertAlmostEqual(len(file.read()), size, delta=200)  # arguments differ

    def test_a_result_that_cannot_be_printed_is_an_error(self):
        for i, redirection in enumerate((">&-", ">/dev/full")):
            with self.subTest(redirection):
                done = self.train(redirection, f"{i}.h5")
                self.assert_error(done, 3, "standard output")
                run("inspect", self.path(f"{i}.h5"), check=True)  # the model is whole all the same


UNSET = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}


class Waiting(CliTest):
    def setting(self, **env):
        """What OpenMP reads in a tool that waits for its input."""
        process = subprocess.Popen([tool("generate"), self.model], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env={**UNSET, **env}, text=True)
        process.stderr.readline()  # "hone …": it runs
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            found = dict(item.split(b"=", 1) for item in file.read().split(b"\0") if b"=" in item)
        process.communicate("")
        return found.get(b"GOMP_SPINCOUNT")

    def test_threads_spin_briefly_unless_told_otherwise(self):
        self.model = self.path("m.h5")
        run("train", "--steps", 0, *MODEL.split(), "--output", self.model, check=True)
        self.assertEqual(self.setting(), b"1000")
        self.assertEqual(self.setting(GOMP_SPINCOUNT="7"), b"7")
        self.assertIsNone(self.setting(OMP_WAIT_POLICY="active"))

    def starts(self, name, *args):
        """How often libraries are loaded until a tool has ended: the linker of the GNU C library says it each time."""
        done = subprocess.run([tool(name), *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, env={**UNSET, "LD_DEBUG": "statistics"}, text=True)
        return done.stderr.count("total startup time")

    def test_it_starts_once_more_only_to_compute(self):
        if self.starts("inspect", "--version") == 0:
            self.skipTest("another C library")
        missing = self.path("missing.h5")
        self.assertEqual(self.starts("inspect", missing), 2)
        for word in ("--version", "--help", "-h"):
            self.assertEqual(self.starts("inspect", word), 1, word)
        self.assertEqual(self.starts("hone", "inspect", missing), 2)  # hone, and the tool


if __name__ == "__main__":
    unittest.main()
