"""Where output goes: links, streams and modes are respected, and finished work is never thrown away."""

import json
import os
import resource
import signal
import stat
import subprocess
import threading
import time
import unittest

from hone_cli import CliTest, corpus, run, run_json, tiny_model, tool, write


class Files(CliTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_model(self.directory, "m.h5")

    def prune(self, *args, output="x.h5", **options):
        return run("prune", self.model, "--sparsity", 0.5, "--output", self.path(output), *args, "--quiet", **options)

    def quantize(self, *args, output="x.h5", **options):
        return run("quantize", self.model, "--output", self.path(output), *args, "--quiet", **options)

    def listing(self):
        return sorted(os.listdir(self.directory))

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()


class Targets(Files):
    def test_links_are_followed(self):
        os.mkdir(self.path("real"))
        os.symlink("real/x.h5", self.path("link.h5"))
        os.symlink("real/r.csv", self.path("link.csv"))
        for tool_run in (self.prune, self.quantize):
            tool_run("--force", "--report", self.path("link.csv"), output="link.h5", check=True)
            self.assertTrue(os.path.islink(self.path("link.h5")))
            self.assertTrue(os.path.islink(self.path("link.csv")))
            self.assertTrue(self.read("real/r.csv").startswith(b"schema_version,parameter,"))
        self.assertEqual(sorted(os.listdir(self.path("real"))), ["r.csv", "x.h5"])
        self.assert_error(self.prune(output="link.h5"), 2, "--force")  # what it leads to exists

    def test_modes_stay(self):
        for mode in (0o600, 0o664):
            write(self.path("x.h5"), "old")
            os.chmod(self.path("x.h5"), mode)
            self.prune("--force", check=True)
            self.assertEqual(stat.S_IMODE(os.stat(self.path("x.h5")).st_mode), mode)

    def test_read_only_files_stay(self):
        write(self.path("x.h5"), "old")
        os.chmod(self.path("x.h5"), 0o444)
        self.assert_error(self.prune("--force"), 3, "x.h5", "read-only")
        done = self.quantize("--report", self.path("x.h5"), "--force", output="y.h5")
        self.assert_error(done, 3, "x.h5", "read-only")
        self.assertEqual(self.read("x.h5"), b"old")

    def test_names_of_every_length(self):
        name = "n" * 252 + ".h5"
        self.prune(output=name, check=True)
        self.assertEqual(self.listing(), ["m.h5", name])
        before = self.listing()
        self.assert_error(self.prune(output="n" * 253 + ".h5"), 3, "too long")
        self.assertEqual(self.listing(), before)

    def test_models_are_no_streams(self):
        for output in ("-", "/dev/stdout", "/dev/null"):
            with self.subTest(output):
                done = run("prune", self.model, "--sparsity", 0.5, "--output", output, "--force")
                self.assert_error(done, 2, output)

    def test_one_file_has_one_use(self):
        text = corpus(self.directory)
        os.symlink("m.h5", self.path("same.h5"))
        x = self.path("x")
        for name, arguments, parts in (
            ("prune", [self.model, "--sparsity", 0.5, "--output", self.path("same.h5")], ["--output", "MODEL"]),
            ("prune", [self.model, "--sparsity", 0.5, "--output", x, "--report", self.path("./x")],
             ["--output", "--report"]),
            ("prune", [self.model, "--method", "wanda", "--sparsity", 0.5, "--calibration", text, "--output", text],
             ["--output", "--calibration"]),
            ("quantize", [self.model, "--output", x, "--report", self.model], ["--report", "MODEL"]),
            ("eval", [self.model, "--data", text, "--output", text], ["--output", "--data"]),
            ("eval", [self.model, "--data", text, "--output", x, "--baseline", self.path("m.h5"), "--plot", self.model],
             ["--plot", "MODEL"]),
            ("bench", [self.model, "--plot", self.model], ["--plot", "MODEL"]),
        ):
            with self.subTest(tool=name, parts=parts):
                before = self.read("m.h5"), self.read("corpus.txt"), self.listing()
                self.assert_error(run(name, *arguments, "--force"), 2, *parts)
                self.assertEqual((self.read("m.h5"), self.read("corpus.txt"), self.listing()), before)


class Streams(Files):
    def test_reports_go_to_streams(self):
        self.prune("--report", self.path("r.csv"), check=True)
        rows = self.read("r.csv").decode()
        for target in ("-", "/dev/stdout", "/dev/fd/1"):
            with self.subTest(target):
                self.assertTrue(self.prune("--force", "--report", target, check=True).stdout.startswith(rows))
        self.assertIn(rows, self.prune("--force", "--report", "/dev/stderr", check=True).stderr)
        self.prune("--force", "--report", "/dev/null", check=True)
        self.assertFalse(os.path.isfile("/dev/null"))

    def test_standard_output_in_a_file_keeps_what_was_there(self):
        with open(self.path("out"), "w") as out:
            out.write("before\n")
            out.flush()
            subprocess.run([tool("prune"), self.model, "--sparsity", "0.5", "--output", self.path("x.h5"), "--report",
                            "/dev/stdout", "--quiet"], stdout=out, check=True)
        lines = self.read("out").decode().splitlines()
        self.assertEqual(lines[0], "before")
        self.assertTrue(lines[1].startswith("schema_version,parameter,"))
        self.assertIn("sha256", lines[-1])

    def test_pipes_with_a_name(self):
        pipe, got = self.path("pipe"), []
        os.mkfifo(pipe)
        for name, arguments, begin in (
            ("quantize", [self.model, "--output", self.path("q.h5"), "--report", pipe],
             "schema_version,parameter,"),
            ("eval", [self.model, "--data", corpus(self.directory), "--no-speed", "--format", "csv", "--output", pipe],
             "schema_version,model,"),
            ("eval", [self.model, "--data", write(self.path("q.jsonl"), '{"prompt": "a", "answer": "b"}\n'), "--answers",
                      "--no-speed", "--samples", pipe], '{"'),
        ):
            reader = threading.Thread(target=lambda: got.append(self.read("pipe").decode()))
            reader.start()
            run(name, *arguments, "--quiet", check=True)
            reader.join()
            self.assertTrue(got[-1].startswith(begin), got[-1])
        self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))
        self.assertFalse(os.path.exists(pipe + ".part"))

    def test_plots_go_to_streams(self):
        cache = {"HONE_CACHE_DIR": self.path("cache")}
        done = run("bench", self.model, "--prompt", 4, "--generate", 2, "--repeat", 1, "--warmup", 0, "--plot", "-",
                   "--format", "csv", "--quiet", env=cache, check=True)
        self.assertTrue(done.stdout.startswith("<"), done.stdout[:80])
        self.assertIn("</svg>", done.stdout)
        self.assertIn("schema_version,model,", done.stdout)


class FinishedWork(Files):
    def test_a_report_that_cannot_be_written(self):
        for tool_run in (self.prune, self.quantize):
            done = tool_run("--force", "--report", "/dev/full")
            self.assert_error(done, 3, "--report: cannot write '/dev/full'", "all else is done")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn("sha256", done.stdout)
            run("inspect", self.path("x.h5"), check=True)

    def test_a_report_of_drafts_that_cannot_be_written(self):
        done = run("generate", self.model, "--prompt", "ab", "--tokens", 4, "--draft", "ngram", "--format", "jsonl", "--report",
                   "/dev/full", "--quiet")
        self.assert_error(done, 3, "--report: cannot write '/dev/full'")
        self.assertEqual(json.loads(done.stdout)["prompt"], "ab")

    def test_a_report_and_a_plot_that_cannot_be_written(self):
        done = self.quantize("--calibration", corpus(self.directory), "--calibration-windows", 2, "--target-bits", 12, "--report",
                             "/dev/full", "--plot", "/dev/full")
        self.assert_error(done, 3, "--report: cannot write '/dev/full'", "--plot: cannot write '/dev/full'")
        self.assertIn("sha256", done.stdout)
        run("inspect", self.path("x.h5"), check=True)

    def test_a_plot_that_cannot_be_written(self):
        done = run("bench", self.model, "--prompt", 4, "--generate", 2, "--repeat", 1, "--warmup", 0, "--plot",
                   "/dev/full", "--format", "csv", env={"HONE_CACHE_DIR": self.path("cache")})
        self.assert_error(done, 3, "--plot: cannot write '/dev/full'")
        self.assertTrue(done.stdout.startswith("schema_version,model,"))

    def test_a_plot_of_requests_that_cannot_be_written(self):
        done = run("bench", self.model, "--requests", "poisson:50", "--count", 2, "--prompt", 4, "--generate", 2, "--plot", "/dev/full",
                   "--format", "csv", env={"HONE_CACHE_DIR": self.path("cache")})
        self.assert_error(done, 3, "--plot: cannot write '/dev/full'")
        self.assertTrue(done.stdout.startswith("schema_version,model,"))

    def test_an_evaluation_whose_file_is_full_is_printed(self):
        done = run("eval", self.model, "--data", corpus(self.directory), "--no-speed", "--format", "csv",
                   "--output", "/dev/full")
        self.assert_error(done, 3, "--output: cannot write '/dev/full'")
        self.assertTrue(done.stdout.startswith("schema_version,model,"))

    def test_an_evaluation_that_fails_otherwise_says_both(self):
        model_and_text = (self.model, "--data", corpus(self.directory), "--no-speed", "--format", "csv", "--output", "/dev/full")
        done = run("eval", *model_and_text, "--require", "loss < 0")
        self.assert_error(done, 4, "loss < 0", "--output: cannot write '/dev/full'")
        self.assertTrue(done.stdout.startswith("schema_version,model,"))

    def test_samples_that_cannot_be_written(self):
        questions = write(self.path("q.jsonl"), '{"prompt": "a", "answer": "b"}\n')
        done = run("eval", self.model, "--data", questions, "--answers", "--no-speed", "--format", "csv", "--samples", "/dev/full")
        self.assert_error(done, 3, "--samples: cannot write '/dev/full'")
        self.assertTrue(done.stdout.startswith("schema_version,model,"))

    def while_it_reads(self, name, *args, meanwhile):
        """Runs a tool whose text comes through a pipe, and does something before the text is there."""
        pipe = self.path("pipe")
        if not os.path.exists(pipe):
            os.mkfifo(pipe)
        process = subprocess.Popen([tool(name), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        with open(pipe, "w") as text:  # opens when the tool does
            meanwhile()
            text.write("a line of text\n" * 2000)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def test_a_target_that_exists_by_now(self):
        status, output, errors = self.while_it_reads(
            "prune", self.model, "--method", "wanda", "--sparsity", 0.5, "--calibration", self.path("pipe"), "--output",
            self.path("x.h5"), "--format", "json", "--report", self.path("r.csv"),
            meanwhile=lambda: (write(self.path("x.h5"), "theirs"), write(self.path("r.csv"), "theirs")))
        self.assertEqual(status, 3, errors)
        self.assertIn(f'"output":"{self.path("x.1.h5")}"', output)
        error, = [line for line in errors.splitlines() if line.startswith("error:")]
        self.assertIn("x.1.h5", error)
        self.assertIn("r.1.csv", error)
        run("inspect", self.path("x.1.h5"), check=True)
        self.assertEqual((self.read("x.h5"), self.read("r.csv")), (b"theirs", b"theirs"))
        self.assertTrue(self.read("r.1.csv").startswith(b"schema_version,parameter,"))
        self.assertEqual(self.listing(), ["m.h5", "pipe", "r.1.csv", "r.csv", "x.1.h5", "x.h5"])

    def test_an_evaluation_whose_target_exists_by_now(self):
        status, _, errors = self.while_it_reads(
            "eval", self.model, "--data", self.path("pipe"), "--no-speed", "--format", "csv", "--output",
            self.path("r.csv"),
            meanwhile=lambda: write(self.path("r.csv"), "theirs"))
        self.assertEqual(status, 3, errors)
        self.assertIn("r.1.csv", [line for line in errors.splitlines() if line.startswith("error:")][0])
        self.assertEqual(self.read("r.csv"), b"theirs")
        self.assertTrue(self.read("r.1.csv").startswith(b"schema_version,model,"))

    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self):
        write(self.path("x.h5"), "old")
        before = self.listing()
        small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        for name, more in (("prune", ["--sparsity", "0.5"]), ("quantize", [])):
            done = subprocess.run([tool(name), self.model, *more, "--output", self.path("x.h5"), "--force"],
                                  capture_output=True, text=True, preexec_fn=small)
            self.assert_error(done, 3, "x.h5")
            self.assertEqual((self.listing(), self.read("x.h5")), (before, b"old"))

    def test_what_a_killed_run_left_is_cleared(self):
        process = subprocess.Popen([tool("train"), "--steps", "0", "--layers", "4", "--dim", "640", "--heads", "8",
                                    "--output", self.path("x.h5")],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        left = []
        while not left and process.poll() is None:
            left = [name for name in os.listdir(self.directory) if ".tmp." in name]
            time.sleep(0.001)
        process.kill()
        process.wait()
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.assertEqual(len(left), 1)
        done = run("prune", self.model, "--sparsity", 0.5, "--output", self.path("x.h5"), check=True)
        self.assertIn(left[0], done.stderr)
        self.assertEqual(self.listing(), ["m.h5", "x.h5"])


if __name__ == "__main__":
    unittest.main()
