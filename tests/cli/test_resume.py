"""Runs that are interrupted: by a signal, by kill -9 at any moment, by divergence. What is on disk afterwards is whole, and
a resumed run ends with the very parameters of one that never stopped."""

import json
import os
import random
import re
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from hone_cli import help_of, run, run_json, sentences, tiny_model, tool, write
from model_files import QUICK, ModelTest, lineage, log_lines, parameters, read_text, sha256, text_of


def start(name, *arguments):
    """A tool that runs while the test goes on."""
    return subprocess.Popen([tool(name), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


class ResumeTest(ModelTest):
    STEPS = 60

    def options(self, *more):
        return ["--data", self.corpus, *QUICK, "--steps", self.STEPS, *more]

    def interrupt(self, number, *arguments, until):
        """Runs train, sends the signal once `until()` holds, and returns how it ended."""
        process = start("train", *arguments)
        while not until() and process.poll() is None:
            time.sleep(0.002)
        self.assertIsNone(process.poll(), "the run ended before it was stopped: make it longer")
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def state(self, checkpoint):
        return text_of(checkpoint, "run/state")

    def assert_same_stages(self, first, second):
        """The same lineage but for the arguments, which name other files."""
        a, b = lineage(first), lineage(second)
        for entry in a + b:
            del entry["arguments"]
        self.assertEqual(a, b)


class Signals(ResumeTest):
    def check(self, number, *options):
        straight = run_json("train", *self.options(*options), "--output", self.path("straight.h5"))
        checkpoint, output = self.path("c.h5"), self.path("out.h5")
        files = ["--checkpoint", checkpoint, "--save-every", 4, "--output", output, "--format", "json"]
        done = self.interrupt(number, *self.options(*options), *files, until=lambda: os.path.exists(checkpoint))
        self.assertEqual(done.returncode, 128 + number, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertIn(f"--resume {checkpoint}", done.stderr)
        self.assertFalse(os.path.exists(output))
        self.assert_no_leftovers()
        self.assertLess(self.state(checkpoint)["step"], self.STEPS)
        resumed = run_json("train", *self.options(*options), *files[:-2], "--resume", checkpoint)
        self.assert_same_parameters(self.path("straight.h5"), output)
        self.assert_same_stages(self.path("straight.h5"), output)
        for key in ("steps", "tokens", "loss", "valid_loss", "parameters", "sparsity"):
            self.assertEqual(resumed.get(key), straight.get(key), key)

    def test_interrupt(self):
        self.check(signal.SIGINT)

    def test_terminate_with_all_that_a_run_remembers(self):
        self.check(signal.SIGTERM, "--dropout", 0.1, "--accumulate", 2, "--valid-fraction", 0.1, "--valid-every", 7, "--keep",
                   "best", "--schedule", "wsd")

    def test_documents_with_small_moments_and_cautious_decay(self):
        write(self.corpus, "\n\n".join(sentences(3, 3 * i) for i in range(80)))
        self.check(signal.SIGTERM, "--moments", "int8", "--weight-decay-cautious", "--weight-decay-schedule", "cosine",
                   "--warmup-tokens", 700, "--shuffle", "documents")
        self.assertEqual(lineage(self.path("out.h5"))[-1]["results"]["shuffle"], "documents")

    def test_one_document_is_nothing_to_shuffle(self):
        text = write(self.path("one.txt"), sentences(300))
        done = run("train", "--data", text, *QUICK, "--steps", 2, "--shuffle", "documents", "--output", self.path("x.h5"))
        self.assert_error(done, 3, "one.txt has 1 document", "shuffle windows")
        run("train", "--data", text, *QUICK, "--steps", 0, "--output", self.path("t.h5"), check=True)
        done = run("train", "--data", text, *QUICK, "--steps", 2, "--shuffle", "documents", "--teacher", self.path("t.h5"),
                   "--teacher-cache", self.path("t.cache"), "--output", self.path("x.h5"))
        self.assert_error(done, 2, "--teacher-cache", "--shuffle documents")

    def test_short_windows_first_with_muon_and_an_average(self):
        self.check(signal.SIGTERM, "--curriculum", "8:20%,16:30%,32", "--optimizer", "muon", "--adamw-rate", 0.002, "--ema", 0.9,
                   "--valid-fraction", 0.1, "--valid-every", 7, "--keep", "best", "--recompute", "feed_forward")

    def test_sparse_and_f32(self):
        self.check(signal.SIGINT, "--precision", "f32", "--sparsity", 0.5, "--sparsify-from", 0, "--sparsify-every", 3)

    def test_products_in_8_bits(self):
        self.check(signal.SIGTERM, "--precision", "int8", "--dropout", 0.1, "--accumulate", 2)

    def test_two_threads(self):
        self.check(signal.SIGINT, "--threads", 2)

    def test_rounded_while_it_is_pruned(self):
        self.check(signal.SIGTERM, "--quantize-aware", "int4:32", "--quantize-from", 0.1, "--sparsity", 0.5)

    def test_with_a_teacher(self):
        teacher = tiny_model(self.directory, "teacher.h5", dim=64, init_std=0.2)
        for options in (["--teacher", teacher + ":2:1.5", "--teacher-hidden", 0.5],
                        ["--teacher", teacher, "--teacher-cache", self.path("kept")]):
            with self.subTest(options):
                self.check(signal.SIGTERM, *options)
                for name in ("straight.h5", "c.h5", "out.h5"):
                    os.remove(self.path(name))

    def test_from_a_parent(self):
        model = tiny_model(self.directory, "parent.h5")
        straight, checkpoint, output = self.path("straight.h5"), self.path("c.h5"), self.path("out.h5")
        options = ["--data", self.corpus, "--batch", 4, "--steps", self.STEPS]
        run("train", "--init", model, *options, "--output", straight, check=True)
        files = ["--checkpoint", checkpoint, "--save-every", 4, "--output", output]
        done = self.interrupt(signal.SIGTERM, "--init", model, *options, *files, until=lambda: os.path.exists(checkpoint))
        self.assertEqual(done.returncode, 143, done.stderr)
        run("train", "--resume", checkpoint, *options, *files, check=True)
        self.assert_same_parameters(straight, output)
        self.assert_same_stages(straight, output)  # the parent of both is the model, not the checkpoint

    def test_without_a_checkpoint_the_output_is_written(self):
        log = self.path("l.jsonl")
        done = self.interrupt(signal.SIGINT, *self.options("--log", log, "--log-every", 1), "--output", self.path("out.h5"),
                              until=lambda: os.path.exists(log) and len(read_text(log).splitlines()) > 2)
        self.assertEqual(done.returncode, 130, done.stderr)
        self.assertEqual(lineage(self.path("out.h5"))[0]["results"]["stopped_by_signal"], signal.SIGINT)
        self.assertIn(sha256(self.path("out.h5")), done.stdout)

    def test_the_log_continues(self):
        log, checkpoint = self.path("l.jsonl"), self.path("c.h5")
        options = self.options("--log", log, "--log-every", 1, "--checkpoint", checkpoint, "--save-every", 2, "--output",
                               self.path("out.h5"))
        self.interrupt(signal.SIGINT, *options, until=lambda: os.path.exists(checkpoint))
        run("train", *options, "--resume", checkpoint, check=True)
        self.assertEqual([line["step"] for line in log_lines(log)], list(range(1, self.STEPS + 1)))

    def test_the_log_of_a_run_that_went_on_behind_its_checkpoint(self):
        straight, log, checkpoint = self.path("s.jsonl"), self.path("l.jsonl"), self.path("c.h5")
        run("train", *self.options("--log", straight, "--log-every", 1), "--output", self.path("s.h5"), check=True)
        options = self.options("--log", log, "--log-every", 1, "--checkpoint", checkpoint, "--save-every", 2, "--output",
                               self.path("out.h5"))
        self.interrupt(signal.SIGTERM, *options, until=lambda: os.path.exists(checkpoint))
        step = self.state(checkpoint)["step"]
        with open(log, "a") as file:  # as a run leaves it that was killed three steps later
            for later in range(step + 1, step + 4):
                file.write(json.dumps({"step": later, "tokens": 0, "loss": 99.0}) + "\n")
            file.write('{"step":')
        run("train", *options, "--resume", "auto", "--plot", self.path("p.svg"), check=True)
        losses = [(line["step"], line["loss"]) for line in log_lines(log)]
        self.assertEqual(losses, [(line["step"], line["loss"]) for line in log_lines(straight)])
        self.assertTrue(os.path.exists(self.path("p.svg")))
        self.assert_refused(run("train", *options, "--resume", checkpoint, "--plot", log, "--force"), 2, "--log", "--plot")

    def test_auto_starts_where_there_is_no_checkpoint_yet(self):
        checkpoint, output = self.path("c.h5"), self.path("out.h5")
        options = self.options("--checkpoint", checkpoint, "--save-every", 2, "--output", output, "--resume", "auto")
        self.interrupt(signal.SIGHUP, *options, until=lambda: os.path.exists(checkpoint))
        run("train", *options, check=True)
        run("train", *self.options(), "--output", self.path("s.h5"), check=True)
        self.assert_same_parameters(output, self.path("s.h5"))
        self.assert_same_stages(output, self.path("s.h5"))

    def test_a_signal_keeps_the_best(self):
        valid, log = write(self.path("v.txt"), "".join(str(i * i) + " " for i in range(300))), self.path("l.jsonl")
        options = self.options("--valid", valid, "--valid-every", 1, "--keep", "best", "--lr", 0.02, "--schedule", "constant", "--warmup",
                               1, "--log", log, "--log-every", 1)
        done = self.interrupt(signal.SIGINT, *options, "--output", self.path("out.h5"),
                              until=lambda: os.path.exists(log) and len(read_text(log).splitlines()) > 20)
        self.assertEqual(done.returncode, 130, done.stderr)
        losses = {line["step"]: line["valid_loss"] for line in log_lines(log)}
        results = lineage(self.path("out.h5"))[0]["results"]
        self.assertEqual(results["valid_loss"], min(losses.values()))
        self.assertEqual(losses[results["kept_step"]], results["valid_loss"])

    def test_a_run_that_patience_ended_stays_ended(self):
        valid, checkpoint = write(self.path("v.txt"), "".join(str(i * i) + " " for i in range(300))), self.path("c.h5")
        options = self.options("--valid", valid, "--valid-every", 1, "--patience", 2, "--lr", 0.02, "--schedule", "constant", "--warmup", 1)
        first = run_json("train", *options, "--checkpoint", checkpoint, "--output", self.path("a.h5"))
        self.assertLess(first["steps"], self.STEPS)
        again = run_json("train", *options, "--resume", checkpoint, "--output", self.path("b.h5"))
        for key in ("steps", "loss", "valid_loss"):
            self.assertEqual(again[key], first[key])
        self.assert_same_parameters(self.path("a.h5"), self.path("b.h5"))


class Checkpoints(ResumeTest):
    STEPS = 6

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.checkpoint = os.path.join(cls.shared, "c.h5")
        cls.output = os.path.join(cls.shared, "out.h5")
        run("train", "--data", cls.corpus, *QUICK, "--steps", cls.STEPS, "--dropout", 0.1, "--valid-fraction", 0.1, "--checkpoint",
            cls.checkpoint, "--output", cls.output, check=True)

    def resume(self, *options, data=None, replace=()):
        arguments = {"--data": data or self.corpus, "--batch": 4, "--context": 32, "--steps": self.STEPS, "--dropout": 0.1,
                     "--valid-fraction": 0.1, **dict(replace)}
        return run("train", "--resume", self.checkpoint, *[x for pair in arguments.items() for x in pair], *options, "--output",
                   self.path("again.h5"))

    def test_a_finished_run_writes_its_output_again(self):
        done = self.resume()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_same_parameters(self.output, self.path("again.h5"))

    def test_the_shape_may_be_repeated_but_not_changed(self):
        self.assertEqual(self.resume("--layers", 2, "--dim", 64, "--heads", 2).returncode, 0)
        self.assert_refused(self.resume("--layers", 3, "--dim", 64, "--heads", 2, "--force"), 2, "layers")

    # Options that are refused by the name of what they change.
    BY_NAME = {"--learning-rate": "learning_rate", "--batch": "batch", "--steps": "steps", "--dropout": "dropout", "--context": "context",
               "--valid-fraction": "train_tokens", "--accumulate": "accumulate", "--seed": "seed", "--schedule": "schedule",
               "--precision": "precision", "--weight-decay": "weight_decay", "--beta1": "beta1", "--clip": "clip", "--warmup": "warmup",
               "--sparsity": "sparsity", "--keep": "keep", "--valid-every": "valid_every", "--tokenizer": "tokenizer"}

    def test_another_precision_is_refused_and_its_own_may_be_repeated(self):
        for value in ("f32", "int8"):
            with self.subTest(value):
                done = self.resume("--precision", value)
                if self.precision() == value:
                    self.assertEqual(done.returncode, 0, done.stderr)
                    os.remove(self.path("again.h5"))
                else:
                    self.assert_refused(done, 2, "'precision'")
                    self.assertFalse(os.path.exists(self.path("again.h5")))

    def test_every_option_is_held_to_or_may_change(self):
        """Every option of --help: another value is refused when a run is resumed, or it stands below for what it is."""
        may_change = {"--resume", "--output", "--force", "--checkpoint", "--save-every", "--log", "--log-every", "--plot", "--format",
                      "--threads", "--quiet", "--log-level", "--media-cache", "--recompute", "--parallel", "--memory-limit", "--dry-run", "--config", "--help", "--version"}
        elsewhere = {"--data", "--init", "--valid", "--tokens", "--epochs",  # test_other_text…, test_the_parent…; steps
                     "--upcycle-noise",  # of the copies at the start, which the checkpoint has
                     "--loss"}  # in the description; this text has no answers
        values = {"--steps": 9, "--batch": 5, "--accumulate": 2, "--learning-rate": 0.5, "--schedule": "wsd", "--warmup": 3,
                  "--decay": 0.3, "--final-rate": 0.3, "--clip": 2, "--dropout": 0.2, "--weight-decay": 0, "--beta1": 0.8,
                  "--beta2": 0.8, "--precision": "bf16" if self.precision() == "f32" else "f32", "--valid-fraction": 0.2,
                  "--warmup-tokens": 600, "--shuffle": "documents", "--weight-decay-cautious": None,
                  "--weight-decay-schedule": "linear", "--moments": "bf16", "--curriculum": "8:50%,32", "--exits": "1",
                  "--exit-loss": 0.1, "--layer-dropout": 0.1, "--depth-router": 0.5, "--depth-layers": "0", "--optimizer": "muon",
                  "--muon-momentum": 0.5, "--muon-block": 8, "--adamw-rate": 0.1, "--ema": 0.9, "--average": "tail:0.5", "--z-loss": 0.1, "--logit-softcap": 30,
                  "--attention-softcap": 50, "--attention-score": "softcap:40", "--qk-norm": None,
                  "--valid-every": 2, "--valid-tokens": 40, "--patience": 50, "--keep": "best", "--sparsity": 0.5,
                  "--tokenizer": "bpe:300", "--init-std": 0.03, "--seed": 7, "--context": 16, "--preset": "gpt2", "--layers": 3,
                  "--dim": 32, "--heads": 4, "--kv-heads": 1, "--head-dim": 16, "--ffn": 32, "--vocab": 300, "--norm": "layer_norm",
                  "--norm-epsilon": 0.1, "--activation": "gelu", "--positions": "learned", "--rope-theta": 5,
                  "--attention": "window:8", "--image": "patches:2x2", "--audio": "mel:8", "--media-attention": "both",
                  "--augment-image": "shift:1", "--augment-audio": "gain:1", "--skip-broken": None, "--modality-experts": "ffn",
                  "--contrastive": 1, "--contrastive-loss": "siglip",
                  "--biases": None, "--untied": None, "--experts": 4,
                  "--router-noise": "gumbel", "--balance": "none", "--router-z-loss": 1, "--capacity-factor": 2, "--quantize-aware": "int4:32"}
        # Only beside another one:
        teaching = {"--teacher-hidden": 1, "--teacher-cache": self.path("kept"), "--teacher-top": 3}
        rounding = {"--quantize-from": 0.3}
        also = {"--sparsify-from": 0.1, "--sparsify-until": 0.9, "--sparsify-every": 3, "--pattern": "block:2x2"}
        experts = {"--top-k": 1, "--shared-experts": 1, "--shared-gate": None, "--expert-ffn": 32, "--moe-layers": "0", "--router": "sigmoid",
                   "--router-temperature": 2}
        help_text = help_of("train", 200)
        options = {first for first in re.findall(r"^  (?:-\w,\s*)?(--[\w-]+)", help_text, re.M)}
        known = may_change | elsewhere | set(values) | set(also) | set(experts) | set(teaching) | set(rounding) | {"--tied", "--teacher"}
        self.assertEqual(options - known, set(), "say what resuming with another value of it does")
        for option, value in {**values, **experts}.items():
            with self.subTest(option=option):
                done = self.resume(option) if value is None else self.resume(replace=[(option, value)])
                self.assert_refused(done, 2, *(f"'{self.BY_NAME[name]}'" for name in [option] if name in self.BY_NAME))
                self.assertFalse(os.path.exists(self.path("again.h5")))
        teacher = ["--teacher", tiny_model(self.directory, "teacher.h5", dim=64)]
        self.assert_refused(self.resume(*teacher), 2, "'teacher'")
        for option, value in teaching.items():
            with self.subTest(option=option):
                more = ["--teacher-cache", self.path("kept")] if option == "--teacher-top" else []
                self.assert_refused(self.resume(*teacher, *more, option, value), 2, "'teacher")
        for option, value in rounding.items():
            self.assert_refused(self.resume("--quantize-aware", "int4", option, value), 2, "'quantize_")
        for option, value in also.items():
            with self.subTest(option=option):
                self.assert_refused(self.resume("--sparsity", 0.3, option, value), 2, f"'{option[2:].replace('-', '_')}'")

    def test_the_description_is_what_it_was(self):
        """Checkpoints of every version are resumed by these names."""
        names = {"augment_audio", "augment_image", "average", "contrastive", "contrastive_loss", "loss", "skip_broken", "accumulate", "adamw_rate", "batch", "beta1", "beta2", "clip", "context", "curriculum", "decay", "dropout",
                 "ema", "exit_loss", "layer_dropout", "final_rate", "keep", "learning_rate", "moments", "muon_block", "muon_momentum",
                 "optimizer", "parent_sha256", "patience", "pattern", "precision", "quantize_aware", "quantize_from",
                 "schedule", "seed", "shuffle", "sparsify_every", "sparsify_from",
                 "sparsify_until", "sparsity", "steps", "teacher", "teacher_cache", "teacher_hidden", "train_tokens", "training_text", "valid_every", "valid_tokens", "warmup",
                 "weight_decay", "weight_decay_cautious", "weight_decay_schedule", "z_loss"}
        description = self.state(self.checkpoint)["description"]
        self.assertEqual(set(description), names)
        for name, value in {"accumulate": 1, "beta1": 0.9, "clip": 1, "keep": "last", "sparsity": 0, "pattern": "unstructured",
                            "sparsify_every": 10, "schedule": "cosine", "valid_every": 250, "patience": 0}.items():
            self.assertEqual(description[name], value, name)

    def precision(self):
        return self.state(self.checkpoint)["description"]["precision"]

    def test_other_text_is_refused(self):
        other = write(self.path("other.txt"), sentences(100, 3))
        self.assert_refused(self.resume(data=other), 2, "'train_tokens'")
        same_length = write(self.path("same.txt"), read_text(self.corpus).replace("river", "ocean"))
        self.assert_refused(self.resume(data=same_length), 2, "'training_text'")

    def test_the_parent_may_be_named_again(self):
        model, other = tiny_model(self.directory, "a.h5"), tiny_model(self.directory, "b.h5", seed=9)
        options = ["--data", self.corpus, "--batch", 4, "--steps", 3]
        checkpoint = self.path("c.h5")
        run("train", "--init", model, *options, "--checkpoint", checkpoint, "--output", self.path("m.h5"), check=True)
        resume = [*options, "--resume", checkpoint]
        run("train", "--init", model, *resume, "--output", self.path("n.h5"), check=True)
        self.assert_same_parameters(self.path("m.h5"), self.path("n.h5"))
        self.assert_refused(run("train", "--init", other, *resume, "--output", self.path("o.h5")), 2, other)

    def test_it_carries_its_lineage(self):
        stages = lineage(self.checkpoint)
        self.assertEqual([stage["tool"] for stage in stages], ["train"])
        self.assertTrue(stages[0]["unfinished"])
        self.assertEqual(stages[0]["results"]["steps"], self.STEPS)
        self.assertIn("--checkpoint", stages[0]["arguments"])

    def test_it_is_a_model_too(self):
        run("train", "--init", self.checkpoint, "--steps", 0, "--output", self.path("m.h5"), check=True)
        self.assert_same_parameters(self.output, self.path("m.h5"))
        self.assertIsNone(text_of(self.path("m.h5"), "run/state"))

    def test_a_damaged_one_is_refused(self):
        with h5py.File(self.checkpoint) as file:
            array = file["run/arrays/optimizer.blocks.1.feed_forward.down.weight.v"]
            place = array.id.get_offset()
        with open(self.checkpoint, "rb") as file:
            whole = file.read()
        for name, bytes_ in (("cut.h5", whole[: len(whole) // 2]),
                             ("flipped.h5", whole[: place + 5] + bytes([whole[place + 5] ^ 1]) + whole[place + 6 :])):
            with self.subTest(name=name):
                path = write(self.path(name), bytes_)
                done = run("train", "--resume", path, *self.options("--dropout", 0.1), "--output", self.path("m.h5"))
                self.assert_refused(done, 3, path)


class Divergence(ResumeTest):
    def test_the_last_good_checkpoint_stays(self):
        checkpoint, output = self.path("c.h5"), self.path("out.h5")
        # The warmup reaches absurd rates step by step, so that there is a good state to keep.
        done = run("train", *self.options("--lr", 1000, "--warmup", 50, "--clip", 0, "--checkpoint", checkpoint, "--save-every", 1),
                   "--output", output, "--quiet")
        self.assert_refused(done, 5, "diverged", checkpoint, "--learning-rate")
        self.assertFalse(os.path.exists(output))
        for name, stored in parameters(checkpoint).items():
            self.assertTrue(np.isfinite(stored.values).all(), name)
        self.assertGreater(self.state(checkpoint)["step"], 0)
        result = run_json("train", "--init", checkpoint, "--data", self.corpus, "--batch", 4, "--steps", 1, "--output", output)
        self.assertTrue(np.isfinite(result["loss"]))

    def test_without_a_checkpoint(self):
        done = run("train", *self.options("--lr", "1e6", "--clip", 0, "--schedule", "constant"), "--output", self.path("out.h5"))
        self.assert_refused(done, 5, "diverged", "--checkpoint")
        self.assertFalse(os.path.exists(self.path("out.h5")))


class Killed(ResumeTest):
    """kill -9 leaves no time for anything, so whatever is on disk at that moment must do."""

    STEPS = 50

    def kill_after(self, seconds, name, *arguments):
        process = start(name, *arguments)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        return process.returncode

    def assert_loads(self, path):
        run("train", "--init", path, "--steps", 0, "--dry-run", "--output", self.path("unused.h5"), check=True)

    def test_a_run_killed_again_and_again_ends_as_one_that_was_not(self):
        straight, checkpoint, output = self.path("straight.h5"), self.path("c.h5"), self.path("out.h5")
        began = time.monotonic()
        run("train", *self.options(), "--output", straight, check=True)
        whole = time.monotonic() - began
        chance = random.Random(1)
        files = ["--checkpoint", checkpoint, "--save-every", 1, "--output", output]  # every step: most kills hit a save
        killed = 0
        for _ in range(12):
            again = ["--resume", checkpoint] if os.path.exists(checkpoint) else []
            code = self.kill_after(chance.uniform(0.05, 0.5) * max(whole, 0.3), "train", *self.options(), *files, *again)
            self.assertIn(code, (0, -signal.SIGKILL))
            if code == 0:
                break
            killed += 1
            self.assertFalse(os.path.exists(output))
            if os.path.exists(checkpoint):
                self.assert_loads(checkpoint)
        self.assertGreater(killed, 0)
        if not os.path.exists(output):
            again = ["--resume", checkpoint] if os.path.exists(checkpoint) else []
            run("train", *self.options(), *files, *again, check=True)
        self.assert_same_parameters(straight, output)

    def whole_or_old(self, name, *arguments, rounds=4):
        """Kills a tool at moments spread over its time, with and without an old file in the place of its output."""
        output = self.path("out.h5")
        if os.path.exists(output):
            os.remove(output)
        began = time.monotonic()
        run(name, *arguments, "--output", output, check=True)
        whole = time.monotonic() - began
        expected = self.contents(output)
        for i in range(rounds):
            with self.subTest(tool=name, round=i):
                old = write(output, "old") if i % 2 else None
                if not old and os.path.exists(output):
                    os.remove(output)
                # The end is where files are written.
                self.kill_after(whole * (0.3 + 0.8 * i / rounds), name, *arguments, "--output", output, "--force")
                if old and read_bytes(output) == b"old":
                    continue
                if os.path.exists(output):
                    self.assertEqual(self.contents(output), expected)
        for leftover in os.listdir(self.directory):
            if ".tmp" in leftover:
                os.remove(self.path(leftover))

    def contents(self, path):
        return {name: {k: v.tobytes() for k, v in p.arrays.items()} for name, p in parameters(path).items()}

    SIZES = ["--layers", 2, "--dim", 256, "--heads", 4]

    def test_outputs_are_whole_or_absent(self):
        self.whole_or_old("train", "--steps", 0, *self.SIZES)
        model = self.path("model.h5")
        run("train", "--steps", 0, *self.SIZES, "--output", model, check=True)
        self.whole_or_old("prune", model, "--sparsity", 0.5)
        self.whole_or_old("quantize", model, "--type", "int8")


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    unittest.main()
