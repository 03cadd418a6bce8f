"""Standard streams that are closed or full: no tool loses its work over a message, or writes one into another file."""

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


if __name__ == "__main__":
    unittest.main()
