"""prune as a user meets it: which weights go, by each method and pattern, and what is refused."""

import csv
import os
import shutil
import unittest

import h5py
import numpy as np

from hone_cli import run, run_json, tiny_model, write
from model_files import LINEAR, ModelTest, fewest, lineage, parameters, read_text, sha256, xxh3, zeros


class PruneTest(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "dense.h5", data=cls.corpus, batch=4, steps=5, dim=64, ffn=128)
        cls.dense = parameters(cls.model)

    def prune(self, *arguments, model=None, name="out.h5"):
        path = self.path(name)
        self.result = run_json("prune", model or self.model, *arguments, "--output", path, "--quiet")
        return parameters(path)

    def weights(self, stored):
        """(name, weight) of the linear layers of all blocks."""
        return [(f"blocks.{b}.{name}", stored[f"blocks.{b}.{name}"]) for b in range(2) for name in LINEAR]

    def assert_masked(self, weight, before, pruned, name=""):
        """Exactly `pruned` weights are zero and masked; the others are those of `before`."""
        kept = weight.kept()
        self.assertEqual(np.count_nonzero(~kept), pruned, name)
        self.assertFalse(weight.values[~kept].any(), name)
        self.assertTrue(np.array_equal(weight.values[kept], before.values[kept]), name)


class Patterns(PruneTest):
    def test_unstructured_magnitude(self):
        for text, sparsity in (("0.5", 0.5), ("60%", 0.6), ("0.123", 0.123), ("0.99", 0.99)):
            with self.subTest(sparsity=text):
                for name, weight in self.weights(self.prune("--sparsity", text, "--force")):
                    before = self.dense[name]
                    self.assert_masked(weight, before, fewest(sparsity, before.values.size), name)
                    # Magnitude: nothing that went is larger than what stayed.
                    size, kept = np.abs(before.values), weight.kept()
                    self.assertLessEqual(size[~kept].max(), size[kept].min(), name)

    def test_no_sparsity_changes_nothing(self):
        for name, weight in self.weights(self.prune("--sparsity", 0)):
            self.assertTrue(np.array_equal(weight.values, self.dense[name].values))

    def test_n_of_m(self):
        for pattern, n, m in (("2:4", 2, 4), ("4:8", 4, 8), ("1:4", 1, 4)):
            with self.subTest(pattern=pattern):
                for name, weight in self.weights(self.prune("--pattern", pattern, "--force")):
                    rows, cols = weight.shape
                    self.assert_masked(weight, self.dense[name], rows * cols * (m - n) // m, name)
                    groups = weight.kept().reshape(rows, cols // m, m)
                    self.assertTrue((groups.sum(axis=2) == n).all(), name)

    def test_blocks(self):
        for name, weight in self.weights(self.prune("--pattern", "block:16x16", "--sparsity", 0.5)):
            rows, cols = weight.shape
            blocks = weight.kept().reshape(rows // 16, 16, cols // 16, 16).sum(axis=(1, 3))
            self.assertTrue(set(np.unique(blocks)) <= {0, 256})
            self.assertEqual(np.count_nonzero(blocks == 0), fewest(0.5, blocks.size))
            # By the sum of magnitudes.
            sums = np.abs(self.dense[name].values.astype(np.float64)).reshape(rows // 16, 16, cols // 16, 16).sum(axis=(1, 3))
            self.assertLess(sums[blocks == 0].max(), sums[blocks > 0].min() * (1 + 1e-5), name)

    def test_second_order_methods_leave_less_error_in_outputs(self):
        calibration = ("--calibration", self.corpus, "--calibration-windows", 8)

        def error(*options):
            out = self.path("second.h5")
            done = run_json("prune", self.model, "--output", out, "--force", "-q", *options, *calibration)
            for name, weight in self.weights(parameters(out)):
                self.assertEqual(np.count_nonzero(~weight.kept()) * 2, weight.values.size, name)
                self.assertFalse(weight.values[~weight.kept()].any(), name)
            self.assertLessEqual(done["layer_error"], done["layer_error_masked"])
            return done

        half = ("--sparsity", 0.5)
        auto, alps = error(*half), error("--method", "alps", *half)
        self.assertEqual((auto["method"], auto["layer_error"]), ("alps", alps["layer_error"]))
        magnitude = error("--method", "magnitude", "--update", "least-squares", *half)
        self.assertLess(alps["layer_error"], magnitude["layer_error"])
        self.assertLess(magnitude["layer_error"], 0.8 * magnitude["layer_error_masked"])
        self.assertLess(error("--method", "sparsegpt", *half)["layer_error"], magnitude["layer_error_masked"])
        # A number behind the method's name: its usual one changes nothing, and is in the lineage.
        usual, more = error("--method", "alps:0.01", *half), error("--method", "alps:5", *half)
        self.assertEqual((usual["method"], usual["layer_error"]), ("alps:0.01", alps["layer_error"]))
        self.assertGreater(more["layer_error"], alps["layer_error"])
        self.assertEqual(lineage(self.path("second.h5"))[-1]["results"]["method"], "alps:5")
        error("--method", "alps", "--pattern", "2:4")
        error("--method", "sparsegpt", "--pattern", "2:4")

    def test_wanda_compares_within_rows(self):
        stored = self.prune("--method", "wanda", "--sparsity", 0.5, "--calibration", self.corpus, "--calibration-windows", 8)
        differs = False
        for name, weight in self.weights(stored):
            rows, cols = weight.shape
            self.assert_masked(weight, self.dense[name], rows * cols // 2, name)
            self.assertTrue((weight.kept().sum(axis=1) == cols // 2).all(), name)
            # The norms of the inputs decide too: not simply the smallest of each row.
            for row, kept in zip(np.abs(self.dense[name].values), weight.kept()):
                differs |= bool(row[~kept].max() > row[kept].min())
        self.assertTrue(differs)

    def test_wanda_by_its_definition(self):
        # The first layer's input is the normalized embedding of each token, which this computes by itself.
        text = write(self.path("c.txt"), read_text(self.corpus)[: 32 * 4])
        stored = self.prune("--method", "wanda", "--sparsity", 0.5, "--calibration", text, "--calibration-windows", 4,
                            "--precision", "f32")
        ids = np.frombuffer(read_text(text).encode(), np.uint8)
        x = self.dense["embedding.weight"].values[ids].astype(np.float64)
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * self.dense["blocks.0.attention_norm.gain"].values
        name = "blocks.0.attention.qkv.weight"
        scores = np.abs(self.dense[name].values) * np.sqrt((x * x).sum(axis=0))
        kept = stored[name].kept()
        for row, k in zip(scores, kept):
            self.assertLessEqual(row[~k].max(), row[k].min() * (1 + 1e-4))

    def test_wanda_with_a_pattern(self):
        stored = self.prune("--method", "wanda", "--pattern", "2:4", "--calibration", self.corpus, "--calibration-windows", 4)
        for name, weight in self.weights(stored):
            rows, cols = weight.shape
            self.assertTrue((weight.kept().reshape(rows, cols // 4, 4).sum(axis=2) == 2).all(), name)

    def test_pruning_again_keeps_what_is_pruned(self):
        first = self.prune("--sparsity", 0.4, name="first.h5")
        second = self.prune("--method", "wanda", "--calibration", self.corpus, "--calibration-windows", 4, "--sparsity", 0.7,
                            model=self.path("first.h5"))
        for name, weight in self.weights(second):
            self.assertFalse((weight.kept() & ~first[name].kept()).any(), name)
            self.assertEqual(np.count_nonzero(~weight.kept()), fewest(0.7, weight.values.size), name)
        # A lower sparsity brings nothing back.
        third = self.prune("--sparsity", 0.1, model=self.path("first.h5"), name="third.h5")
        for name, weight in self.weights(third):
            self.assertTrue(np.array_equal(weight.kept(), first[name].kept()), name)


class Measured(PruneTest):
    def test_loss_before_and_after_and_the_text_it_is_of(self):
        given = ("--sparsity", 0.8, "--method", "wanda", "--calibration", self.corpus, "--calibration-windows", 4)
        self.prune(*given)
        text = self.result["loss_text"]
        self.assertEqual((text["option"], text["part"], text["windows"]), ("--calibration", "held out", 16))
        self.assertEqual((text["files"], text["tokens"]), ([self.corpus], 16 * text["context"]))
        self.assertGreater(self.result["kl"], 0)
        self.assertNotEqual(self.result["loss"], self.result["loss_before"])
        self.assertNotIn("decode_tokens_per_second", self.result)
        # As eval says of the same windows.
        self.prune("--sparsity", 0.8, "--data", self.corpus, "--calibration-windows", 10**6, "--precision", "f32", name="all.h5")
        self.assertEqual((self.result["loss_text"]["option"], self.result["method"]), ("--data", "magnitude"))
        context = self.result["loss_text"]["context"]
        rows = run_json("eval", self.path("all.h5"), "--data", self.corpus, "--baseline", self.model, "--no-speed", "--context",
                        context, "--stride", context, "--precision", "f32")["rows"]
        self.assertAlmostEqual(self.result["loss_before"], rows[0]["loss"], delta=0.02 * rows[0]["loss"])
        self.assertAlmostEqual(self.result["loss"], rows[1]["loss"], delta=0.02 * rows[1]["loss"])

    def test_windows_that_are_all_calibrated_on_are_said_to_be(self):
        self.prune("--sparsity", 0.5, "--calibration", self.corpus, "--calibration-windows", 10**6)
        self.assertEqual([self.result["loss_text"][key] for key in ("part", "windows")], ["calibrated on", 16])

    def test_speed_before_and_after(self):
        self.prune("--sparsity", 0.5, "--measure-speed")
        for name in ("prefill", "decode"):
            after, before = (self.result[f"{name}_tokens_per_second{end}"] for end in ("", "_before"))
            self.assertAlmostEqual(self.result[f"{name}_speedup"], after / before, places=6)
        self.assertNotIn("loss", self.result)

    def test_a_model_of_one_token_has_no_speed(self):
        """It is said before any work is done, and a dry run says so, too."""
        one = tiny_model(self.directory, "one.h5", context=1)
        for name, options in (("prune", ["--sparsity", 0.5]), ("quantize", [])):
            done = run(name, one, *options, "--measure-speed", "--dry-run", "--output", self.path("x.h5"))
            self.assert_error(done, 2, "a context of 1")

    def test_nothing_to_measure_on(self):
        self.prune("--sparsity", 0.5)
        self.assertFalse({"loss", "loss_before", "loss_text", "decode_speedup"} & set(self.result))


class Allocation(PruneTest):
    def test_same_total_and_what_is_said(self):
        report = self.path("r.csv")
        given = ("--method", "wanda", "--sparsity", 0.7, "--calibration", self.corpus, "--calibration-windows", 8)
        kept = {}
        for name in ("uniform", "owl", "search"):
            stored = self.prune(*given, "--allocation", name, "--report", report, "--force")
            self.assertEqual(self.result["allocation"], name)
            weights = self.weights(stored)
            told = self.result["layer_sparsity"]
            self.assertEqual(set(told), {n for n, _ in weights})
            self.assertEqual(lineage(self.path("out.h5"))[-1]["results"]["layer_sparsity"], told)
            rows = {row["parameter"]: float(row["sparsity"]) for row in csv.DictReader(read_text(report).splitlines())}
            for n, weight in weights:
                self.assertAlmostEqual(told[n], 1 - weight.kept().mean())
                self.assertAlmostEqual(told[n], rows[n])
            kept[name] = sum(int(w.kept().sum()) for _, w in weights)
            different = len({round(told[n], 3) for n, _ in weights})
            self.assertEqual(different > 1, name != "uniform", name)
            if name == "search":
                self.assertLessEqual(self.result["kl_search"], self.result["kl_uniform"])
                again = sha256(self.path("out.h5"))
                self.prune(*given, "--allocation", name, "--report", report, "--force")
                self.assertEqual(sha256(self.path("out.h5")), again)
            else:
                self.assertNotIn("kl_search", self.result)
        everything = sum(w.values.size for _, w in self.weights(self.dense))
        for name, count in kept.items():
            self.assertLessEqual(count, 0.3 * everything, name)
            self.assertGreaterEqual(count, 0.3 * everything - len(self.weights(self.dense)), name)


class Selection(PruneTest):
    def test_embeddings_norms_and_head_are_kept(self):
        stored = self.prune("--sparsity", 0.5)
        pruned = {name for name, weight in stored.items() if "mask" in weight.arrays}
        self.assertEqual(pruned, {name for name, _ in self.weights(stored)})

    def test_an_untied_head_is_kept_and_can_be_chosen(self):
        model = tiny_model(self.directory, "untied.h5", untied=True)
        stored = self.prune("--sparsity", 0.5, model=model)
        self.assertEqual(zeros(stored["head.weight"]), 0)
        stored = self.prune("--sparsity", 0.5, "--targets", "^head", "--force", model=model)
        self.assertEqual(zeros(stored["head.weight"]), 256 * 32 // 2)
        self.assertEqual([n for n, w in stored.items() if "mask" in w.arrays], ["head.weight"])

    def test_targets_and_keep(self):
        stored = self.prune("--sparsity", 0.5, "--targets", r"blocks\.1\.", "--keep", "qkv|down")
        self.assertEqual({n for n, w in stored.items() if "mask" in w.arrays},
                         {"blocks.1.attention.output.weight", "blocks.1.feed_forward.gate_up.weight"})

    def test_report(self):
        report = self.path("r.csv")
        self.prune("--sparsity", 0.5, "--report", report)
        rows = list(csv.DictReader(read_text(report).splitlines()))
        self.assertEqual({row["parameter"] for row in rows}, {name for name, _ in self.weights(self.dense)})
        for row in rows:
            self.assertEqual((int(row["rows"]), int(row["cols"])), self.dense[row["parameter"]].shape)
            self.assertEqual(float(row["sparsity_before"]), 0)
            self.assertAlmostEqual(float(row["sparsity"]), 0.5)
            self.assertTrue(0.5 < float(row["score_kept"]) < 1)

    def test_fewer_tokens_than_inputs_are_dampened_counted_and_said(self):
        report = self.path("r.csv")
        done = run("prune", self.model, "--sparsity", 0.5, "--calibration", self.corpus, "--calibration-windows", 3,
                   "--output", self.path("out.h5"), "--report", report, check=True)
        self.assertIn("2 of 8 weights saw fewer calibration tokens", done.stderr)  # the two of 128 inputs
        self.assertIn("dampened", done.stderr)
        rows = {row["parameter"]: row for row in csv.DictReader(read_text(report).splitlines())}
        for name, row in rows.items():
            self.assertEqual(row["calibration_tokens"], "96")
            self.assertEqual(row["calibration"], "dampened" if "down" in name else "used", name)

    def test_result_and_lineage(self):
        self.prune("--sparsity", 0.5)
        path = self.path("out.h5")
        self.assertEqual((self.result["output"], self.result["bytes"], self.result["sha256"]),
                         (path, os.path.getsize(path), sha256(path)))
        self.assertEqual(self.result["nonzero_parameters"],
                         self.result["parameters"] - sum(w.values.size // 2 for _, w in self.weights(self.dense)))
        self.assertAlmostEqual(self.result["sparsity"], 0.5, delta=0.15)  # of linear layers, the head among them
        first, second = lineage(path)
        self.assertEqual((first["tool"], second["tool"]), ("train", "prune"))
        self.assertEqual(second["parent_sha256"], sha256(self.model))
        self.assertIn("0.5", second["arguments"])

    def test_same_bytes_again_on_any_number_of_threads(self):
        wanda = ["--method", "wanda", "--sparsity", 0.5, "--calibration", self.corpus, "--calibration-windows", 4]
        self.prune(*wanda, "--force")
        whole = sha256(self.path("out.h5"))
        self.prune(*wanda, "--force")
        self.assertEqual(sha256(self.path("out.h5")), whole)
        one = self.prune("--sparsity", 0.5, "--threads", 1, "--force")
        two = self.prune("--sparsity", 0.5, "--threads", 2, "--force")
        for name in one:
            self.assertTrue(np.array_equal(one[name].values, two[name].values), name)


class Refusals(PruneTest):
    def refused(self, *arguments, status=2, parts=()):
        done = run("prune", self.model, *arguments, "--output", self.path("out.h5"))
        self.assert_refused(done, status, *parts)
        self.assertFalse(os.path.exists(self.path("out.h5")))

    def test_sparsity(self):
        for value in ("1.0", "1", "100%", "-0.1", "1.5", "abc", "nan"):
            with self.subTest(sparsity=value):
                self.refused(f"--sparsity={value}", parts=["sparsity"])
        self.refused(parts=["--sparsity"])
        self.refused("--pattern", "2:4", "--sparsity", 0.6, parts=["2:4"])

    def test_unknown_names_list_those_that_exist(self):
        self.refused("--method", "obs", "--sparsity", 0.5, parts=["magnitude", "wanda"])
        calibrated = ["--sparsity", 0.5, "--calibration", self.corpus]
        self.refused("--method", "wanda:1", *calibrated, parts=["wanda takes no number"])
        self.refused("--method", "auto:1", *calibrated, parts=["'auto'"])
        for value in ("0", "11", "x", ""):
            self.refused("--method", f"alps:{value}", *calibrated)
        for pattern in ("stripes", "2:", "block:16", "block:16x"):
            with self.subTest(pattern=pattern):
                self.refused("--pattern", pattern, "--sparsity", 0.5, parts=["unstructured", "N:M", "block:RxC"])
        for pattern, kind in (("4:2", "N:M"), ("0:4", "N:M"), ("block:0x16", "block:RxC"), ("block:8x5000", "block:RxC")):
            with self.subTest(pattern=pattern):
                self.refused("--pattern", pattern, "--sparsity", 0.5, parts=[pattern, kind])

    def test_pattern_that_does_not_divide(self):
        self.refused("--pattern", "block:48x48", "--sparsity", 0.5, parts=["blocks.0.", "48"])
        self.refused("--pattern", "3:7", parts=["blocks.0.", "7"])

    def test_regular_expressions(self):
        self.refused("--sparsity", 0.5, "--targets", "(", parts=["--targets"])
        self.refused("--sparsity", 0.5, "--keep", "[", parts=["--keep"])
        self.refused("--sparsity", 0.5, "--targets", "no_such_layer", parts=["embedding.weight"])

    def test_calibration(self):
        self.refused("--method", "wanda", "--sparsity", 0.5, parts=["--calibration"])
        self.refused("--method", "magnitude", "--sparsity", 0.5, "--calibration", self.corpus, parts=["magnitude", "--calibration"])
        for method in ("sparsegpt", "alps"):
            self.refused("--method", method, "--sparsity", 0.5, parts=[method, "--calibration"])
        self.refused("--update", "least-squares", "--sparsity", 0.5, parts=["--update", "--calibration"])
        wanda = ["--method", "wanda", "--sparsity", 0.5]
        short = write(self.path("short.txt"), "shorter than 32 bytes")
        self.refused(*wanda, "--calibration", short, status=3, parts=["short.txt", "32"])
        self.refused(*wanda, "--calibration", self.path("none.txt"), status=3, parts=["none.txt"])
        self.refused(*wanda, "--calibration", write(self.path("empty.txt"), ""), status=3, parts=["empty.txt"])
        self.refused(*wanda, "--calibration", self.corpus, "--calibration-windows", 0, parts=["--calibration-windows"])
        self.refused(*wanda, "--calibration", self.corpus, "--calibration-context", 0, parts=["--calibration-context"])

    def test_allocation(self):
        self.refused("--allocation", "even", "--sparsity", 0.5, parts=["uniform", "owl", "search"])
        for name in ("owl", "search"):
            self.refused("--allocation", name, "--sparsity", 0.5, parts=[f"--allocation {name}", "--calibration"])
            self.refused("--allocation", name, "--pattern", "2:4", "--calibration", self.corpus,
                         parts=[f"--allocation {name}", "2:4"])
            self.refused("--allocation", name, "--structure", "neurons:25%", "--calibration", self.corpus,
                         parts=["--allocation"])

    def test_calibration_that_overflows_names_the_layer(self):
        bad = self.path("bad.h5")
        shutil.copyfile(self.model, bad)
        with h5py.File(bad, "r+") as file:  # finite weights, infinite products
            group = file["parameters/blocks/1/feed_forward/gate_up/weight"]
            values = np.copysign(np.float32(3e38), group["values"][()])
            group["values"][...] = values
            group["values"].attrs.modify("checksum", np.bytes_(xxh3(values.tobytes())))
        for options in (("--method", "alps"), ("--method", "magnitude", "--update", "least-squares"),
                        ("--method", "wanda", "--allocation", "owl")):
            done = run("prune", bad, "--sparsity", 0.5, *options, "--calibration", self.corpus, "--calibration-windows", 4,
                       "--output", self.path("out.h5"))
            self.assert_refused(done, 3, "blocks.1", "not finite numbers")

    def test_output_that_exists(self):
        write(self.path("out.h5"), "old")
        self.assert_refused(run("prune", self.model, "--sparsity", 0.5, "--output", self.path("out.h5")), 2, "--force")
        self.assertEqual(read_text(self.path("out.h5")), "old")
        write(self.path("r.csv"), "old")
        done = run("prune", self.model, "--sparsity", 0.5, "--output", self.path("m.h5"), "--report", self.path("r.csv"))
        self.assert_refused(done, 2, "r.csv", "--force")
        self.assertFalse(os.path.exists(self.path("m.h5")))

    def test_dry_run(self):
        done = run("prune", self.model, "--sparsity", 0.5, "--output", self.path("m.h5"), "--report", self.path("r.csv"), "--dry-run",
                   check=True)
        self.assertEqual((done.stdout, os.listdir(self.directory)), ("", []))
        self.assertIn("8 weights", done.stderr)
        self.refused("--sparsity", 0.5, "--targets", "no_such_layer", "--dry-run", parts=["embedding.weight"])

    def test_quantized_models_say_what_to_do(self):
        run("quantize", self.model, "--output", self.path("q.h5"), check=True)
        done = run("prune", self.path("q.h5"), "--sparsity", 0.5, "--output", self.path("out.h5"))
        self.assert_refused(done, 2, "quantize")


if __name__ == "__main__":
    unittest.main()
