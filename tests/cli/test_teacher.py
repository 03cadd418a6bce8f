"""Learning from a teacher: what is said of it, predictions kept in a file, and teachers that do not fit. (test_resume.py has
runs with one that are interrupted.)"""

import os
import unittest

from hone_cli import run, tiny_model, write
from model_files import QUICK, ModelTest, lineage, log_lines, sha256

SHAPE = ["--layers", 2, "--dim", 32, "--heads", 2, "--ffn", 64, "--context", 32, "--batch", 4]


class Teacher(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.teacher = os.path.join(cls.shared, "dense.h5")
        run("train", "--data", cls.corpus, *QUICK, "--steps", 60, "--output", cls.teacher, "--quiet", check=True)

    def setUp(self):
        super().setUp()
        self.text = self.corpus

    def learn(self, name, *options, steps=8):
        shape = [] if "--layers" in options else SHAPE
        return run("train", "--data", self.text, *shape, "--steps", steps, "--output", self.path(name), *options)

    def trained(self, name, *options, steps=8):
        done = self.learn(name, *options, steps=steps)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_the_divergence_is_a_term_and_the_lineage_names_the_teacher(self):
        self.trained("a.h5", "--teacher", self.teacher + ":2:1.5", "--log", self.path("log"), "--log-every", 1, steps=30)
        lines = log_lines(self.path("log"))
        self.assertEqual(sorted(lines[0]["terms"]), ["next_token", "teacher"])
        self.assertLess(lines[-1]["terms"]["teacher"], 0.7 * lines[0]["terms"]["teacher"])
        self.assertEqual(lineage(self.path("a.h5"))[-1]["results"]["teacher"],
                         {"sha256": sha256(self.teacher), "weight": 2, "temperature": 1.5})

    def test_any_stored_form_teaches(self):
        small = self.path("small.h5")
        run("quantize", self.teacher, "--output", small, "--type", "int4", "--group", 32, "--quiet", check=True)
        self.trained("a.h5", "--teacher", small, "--log", self.path("log"))
        self.assertGreater(log_lines(self.path("log"))[0]["terms"]["teacher"], 0)

    def test_streams_of_equal_layers_are_matched(self):
        self.trained("same.h5", *QUICK, "--teacher", self.teacher + ":0", "--teacher-hidden", 1, "--log", self.path("log"),
                     "--recompute", "blocks")
        self.assertEqual(sorted(log_lines(self.path("log"))[0]["terms"]), ["next_token", "teacher_hidden"])
        self.assert_error(self.learn("b.h5", "--teacher", self.teacher, "--teacher-hidden", 1), 2, "equal layers", "dim 64")

    def test_predictions_are_kept_and_read_instead_of_the_teacher(self):
        cache = self.path("kept")
        options = ["--teacher", self.teacher, "--teacher-cache", cache, "--teacher-top", 8]
        first = self.trained("a.h5", *options, "--log", self.path("log"))
        size = os.path.getsize(cache)
        tokens = os.path.getsize(self.text) - 1
        self.assertAlmostEqual(size, tokens * (8 * 2 + 9 * 2), delta=1000)
        self.assertIn("will take", first.stderr)
        again = self.trained("b.h5", *options)
        self.assertNotIn("will take", again.stderr)
        self.assertNotIn("of the teacher", again.stderr)  # of the memory
        self.assertIn("of the teacher", first.stderr)
        self.assert_same_parameters(self.path("a.h5"), self.path("b.h5"))
        other = tiny_model(self.directory, "other.h5", context=32)
        refused = ["--teacher", other, "--teacher-cache", cache, "--teacher-top", 8]
        self.assert_error(self.learn("x.h5", *refused), 2, "kept", "another teacher")
        self.assert_error(self.learn("x.h5", *options[:-1], 4), 2, "kept", "another top")
        with open(cache, "r+b") as file:
            file.seek(size - 20)
            file.write(b"\0\0\0\0\1\1\1\1")
        self.assert_error(self.learn("x.h5", *options), 3, "kept", "damaged")
        self.assertFalse(os.path.exists(self.path("x.h5")))

    def test_a_dry_run_counts_the_teacher_and_writes_nothing(self):
        options = ["--teacher", self.teacher, "--teacher-cache", self.path("kept"), "--dry-run"]
        self.assertIn("of the teacher", self.trained("a.h5", *options).stderr)
        self.assertFalse(os.path.exists(self.path("kept")))
        self.assert_error(self.learn("a.h5", *options[:2], "--memory-limit", "1MiB"), 2, "--memory-limit")

    def test_teachers_that_do_not_fit(self):
        words = self.path("words.h5")
        run("train", "--data", self.text, *SHAPE, "--tokenizer", "bpe:300", "--steps", 0, "--output", words, "--quiet",
            check=True)
        learned = self.path("learned.h5")
        run("train", *SHAPE, "--positions", "learned", "--context", 16, "--steps", 0, "--output", learned, "--quiet")
        text = write(self.path("text.h5"), "no model")
        for status, options, parts in (
                (2, ["--teacher", words], ["another tokenizer", "bpe:300", words]),
                (3, ["--teacher", self.path("missing.h5")], ["missing.h5"]),
                (3, ["--teacher", text], [text]),
                (2, ["--teacher", self.teacher + ":-1"], ["weight", "-1"]),
                (2, ["--teacher", self.teacher + ":1:0"], ["temperature", "0.01"]),
                (2, ["--teacher", ":1"], ["names no file"]),
                (2, ["--teacher", self.teacher + ":0"], ["no effect", "--teacher-hidden"]),
                (2, ["--teacher-cache", self.path("kept")], ["--teacher-cache", "without --teacher"]),
                (2, ["--teacher-hidden", 1], ["--teacher-hidden", "without --teacher"]),
                (2, ["--teacher", self.teacher, "--teacher-top", 4], ["--teacher-top", "without --teacher-cache"]),
                (2, ["--teacher", self.teacher, "--teacher-cache", self.path("k"), "--teacher-hidden", 1],
                 ["--teacher-hidden", "--teacher-cache"]),
                (2, ["--teacher", self.teacher, "--teacher-cache", self.path("k"), "--teacher-top", 300], ["300", "256"]),
                (2, ["--teacher", self.teacher, "--teacher-cache", self.teacher], ["--teacher", "--teacher-cache"]),
                (3, ["--teacher", self.teacher, "--teacher-cache", self.text + "/no"], ["/no"]),
                (3, ["--teacher", self.teacher, "--teacher-cache", text], [text, "file of rows"])):
            with self.subTest(options):
                self.assert_error(self.learn("x.h5", *options), status, *parts)
        self.assertFalse(os.path.exists(self.path("x.h5")))


if __name__ == "__main__":
    unittest.main()
