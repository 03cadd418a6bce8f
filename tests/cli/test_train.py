"""train as a user meets it: streams, files, determinism, and what training does to the parameters."""

import json
import os
import unittest
import xml.etree.ElementTree as ElementTree

import numpy as np

from hone_cli import run, run_json, sentences, tiny_model, write
from model_files import LINEAR, QUICK, ModelTest, fewest, lineage, log_lines, parameters, read_text, sha256, text_of, zeros


class Streams(ModelTest):
    def test_help_goes_to_stdout_and_names_every_group(self):
        done = run("train", "--help")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "")
        for part in ("Common", "Data", "Model", "Length", "Steps", "Validation", "Sparsity", "Files", "--resume", "Example:"):
            self.assertIn(part, done.stdout)

    def test_version(self):
        done = run("train", "--version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^train \(hone \d+\.\d+\.\d+\)\n$")

    def test_stdout_has_the_result_only(self):
        done = run("train", "--data", self.corpus, *QUICK, "--steps", 3, "--output", self.path("m.h5"), "--log-level", "debug",
                   check=True)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertTrue(done.stdout.startswith(self.path("m.h5")))
        self.assertIn(sha256(self.path("m.h5")), done.stdout)
        self.assertIn("step 3/3", done.stderr)

    def test_quiet_says_nothing_on_stderr(self):
        done = run("train", "--data", self.corpus, *QUICK, "--steps", 2, "--output", self.path("m.h5"), "--quiet", check=True)
        self.assertEqual(done.stderr, "")

    def test_json_result(self):
        result = run_json("train", "--data", self.corpus, *QUICK, "--steps", 3, "--output", self.path("m.h5"))
        path = self.path("m.h5")
        self.assertEqual(result["output"], path)
        self.assertEqual(result["bytes"], os.path.getsize(path))
        self.assertEqual(result["sha256"], sha256(path))
        self.assertEqual(result["parameters"], sum(int(np.prod(p.shape)) for p in parameters(path).values()))
        self.assertEqual(result["sparsity"], 0)
        self.assertEqual((result["steps"], result["tokens"]), (3, 3 * 4 * 32))
        self.assertGreater(result["loss"], 0)

    def test_threads_are_printed_with_their_source(self):
        options = ["--steps", 0, *QUICK]
        flag = run("train", *options, "-t", 1, "--output", self.path("a.h5"), env={"HONE_THREADS": 2}, check=True)
        variable = run("train", *options, "--output", self.path("b.h5"), env={"HONE_THREADS": 2, "OMP_NUM_THREADS": 1}, check=True)
        openmp = run("train", *options, "--output", self.path("c.h5"), env={"HONE_THREADS": "", "OMP_NUM_THREADS": 1}, check=True)
        self.assertRegex(flag.stderr, r"1 thread \(.*threads\)")
        self.assertRegex(variable.stderr, r"2 threads \(HONE_THREADS\)")
        self.assertRegex(openmp.stderr, r"1 thread \(OMP_NUM_THREADS\)")


class Schedule(ModelTest):
    def test_windows_grow_and_batches_keep_their_tokens(self):
        log, plot, model = self.path("l.jsonl"), self.path("p.svg"), self.path("m.h5")
        done = run("train", "--data", self.corpus, *QUICK, "--steps", 10, "--curriculum", "8:20%,16:30%,32", "--log", log,
                   "--log-every", 1, "--plot", plot, "--valid-fraction", 0.1, "--output", model, check=True)
        lines = log_lines(log)
        self.assertEqual([line["context"] for line in lines], [8] * 2 + [16] * 3 + [32] * 5)
        self.assertEqual([line["tokens"] for line in lines], [4 * 32 * (i + 1) for i in range(10)])
        self.assertIn("from step 3 of 16", read_text(plot))
        self.assertEqual(lineage(model)[0]["results"]["curriculum"], "8:20%,16:30%,32")
        self.assertIn("left", done.stderr)
        # Not of the first step, which also makes what stays.
        self.assertEqual(["activation_bytes" in line for line in lines], [False] + [True] * 9)

    def test_an_average_and_muon_give_other_parameters_than_without(self):
        outputs = []
        for options in ([], ["--ema", 0.9], ["--average", "tail:0.5"], ["--optimizer", "muon"], ["--optimizer", "muon", "--adamw-rate", 0.0001]):
            outputs.append(self.path(f"{len(outputs)}.h5"))
            run("train", "--data", self.corpus, *QUICK, "--steps", 4, *options, "--output", outputs[-1], check=True)
        weights = [parameters(path)["blocks.0.attention.qkv.weight"].values.tobytes() for path in outputs]
        self.assertEqual(len(set(weights)), 5)


class Training(ModelTest):
    def fit(self, name, *arguments, data=None, **options):
        """Trains a few steps and returns the path."""
        path = self.path(name)
        steps = () if any(a in ("--tokens", "--epochs", "--steps") for a in arguments) else ("--steps", 4)
        run("train", "--data", *(data or [self.corpus]), *QUICK, *steps, *arguments, "--output", path, "--force", "--quiet",
            check=True, **options)
        return path

    def test_the_loss_falls(self):
        log = self.path("l.jsonl")
        self.fit("m.h5", "--steps", 40, "--lr", 0.003, "--log", log, "--log-every", 1)
        losses = [line["loss"] for line in log_lines(log)]
        self.assertEqual(len(losses), 40)
        self.assertAlmostEqual(losses[0], np.log(256), delta=0.2)
        self.assertLess(losses[-1], losses[0] - 1)

    def test_same_seed_same_bytes_another_seed_others(self):
        for precision in ("bf16", "f32", "int8"):
            with self.subTest(precision=precision):
                options = ["--precision", precision, "--dropout", 0.1, "-t", 2]
                first = self.fit("m.h5", *options, "--seed", 5)
                one = sha256(first)
                self.assertEqual(sha256(self.fit("m.h5", *options, "--seed", 5)), one)
                self.assert_different_parameters(first, self.fit("other.h5", *options, "--seed", 6))

    def test_products_in_8_bits(self):
        losses = {}
        for precision in ("bf16", "int8"):
            log = self.path(f"{precision}.jsonl")
            self.fit(f"{precision}.h5", "--steps", 40, "--lr", 0.003, "--precision", precision, "--log", log, "--log-every", 1)
            losses[precision] = [line["loss"] for line in log_lines(log)]
        self.assertNotEqual(losses["int8"], losses["bf16"])
        self.assertLess(losses["int8"][-1], losses["int8"][0] - 1)
        self.assertAlmostEqual(losses["int8"][-1], losses["bf16"][-1], delta=0.3)
        done = run("train", "--data", self.corpus, *QUICK, "--steps", 2, "--precision", "int8", "--output", self.path("one.h5"), check=True)
        self.assertRegex(done.stderr, r"2 steps of 4 x 32, int8")

    def test_8_bits_with_what_else_changes_products(self):
        for options in (["--sparsity", 0.5, "--sparsify-every", 1], ["--quantize-aware", "int4:32", "--quantize-from", 0],
                        ["--recompute", "blocks"], ["--exits", "1"], ["--experts", 4], ["--attention", "conv:4,full"],
                        ["--optimizer", "muon"], ["--moments", "int8"], ["--layer-dropout", 0.2], ["--activation", "gelu", "--biases"]):
            with self.subTest(options=options):
                self.fit("m.h5", "--precision", "int8", *options)
        self.assert_refused(run("train", "--data", self.corpus, *QUICK, "--precision", "int4", "--output", self.path("x.h5")), 2,
                            "--precision")

    def test_options_change_the_result(self):
        reference = self.fit("reference.h5", "--precision", "f32")
        for arguments in (["--precision", "bf16"], ["--precision", "f32", "--dropout", 0.2], ["--precision", "f32", "--clip", 0.1],
                          ["--precision", "f32", "--weight-decay", 0], ["--precision", "f32", "--schedule", "constant"],
                          ["--precision", "f32", "--schedule", "wsd"], ["--precision", "f32", "--warmup", 2],
                          ["--precision", "f32", "--beta1", 0.8], ["--precision", "f32", "--beta2", 0.9],
                          ["--precision", "f32", "--accumulate", 2]):
            with self.subTest(arguments=arguments):
                self.assert_different_parameters(reference, self.fit("other.h5", *arguments))

    def test_schedules(self):
        rates = {}
        for schedule in ("cosine", "wsd", "constant"):
            log = self.path(f"{schedule}.jsonl")
            self.fit(f"{schedule}.h5", "--steps", 10, "--warmup", 2, "--lr", 0.01, "--schedule", schedule, "--decay", 0.4,
                     "--final-rate", 0.1, "--log", log, "--log-every", 1)
            rates[schedule] = [line["learning_rate"] for line in log_lines(log)]
        for schedule, found in rates.items():
            self.assertLess(found[0], 0.01, schedule)
            self.assertAlmostEqual(max(found), 0.01, delta=1e-6, msg=schedule)
        self.assertEqual(rates["constant"][2:], [0.01] * 8)
        self.assertEqual(rates["wsd"][2:6], [0.01] * 4)
        self.assertLess(rates["wsd"][-1], 0.005)
        self.assertTrue(all(a > b for a, b in zip(rates["cosine"][2:], rates["cosine"][3:])))
        self.assertLess(rates["cosine"][-1], 0.002)

    def test_accumulation_equals_a_larger_batch_in_tokens(self):
        result = run_json("train", "--data", self.corpus, *QUICK, "--accumulate", 3, "--steps", 2, "--output", self.path("m.h5"))
        self.assertEqual(result["tokens"], 2 * 3 * 4 * 32)

    def test_lengths(self):
        tokens = run_json("train", "--data", self.corpus, *QUICK, "--tokens", "1k", "--output", self.path("t.h5"))
        self.assertEqual(tokens["steps"], 8)  # 1000 tokens in batches of 128, rounded up
        epochs = run_json("train", "--data", self.corpus, *QUICK, "--epochs", 0.1, "--output", self.path("e.h5"))
        self.assertEqual(epochs["steps"], round(0.1 * os.path.getsize(self.corpus) / (4 * 32)))

    def test_log_and_plot(self):
        log, plot = self.path("l.jsonl"), self.path("p.svg")
        self.fit("m.h5", "--steps", 6, "--log", log, "--log-every", 2, "--plot", plot, "--valid-fraction", 0.2, "--valid-every", 3)
        lines = log_lines(log)
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4, 6])
        self.assertEqual([line["tokens"] for line in lines], [128 * line["step"] for line in lines])
        for line in lines:
            for key in ("loss", "learning_rate", "gradient_norm", "rss_bytes", "tokens_per_second"):
                self.assertGreater(line[key], 0, key)
        self.assertEqual(["valid_loss" in line for line in lines], [False, False, True, False, True])
        root = ElementTree.parse(plot).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        self.assertIn("validation", "".join(root.itertext()).lower())

    def test_jsonl_and_several_files(self):
        lines = sentences(60).splitlines()
        jsonl = write(self.path("a.jsonl"), "".join(json.dumps({"text": line, "id": i}) + "\n" for i, line in enumerate(lines)))
        plain = write(self.path("b.txt"), sentences(30, 60))
        self.fit("m.h5", data=[jsonl, plain])
        # The same documents in one JSONL file are the same tokens.
        both = write(self.path("c.jsonl"), read_text(jsonl) + json.dumps({"text": read_text(plain)}) + "\n")
        self.assert_same_parameters(self.path("m.h5"), self.fit("n.h5", data=[both]))

    def test_data_from_stdin(self):
        self.assert_same_parameters(self.fit("a.h5"), self.fit("b.h5", data=["-"], stdin=read_text(self.corpus)))

    def test_bpe_tokenizer(self):
        path = self.fit("m.h5", "--tokenizer", "bpe:300")
        self.assertEqual(text_of(path, "config")["vocabulary"], 300)
        self.assertEqual(parameters(path)["embedding.weight"].shape, (300, 64))
        self.assertTrue(text_of(path, "tokenizer"))
        # Taken from a model file, it is the same.
        again = self.fit("n.h5", "--tokenizer", path)
        self.assertEqual(text_of(again, "tokenizer"), text_of(path, "tokenizer"))
        self.assert_same_parameters(path, again)

    def test_bpe_needs_text(self):
        done = run("train", "--steps", 0, *QUICK, "--tokenizer", "bpe:300", "--output", self.path("m.h5"))
        self.assert_refused(done, 2, "--data")

    def test_text_shorter_than_a_window(self):
        done = run("train", "--data", write(self.path("short.txt"), "too short"), *QUICK, "--output", self.path("m.h5"))
        self.assert_refused(done, 3, "short.txt", "9 tokens", "33")


class Validation(ModelTest):
    def run_with(self, *arguments, steps=12):
        log = self.path("l.jsonl")
        result = run_json("train", "--data", self.corpus, *QUICK, "--steps", steps, "--log", log, "--log-every", 1, "--output",
                          self.path("m.h5"), "--force", *arguments)
        return result, {line["step"]: line["valid_loss"] for line in log_lines(log) if "valid_loss" in line}

    def test_a_file_or_a_fraction(self):
        result, losses = self.run_with("--valid", write(self.path("v.txt"), sentences(40, 1000)), "--valid-every", 5)
        self.assertEqual(list(losses), [5, 10, 12])
        self.assertEqual(result["valid_loss"], losses[12])
        result, losses = self.run_with("--valid-fraction", "20%", "--valid-every", 0)
        self.assertEqual(list(losses), [12])

    def test_validation_tokens_bound_the_work(self):
        _, all_of_it = self.run_with("--valid-fraction", 0.5, "--valid-every", 0, steps=1)
        _, some = self.run_with("--valid-fraction", 0.5, "--valid-every", 0, "--valid-tokens", 100, steps=1)
        self.assertNotEqual(all_of_it[1], some[1])

    # At this rate the loss on other text (digits) rises soon while training goes on.
    RISING = ["--lr", "0.02", "--schedule", "constant", "--warmup", "1", "--valid-every", "1"]

    def test_keep_best(self):
        valid = write(self.path("v.txt"), "".join(str(i * i) + " " for i in range(300)))
        best, losses = self.run_with("--valid", valid, "--keep", "best", *self.RISING)
        self.assertEqual(best["valid_loss"], min(losses.values()))
        self.assertLess(min(losses, key=losses.get), 12, "this test needs a best step before the last")
        kept = self.path("kept.h5")
        os.rename(self.path("m.h5"), kept)
        last, again = self.run_with("--valid", valid, *self.RISING)
        self.assertEqual(losses, again)
        self.assertEqual(last["valid_loss"], losses[12])
        self.assert_different_parameters(kept, self.path("m.h5"))
        # What was kept scores what the log says. A rate of 0 leaves the parameters alone.
        score = run_json("train", "--init", kept, "--data", self.corpus, "--batch", 4, "--steps", 1, "--lr", 0, "--valid", valid,
                         "--output", self.path("same.h5"))
        self.assertEqual(score["valid_loss"], best["valid_loss"])
        self.assert_same_parameters(kept, self.path("same.h5"))

    def test_patience(self):
        valid = write(self.path("v.txt"), "".join(str(i * i) + " " for i in range(300)))
        result, losses = self.run_with("--valid", valid, "--patience", 2, *self.RISING, steps=40)
        self.assertLess(result["steps"], 40)
        values = list(losses.values())
        self.assertEqual(values.index(min(values)), len(values) - 3)  # two worse ones after the best


class Continuing(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = tiny_model(cls.shared, "dense.h5", data=cls.corpus, batch=4, steps=6)
        cls.sparse = os.path.join(cls.shared, "sparse.h5")
        run("prune", cls.model, "--sparsity", 0.6, "--output", cls.sparse, "--quiet", check=True)

    def test_masks_stay_exact(self):
        for precision in ("bf16", "f32"):
            with self.subTest(precision=precision):
                path = self.path(f"{precision}.h5")
                result = run_json("train", "--init", self.sparse, "--data", self.corpus, "--batch", 4, "--steps", 5, "--precision",
                                  precision, "--output", path)
                before, after = parameters(self.sparse), parameters(path)
                for block in range(2):
                    for name in LINEAR:
                        b, a = before[f"blocks.{block}.{name}"], after[f"blocks.{block}.{name}"]
                        self.assertEqual(b.arrays["mask"].tobytes(), a.arrays["mask"].tobytes())
                        self.assertFalse(a.values[~a.kept()].any(), name)
                        self.assertEqual(zeros(b), zeros(a))
                        self.assertFalse(np.array_equal(b.values, a.values))
                self.assertGreater(result["sparsity"], 0.4)

    def test_lineage_grows(self):
        path = self.path("m.h5")
        run("train", "--init", self.sparse, "--data", self.corpus, "--batch", 4, "--steps", 1, "--seed", 9, "--output", path,
            check=True)
        entries = lineage(path)
        self.assertEqual([entry["tool"] for entry in entries], ["train", "prune", "train"])
        self.assertEqual([entry["parent_sha256"] for entry in entries], [None, sha256(self.model), sha256(self.sparse)])
        self.assertEqual(entries[-1]["seed"], 9)
        self.assertIn("--init", entries[-1]["arguments"])

    def test_no_steps_copy_the_parameters(self):
        run("train", "--init", self.sparse, "--steps", 0, "--output", self.path("m.h5"), check=True)
        self.assert_same_parameters(self.sparse, self.path("m.h5"))

    def test_a_shape_cannot_change(self):
        for option, value in (("--layers", 3), ("--dim", 32), ("--vocab", 300), ("--tied", None), ("--preset", "gpt2"),
                              ("--tokenizer", "bpe:300"), ("--init-std", 0.1)):
            with self.subTest(option=option):
                done = run("train", "--init", self.model, "--data", self.corpus, option, *([] if value is None else [value]),
                           "--steps", 1, "--output", self.path("m.h5"))
                self.assert_refused(done, 2, option)

    def test_a_model_cannot_be_resumed(self):
        done = run("train", "--resume", self.model, "--data", self.corpus, "--output", self.path("m.h5"))
        self.assert_refused(done, 3, self.model, "--init")


class Files(ModelTest):
    """What a run reads and writes: nothing is lost, and nothing finished is thrown away."""

    def start(self, *arguments, data=None, output="m.h5", **options):
        return run("train", "--data", data or self.corpus, *QUICK, "--steps", 3, *arguments, "--output", self.path(output), **options)

    def test_two_that_are_one_file(self):
        text = write(self.path("t.txt"), read_text(self.corpus))
        link = self.path("link.txt")
        os.symlink(text, link)
        for arguments, parts in [(["--checkpoint", text], ("--checkpoint", "--data")),
                                 (["--log", link, "--force"], ("--log", "--data")),
                                 (["--plot", self.path("m.h5")], ("--plot", "--output")),
                                 (["--checkpoint", self.path("./m.h5"), "--force"], ("--checkpoint", "--output")),
                                 (["--valid", self.path("v.txt"), "--log", self.path("v.txt"), "--force"], ("--log", "--valid"))]:
            with self.subTest(arguments=arguments):
                write(self.path("v.txt"), "some text to validate on")
                self.assert_refused(self.start(*arguments, data=text), 2, *parts)
                self.assertEqual(read_text(text), read_text(self.corpus))
        self.assert_refused(self.start("--force", data=text, output="t.txt"), 2, "--output", "--data")
        self.assertEqual(read_text(text), read_text(self.corpus))
        model = tiny_model(self.directory)
        self.assert_refused(run("train", "--init", model, "--steps", 0, "--output", model, "--force"), 2, "--init", "--output")

    def test_a_checkpoint_that_exists(self):
        old = write(self.path("c.h5"), "precious")
        self.assert_refused(self.start("--checkpoint", old), 2, old, "--resume", "--force")
        self.assertEqual(read_text(old), "precious")
        self.assertEqual(self.start("--checkpoint", old, "--force").returncode, 0)

    def test_what_cannot_be_written_beside_the_model(self):
        for arguments in (["--log", "/dev/full"], ["--plot", "/dev/full"]):
            with self.subTest(arguments=arguments):
                done = self.start(*arguments, "--force", "--quiet")
                self.assert_error(done, 3, arguments[0] + ": cannot write '/dev/full'", "all else is done")
                self.assertIn(sha256(self.path("m.h5")), done.stdout)

    def test_log_and_plot_to_streams(self):
        done = self.start("--log", "/dev/stdout", "--log-every", 1, "--quiet", check=True)
        lines = done.stdout.splitlines()
        self.assertEqual([json.loads(line)["step"] for line in lines[:3]], [1, 2, 3])
        self.assertIn(sha256(self.path("m.h5")), lines[3])
        self.assertIn("<svg", self.start("--plot", "-", "--force", check=True).stdout)

    def test_what_would_end_the_run_later_is_refused_at_once(self):
        short = write(self.path("v.txt"), "x")
        for more in ([], ["--dry-run"]):
            self.assert_refused(self.start("--valid", short, *more), 3, "v.txt", "1 token")
            self.assert_refused(self.start("--sparsity", 0.5, "--pattern", "block:24x24", *more), 2, "block")
            self.assert_refused(self.start("--sparsity", 0.5, "--pattern", "block:64x64", *more), 2, "blocks")
        model = tiny_model(self.directory)
        run("quantize", model, "--type", "int8", "--output", self.path("q.h5"), check=True)
        for more in ([], ["--dry-run"]):
            done = run("train", "--init", self.path("q.h5"), "--data", self.corpus, "--steps", 2, "--output", self.path("m.h5"), *more)
            self.assert_refused(done, 2, "quantized")

    def test_options_without_effect_are_said(self):
        done = self.start("--valid-every", 2, "--decay", 0.3, check=True)
        self.assertIn("warning: --valid-every has no effect without", done.stderr)
        self.assertIn("warning: --decay has no effect without", done.stderr)


class SparseTraining(ModelTest):
    def test_sparsity_is_reached(self):
        path = self.path("m.h5")
        run("train", "--data", self.corpus, *QUICK, "--steps", 20, "--sparsity", 0.6, "--sparsify-from", "20%", "--sparsify-until",
            "70%", "--sparsify-every", 2, "--output", path, check=True)
        stored = parameters(path)
        for block in range(2):
            for name in LINEAR:
                weight = stored[f"blocks.{block}.{name}"]
                pruned = np.count_nonzero(~weight.kept())
                self.assertEqual(pruned, fewest(0.6, weight.values.size), name)
                self.assertFalse(weight.values[~weight.kept()].any())
        self.assertIsNone(stored["embedding.weight"].kept())

    def test_the_sparsity_asked_for_is_what_one_gets(self):
        path = self.path("m.h5")
        for arguments in (["--steps", 20, "--sparsify-until", 1], ["--steps", 1],
                          ["--steps", 20, "--sparsify-every", 20, "--sparsify-from", 0.5, "--sparsify-until", 1]):
            with self.subTest(arguments=arguments):
                result = run_json("train", "--data", self.corpus, *QUICK, *arguments, "--sparsity", 0.6, "--output", path, "--force")
                self.assertGreaterEqual(result["sparsity"], 0.6)
                self.assertLess(result["sparsity"], 0.601)
                run("eval", path, "--data", self.corpus, "--limit", 100, "--require", "sparsity >= 0.6", check=True)

    def test_less_than_there_is_is_said(self):
        sparse = self.path("s.h5")
        run("train", "--data", self.corpus, *QUICK, "--steps", 2, "--sparsity", 0.6, "--output", sparse, check=True)
        done = run("train", "--init", sparse, "--data", self.corpus, "--batch", 4, "--steps", 2, "--sparsity", 0.3, "--output",
                   self.path("m.h5"), check=True)
        self.assertIn("pruned by more than --sparsity 0.3", done.stderr)
        done = run("prune", sparse, "--sparsity", 0.3, "--output", self.path("p.h5"), check=True)
        self.assertIn("pruned by more than --sparsity 0.3 before", done.stderr)

    def test_the_best_is_one_of_the_final_sparsity_and_what_is_printed_is_its(self):
        valid = write(self.path("v.txt"), bytes(range(256)) * 8)
        path, log = self.path("m.h5"), self.path("l.jsonl")
        result = run_json("train", "--data", self.corpus, *QUICK, "--steps", 60, "--valid", valid, "--valid-every", 10, "--sparsity",
                          0.5, "--keep", "best", "--lr", 0.005, "--log", log, "--output", path)
        competing = {line["step"]: line["valid_loss"] for line in log_lines(log) if line.get("valid_loss") and line["step"] > 42}
        self.assertEqual(result["valid_loss"], min(competing.values()))
        self.assertEqual(competing[result["kept_step"]], result["valid_loss"])
        score = run_json("eval", path, "--data", valid, "--context", 32, "--stride", 32)
        row = score["rows"][0] if "rows" in score else score[0] if isinstance(score, list) else score
        self.assertAlmostEqual(row["loss"], result["valid_loss"], places=6)
        self.assertEqual(row["sparsity"], result["sparsity"])
        self.assertEqual(lineage(path)[0]["results"]["valid_loss"], result["valid_loss"])

    def test_blocks(self):
        path = self.path("m.h5")
        run("train", "--data", self.corpus, *QUICK, "--steps", 10, "--sparsity", 0.5, "--sparsify-every", 1, "--pattern",
            "block:16x16", "--output", path, check=True)
        kept = parameters(path)["blocks.1.attention.output.weight"].kept()
        blocks = kept.reshape(4, 16, 4, 16).sum(axis=(1, 3))
        self.assertEqual(sorted(set(blocks.ravel())), [0, 256])
        self.assertEqual(np.count_nonzero(blocks == 0), 8)


if __name__ == "__main__":
    unittest.main()
