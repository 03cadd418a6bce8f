"""The scripts that make lines with images and sounds."""

import json
import os
import subprocess
import unittest

from hone_cli import ROOT, CliTest
from media_files import write_wav


class Scripts(CliTest):
    """data/media.py and data/pairs.py, on a few digits of their own."""

    def script(self, name, *arguments, status=0):
        done = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "data", name), *map(str, arguments)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def test_lines_are_made_joined_and_degraded(self):
        recordings = self.path("recordings")
        os.makedirs(recordings)
        for digit in range(3):
            for take in (0, 5, 6, 45):
                write_wav(os.path.join(recordings, f"{digit}_ann_{take}.wav"), 300 + 100 * digit)
            with open(self.path(f"{digit}.json"), "w", encoding="utf-8") as file:
                json.dump({"data": [digit / 10] * 784 * 10}, file)
        for digit in range(3, 10):
            with open(self.path(f"{digit}.json"), "w", encoding="utf-8") as file:
                json.dump({"data": []}, file)
        self.script("media.py", "fsdd", self.directory, self.directory)
        self.script("media.py", "digits", self.directory, self.directory)
        with open(self.path("digits.train.jsonl"), encoding="utf-8") as file:
            line = json.loads(file.read())
        self.assertEqual(line["parts"], [{"image": "digits-images-idx3-ubyte.gz#0..27"}])
        for output, options in (("pairs.jsonl", []), ("again.jsonl", []), ("hard.jsonl", ["--image-noise", 0.3, "--sound-noise", 2])):
            self.script("pairs.py", self.path("digits.train.jsonl"), self.path("fsdd.train.jsonl"), "--output", self.path(output),
                        "--count", 9, "--prompt", "=", *options)
        with open(self.path("pairs.jsonl"), encoding="utf-8") as one, open(self.path("again.jsonl"), encoding="utf-8") as two:
            text = one.read()
            self.assertEqual(text, two.read())
        kinds = [[next(iter(part)) for part in json.loads(line)["parts"]] for line in text.splitlines()]
        self.assertEqual(kinds, [["image", "text"], ["audio", "text"], ["image", "audio", "text"]] * 3)
        with open(self.path("hard.jsonl"), encoding="utf-8") as file:
            hard = [json.loads(line)["parts"] for line in file]
        self.assertEqual(hard[2][0], {"image": "hard-images-idx3-ubyte.gz#1"})
        self.assertTrue(os.path.exists(self.path(hard[2][1]["audio"])))
        self.script("media.py", "mnist", self.directory, self.directory, status=3)
        self.script("media.py", "fsdd", status=2)


if __name__ == "__main__":
    unittest.main()
