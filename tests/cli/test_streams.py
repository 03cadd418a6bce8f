"""Standard streams that are closed or full: no tool loses its work over a message, or writes one into another file."""

import os
import re
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
    def spins(self, **env):
        """How long threads wait before they sleep, as GNU's OpenMP says of itself when it is loaded."""
        done = subprocess.run([tool("inspect"), self.path("missing.h5")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, env={**env, "OMP_DISPLAY_ENV": "verbose"}, text=True)
        found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
        if not found:
            self.skipTest("another OpenMP")
        return found[-1]

    def test_threads_spin_briefly_unless_told_otherwise(self):
        self.assertEqual(self.spins(**UNSET), "1000")
        self.assertEqual(self.spins(PATH="/usr/bin"), "1000")
        self.assertEqual(self.spins(), "1000")  # no variable lends its place: it starts once more
        self.assertEqual(self.spins(**UNSET, GOMP_SPINCOUNT="7"), "7")
        self.assertNotEqual(self.spins(**UNSET, OMP_WAIT_POLICY="active"), "1000")

    def test_the_environment_is_what_it_was(self):
        run("train", "--steps", 0, *MODEL.split(), "--output", self.path("m.h5"), check=True)
        for env in (UNSET, {"PATH": "/usr/bin", "SHLVL": "2"}, {"_": "x", "OMP_WAIT_POLICY": "passive"}):
            # hone hands it on to the tool, which waits for its input.
            process = subprocess.Popen([tool("hone"), "generate", self.path("m.h5")], stdin=subprocess.PIPE,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, text=True)
            process.stderr.readline()  # "hone …": it runs
            with open(f"/proc/{process.pid}/environ", "rb") as file:
                found = dict(item.split(b"=", 1) for item in file.read().split(b"\0") if b"=" in item)
            process.communicate("")
            self.assertEqual(found, {os.fsencode(k): os.fsencode(v) for k, v in env.items()})

    def starts(self, *command, env=UNSET):
        """How often libraries are loaded until a tool has ended: the linker of the GNU C library says it each time."""
        done = subprocess.run([tool(command[0]), *command[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, env={**env, "LD_DEBUG": "statistics"}, text=True)
        return done.stderr.count("total startup time")

    def test_it_starts_once(self):
        if self.starts("inspect", "--version") == 0:
            self.skipTest("another C library")
        missing = self.path("missing.h5")
        for words in ([missing], ["--version"], ["--help"]):
            self.assertEqual(self.starts("inspect", *words), 1, words)
        self.assertEqual(self.starts("hone", "inspect", missing), 2)  # hone, and the tool
        self.assertEqual(self.starts("inspect", missing, env={}), 2)


if __name__ == "__main__":
    unittest.main()
