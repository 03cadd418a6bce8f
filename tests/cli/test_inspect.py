"""`inspect` at the command line."""

import csv
import io
import json
import unittest

from hone_cli import CliTest, corpus, damaged_files, run, run_json, tiny_model


class Inspect(CliTest):
    @classmethod
    def setUpClass(cls):
        import tempfile

        cls.shared = tempfile.TemporaryDirectory(prefix="hone-test-")
        cls.text = corpus(cls.shared.name)
        cls.model = tiny_model(cls.shared.name)

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def test_json_has_configuration_parameters_totals_and_lineage(self):
        m = run_json("inspect", self.model)
        self.assertEqual((m["kind"], m["model"]), ("model", self.model))
        self.assertEqual((m["config"]["dim"], len(m["config"]["layers"])), (32, 2))
        self.assertEqual(m["tokenizer"], {"name": "bytes", "vocabulary": 256})
        self.assertEqual(m["tensors"][0]["name"], "embedding.weight")
        self.assertEqual(m["tensors"][0]["shape"], [256, 32])
        self.assertEqual(sum(t["parameters"] for t in m["tensors"]), m["parameters"])
        self.assertEqual(sum(t["bytes"] for t in m["tensors"]), m["parameter_bytes"])
        self.assertEqual(m["parameter_bytes"], 4 * m["parameters"])
        self.assertLess(m["parameter_bytes"], m["file_bytes"])
        self.assertEqual([stage["tool"] for stage in m["lineage"]], ["train"])
        self.assertIn("--steps", m["lineage"][0]["arguments"])

    def test_table_and_markdown_say_the_same(self):
        for form in ("table", "md"):
            out = run("inspect", self.model, "--format", form, check=True).stdout
            for part in ("dim", "layers 0 to 1", "blocks.1.attention.qkv.weight", "96x32", "bytes, 256 tokens", "1. train", "total:"):
                self.assertIn(part, out)

    def test_csv_has_a_row_a_parameter(self):
        rows = list(csv.DictReader(io.StringIO(run("inspect", self.model, "--format", "csv", check=True).stdout)))
        self.assertEqual(len(rows), len(run_json("inspect", self.model)["tensors"]))
        self.assertEqual(rows[0]["shape"], "256x32")

    def test_a_sparse_model_shows_masks_and_its_history(self):
        sparse = tiny_model(self.directory, "sparse.h5", init=self.model, data=self.text, steps=4, batch=2, sparsity=0.5,
                            sparsify_from=0, sparsify_until=0.5, sparsify_every=1)
        m = run_json("inspect", sparse)
        masked = [t for t in m["tensors"] if t["form"] == "masked"]
        self.assertTrue(masked)
        for tensor in masked:
            self.assertAlmostEqual(tensor["sparsity"], 0.5, delta=0.02)
        self.assertAlmostEqual(m["sparsity"], 0.5, delta=0.02)
        self.assertEqual(len(m["lineage"]), 2)

        rows = run_json("inspect", self.model, sparse)["rows"]
        values = {r["name"]: r for r in rows if r["part"] == "parameter"}
        qkv = values["blocks.0.attention.qkv.weight"]
        self.assertEqual(qkv["difference"], "form, values")
        self.assertEqual(qkv["mask_changes"], qkv["zeros_b"])
        self.assertEqual(qkv["zeros_a"], 0)
        self.assertGreater(qkv["max_abs_difference"], 0)
        self.assertIn("lineage", {r["part"] for r in rows})

    def test_a_checkpoint_says_that_it_is_one(self):
        run("train", "--init", self.model, "--data", self.text, "--steps", 3, "--batch", 2, "--output", self.path("end.h5"),
            "--checkpoint", self.path("run.h5"), check=True)
        m = run_json("inspect", self.path("run.h5"))
        self.assertEqual(m["kind"], "checkpoint")
        self.assertGreater(m["run_bytes"], 0)
        done = run("inspect", self.path("run.h5"), check=True)
        self.assertIn("checkpoint of a run", done.stdout)
        self.assertIn("train --resume", done.stdout)
        # The same parameters as the model that the run ended with.
        rows = run_json("inspect", self.path("run.h5"), self.path("end.h5"))["rows"]
        self.assertNotIn("parameter", {r["part"] for r in rows})

    def test_equal_models_do_not_differ(self):
        done = run("inspect", self.model, self.model, check=True)
        self.assertIn("do not differ", done.stdout)
        self.assertEqual(run_json("inspect", self.model, self.model)["rows"], [])

    def test_models_of_other_shapes(self):
        other = tiny_model(self.directory, "other.h5", layers=1, ffn=32, biases=True, context=16)
        done = run("inspect", self.model, other, check=True)
        for part in ("layers.1.heads", "only in a", "only in b", "blocks.0.attention.qkv.bias", "shape", "context"):
            self.assertIn(part, done.stdout)

    def test_a_seed_changes_every_number(self):
        other = tiny_model(self.directory, "other.h5", seed=2)
        rows = [r for r in run_json("inspect", self.model, other)["rows"] if r["part"] == "parameter"]
        embedding = next(r for r in rows if r["name"] == "embedding.weight")
        self.assertEqual(embedding["difference"], "values")
        self.assertGreater(embedding["differing"], 0.99 * 256 * 32)

    def test_files_that_are_no_usable_models_beside_one_that_is(self):
        for what, path in damaged_files(self.directory, self.model).items():
            with self.subTest(what):
                self.assert_error(run("inspect", self.model, path), 3)

    def test_bad_usage(self):
        self.assert_error(run("inspect"), 2, "MODEL")
        self.assert_error(run("inspect", self.model, "--format", "yaml"), 2, "--format")
        self.assert_error(run("inspect", self.model, self.model, self.model), 2)


if __name__ == "__main__":
    unittest.main()
