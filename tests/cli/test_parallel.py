"""Several processes that train one model: launched by mpirun, as on a cluster, on this machine's cores."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from hone_cli import run, sentences, tiny_model, tool, write
from media_files import SHAPE as MEDIA, MediaTest
from model_files import ModelTest, QUICK, log_lines

SHAPE = QUICK[: QUICK.index("--batch")]
MPIRUN = shutil.which("mpirun")
# MPICH's starts as many as it is asked for, Open MPI's as many as there are cores.
OPEN_MPI = bool(MPIRUN) and "Open MPI" in subprocess.run([MPIRUN, "--version"], stdout=subprocess.PIPE, text=True).stdout
LAUNCH = ["mpirun", "--oversubscribe"] if OPEN_MPI else ["mpirun"]
RANK = b"OMPI_COMM_WORLD_RANK" if OPEN_MPI else b"PMI_RANK"
# Tests run as root in containers, where Open MPI would not start.
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "HONE_THREADS": "1"}


def command(ranks, *arguments, name="train"):
    return [*LAUNCH, "-n", str(ranks), tool(name), *map(str, arguments)]


def launch(ranks, *arguments, check=False, stdin=None, name="train"):
    """A tool on so many ranks, to its end."""
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(command(ranks, *arguments, name=name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          env=dict(os.environ, **ROOT), **source)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(done.args)}: status {done.returncode}\n{done.stderr}")
    return done


def start(ranks, *arguments):
    return subprocess.Popen(command(ranks, *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=dict(os.environ, **ROOT))


def ranks_of(launcher):
    """The processes of a launch, by rank."""
    parents, ranks = {}, {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = dict(part.split(b"=", 1) for part in file.read().split(b"\0") if b"=" in part)
            with open(f"/proc/{name}/status") as file:
                parents[int(name)] = int(next(line for line in file if line.startswith("PPid:")).split()[1])
        except (OSError, StopIteration):
            continue
        if RANK in environment:
            ranks[int(name)] = int(environment[RANK])

    def launched(process):  # MPICH's launcher has a process between
        while process in parents and process != launcher.pid:
            process = parents[process]
        return process == launcher.pid

    return {rank: process for process, rank in ranks.items() if launched(process)}


@unittest.skipUnless(MPIRUN, "no mpirun here")
class Parallel(ModelTest):
    def setUp(self):
        super().setUp()
        if "no MPI" in run("train", "--parallel", "data:2", "--steps", 0, "--output", self.path("no.h5")).stderr:
            self.skipTest("these tools were built without MPI")

    def options(self, steps, *more, batch=4, accumulate=1):
        return ["--data", self.corpus, *SHAPE, "--batch", batch, "--accumulate", accumulate, "--steps", steps, *more]

    def assert_close(self, a, b, tolerance=1e-5):
        self.assertLessEqual(abs(a - b), tolerance * abs(b), (a, b))

    def assert_close_logs(self, a, b, tolerance=1e-5):
        for x, y in zip(log_lines(a), log_lines(b), strict=True):
            self.assertEqual((x["step"], x["tokens"]), (y["step"], y["tokens"]))
            for key in ("loss", "gradient_norm"):
                self.assert_close(x[key], y[key], tolerance)

    def loss_of(self, model):
        return self.row(run("eval", model, "--data", self.corpus, "--format", "json", "--no-speed", check=True))["loss"]

    @staticmethod
    def row(done):
        """Of the only model that was scored or measured."""
        return json.loads(done.stdout)["rows"][0]

    def stopped(self, begun, layout, *options):
        """The checkpoint of a run on these ranks that a signal stopped."""
        checkpoint = self.path(f"{begun}.h5")
        ranks, *parallel = layout
        process = start(ranks, *options, *parallel, "--checkpoint", checkpoint, "--save-every", 2, "--output", self.path("never.h5"))
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.005)
        first = ranks_of(process).get(0)
        if first:
            os.kill(first, signal.SIGTERM)
        process.communicate(timeout=60)
        return checkpoint

    def goes_on(self, checkpoint, name, layout, *options):
        """The result of a run that begins with a copy of the checkpoint."""
        ranks, *parallel = layout
        state = self.path(f"{name}.h5")
        shutil.copy(checkpoint, state)
        done = launch(ranks, *options, "--format", "json", *parallel, "--resume", state, "--checkpoint", state, "--output",
                      self.path(f"{name}-out.h5"), check=True)
        return json.loads(done.stdout)


class Training(Parallel):
    def test_two_ranks_are_two_accumulated_batches(self):
        more = ["--valid-fraction", 0.1, "--valid-every", 7, "--dropout", 0.1, "--format", "json"]
        logs = [self.path("one.jsonl"), self.path("two.jsonl")]
        one = json.loads(run("train", *self.options(20, *more, batch=2, accumulate=2), "--log", logs[0], "--output",
                             self.path("one.h5"), check=True).stdout)
        done = launch(2, *self.options(20, *more), "--log", logs[1], "--output", self.path("two.h5"), check=True)
        two = json.loads(done.stdout)  # one object, though two processes ran
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))
        for key in ("steps", "tokens", "loss", "valid_loss", "parameters"):
            self.assertEqual(one[key], two[key], key)
        self.assertEqual(done.stderr.count("validation loss"), 3, done.stderr)
        self.assertRegex(done.stderr, r"2 ranks: 0 on CPUs? \S+, 1 on CPUs? \S+\n")
        for a, b in zip(*map(log_lines, logs), strict=True):
            for key in ("step", "tokens", "loss", "gradient_norm", "terms"):
                self.assertEqual(a.get(key), b.get(key), key)
            # Each rank keeps about half of what the optimizer does.
            self.assertLess(b["optimizer_bytes"], 0.6 * a["optimizer_bytes"])
            self.assertGreater(b["optimizer_bytes"], 0.4 * a["optimizer_bytes"])

    def test_standard_input_reaches_all_ranks(self):
        text = sentences(200)
        options = [*SHAPE, "--steps", 3, "--optimizer", "muon"]
        launch(2, "--data", "-", *options, "--batch", 4, "--parallel", "data:2", "--output", self.path("two.h5"), stdin=text, check=True)
        run("train", "--data", write(self.path("t.txt"), text), *options, "--batch", 2, "--accumulate", 2, "--output",
            self.path("one.h5"), check=True)
        self.assert_same_parameters(self.path("one.h5"), self.path("two.h5"))


class Parts(Parallel):
    """Ranks that divide the matrices: the numbers of one process, to the rounding of sums."""

    def test_losses_are_those_of_one_process(self):
        more = ["--valid-fraction", 0.1, "--valid-every", 10, "--dropout", 0.1, "--format", "json", "--precision", "f32",
                "--log-every", 1, "--ema", 0.9, "--keep", "best"]
        one = json.loads(run("train", *self.options(20, *more, batch=2, accumulate=2), "--log", self.path("one.jsonl"), "--output",
                             self.path("one.h5"), check=True).stdout)
        for ranks, parallel in ((2, "tensor:2"), (4, "data:2,tensor:2")):
            log, output = self.path(f"{ranks}.jsonl"), self.path(f"{ranks}.h5")
            two = json.loads(launch(ranks, *self.options(20, *more, batch=2, accumulate=2), "--parallel", parallel, "--log", log,
                                    "--output", output, check=True).stdout)
            for key in ("loss", "valid_loss"):
                self.assert_close(two[key], one[key])
            for key in ("parameters", "nonzero_parameters", "bytes", "tokens", "steps"):
                self.assertEqual(two[key], one[key], key)
            self.assert_close_logs(log, self.path("one.jsonl"))
            self.assert_close(self.loss_of(output), self.loss_of(self.path("one.h5")))
            # Each rank keeps its part of what the optimizer does.
            part = log_lines(log)[-1]["optimizer_bytes"] / log_lines(self.path("one.jsonl"))[-1]["optimizer_bytes"]
            self.assertLess(part, 1.25 / ranks)

    def test_a_run_goes_on_in_any_layout(self):
        options = self.options(16, "--precision", "f32", batch=2, accumulate=2)
        straight = json.loads(run("train", *options, "--format", "json", "--output", self.path("straight.h5"), check=True).stdout)
        layouts = {"one": [1], "data": [2], "tensor": [2, "--parallel", "tensor:2"], "both": [4, "--parallel", "data:2,tensor:2"]}
        for begun in ("one", "tensor", "both"):
            checkpoint = self.stopped(begun, layouts[begun], *options)
            for later, layout in layouts.items():
                self.assert_close(self.goes_on(checkpoint, f"{begun}-{later}", layout, *options)["loss"], straight["loss"])

    def test_a_signal_to_one_rank_stops_all(self):
        checkpoint = self.path("c.h5")
        process = start(2, *self.options(5000), "--parallel", "tensor:2", "--checkpoint", checkpoint, "--save-every", 3, "--output",
                        self.path("out.h5"))
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.01)
        os.kill(ranks_of(process)[1], signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertIn(f"--resume {checkpoint}", err)
        self.assertEqual((process.returncode, out), (128 + signal.SIGTERM, ""), err)
        self.assert_no_leftovers()

    def trained(self):
        model = self.path("model.h5")
        run("train", *self.options(60, batch=4), "--output", model, check=True)
        return model

    def test_other_tools_run_a_model_in_parts(self):
        model = self.trained()
        score = ["--data", self.corpus, "--format", "json", "--precision", "f32"]
        one = self.row(run("eval", model, *score, check=True))
        two = self.row(launch(2, model, *score, "--parallel", "tensor:2", name="eval", check=True))
        for key in ("loss", "perplexity", "bits_per_byte"):
            self.assert_close(two[key], one[key])
        for key in ("parameters", "nonzero_parameters", "active_parameters", "tokens"):
            self.assertEqual(two[key], one[key], key)
        self.assertGreater(two["decode_tokens_per_second"], 0)
        write_greedily = ["--prompt", "the ", "--tokens", 40, "--temperature", 0, "--precision", "f32"]
        text = run("generate", model, *write_greedily, check=True).stdout
        done = launch(2, model, *write_greedily, "--parallel", "tensor:2", name="generate", check=True)
        self.assertEqual(done.stdout.rstrip("\n"), text.rstrip("\n"))
        done = launch(2, model, *write_greedily[2:], "--parallel", "tensor:2", name="generate", stdin="the ", check=True)
        self.assertEqual(done.stdout.rstrip("\n"), text.rstrip("\n"))
        for options in (["--prompt", 16, "--generate", 4], ["--train", "--steps", 1]):
            done = launch(2, model, *options, "--repeat", 1, "--parallel", "tensor:2", "--format", "json", name="bench", check=True)
            row = self.row(done)
            self.assertEqual((row["tensor"], row["parameters"]), (2, one["parameters"]))

    def test_a_dry_run_counts_parts_of_arrays_that_are_not_there(self):
        done = launch(2, *self.options(3), "--attention", "conv:4,full", "--parallel", "tensor:2", "--dry-run",
                      "--output", self.path("x.h5"), check=True)
        self.assertRegex(done.stderr, r"k parameters, .* to train on")
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_packed_weights_are_divided(self):
        model, small = self.trained(), self.path("small.h5")
        run("quantize", model, "--type", "int8", "--output", small, check=True)
        score = ["--data", self.corpus, "--format", "json", "--precision", "f32", "--no-speed"]
        one = self.row(run("eval", small, *score, check=True))["loss"]
        done = launch(2, small, *score, "--parallel", "tensor:2", name="eval", check=True)
        self.assert_close(self.row(done)["loss"], one)

    def test_what_parts_cannot_do_is_refused(self):
        model = self.trained()
        for options, part in ((["--optimizer", "muon"], "muon moves whole matrices"), (["--moments", "int8"], "moments in int8"),
                              (["--sparsity", 0.5], "--sparsity"), (["--quantize-aware", "int8"], "--quantize-aware"),
                              (["--teacher", model], "--teacher"), (["--experts", 8], "--experts")):
            done = launch(2, *self.options(3), *options, "--parallel", "tensor:2", "--output", self.path("x.h5"))
            self.assert_error(done, 2, part)
            self.assertFalse(os.path.exists(self.path("x.h5")))
        done = launch(3, *self.options(3), "--parallel", "tensor:3", "--output", self.path("x.h5"))
        self.assert_error(done, 2, "3 ranks of a tensor group do not divide")
        done = launch(3, *self.options(3), "--parallel", "tensor:2", "--output", self.path("x.h5"))
        self.assert_error(done, 2, "names 2 ranks, and there are 3")
        score = [model, "--data", self.corpus]
        self.assert_error(launch(2, *score, name="eval"), 2, "give --parallel tensor:2")
        self.assert_error(launch(2, *score, "--parallel", "data:2", name="eval"), 2, "give tensor:RANKS")
        self.assert_error(launch(2, *score, "--baseline", model, "--parallel", "tensor:2", name="eval"), 2, "--baseline")
        self.assert_error(launch(2, *score, "--parallel", "tensor:2", "--require", "loss < 0.001", name="eval"), 4, "1 of 1 requirement failed")
        self.assert_error(launch(2, self.path("none.h5"), "--prompt", "a", "--parallel", "tensor:2", name="generate"), 3, "none.h5")
        self.assert_error(launch(2, model, "--prompt", "a", "--draft", "ngram", "--parallel", "tensor:2", name="generate"), 2, "--draft")
        self.assert_error(launch(2, "--kernels", "--parallel", "tensor:2", name="bench"), 2, "--kernels")


class Experts(Parallel):
    """Ranks that have a mixture's experts between them."""

    SHAPE = ["--experts", 8, "--expert-ffn", 64, "--shared-experts", 1]
    ROUTERS = ["--balance", "none", "--router-z-loss", 0.001, "--router-noise", "gaussian"]

    def mixture(self, steps, *more, batch=1, accumulate=4):
        return self.options(steps, *self.SHAPE, *self.ROUTERS, "--precision", "f32", *more, batch=batch, accumulate=accumulate)

    def test_losses_are_those_of_one_process(self):
        options = self.mixture(8, "--valid-fraction", 0.1, "--valid-every", 4, "--dropout", 0.1, "--format", "json", "--log-every", 1,
                               "--ema", 0.9, "--keep", "best")
        log = self.path("one.jsonl")
        one = json.loads(run("train", *options, "--log", log, "--output", self.path("one.h5"), check=True).stdout)
        for ranks, parallel in ((2, "expert:2"), (4, "data:2,expert:2")):
            own, outputs = self.path(f"{ranks}.jsonl"), [self.path(f"{ranks}.h5"), self.path(f"{ranks}-again.h5")]
            two = json.loads(launch(ranks, *options, "--parallel", parallel, "--log", own, "--output", outputs[0], check=True).stdout)
            for key in ("loss", "valid_loss"):
                self.assert_close(two[key], one[key])
            for key in ("parameters", "nonzero_parameters", "tokens", "steps"):
                self.assertEqual(two[key], one[key], key)
            self.assert_close_logs(own, log, 1e-4)
            self.assert_close(self.loss_of(outputs[0]), self.loss_of(self.path("one.h5")), 1e-4)
            self.assertLess(log_lines(own)[-1]["optimizer_bytes"] / log_lines(log)[-1]["optimizer_bytes"], 1.25 / ranks)
            # The same ranks give the same bits.
            launch(ranks, *options, "--parallel", parallel, "--output", outputs[1], check=True)
            self.assert_same_parameters(*outputs)

    def test_a_run_goes_on_in_any_layout(self):
        options = self.mixture(16)
        straight = json.loads(run("train", *options, "--format", "json", "--output", self.path("straight.h5"), check=True).stdout)
        layouts = {"one": [1], "data": [2], "experts": [2, "--parallel", "expert:2"], "both": [4, "--parallel", "data:2,expert:2"]}
        for begun in ("one", "both"):
            checkpoint = self.stopped(begun, layouts[begun], *options)
            for later, layout in layouts.items():
                self.assert_close(self.goes_on(checkpoint, f"{begun}-{later}", layout, *options)["loss"], straight["loss"], 1e-4)

    def test_a_signal_to_one_rank_stops_all(self):
        checkpoint = self.path("c.h5")
        process = start(2, *self.mixture(5000, accumulate=2), "--parallel", "expert:2", "--checkpoint", checkpoint, "--save-every", 3,
                        "--output", self.path("out.h5"))
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.01)
        os.kill(ranks_of(process)[1], signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertIn(f"--resume {checkpoint}", err)
        self.assertEqual((process.returncode, out), (128 + signal.SIGTERM, ""), err)
        self.assert_no_leftovers()

    def test_a_dense_model_becomes_a_mixture(self):
        dense = self.path("dense.h5")
        run("train", *self.options(10), "--output", dense, check=True)
        options = ["--data", self.corpus, "--init", dense, "--experts", 8, *self.ROUTERS, "--precision", "f32", "--batch", 2,
                   "--accumulate", 2, "--steps", 4, "--format", "json"]
        one = json.loads(run("train", *options, "--output", self.path("one.h5"), check=True).stdout)
        two = json.loads(launch(2, *options, "--parallel", "expert:2", "--output", self.path("two.h5"), check=True).stdout)
        self.assert_close(two["loss"], one["loss"])
        self.assertEqual(two["parameters"], one["parameters"])

    def test_other_tools_run_a_model_whose_experts_are_divided(self):
        model, small = self.path("mixture.h5"), self.path("small.h5")
        run("train", *self.mixture(30, batch=4, accumulate=1), "--output", model, check=True)
        run("quantize", model, "--type", "int8", "--output", small, check=True)
        score = ["--data", self.corpus, "--format", "json", "--precision", "f32"]
        for name in (model, small):
            one = self.row(run("eval", name, *score, check=True))
            two = self.row(launch(2, name, *score, "--parallel", "expert:2", name="eval", check=True))
            for key in ("loss", "perplexity", "bits_per_byte", "router_entropy"):
                self.assert_close(two[key], one[key])
            for key in ("parameters", "nonzero_parameters", "active_parameters", "tokens"):
                self.assertEqual(two[key], one[key], key)
            self.assertGreater(two["decode_tokens_per_second"], 0)
        greedy = ["--prompt", "the ", "--tokens", 40, "--temperature", 0, "--precision", "f32"]
        text = run("generate", model, *greedy, check=True).stdout
        done = launch(2, model, *greedy, "--parallel", "expert:2", name="generate", check=True)
        self.assertEqual(done.stdout.rstrip("\n"), text.rstrip("\n"))

    def test_what_ranks_cannot_do_with_experts_is_refused(self):
        def refused(ranks, options, parallel, *parts):
            done = launch(ranks, *options, "--parallel", parallel, "--output", self.path("x.h5"))
            self.assert_error(done, 2, *parts)
            self.assertFalse(os.path.exists(self.path("x.h5")))

        for options, part in ((["--sparsity", 0.5], "--sparsity"), (["--quantize-aware", "int8"], "--quantize-aware"),
                              (["--layer-dropout", 0.1], "--layer-dropout"), (["--depth-router", 0.5], "routers of depth")):
            refused(2, self.mixture(3, *options), "expert:2", part)
        deep = ["--data", self.corpus, "--layers", 3, "--dim", 64, "--heads", 2, "--context", 32, "--batch", 4, "--steps", 3]
        refused(2, [*deep, *self.SHAPE, "--exits", "1,2", "--exit-loss", "0.5:rotate"], "expert:2", "--exit-loss 0.5:rotate")
        refused(3, self.mixture(3, batch=3, accumulate=1), "expert:3", "3 ranks of an expert group do not divide 8 experts")
        refused(2, self.mixture(3, batch=3, accumulate=1), "expert:2", "2 ranks cannot share a step")
        refused(2, self.options(3), "expert:2", "the model is dense")
        refused(4, self.mixture(3), "tensor:2,expert:2", "not both")
        refused(3, self.mixture(3, batch=3, accumulate=1), "expert:2", "names 2 ranks, and there are 3")
        model = tiny_model(self.directory)
        score = [model, "--data", self.corpus, "--parallel", "expert:2"]
        self.assert_error(launch(2, *score, name="eval"), 2, "the model is dense")
        self.assert_error(launch(2, model, "--prompt", "a", "--parallel", "expert:2", name="generate"), 2, "the model is dense")
        self.assert_error(launch(2, model, "--parallel", "expert:2", name="bench"), 2, "bench measures mixtures in one process")


class Endings(Parallel):
    def until(self, process, holds):
        while not holds():
            self.assertIsNone(process.poll(), process.poll() is not None and process.communicate())
            time.sleep(0.01)

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
        if "no MPI" in run("train", *options, "--parallel", "data:2", cwd=self.folder).stderr:
            self.skipTest("these tools were built without MPI")

        def ranks(*folders):
            arguments = []
            for folder in folders:
                arguments += [":"] * bool(arguments) + ["-n", "1", "-wdir", folder, tool("train"), *map(str, options)]
            return subprocess.run([*LAUNCH, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.PIPE, timeout=120, env=dict(os.environ, **ROOT))

        self.assert_error(ranks(self.folder, other), 2, "rank 1 runs with another 'training_files' than rank 0")
        self.assertFalse(os.path.exists(os.path.join(self.folder, "x.h5")))
        done = ranks(self.folder, self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)


class WithoutMpi(ModelTest):
    """Tools that were built with -DHONE_MPI=OFF."""

    def setUp(self):
        super().setUp()
        if "no MPI" not in run("train", "--parallel", "data:2", "--steps", 0, "--output", self.path("no.h5")).stderr:
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
    def test_no_ranks_but_one(self):
        for parallel, parts in (("data:2", ["data:2"]), ("tensor:2", ["tensor:2"]), ("data", ["data:RANKS"]),
                                ("data:x", ["--parallel data:x"]), ("data:0", ["at least one"]), ("data:1,data:1", ["data:RANKS"]),
                                ("expert:2", ["expert:2"]), ("expert:0", ["at least one"]), ("model:2", ["expert:RANKS"]),
                                ("tensor:2,expert:2", ["not both"])):
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
