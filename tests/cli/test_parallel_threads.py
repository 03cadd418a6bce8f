"""Ranks that are threads of one process, which no launcher starts: the runs of ranks that mpirun starts, to the bit."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import unittest

from hone_cli import run, sentences, tool, write
from media_files import SHAPE as MEDIA, MediaTest
from model_files import log_lines
from mpi_launch import MPIRUN, SHAPE, Ranks, launch, without_mpi


def run_on(parallel, *arguments, **how):
    return run("train", *arguments, "--parallel", parallel, **how)


class Threads(Ranks):
    def test_two_ranks_are_two_accumulated_batches(self):
        more = ["--valid-fraction", 0.1, "--valid-every", 7, "--dropout", 0.1, "--format", "json"]
        logs = [self.path("one.jsonl"), self.path("two.jsonl")]
        one = json.loads(run("train", *self.options(20, *more, batch=2, accumulate=2), "--log", logs[0], "--output",
                             self.path("one.h5"), check=True).stdout)
        done = run_on("data:2", *self.options(20, *more), "-t", 2, "--log", logs[1], "--output", self.path("two.h5"), check=True)
        two = json.loads(done.stdout)  # one object, though two ranks ran
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))
        self.assert_same_run(one, two, logs)
        self.assertEqual(done.stderr.count("validation loss"), 3, done.stderr)
        self.assertEqual(done.stderr.count("2 ranks in this process, with 1 thread each\n"), 1, done.stderr)
        self.assertEqual(done.stderr.count(" to train on"), 1, done.stderr)
        # What a rank's step took, which is as much as one of the batches takes.
        a, b = (log_lines(log)[-1]["activation_bytes"] for log in logs)
        self.assertGreater(b, 0.5 * a)
        self.assertLess(b, 2 * a)

    def test_threads_are_divided(self):
        said = {("2", "data:2"): "with 1 thread each", ("4", "data:2"): "with 2 threads each", ("1", "data:3"): "with 1 thread each",
                ("3", "data:2"): "with 1 thread each"}
        for (threads, parallel), part in said.items():
            done = run_on(parallel, *self.options(1, batch=6), "-t", threads, "--output", self.path("x.h5"), "--force", check=True)
            self.assertIn(part, done.stderr)
        # Ranks of two threads have the bits of one process of two.
        for name, options in (("one", [*self.options(6, batch=2, accumulate=2), "-t", 2]),
                              ("two", [*self.options(6), "-t", 4, "--parallel", "data:2"])):
            run("train", *options, "--output", self.path(f"{name}.h5"), check=True)
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))

    def test_the_bits_of_ranks_that_mpirun_starts(self):
        if not MPIRUN or without_mpi():
            self.skipTest("no mpirun here, or tools without MPI")
        for parallel, ranks, more in (("data:2", 2, ["--optimizer", "muon"]), ("tensor:2", 2, []),
                                      ("data:2,expert:2", 4, ["--experts", 4, "--expert-ffn", 32, "--balance", "none"])):
            options = [*self.options(8, *more), "--parallel", parallel]
            launch(ranks, *options, "--output", self.path(f"mpi{parallel}.h5"), check=True)
            run("train", *options, "--output", self.path(f"threads{parallel}.h5"), check=True)
            self.assert_same_parameters(self.path(f"mpi{parallel}.h5"), self.path(f"threads{parallel}.h5"))

    def test_parts_of_a_model(self):
        model = self.path("teacher.h5")
        run("train", *self.options(10), "--output", model, check=True)
        for more, layouts in ((["--teacher", model], ("tensor:2", "data:2,tensor:2")),
                              (["--experts", 4, "--expert-ffn", 32, "--balance", "none"], ("expert:2", "data:2,expert:2"))):
            options = self.options(10, "--valid-fraction", 0.1, "--valid-every", 5, "--precision", "f32", "--log-every", 1, "--force",
                                   "--format", "json", *more, batch=1, accumulate=4)
            log = self.path("one.jsonl")
            one = json.loads(run("train", *options, "--log", log, "--output", self.path("one.h5"), check=True).stdout)
            for parallel in layouts:
                done = run_on(parallel, *options, "--log", self.path("more.jsonl"), "--output", self.path("more.h5"), check=True)
                more_ranks = json.loads(done.stdout)
                for key in ("loss", "valid_loss"):
                    self.assert_close(more_ranks[key], one[key])
                self.assertEqual(more_ranks["bytes"], one["bytes"])
                self.assert_close_logs(self.path("more.jsonl"), log)
                self.assert_close(self.loss_of(self.path("more.h5")), self.loss_of(self.path("one.h5")))
        self.assert_error(run_on("tensor:2", *self.options(3), "--optimizer", "muon", "--output", self.path("x.h5")), 2, "muon moves whole")

    def test_texts_that_can_be_read_once(self):
        text = sentences(200)
        options = [*SHAPE, "--steps", 3, "--valid-tokens", 64]
        plain, packed = write(self.path("t.txt"), text), gzip.compress(text.encode())
        run("train", "--data", plain, *options, "--batch", 2, "--accumulate", 2, "--output", self.path("one.h5"), check=True)
        for name, given in (("two", text.encode()), ("packed", packed)):
            run_on("data:2", "--data", "-", *options, "--batch", 4, "--output", self.path(f"{name}.h5"), stdin=given, text=False, check=True)
            self.assert_same_parameters(self.path("one.h5"), self.path(f"{name}.h5"))
        with open(plain, "rb", buffering=0) as file:  # from where it stands
            file.seek(10)
            subprocess.run([tool("train"), "--data", "-", *map(str, options), "--batch", "4", "--parallel", "data:2", "--output",
                            self.path("rest.h5"), "-q"], stdin=file, check=True, stdout=subprocess.DEVNULL)
        rest = write(self.path("rest.txt"), text[10:])
        run("train", "--data", rest, *options, "--batch", 2, "--accumulate", 2, "--output", self.path("of_rest.h5"), check=True)
        self.assert_same_parameters(self.path("rest.h5"), self.path("of_rest.h5"))
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        self.assert_refused(run_on("data:2", "--data", pipe, *options, "--output", self.path("x.h5")), 2, "is no regular file",
                            "give a file")

    def test_options_of_a_file_reach_all(self):
        config = write(self.path("c.toml"), f'data = "{self.corpus}"\nlayers = 2\ndim = 64\nheads = 2\ncontext = 32\nbatch = 4\nsteps = 5\n'
                                            'parallel = "data:2"\n')
        done = run("train", "--config", config, "--output", self.path("two.h5"), check=True)
        self.assertIn("2 ranks in this process", done.stderr)
        run("train", *self.options(5, batch=2, accumulate=2), "--output", self.path("one.h5"), check=True)
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))
        # One rank of a launch is no launch.
        done = run("train", "--config", config, "--output", self.path("three.h5"), env={"PMI_SIZE": 1, "PMI_RANK": 0}, check=True)
        self.assert_same_parameters(self.path("one.h5"), self.path("three.h5"))

    def test_memory_is_that_of_the_process(self):
        options = self.options(3, batch=8)
        done = run_on("data:2", *options, "--memory-limit", "4GiB", "--dry-run", "--output", self.path("x.h5"), check=True)
        self.assertIn("--recompute none", done.stderr)
        refused = run_on("data:2", *options, "--memory-limit", "100MB", "--dry-run", "--output", self.path("x.h5"))
        self.assert_refused(refused, 2, "--memory-limit 100 MB", "at the least")
        self.assertFalse(os.path.exists(self.path("x.h5")))


class Endings(Ranks):
    def test_a_signal_stops_four_and_others_go_on(self):
        straight, checkpoint = self.path("straight.h5"), self.path("c.h5")
        run("train", *self.options(60, batch=1, accumulate=4), "--output", straight, check=True)
        process = self.begun(*self.options(60), "--parallel", "data:4", "--checkpoint", checkpoint, "--save-every", 4, "--output",
                             self.path("out.h5"))
        self.until(process, lambda: os.path.exists(checkpoint))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (128 + signal.SIGTERM, ""), err)
        self.assertEqual(err.count(f"--resume {checkpoint}"), 1, err)
        self.assert_no_leftovers()
        later = {"one": [], "two": ["--parallel", "data:2"], "four": ["--parallel", "data:4"]}
        for name, layout in later.items():
            output, state = self.path(f"{name}.h5"), self.path(f"c-{name}.h5")
            shutil.copy(checkpoint, state)
            run("train", *self.options(60), *layout, "--resume", state, "--checkpoint", state, "--output", output, check=True)
            self.assert_same_parameters(straight, output)
        if MPIRUN and not without_mpi():
            launch(2, *self.options(60), "--resume", checkpoint, "--checkpoint", checkpoint, "--output", self.path("mpi.h5"), check=True)
            self.assert_same_parameters(straight, self.path("mpi.h5"))

    def test_a_checkpoint_holds_the_same_whoever_writes_it(self):
        files = []
        for name, options in (("one", self.options(6, batch=2, accumulate=2)), ("two", [*self.options(6), "--parallel", "data:2"])):
            run("train", *options, "--checkpoint", self.path(f"{name}.c.h5"), "--output", self.path(f"{name}.h5"), check=True)
            with open(self.path(f"{name}.c.h5"), "rb") as file:
                files.append(file.read())
        self.assertEqual(len(files[0]), len(files[1]))
        self.assert_same_parameters(self.path("one.c.h5"), self.path("two.c.h5"))

    def test_one_message_and_one_status(self):
        alone = self.path("alone.h5")
        run("train", *self.options(3), "--checkpoint", alone, "--output", self.path("m.h5"), check=True)
        for status, options, *parts in ((2, ["--resume", alone], "is 1 x 4 sequences, which 2 ranks cannot share"),
                                        (3, ["--valid", self.path("missing.txt")], "missing.txt"),
                                        (2, ["--sparsity", 0.5, "--pattern", "block:7x7"], "--pattern"),
                                        (5, ["--lr", 1e6, "--clip", 0, "--warmup", 0], "diverged")):
            done = run_on("data:2", *self.options(3 if status < 5 else 50), *options, "--output", self.path("x.h5"))
            self.assert_error(done, status, *parts)
            self.assertEqual(done.stdout, "")
            self.assertFalse(os.path.exists(self.path("x.h5")))
        no_model = write(self.path("no.h5"), "no model")
        self.assert_error(run_on("data:2", "--data", self.corpus, "--init", no_model, "--output", self.path("x.h5")), 3, "not an HDF5 file")
        done = run_on("data:3", *self.options(3), "--output", self.path("x.h5"))
        self.assert_error(done, 2, "3 ranks")
        self.assert_error(run_on("data:2", *self.options(3), "--log", self.path("none/log"), "--output", self.path("x.h5")), 3, "none/log")


class Media(MediaTest):
    def test_lines_of_images_and_sounds(self):
        options = ["--data", "digits.jsonl", *MEDIA, "--steps", 6, "--valid-fraction", 0.25, "--valid-every", 3]
        at = {name: os.path.join(self.folder, f"{name}.h5") for name in ("one", "two", "skip", "x")}
        run("train", *options, "--batch", 2, "--accumulate", 2, "--output", at["one"], cwd=self.folder, check=True)
        done = run_on("data:2", *options, "--batch", 4, "--output", at["two"], cwd=self.folder, check=True)
        self.assert_same_parameters(at["one"], at["two"])
        self.assertEqual(done.stdout.count("two.h5"), 1)
        # A line that cannot be read is an error of the rank whose turn it is, and of all.
        os.rename(os.path.join(self.folder, "0.png"), os.path.join(self.folder, "kept"))
        write(os.path.join(self.folder, "0.png"), "no image")
        self.assert_error(run_on("data:2", *options, "--batch", 18, "--output", at["x"], cwd=self.folder), 3, "0.png")
        done = run_on("data:2", *options, "--batch", 18, "--skip-broken", "--log-level", "debug", "--output", at["skip"], cwd=self.folder, check=True)
        os.rename(os.path.join(self.folder, "kept"), os.path.join(self.folder, "0.png"))
        self.assertEqual(done.stderr.count("0.png"), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
