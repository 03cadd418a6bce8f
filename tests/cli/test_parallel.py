"""Ranks that share the sequences of a step, how several processes end together, and what none of them can do."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from hone_cli import run, sentences, tiny_model, tool, write
from media_files import SHAPE as MEDIA, MediaTest
from model_files import ModelTest, QUICK
from mpi_launch import MPIRUN, OPEN_MPI, ROOT, SHAPE, Parallel, command, launch, launch_in, ranks_of, start, without_mpi


class Training(Parallel):
    def test_two_ranks_are_two_accumulated_batches(self):
        more = ["--valid-fraction", 0.1, "--valid-every", 7, "--dropout", 0.1, "--format", "json"]
        logs = [self.path("one.jsonl"), self.path("two.jsonl")]
        one = json.loads(run("train", *self.options(20, *more, batch=2, accumulate=2), "--log", logs[0], "--output",
                             self.path("one.h5"), check=True).stdout)
        done = launch(2, *self.options(20, *more), "--log", logs[1], "--output", self.path("two.h5"), check=True)
        two = json.loads(done.stdout)  # one object, though two processes ran
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))
        self.assert_same_run(one, two, logs)
        self.assertEqual(done.stderr.count("validation loss"), 3, done.stderr)
        self.assertRegex(done.stderr, r"2 ranks: 0 on CPUs? \S+, 1 on CPUs? \S+\n")

    def test_standard_input_reaches_all_ranks(self):
        text = sentences(200)
        options = [*SHAPE, "--steps", 3, "--optimizer", "muon"]
        launch(2, "--data", "-", *options, "--batch", 4, "--parallel", "data:2", "--output", self.path("two.h5"), stdin=text, check=True)
        run("train", "--data", write(self.path("t.txt"), text), *options, "--batch", 2, "--accumulate", 2, "--output",
            self.path("one.h5"), check=True)
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))


class Endings(Parallel):
    def test_a_signal_to_one_rank_stops_four_and_fewer_go_on(self):
        straight, checkpoint = self.path("straight.h5"), self.path("c.h5")
        run("train", *self.options(60, batch=1, accumulate=4), "--output", straight, check=True)
        files = ["--checkpoint", checkpoint, "--save-every", 4, "--output", self.path("out.h5")]
        process = start(4, *self.options(60), *files)
        self.until(process, lambda: len(ranks_of(process)) == 4)
        second = ranks_of(process)[1]
        self.until(process, lambda: os.path.exists(checkpoint))
        os.kill(second, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertIn(f"--resume {checkpoint}", err)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, err)
        self.assertEqual(out, "")
        self.assert_no_leftovers()
        for ranks in (1, 2):
            output, state = self.path(f"from{ranks}.h5"), self.path(f"c{ranks}.h5")
            shutil.copy(checkpoint, state)
            options = [*self.options(60), "--resume", state, "--checkpoint", state, "--output", output]
            if ranks == 1:
                run("train", *options, check=True)
            else:
                launch(ranks, *options, check=True)
            self.assert_same_parameters(straight, output)

    def test_one_rank_that_is_killed_ends_all(self):
        checkpoint = self.path("c.h5")
        process = start(2, *self.options(5000, "--checkpoint", checkpoint, "--save-every", 3, "--output", self.path("out.h5")))
        self.until(process, lambda: os.path.exists(checkpoint))
        begun = time.time()
        os.kill(ranks_of(process)[1], signal.SIGKILL)
        process.communicate(timeout=30)
        self.assertNotEqual(process.returncode, 0)
        self.assertLess(time.time() - begun, 10)
        self.assertFalse(os.path.exists(self.path("out.h5")))
        # The last checkpoint is whole.
        run("inspect", checkpoint, check=True)

    def test_a_signal_to_the_launcher_ends_all(self):
        """Each passes it on in its own way (Open MPI kills soon after), but what was saved is whole, and a run goes on from it."""
        straight, checkpoint, output = (self.path(name) for name in ("straight.h5", "c.h5", "out.h5"))
        options = self.options(200)
        files = ["--checkpoint", checkpoint, "--save-every", 3, "--output", output]
        process = start(2, *options, *files)
        self.until(process, lambda: os.path.exists(checkpoint))
        begun = time.time()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0, err)
        self.assertLess(time.time() - begun, 20)
        self.assertEqual(out, "")
        self.assertFalse(os.path.exists(output))
        launch(2, *options, *files, "--resume", checkpoint, check=True)
        run("train", *self.options(200, batch=2, accumulate=2), "--output", straight, check=True)
        self.assert_same_parameters(straight, output)


class BadInput(Parallel):
    def refused(self, ranks, status, *parts, options=()):
        done = launch(ranks, *self.options(3), *options, "--output", self.path("x.h5"))
        self.assert_error(done, status, *parts)
        self.assertEqual(done.stdout, "")
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_one_message_and_one_status(self):
        alone = self.path("alone.h5")
        run("train", *self.options(3), "--checkpoint", alone, "--output", self.path("m.h5"), check=True)
        self.refused(2, 2, "is 1 x 4 sequences, which 2 ranks cannot share", options=["--resume", alone])
        self.refused(2, 3, "missing.txt", options=["--valid", self.path("missing.txt")])

    def test_what_one_rank_alone_lacks(self):
        """A machine without the text: all end at once, and say what that one met."""
        with_text, without = self.path("with"), self.path("without")
        for folder in (with_text, without):
            os.mkdir(folder)
        shutil.copy(self.corpus, os.path.join(with_text, "text"))
        options = ["--data", "text", *SHAPE, "--batch", 4, "--steps", 3, "--output", self.path("x.h5")]
        begun = time.time()
        for folders in ((with_text, without), (without, with_text)):
            self.assert_error(launch_in(folders, *options), 3, "text", "No such file")
        self.assertLess(time.time() - begun, 30)
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_the_launcher_of_another_mpi(self):
        """Each of its copies would take itself for the only one."""
        others = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
                  **({"PMI_SIZE": "PMI_RANK"} if OPEN_MPI else {"OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"})}
        for ranks, rank in others.items():
            first, second = ({ranks: 2, rank: i, **ROOT} for i in range(2))
            options = [*self.options(3), "--output", self.path("x.h5")]
            self.assert_refused(run("train", *options, env=first), 2, f"2 ranks were launched ({ranks})", "sees 1 of them")
            done = run("train", *options, env=second)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", ""))  # the first has said it
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_ranks_that_differ(self):
        other = self.options(4)
        arguments = [*command(1, *self.options(3), "--output", self.path("x.h5")), ":", "-n", "1", tool("train"), *map(str, other),
                     "--output", self.path("x.h5")]
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60, env=dict(os.environ, **ROOT))
        self.assert_error(done, 2, "rank 1", "'steps' than rank 0 (4 there, 3 here)")


@unittest.skipUnless(MPIRUN, "no mpirun here")
class Media(MediaTest):
    def test_ranks_whose_files_differ(self):
        """Files of the same names, one of them broken on the second rank, which would leave its line out."""
        other = os.path.join(self.folder, "other")
        shutil.copytree(self.folder, other)
        write(os.path.join(other, "0.png"), "no image")
        options = ["--data", "digits.jsonl", *MEDIA, "--steps", 1, "--batch", 2, "--skip-broken", "--output",
                   os.path.join(self.folder, "x.h5")]
        if without_mpi():
            self.skipTest("these tools were built without MPI")

        self.assert_error(launch_in([self.folder, other], *options), 2, "rank 1 runs with another 'training_files' than rank 0")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "x.h5")))
        done = launch_in([self.folder, self.folder], *options)
        self.assertEqual(done.returncode, 0, done.stderr)


class WithoutMpi(ModelTest):
    """Tools that were built with -DHONE_MPI=OFF."""

    def setUp(self):
        super().setUp()
        if not without_mpi():
            self.skipTest("these tools were built with MPI")

    def test_a_launch_is_an_error(self):
        model = tiny_model(self.directory)
        calls = [("train", "--data", self.corpus, *QUICK, "--output", self.path("x.h5")), ("eval", model, "--data", self.corpus),
                 ("generate", model, "--prompt", "a"), ("bench", model)]
        for name, *arguments in calls:
            first, second = ({"OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": rank} for rank in (0, 1))
            self.assert_refused(run(name, *arguments, env=first), 2, "this build has no MPI", "OMPI_COMM_WORLD_SIZE")
            done = run(name, *arguments, env=second)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", ""))
            if MPIRUN:
                self.assert_error(launch(2, *arguments, name=name), 2, "this build has no MPI")
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_parts_need_it(self):
        model = tiny_model(self.directory)
        self.assert_refused(run("eval", model, "--data", self.corpus, "--parallel", "tensor:2"), 2, "this build has no MPI")


class WithoutALauncher(ModelTest):
    def test_what_names_no_ranks(self):
        for parallel, parts in (("data", ["data:RANKS"]), ("data:x", ["--parallel data:x"]), ("data:0", ["at least one"]),
                                ("data:1,data:1", ["data:RANKS"]), ("expert:0", ["at least one"]), ("model:2", ["expert:RANKS"]),
                                ("tensor:2,expert:2", ["not both"]), ("data:257", ["at most 256", "mpirun"])):
            done = run("train", "--data", self.corpus, *QUICK, "--parallel", parallel, "--output", self.path("x.h5"))
            self.assert_refused(done, 2, *parts)
        run("train", "--data", self.corpus, *QUICK, "--steps", 1, "--parallel", "data:1", "--output", self.path("x.h5"), check=True)

    def test_tools_that_work_alone_refuse_a_launch(self):
        model = tiny_model(self.directory)
        for variables in (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK")):
            first, second = (dict(zip(variables, (2, rank))) for rank in (0, 1))
            self.assert_refused(run("inspect", model, env=first), 2, "inspect works in one process", variables[0])
            done = run("inspect", model, env=second)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (2, "", ""))  # the first has said it
            self.assertIn("parameters", run("inspect", model, env=dict(zip(variables, (1, 0))), check=True).stdout)


if __name__ == "__main__":
    unittest.main()
