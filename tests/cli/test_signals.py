"""A signal ends every tool within moments, whatever it does: status 128 + N, one line, and nothing half done left."""

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from hone_cli import CliTest, corpus, run, tiny_model, tool, write

PROMPT_ENOUGH = 4.0  # seconds from the signal to the end: two cores may be shared with other work
LARGE = ["--layers", 24, "--dim", 1024, "--heads", 16]  # 302M parameters: seconds to initialize


def words(bytes_of_text):
    """Text of words that hardly repeat: slow to learn a vocabulary from."""
    letters = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz   ", k=bytes_of_text)
    return "".join(letters)


class Started:
    """A tool that has begun its work: its first line on standard error was read."""

    def __init__(self, name, *args, stdin=subprocess.DEVNULL, **options):
        self.stdout = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([tool(name), *map(str, args)], stdin=stdin, stdout=self.stdout,
                                        stderr=subprocess.PIPE, text=True, **options)
        self.first = self.process.stderr.readline()

    def wait(self):
        """What the tool wrote to standard output and to standard error, once it has ended."""
        timer = threading.Timer(60, self.process.kill)
        timer.start()
        with self.process.stderr, self.stdout:
            errors = self.first + self.process.stderr.read()
            self.process.wait()
            timer.cancel()
            if self.process.stdin:
                self.process.stdin.close()
            self.stdout.seek(0)
            return self.stdout.read(), errors

    def end(self, number):
        """Sends the signal; the seconds that the tool took to end, and what it wrote."""
        begun = time.monotonic()
        self.process.send_signal(number)
        output, errors = self.wait()
        return time.monotonic() - begun, output, errors


class Signals(CliTest):
    def assert_ends(self, name, *args, number=signal.SIGTERM, after=0.6, **options):
        before = sorted(os.listdir(self.directory))
        started = Started(name, *args, **options)
        time.sleep(after)
        if started.process.poll() is not None:
            self.fail(f"{name} ended by itself: {started.wait()}")
        seconds, output, errors = started.end(number)
        self.assertEqual(started.process.returncode, 128 + number, errors)
        self.assertLess(seconds, PROMPT_ENOUGH)
        lines = [line for line in errors.splitlines() if line.startswith("error:")]
        self.assertEqual(lines, [f"error: stopped by signal {int(number)} ({number.name})"], errors)
        self.assertEqual(output, "")
        self.assertEqual(sorted(os.listdir(self.directory)), before)

    def model(self):
        return tiny_model(self.directory, "m.h5", layers=4, dim=256, heads=4, ffn=512, context=128)

    def test_initialization(self):
        self.assert_ends("train", "--steps", 0, *LARGE, "--output", self.path("x.h5"))

    def test_learning_a_vocabulary(self):
        text = write(self.path("words.txt"), words(8 << 20))
        for number in (signal.SIGINT, signal.SIGHUP):
            self.assert_ends("train", "--data", text, "--tokenizer", "bpe:30000", "--steps", 1, "--output",
                             self.path("x.h5"), number=number)

    def test_tokenizing(self):
        model = self.path("m.h5")
        text = write(self.path("words.txt"), words(1 << 20))
        run("train", "--data", text, "--tokenizer", "bpe:400", "--steps", 1, "--layers", 1, "--dim", 16, "--heads", 1,
            "--context", 16, "--output", model, check=True)
        long = [text] * 200  # read once each
        self.assert_ends("eval", model, "--data", *long)

    def test_calibration_and_pruning(self):
        model, text = self.model(), corpus(self.directory, count=40000)
        self.assert_ends("prune", model, "--method", "wanda", "--sparsity", 0.5, "--calibration", text,
                         "--calibration-windows", 10000, "--output", self.path("x.h5"), "--report", self.path("x.csv"))

    def test_calibration_and_quantizing(self):
        model, text = self.model(), corpus(self.directory, count=40000)
        self.assert_ends("quantize", model, "--type", "int4", "--group", 32, "--calibration", text,
                         "--calibration-windows", 10000, "--output", self.path("x.h5"), number=signal.SIGINT)

    def test_evaluation(self):
        model, text = self.model(), corpus(self.directory, count=100000)
        self.assert_ends("eval", model, "--data", text, "--no-speed", "--output", self.path("x.json"))

    def test_benchmarks(self):
        model, cache = self.model(), dict(os.environ, HONE_CACHE_DIR=self.path("cache"))
        os.mkdir(self.path("cache"))
        self.assert_ends("bench", model, "--repeat", 100000, "--plot", self.path("x.svg"), env=cache)
        self.assert_ends("bench", model, "--train", "--batch", 4, "--repeat", 100000, env=cache, number=signal.SIGINT)
        self.assert_ends("bench", "--kernels", "--repeat", 100000, env=cache)

    def test_generation(self):
        model = self.model()
        self.assert_ends("generate", model, "--tokens", 1000000, "--ignore-end", "--format", "json", "--prompt", "a",
                         number=signal.SIGINT)

    def test_waiting_for_input(self):
        model = self.model()
        for name in ("generate", "eval"):
            arguments = [model] if name == "generate" else [model, "--data", "-"]
            with self.subTest(name):
                self.assert_ends(name, *arguments, stdin=subprocess.PIPE)

    def test_waiting_for_a_reader_of_the_report(self):
        model, pipe = self.model(), self.path("pipe")
        os.mkfifo(pipe)
        begun = Started("prune", model, "--sparsity", 0.5, "--output", self.path("x.h5"), "--report", pipe)
        while not os.path.exists(self.path("x.h5")):
            time.sleep(0.05)
        time.sleep(0.3)
        seconds, _, errors = begun.end(signal.SIGTERM)
        self.assertEqual(begun.process.returncode, 143, errors)
        self.assertLess(seconds, PROMPT_ENOUGH)
        run("inspect", self.path("x.h5"), check=True)  # finished before, and stays

    def test_training_saves_first(self):
        text = corpus(self.directory)
        begun = Started("train", "--data", text, "--steps", 1000000, "--layers", 1, "--dim", 32, "--heads", 1,
                        "--context", 32, "--output", self.path("x.h5"))
        time.sleep(1.5)
        _, _, errors = begun.end(signal.SIGHUP)
        self.assertEqual(begun.process.returncode, 129, errors)
        run("inspect", self.path("x.h5"), check=True)

    def test_hanging_up_under_nohup_changes_nothing(self):
        begun = Started("generate", self.model(), "--tokens", 3, stdin=subprocess.PIPE,
                        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        begun.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        begun.process.stdin.write("a")
        begun.process.stdin.close()
        output, errors = begun.wait()
        self.assertEqual(begun.process.returncode, 0, errors)
        self.assertNotEqual(output, "")


if __name__ == "__main__":
    unittest.main()
