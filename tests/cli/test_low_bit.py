"""Fewer bits while a model runs: eval, generate and bench with --activations int8 and --cache-type int8 and int4."""

import json
import unittest

from hone_cli import run, run_json
from model_files import ModelTest
from serving import Server


class LowBit(ModelTest):
    train = dict(steps=0, dim=64, context=128)

    def setUp(self):
        super().setUp()
        self.small = self.path("small.h5")
        run("quantize", self.model, "--type", "int4", "--group", 32, "--output", self.small, check=True)

    def loss(self, model, *options):
        report = run_json("eval", model, "--data", self.corpus, "--limit", 1500, "--no-speed", *options)
        return report["rows"][0]["loss"], report["rows"][0]["precision"]

    def test_a_cache_of_fewer_bits_costs_little_and_chunks_change_nothing(self):
        plain, _ = self.loss(self.model)
        eight, said = self.loss(self.model, "--cache-type", "int8")
        four, _ = self.loss(self.model, "--cache-type", "int4")
        self.assertIn("int8 cache", said)
        self.assertNotEqual(eight, plain)
        self.assertLess(abs(eight - plain), 0.01)
        self.assertNotEqual(four, eight)
        self.assertLess(abs(four - plain), 0.1)
        for cache, loss in (("int8", eight), ("int4", four)):
            chunked, _ = self.loss(self.model, "--cache-type", cache, "--prefill-chunk", 7)
            self.assertAlmostEqual(chunked, loss, delta=2e-3)

    def test_activations_of_eight_bits_cost_little(self):
        plain, _ = self.loss(self.small)
        eight, said = self.loss(self.small, "--activations", "int8")
        self.assertIn("int8 activations", said)
        self.assertNotEqual(eight, plain)
        self.assertLess(abs(eight - plain), 0.01)
        self.assertEqual(eight, self.loss(self.small, "--activations", "int8")[0])

    def test_both_generate_and_are_measured(self):
        options = ("--activations", "int8", "--cache-type", "int4")
        texts = [run("generate", self.small, "--prompt", "the ", "--tokens", 30, "--temperature", 0, *options,
                     check=True).stdout for _ in range(2)]
        self.assertEqual(texts[0], texts[1])
        report = run("bench", self.small, "--prompt", 8, "--generate", 4, "--repeat", 1, "--warmup", 0, "--format", "jsonl",
                     *options, env={"HONE_CACHE_DIR": self.shared}, check=True)
        self.assertIn("int8 activations, int4 cache", report.stdout)

    def test_texts_that_are_written_together_are_those_of_one(self):
        """generate --input, serve and bench --requests."""
        options = ("--activations", "int8", "--cache-type", "int4")
        prompts = ["the river", "a small bird carries the evening light", "the"]
        asked = [word for prompt in prompts for word in ("--prompt", prompt)]
        row = lambda *more: [r["text"] for r in run_json("generate", self.small, *asked, "--tokens", 40, "--temperature", 0, *more)["rows"]]
        alone = row(*options)
        requests, texts = self.path("requests.jsonl"), self.path("texts.jsonl")
        with open(requests, "w", encoding="utf-8") as file:
            file.write("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        run("generate", self.small, "--input", requests, "--output", texts, "--ordered", "--tokens", 40, "--temperature", 0, *options,
            check=True)
        with open(texts, encoding="utf-8") as file:
            self.assertEqual([json.loads(line)["text"] for line in file], alone)
        server = Server(self.small, *options)
        try:
            answer = server.complete(prompt=prompts, max_tokens=40, temperature=0)
            self.assertEqual([choice["text"] for choice in answer["choices"]], alone)
        finally:
            server.stop()
        report = run_json("bench", self.small, "--requests", "poisson:500", "--prompt", 8, "--generate", 4, "--count", 3, *options)
        self.assertEqual(report["rows"][0]["served"], 3)
        self.assertIn("int8 activations, int4 cache", report["rows"][0]["precision"])
        done = run("serve", self.model, "--activations", "int8", "--dry-run", check=True)
        self.assertIn("--activations has no effect", done.stderr)

    def test_what_has_no_effect_is_said_and_what_contradicts_is_refused(self):
        done = run("eval", self.model, "--data", self.corpus, "--limit", 50, "--no-speed", "--activations", "int8")
        self.assertEqual(done.returncode, 0)
        self.assertIn("--activations has no effect", done.stderr)
        done = run("eval", self.small, "--data", self.corpus, "--limit", 50, "--no-speed", "--activations", "int8")
        self.assertEqual(done.stderr.count("no effect"), 0)
        for tool, rest in (("eval", ("--data", self.corpus)), ("generate", ("--prompt", "a")), ("bench", ()), ("serve", ()),
                           ("generate", ("--input", self.corpus, "--output", self.path("x.jsonl"))),
                           ("bench", ("--requests", "poisson:5"))):
            with self.subTest(tool=tool):
                self.assert_refused(run(tool, self.small, *rest, "--activations", "int8", "--precision", "f32"), 2, "--precision f32")
                self.assert_refused(run(tool, self.small, *rest, "--cache-type", "int3"), 2, "--cache-type")


if __name__ == "__main__":
    unittest.main()
