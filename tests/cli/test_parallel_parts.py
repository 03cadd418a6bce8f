"""Ranks that have parts of one model, its matrices or its experts, in train and in the other tools."""

import json
import os
import unittest

from hone_cli import run, tiny_model
from model_files import log_lines
from mpi_launch import Parallel, launch


class Parts(Parallel):
    """Ranks that divide the matrices: the numbers of one process, to the rounding of sums."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = os.path.join(cls.shared, "model.h5")
        run("train", *cls.options(60), "--output", cls.model, check=True)

    def test_losses_are_those_of_one_process(self):
        more = ["--valid-fraction", 0.1, "--valid-every", 10, "--dropout", 0.1, "--format", "json", "--precision", "f32",
                "--log-every", 1, "--ema", 0.9, "--keep", "best", "--teacher", self.model, "--teacher-hidden", 0.1]
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
        # Each is left and gone to; all pairs of them are in tests/lib/train/tensor_test.cpp.
        for begun, later in (("one", "both"), ("both", "tensor"), ("tensor", "data")):
            checkpoint = self.stopped(begun, layouts[begun], *options)
            self.assert_close(self.goes_on(checkpoint, f"{begun}-{later}", layouts[later], *options)["loss"], straight["loss"])

    def test_a_signal_to_one_rank_stops_all(self):
        self.assert_a_signal_stops_all(*self.options(5000), "--parallel", "tensor:2")

    def test_other_tools_run_a_model_in_parts(self):
        model = self.model
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
        model, small = self.model, self.path("small.h5")
        run("quantize", model, "--type", "int8", "--output", small, check=True)
        # Beside a baseline that is divided, too.
        score = ["--data", self.corpus, "--format", "json", "--precision", "f32", "--no-speed", "--baseline", model]
        one = self.row(run("eval", small, *score, check=True))
        two = self.row(launch(2, small, *score, "--parallel", "tensor:2", name="eval", check=True))
        self.assert_close(two["loss"], one["loss"])
        self.assertAlmostEqual(two["kl"], one["kl"], 5)
        self.assertAlmostEqual(two["loss_difference"], one["loss_difference"], 4)

    def test_what_parts_cannot_do_is_refused(self):
        model = self.model
        for options, part in ((["--optimizer", "muon"], "muon moves whole matrices"), (["--moments", "int8"], "moments in int8"),
                              (["--sparsity", 0.5], "--sparsity"), (["--quantize-aware", "int8"], "--quantize-aware"),
                              (["--experts", 8], "--experts"),
                              (["--teacher", model, "--teacher-cache", self.path("cache")], "--teacher-cache")):
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
        launch(4, *options, "--parallel", "data:2,expert:2", "--output", outputs[1], check=True)
        self.assert_same_parameters(*outputs)

    def test_a_run_goes_on_in_any_layout(self):
        options = self.mixture(16)
        straight = json.loads(run("train", *options, "--format", "json", "--output", self.path("straight.h5"), check=True).stdout)
        layouts = {"one": [1], "data": [2], "experts": [2, "--parallel", "expert:2"], "both": [4, "--parallel", "data:2,expert:2"]}
        # All pairs of them are in tests/lib/train/expert_test.cpp.
        for begun, later in (("one", "experts"), ("both", "data")):
            checkpoint = self.stopped(begun, layouts[begun], *options)
            self.assert_close(self.goes_on(checkpoint, f"{begun}-{later}", layouts[later], *options)["loss"], straight["loss"], 1e-4)

    def test_a_signal_to_one_rank_stops_all(self):
        self.assert_a_signal_stops_all(*self.mixture(5000, accumulate=2), "--parallel", "expert:2")

    def test_a_dense_model_becomes_a_mixture(self):
        dense = self.path("dense.h5")
        run("train", *self.options(10), "--output", dense, check=True)
        options = ["--data", self.corpus, "--init", dense, "--experts", 8, *self.ROUTERS, "--precision", "f32", "--batch", 2,
                   "--accumulate", 2, "--steps", 4, "--teacher", dense, "--format", "json"]
        one = json.loads(run("train", *options, "--output", self.path("one.h5"), check=True).stdout)
        two = json.loads(launch(2, *options, "--parallel", "expert:2", "--output", self.path("two.h5"), check=True).stdout)
        self.assert_close(two["loss"], one["loss"])
        self.assertEqual(two["parameters"], one["parameters"])

    def test_other_tools_run_a_model_whose_experts_are_divided(self):
        model, small = self.path("mixture.h5"), self.path("small.h5")
        run("train", *self.mixture(30, batch=4, accumulate=1), "--output", model, check=True)
        run("quantize", model, "--type", "int8", "--output", small, check=True)
        score = ["--data", self.corpus, "--format", "json", "--precision", "f32", "--no-speed"]
        for name, more in ((model, []), (small, ["--baseline", model])):
            one = self.row(run("eval", name, *score, *more, check=True))
            two = self.row(launch(2, name, *score, *more, "--parallel", "expert:2", name="eval", check=True))
            for key in ("loss", "perplexity", "bits_per_byte", "router_entropy"):
                self.assert_close(two[key], one[key])
            for key in ("parameters", "nonzero_parameters", "active_parameters", "tokens"):
                self.assertEqual(two[key], one[key], key)
            if more:
                self.assertAlmostEqual(two["kl"], one["kl"], 5)
        greedy = ["--prompt", "the ", "--tokens", 40, "--temperature", 0, "--precision", "f32"]
        text = run("generate", model, *greedy, check=True).stdout
        done = launch(2, model, *greedy, "--parallel", "expert:2", name="generate", check=True)
        self.assertEqual(done.stdout.rstrip("\n"), text.rstrip("\n"))
        shape = ["--prompt", 16, "--generate", 4, "--repeat", 1, "--format", "json"]
        row = self.row(launch(2, model, *shape, "--parallel", "expert:2", name="bench", check=True))
        self.assertEqual((row["expert"], row["parameters"]), (2, two["parameters"]))

    def test_what_ranks_cannot_do_with_experts_is_refused(self):
        def refused(ranks, options, parallel, *parts):
            done = launch(ranks, *options, "--parallel", parallel, "--output", self.path("x.h5"))
            self.assert_error(done, 2, *parts)
            self.assertFalse(os.path.exists(self.path("x.h5")))

        for options, part in ((["--sparsity", 0.5], "--sparsity"), (["--quantize-aware", "int8"], "--quantize-aware"),
                              (["--layer-dropout", 0.1], "--layer-dropout"), (["--depth-router", 0.5], "routers of depth")):
            refused(2, self.mixture(3, *options), "expert:2", part)
        eight_bits = ["int8" if option == "f32" else option for option in self.mixture(3)]
        refused(2, eight_bits, "expert:2", "--precision int8")
        deep = ["--data", self.corpus, "--layers", 3, "--dim", 64, "--heads", 2, "--context", 32, "--batch", 4, "--steps", 3]
        refused(2, [*deep, *self.SHAPE, "--exits", "1,2", "--exit-loss", "0.5:rotate"], "expert:2", "--exit-loss 0.5:rotate")
        refused(3, self.mixture(3, batch=3, accumulate=1), "expert:3", "3 ranks of an expert group do not divide 8 experts")
        refused(2, self.mixture(3, batch=3, accumulate=1), "expert:2", "2 ranks cannot share a step")
        refused(2, self.options(3), "expert:2", "the model is dense")
        refused(4, self.mixture(3), "tensor:2,expert:2", "not both")
        model = tiny_model(self.directory)
        score = [model, "--data", self.corpus, "--parallel", "expert:2"]
        self.assert_error(launch(2, *score, name="eval"), 2, "the model is dense")
        self.assert_error(launch(2, model, "--prompt", "a", "--parallel", "expert:2", name="generate"), 2, "the model is dense")
        self.assert_error(launch(2, model, "--parallel", "expert:2", name="bench"), 2, "the model is dense")
        self.assert_error(launch(2, model, "--train", "--parallel", "expert:2", name="bench"), 2, "measure --train in one process")


if __name__ == "__main__":
    unittest.main()
