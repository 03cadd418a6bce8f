"""quantize as a user meets it: types and forms in the file, how far values move, and what is refused."""

import csv
import os
import unittest

import numpy as np

from hone_cli import ROOT, element_names, run, run_json, tiny_model, write
from model_files import LINEAR, ModelTest, fewest, lineage, parameters, read_text, sha256


class QuantizeTest(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "dense.h5", data=cls.corpus, batch=4, steps=5, dim=128, ffn=256)
        cls.sparse = os.path.join(cls.shared, "sparse.h5")
        run("prune", cls.model, "--sparsity", 0.6, "--output", cls.sparse, check=True)

    def quantize(self, *arguments, model=None, name="out.h5"):
        self.out = self.path(name)
        self.result = run_json("quantize", model or self.model, *arguments, "--output", self.out, "--force", "--quiet")
        return parameters(self.out)

    def errors(self, *arguments):
        """Of each weight; what was stored is self.stored."""
        report = self.path("r.csv")
        self.stored = self.quantize("--report", report, *arguments)
        return {row["parameter"]: float(row["relative_error"]) for row in csv.DictReader(read_text(report).splitlines())}

    def linear(self, stored):
        return [stored[f"blocks.{b}.{name}"] for b in range(2) for name in LINEAR]

    def assert_forms(self, stored, form, element):
        for weight in self.linear(stored):
            self.assertEqual((weight.form, weight.element), (form, element))


class Types(QuantizeTest):
    def test_int8(self):
        stored = self.quantize()
        self.assert_forms(stored, "panels", "int8")
        self.assertEqual(stored["embedding.weight"].element, "int8")
        self.assertEqual(stored["norm.gain"].element, "f32")
        self.assertLess(os.path.getsize(self.out), os.path.getsize(self.model) * 0.30)
        self.assertEqual((self.result["bytes"], self.result["sha256"]), (os.path.getsize(self.out), sha256(self.out)))

    def test_int4_groups(self):
        sizes = {}
        for group in (0, 32, 64, 128):
            stored = self.quantize("--type", "int4", "--group", group)
            self.assert_forms(stored, "panels", "int4")
            scales = stored["blocks.0.feed_forward.down.weight"].arrays["scales"]
            self.assertEqual(scales.shape[1], 256 // group if group else 1)
            sizes[group] = os.path.getsize(self.out)
            self.assertLess(sizes[group], os.path.getsize(self.model) * 0.20)
        self.assertTrue(sizes[0] < sizes[128] < sizes[64] < sizes[32])

    def test_nf4_takes_the_bytes_of_int4_and_errs_less(self):
        for group in (32, 128):
            int4 = sum(self.errors("--type", "int4", "--group", group).values())
            size = os.path.getsize(self.out)
            nf4 = sum(self.errors("--type", "nf4", "--group", group).values())
            self.assert_forms(self.stored, "panels", "nf4")
            self.assertLess(abs(os.path.getsize(self.out) - size), 4096)
            self.assertLess(nf4, 0.95 * int4)
        sparse = self.quantize("--type", "nf4", "--group", 32, model=self.sparse)
        self.assert_forms(sparse, "bitmask", "nf4")
        loss = [run_json("eval", path, "--data", self.corpus, "--no-speed", "--limit", 20)["rows"][0]["loss"]
                for path in (self.sparse, self.out)]
        self.assertLess(abs(loss[1] - loss[0]), 0.05)

    def test_fewer_bits_take_fewer_bytes_and_err_more(self):
        sizes, errors = [], []
        for type_, bits in (("int4", 4), ("int3", 3), ("int2", 2), ("ternary", 2)):
            errors.append(sum(self.errors("--type", type_, "--group", 32).values()))
            weight = self.stored["blocks.0.feed_forward.down.weight"]
            self.assertEqual(8 * weight.arrays["values"].size, bits * 256 * 128)
            sizes.append(os.path.getsize(self.out))
            self.assert_forms(self.quantize("--type", type_, "--group", 32, model=self.sparse), "bitmask", type_)
        self.assertTrue(sizes[0] > sizes[1] > sizes[2] == sizes[3], sizes)
        self.assertTrue(errors[0] < errors[1] < errors[2] < errors[3], errors)

    def test_every_element_is_an_option_with_its_place_in_the_pages(self):
        for name in element_names():
            self.assert_forms(self.quantize("--type", name), "panels", name)
            for page in ("quantize.md", "packed.md"):
                self.assertIn(f"`{name}`", read_text(os.path.join(ROOT, "docs", page)), page)

    def test_bf16(self):
        self.assert_forms(self.quantize("--type", "bf16"), "panels", "bf16")
        self.assertLess(os.path.getsize(self.out), os.path.getsize(self.model) * 0.55)

    def test_pruned_models_are_stored_as_bitmasks(self):
        for type_, most in (("int8", 0.20), ("int4", 0.15), ("bf16", 0.32)):
            with self.subTest(type=type_):
                dense = self.quantize("--type", type_, "--embedding-type", "int8")
                dense_bytes = os.path.getsize(self.out)
                sparse = self.quantize("--type", type_, "--embedding-type", "int8", model=self.sparse)
                self.assert_forms(sparse, "bitmask", type_)
                self.assertLess(os.path.getsize(self.out), dense_bytes)
                self.assertLess(os.path.getsize(self.out), os.path.getsize(self.model) * most)
                for a, b in zip(self.linear(dense), self.linear(sparse)):
                    self.assertEqual(a.shape, b.shape)
                    # One bit a weight for the mask, and a bit set for each weight that is kept.
                    bits = np.unpackbits(b.arrays["mask"].view(np.uint8)).sum()
                    self.assertEqual(bits, b.shape[0] * b.shape[1] - fewest(0.6, b.shape[0] * b.shape[1]))

    def test_two_of_four(self):
        run("prune", self.model, "--pattern", "2:4", "--output", self.path("half.h5"), check=True)
        stored = self.quantize(model=self.path("half.h5"))
        for weight in self.linear(stored):
            bits = np.unpackbits(weight.arrays["mask" if weight.form == "bitmask" else "kept"].view(np.uint8)).sum()
            self.assertEqual(bits, weight.shape[0] * weight.shape[1] // 2)

    def test_masks_survive_training_refusal_and_requantizing(self):
        self.quantize("--type", "int8", model=self.sparse, name="q.h5")
        stored = self.quantize("--type", "int4", "--group", 32, "--allow-requantize", model=self.path("q.h5"))
        for weight, before in zip(self.linear(stored), self.linear(parameters(self.path("q.h5")))):
            self.assertEqual((weight.form, weight.element), ("bitmask", "int4"))
            self.assertEqual(np.unpackbits(weight.arrays["mask"].view(np.uint8)).sum(),
                             np.unpackbits(before.arrays["mask"].view(np.uint8)).sum())

    def test_keep(self):
        stored = self.quantize("--type", "int8", "--embedding-type", "keep")
        self.assertEqual((stored["embedding.weight"].form, stored["embedding.weight"].element), ("dense", "f32"))
        stored = self.quantize("--type", "keep", "--embedding-type", "int8")
        self.assert_forms(stored, "dense", "f32")
        self.assertEqual(stored["embedding.weight"].element, "int8")

    def test_overrides_the_first_wins(self):
        stored = self.quantize("--type", "int4", "--override", r"blocks\.0\..*down=bf16", "--override", "down=int8", "--override",
                               "^embedding=keep")
        self.assertEqual(stored["blocks.0.feed_forward.down.weight"].element, "bf16")
        self.assertEqual(stored["blocks.1.feed_forward.down.weight"].element, "int8")
        self.assertEqual(stored["blocks.1.attention.qkv.weight"].element, "int4")
        self.assertEqual(stored["embedding.weight"].form, "dense")

    def test_report(self):
        report = self.path("r.csv")
        self.quantize("--type", "int4", "--group", 64, "--report", report)
        rows = {row["parameter"]: row for row in csv.DictReader(read_text(report).splitlines())}
        self.assertEqual(len(rows), 9)
        for name, row in rows.items():
            self.assertEqual((row["type"], row["form"], int(row["group"])), ("int4", "panels", 64))
            self.assertTrue(0 < float(row["relative_error"]) < 0.02, name)
            self.assertLess(int(row["bytes"]), int(row["bytes_before"]) / 5)

    def test_loss_and_speed_before_and_after(self):
        self.quantize("--type", "int2", "--group", 32, "--calibration", self.corpus, "--calibration-windows", 4, "--measure-speed")
        self.assertGreater(self.result["kl"], 0)
        self.assertEqual(self.result["loss_text"]["part"], "held out")
        for name in ("loss", "loss_before", "accuracy", "accuracy_before", "decode_tokens_per_second",
                     "decode_tokens_per_second_before", "prefill_tokens_per_second", "prefill_tokens_per_second_before"):
            self.assertIn(name, self.result)
        two_bits = self.result["kl"]
        self.quantize("--type", "int8", "--data", self.corpus)
        self.assertEqual(self.result["loss_text"]["option"], "--data")
        self.assertLess(self.result["kl"], two_bits)
        self.quantize("--type", "int8")
        self.assertNotIn("loss", self.result)

    def test_finer_is_closer(self):
        int8, int4, grouped = self.errors(), self.errors("--type", "int4"), self.errors("--type", "int4", "--group", 32)
        for name in int8:
            self.assertLess(int8[name], grouped[name], name)
            self.assertLess(grouped[name], int4[name], name)

    def test_round_to_nearest_has_two_names(self):
        self.quantize("--type", "int4", "--method", "rtn", name="rtn.h5")
        self.assertEqual(self.result["method"], "rtn")
        self.quantize("--type", "int4", "--method", "nearest", name="nearest.h5")
        self.assertEqual(self.result["method"], "rtn")
        self.assert_same_parameters(self.path("rtn.h5"), self.path("nearest.h5"))

    def test_calibration_changes_the_scales(self):
        plain = self.quantize("--type", "int4")
        weighted = self.quantize("--type", "int4", "--calibration", self.corpus, "--calibration-windows", 8)
        self.assertTrue(any(not np.array_equal(a.arrays["scales"], b.arrays["scales"])
                            for a, b in zip(self.linear(plain), self.linear(weighted))))

    def test_gptq_is_nearer_than_the_search_and_what_auto_is(self):
        text = ["--type", "int2", "--group", 32, "--calibration", self.corpus, "--calibration-windows", 16]

        def divergence(path):
            return run_json("eval", path, "--baseline", self.model, "--data", self.corpus, "--limit", "4k", "--no-speed")["rows"][1]["kl"]

        for model in (self.model, self.sparse):
            found = {}
            for method in ("search", "gptq"):
                self.quantize(*text, "--method", method, model=model, name=method + ".h5")
                found[method] = divergence(self.path(method + ".h5"))
            self.quantize(*text, "--method", "gptq:0.5", model=model, name="damped.h5")
            self.assertEqual(self.result["method"], "gptq:0.5")
            self.assertNotEqual(divergence(self.path("damped.h5")), found["gptq"])
            self.quantize(*text, model=model, name="auto.h5")
            self.assertEqual(self.result["method"], "gptq")
            self.assertAlmostEqual(divergence(self.path("auto.h5")), found["gptq"])
            if model == self.model:
                self.assertLess(found["gptq"], 0.7 * found["search"])

    def test_awq_changes_norms_and_says_by_how_much(self):
        plain = self.quantize("--type", "int4", "--group", 32, "--calibration", self.corpus)
        report = self.path("r.csv")
        scaled = self.quantize("--type", "int4", "--group", 32, "--calibration", self.corpus, "--awq", "--report", report)
        rows = {row["parameter"]: row["awq_exponent"] for row in csv.DictReader(read_text(report).splitlines())}
        for block in range(2):
            self.assertEqual(rows[f"blocks.{block}.attention.output.weight"], "")
            for layer, norm in (("attention.qkv", "attention_norm"), ("feed_forward.gate_up", "feed_forward_norm")):
                exponent = float(rows[f"blocks.{block}.{layer}.weight"])
                self.assertIn(exponent, [i / 8 for i in range(9)])
                gain = f"blocks.{block}.{norm}.gain"
                self.assertEqual(bool(np.array_equal(plain[gain].values, scaled[gain].values)), exponent == 0)
        again = self.quantize("--type", "int4", "--group", 32, "--calibration", self.corpus, "--prepare", "awq")
        for name, parameter in scaled.items():
            self.assertTrue(np.array_equal(parameter.values, again[name].values), name)

    def test_result_says_bits_and_error(self):
        self.quantize("--type", "int4", "--group", 32, "--embedding-type", "keep", "--calibration", self.corpus,
                      "--calibration-windows", 8)
        done = self.result
        self.assertEqual(done["method"], "gptq")
        self.assertAlmostEqual(done["bits_per_weight"], 4.5)
        self.assertTrue(0 < done["layer_error"] < 0.02)

    def test_same_bytes_again_on_any_number_of_threads(self):
        calibrated = ["--type", "int4", "--calibration", self.corpus, "--calibration-windows", 4]
        self.quantize(*calibrated)
        first = sha256(self.out)
        self.quantize(*calibrated)
        self.assertEqual(sha256(self.out), first)
        one, two = self.quantize("--threads", 1), self.quantize("--threads", 2)
        for name in one:
            for array in one[name].arrays:
                self.assertTrue(np.array_equal(one[name].arrays[array], two[name].arrays[array]), name)


class Activations(QuantizeTest):
    """Of 8 bits, where the loss allows."""

    def choose(self, bound, *arguments, name="out.h5"):
        report = self.path("r.csv")
        self.quantize("--activations", "int8", "--max-loss-increase", bound, "--data", self.corpus, "--calibration-windows", 8,
                      "--report", report, *arguments, name=name)
        self.rows = list(csv.DictReader(read_text(report).splitlines()))
        return self.result["activations"]

    def loss(self, model, *options):
        return run_json("eval", model, "--data", self.corpus, "--limit", 1500, "--no-speed", *options)["rows"][0]["loss"]

    def test_what_the_loss_allows_is_chosen_reported_and_stored(self):
        for bound, weights in ((0.05, 9), (0, 0)):
            with self.subTest(bound=bound):
                chosen = self.choose(bound)
                self.assertEqual((chosen["int8_weights"], chosen["weights"]), (weights, 9))
                self.assertLessEqual(chosen["loss"], (1 + bound) * chosen["loss_before"])
                self.assertLessEqual(chosen["kl"], bound * chosen["loss_before"])
                bits = 8 if weights else 16
                self.assertEqual({row["activation_bits"] for row in self.rows}, {str(bits)})
                self.assertTrue(all(float(row["activation_kl"]) > 0 for row in self.rows))
                inspected = run_json("inspect", self.out)
                self.assertEqual({t["activation_bits"] for t in inspected["tensors"] if t["element"] == "int8"}, {bits})
                self.assertFalse(any("activation_bits" in t for t in inspected["tensors"] if t["element"] != "int8"))
                self.assertEqual(inspected["lineage"][-1]["results"]["activations"], chosen)
                self.assertIn("activation_bits", run("inspect", self.out, check=True).stdout)

    def test_whoever_runs_the_model_follows_it_unless_told_otherwise(self):
        self.choose(0.05, name="eight.h5")
        self.quantize(name="plain.h5")
        eight, plain = self.path("eight.h5"), self.path("plain.h5")
        self.assert_same_parameters(eight, plain)
        exact = self.loss(plain)
        self.assertNotEqual(self.loss(eight), exact)
        self.assertEqual(self.loss(eight), self.loss(plain, "--activations", "int8"))
        self.assertEqual(self.loss(eight, "--activations", "exact"), exact)
        self.assertEqual(self.loss(eight, "--precision", "f32"), self.loss(plain, "--precision", "f32"))
        text = ["--prompt", "the ", "--tokens", 5, "--temperature", 0]
        self.assertIn("activations of 8 bits", run("generate", eight, *text, check=True).stderr)
        for model, more in ((plain, []), (eight, ["--activations", "exact"])):
            self.assertNotIn("activations of 8 bits", run("generate", model, *text, *more, check=True).stderr)
        differing = [r for r in run_json("inspect", eight, plain)["rows"] if r["part"] == "parameter"]
        self.assertEqual({(r["difference"], r["differing"]) for r in differing}, {("form", 0)})

    def test_some_weights_alone(self):
        chosen = self.choose(0.05, "--type", "bf16", "--override", "down=int8")
        self.assertEqual((chosen["int8_weights"], chosen["weights"]), (2, 2))
        self.assertEqual([row["parameter"] for row in self.rows if row["activation_bits"]],
                         [f"blocks.{block}.feed_forward.down.weight" for block in range(2)])

    def test_smoothing_leaves_the_model_and_says_by_how_much(self):
        report = self.path("r.csv")
        text = ["--calibration", self.corpus, "--calibration-windows", 16]
        plain = self.quantize(*text, name="plain.h5")
        smooth = self.quantize(*text, "--prepare", "smooth", "--report", report, name="smooth.h5")
        rows = {row["parameter"]: row["smooth_alpha"] for row in csv.DictReader(read_text(report).splitlines())}
        for block in range(2):
            self.assertEqual(rows[f"blocks.{block}.attention.output.weight"], "")
            for layer, norm in (("attention.qkv", "attention_norm"), ("feed_forward.gate_up", "feed_forward_norm")):
                alpha = rows[f"blocks.{block}.{layer}.weight"]
                self.assertIn(alpha and float(alpha), [""] + [i / 8 for i in range(9)])
                gain = f"blocks.{block}.{norm}.gain"
                self.assertEqual(bool(np.array_equal(plain[gain].values, smooth[gain].values)), alpha == "")
        losses = [self.loss(self.path(name), "--precision", "f32") for name in ("plain.h5", "smooth.h5")]
        self.assertAlmostEqual(*losses, delta=0.01)
        both = self.choose(0.05, *text[:2], "--prepare", "awq,smooth")
        self.assertEqual(both["int8_weights"], 9)


class Chains(QuantizeTest):
    def test_lineage_names_every_parent(self):
        recovered = self.path("recovered.h5")
        run("train", "--init", self.sparse, "--data", self.corpus, "--batch", 4, "--steps", 2, "--output", recovered, check=True)
        self.quantize("--seed", 4, model=recovered)
        entries = lineage(self.out)
        self.assertEqual([e["tool"] for e in entries], ["train", "prune", "train", "quantize"])
        self.assertEqual([e["parent_sha256"] for e in entries],
                         [None, sha256(self.model), sha256(self.sparse), sha256(recovered)])
        self.assertEqual(entries[-1]["seed"], 4)
        for entry in entries:
            self.assertTrue(entry["arguments"] and entry["version"] and isinstance(entry["results"], dict))

    def test_requantizing(self):
        self.quantize(name="q.h5")
        done = run("quantize", self.path("q.h5"), "--type", "int4", "--output", self.path("qq.h5"))
        self.assert_refused(done, 2, "int8 already", "--allow-requantize")
        self.assertFalse(os.path.exists(self.path("qq.h5")))
        stored = self.quantize("--type", "int4", "--allow-requantize", model=self.path("q.h5"))
        self.assert_forms(stored, "panels", "int4")

    def test_training_a_quantized_model_is_refused(self):
        self.quantize(name="q.h5")
        done = run("train", "--init", self.path("q.h5"), "--data", self.corpus, "--batch", 4, "--steps", 1, "--output",
                   self.path("m.h5"))
        self.assert_refused(done, 2, "quantized")


class Refusals(QuantizeTest):
    def refused(self, *arguments, status=2, parts=()):
        done = run("quantize", self.model, *arguments, "--output", self.path("out.h5"))
        self.assert_refused(done, status, *parts)
        self.assertFalse(os.path.exists(self.path("out.h5")))

    def test_options(self):
        self.refused("--type", "int5", parts=["int8", "int4"])
        self.refused("--group", 48, parts=["32"])
        self.refused("--override", "down", parts=["REGEX=TYPE"])
        self.refused("--override", "(=int8", parts=["--override"])
        self.refused("--override", "down=int5", parts=["int5", "int8"])
        self.refused("--override", "no_such_layer=int8", parts=["no_such_layer"])
        self.refused("--colour", "red", parts=["--colour"])

    def test_methods(self):
        self.refused("--method", "up", parts=["rtn", "nearest", "gptq"])
        self.refused("--method", "gptq", parts=["--method gptq", "--calibration"])
        self.refused("--method", "gptq:0", "--calibration", self.corpus, parts=["gptq:0", "DAMPENING", "0.0001"])
        self.refused("--method", "search:1", "--calibration", self.corpus, parts=["search takes no number"])
        self.refused("--awq", "--type", "int4", parts=["--awq needs --calibration"])
        self.refused("--prepare", "awq", "--type", "int4", parts=["--prepare needs --calibration"])
        self.refused("--prepare", "smoothie", "--type", "int4", parts=["awq", "smooth"])
        self.refused("--prepare", "smooth", "--type", "fp8", "--calibration", self.corpus, parts=["no effect", "smooth"])
        self.refused("--awq", "--type", "bf16", "--calibration", self.corpus, parts=["no effect"])
        self.refused("--method", "rtn", "--calibration", self.corpus, parts=["--method rtn", "--calibration"])
        self.refused("--type", "bf16", "--method", "search", parts=["--method search", "no effect"])

    def test_activations(self):
        text = ["--data", self.corpus]
        self.refused("--activations", "int4", *text, parts=["--activations", "int8"])
        self.refused("--activations", "int8", parts=["--activations int8 needs", "--data", "--calibration"])
        self.refused("--activations", "int8", "--type", "bf16", *text, parts=["no weight becomes integers"])
        self.refused("--activations", "int8", "--type", "fp8", *text, parts=["no weight becomes integers"])
        self.refused("--max-loss-increase", "1%", *text, parts=["--max-loss-increase", "--activations int8"])
        self.refused("--max-loss-increase", "200%", "--activations", "int8", *text, parts=["--max-loss-increase"])

    def test_preparations(self):
        self.refused("--prepare", "awq,awq", "--calibration", self.corpus, parts=["--prepare names awq twice"])

    def test_calibration(self):
        self.refused("--calibration", self.path("none.txt"), status=3, parts=["none.txt"])
        self.refused("--calibration", write(self.path("short.txt"), "short"), status=3, parts=["short.txt", "32"])

    def test_output_that_exists(self):
        write(self.path("out.h5"), "old")
        self.assert_refused(run("quantize", self.model, "--output", self.path("out.h5")), 2, "--force")
        self.assertEqual(read_text(self.path("out.h5")), "old")

    def test_dry_run(self):
        done = run("quantize", self.model, "--output", self.path("m.h5"), "--dry-run", check=True)
        self.assertEqual((done.stdout, os.listdir(self.directory)), ("", []))
        self.assertIn("9 weights", done.stderr)
        run("quantize", self.model, "--output", self.path("q.h5"), check=True)
        done = run("quantize", self.path("q.h5"), "--output", self.path("m.h5"), "--dry-run")
        self.assert_refused(done, 2, "--allow-requantize")


if __name__ == "__main__":
    unittest.main()
