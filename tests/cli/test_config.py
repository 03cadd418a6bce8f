"""Configuration files: TOML for every tool, what wins, what is refused and where, and what the lineage says of it."""

import os
import unittest

from hone_cli import CliTest, ROOT, corpus, run, run_json, tiny_model, tools, write

SHAPE = "layers = 1\ndim = 32\nheads = 2\nffn = 64\ncontext = 16\n"


class Config(CliTest):
    def setUp(self):
        super().setUp()
        self.corpus = corpus(self.directory)

    def file(self, text, name="run.toml"):
        return write(self.path(name), text)

    def train(self, text, *args, output="m.h5"):
        return run("train", "--config", self.file(text), *args, "--output", self.path(output), "-q")

    def arguments(self, name="m.h5"):
        return run_json("inspect", self.path(name))["lineage"][-1]["arguments"]

    def refused(self, text, *parts, status=2, args=()):
        done = run("train", "--config", self.file(text), "--output", self.path("no.h5"), "--dry-run", *args)
        self.assert_error(done, status, *parts)
        self.assertFalse(os.path.exists(self.path("no.h5")))

    def test_tables_arrays_escapes_comments_bom_and_line_ends(self):
        odd = write(self.path('a "b" \u00e9.txt'), "the river follows the stone bridge\n" * 40)
        text = ("\ufeff# two texts\r\nthreads = 2\r\n[train]\r\n" + SHAPE.replace("\n", "\r\n") +
                f'data = [\r\n  "{self.corpus}", # the first\r\n  "{self.directory}/a \\"b\\" \\u00e9.txt",\r\n]\r\n'
                'steps = 2\r\nbatch = 2\r\nlr = 1e-3\r\nvalid-fraction = "20%"\r\nbiases = true\r\ntied = false\r\n'
                '[prune]\r\nsparsity = 0.5\r\n')
        done = self.train(text.encode())
        self.assertEqual(done.returncode, 0, done.stderr)
        said = self.arguments()
        self.assertEqual([said[i + 1] for i, word in enumerate(said) if word == "--data"], [self.corpus, odd])
        config = run_json("inspect", self.path("m.h5"))["config"]
        self.assertEqual((config["biases"], config["tied"]), (True, False))
        run("prune", self.path("m.h5"), "--config", self.path("run.toml"), "--output", self.path("p.h5"), check=True)
        self.assertIn("--sparsity 0.5", " ".join(self.arguments("p.h5")))

    def test_every_tool_has_its_table(self):
        model = tiny_model(self.directory)
        for name in tools():
            with self.subTest(tool=name):
                path = self.file(f"[{name}]\nnonsense = 1\n")
                self.assert_error(run(name, "--config", path), 2, "run.toml:2", "unknown key 'nonsense'")
                others = [other for other in tools() if other != name]
                path = self.file("".join(f"[{other}]\nnonsense = 1\n" for other in others) + f"[{name}]\nseed = true\n")
                self.assert_error(run(name, "--config", path), 2, f"run.toml:{2 * len(others) + 2}", "seed")
        self.assertEqual(run("inspect", "--config", self.file(f'[inspect]\nmodel = "{model}"\nformat = "csv"\n')).returncode, 0)

    def test_own_table_wins_over_common_keys_and_the_command_line_over_both(self):
        text = f'data = "{self.corpus}"\nsteps = 3\nbatch = 2\n{SHAPE}[train]\nsteps = 2\n'
        self.assertEqual(self.train(text).returncode, 0)
        self.assertIn("2", self.arguments()[self.arguments().index("--steps") + 1])
        self.train(text, "--steps", 1, "--force")
        said = self.arguments()
        self.assertEqual(said.count("--steps"), 1)
        self.assertEqual(said[said.index("--steps") + 1], "1")

    def test_the_command_line_wins_against_what_excludes_it(self):
        text = f'[train]\ndata = "{self.corpus}"\nsteps = 3\nbatch = 2\n{SHAPE}'
        done = self.train(text, "--tokens", 32)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("--steps", self.arguments())
        self.assertEqual(run_json("inspect", self.path("m.h5"))["lineage"][-1]["results"]["steps"], 1)
        done = self.train(text + 'tokenizer = "bytes"\n', "--init", self.path("m.h5"), output="n.h5")  # has a shape already
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("--layers", self.arguments("n.h5"))
        self.refused("steps = 1\ntokens = 2\n", "run.toml:2", "'tokens' and 'steps' (line 1) exclude each other")

    def test_values_that_exclude_each_other_give_way_and_that_is_said(self):
        model = tiny_model(self.directory)
        cases = [
            ("prune", 'sparsity = 0.6\n', ["--pattern", "2:4"], "'sparsity' gives way to --pattern"),
            ("prune", 'pattern = "2:4"\n', ["--sparsity", 0.6], "'pattern' gives way to --sparsity"),
            ("prune", f'method = "wanda"\nsparsity = 0.5\ncalibration = "{self.corpus}"\n', ["--method", "magnitude"],
             "'calibration' gives way to --method"),
            ("quantize", 'type = "int4"\ngroup = "32"\n', ["--type", "bf16"], "'group' gives way to --type"),
        ]
        for name, text, arguments, said in cases:
            with self.subTest(said=said):
                path = self.path("out.h5")
                done = run(name, model, "--config", self.file(f"[{name}]\n" + text), *arguments, "--output", path, "--force", check=True)
                self.assertRegex(done.stderr, r"run\.toml:\d: " + said + " on the command line")
                said_of_it = self.arguments("out.h5")
                self.assertNotIn("--" + said.split("'")[1], said_of_it)
                run(name, *said_of_it, "--force", check=True)  # the lineage repeats the stage

    def test_values_that_agree_both_stand(self):
        model = tiny_model(self.directory)
        done = run("prune", model, "--config", self.file("sparsity = 0.5\n"), "--pattern", "2:4", "--output", self.path("p.h5"), check=True)
        self.assertNotIn("gives way", done.stderr)
        done = run("quantize", model, "--config", self.file('group = "32"\nembedding-type = "int8"\n'), "--type", "bf16",
                   "--output", self.path("q.h5"), check=True)
        self.assertNotIn("gives way", done.stderr)
        # In the file itself nothing wins.
        done = run("prune", model, "--config", self.file('sparsity = 0.6\npattern = "2:4"\n'), "--output", self.path("no.h5"))
        self.assert_error(done, 2, "2:4", "sparsity")

    def test_windows_of_the_command_line_leave_out_a_longer_stride(self):
        model = tiny_model(self.directory)
        done = run("eval", model, "--data", self.corpus, "--config", self.file("stride = 32\n"), "--context", 16, "--no-speed", check=True)
        self.assertIn("'stride' gives way to --context", done.stderr)

    def test_the_lineage_repeats_the_run_without_the_file(self):
        text = f'[train]\ndata = ["{self.corpus}"]\nsteps = 2\nbatch = 2\n{SHAPE}tied = false\n'
        done = run("train", "--config", self.file(text), "--seed", 5, "--output", "m.h5", "-q", cwd=self.directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        said = self.arguments()
        self.assertNotIn("--config", said)
        self.assertIn("--untied", said)
        with open(self.path("m.h5"), "rb") as file:
            first = file.read()
        os.remove(self.path("run.toml"))
        os.remove(self.path("m.h5"))
        run("train", *said, check=True, cwd=self.directory)
        self.assertEqual(self.arguments(), said)
        self.assertEqual(len(first), os.path.getsize(self.path("m.h5")))
        same = run("inspect", self.path("m.h5"), write(self.path("first.h5"), first))
        self.assertIn("do not differ", same.stdout)

    def test_positionals_stand_first_in_the_lineage(self):
        model = tiny_model(self.directory)
        run("prune", "--config", self.file("sparsity = 0.5\n"), model, "--output", self.path("p.h5"), "-q", check=True)
        said = self.arguments("p.h5")
        self.assertEqual(said[0], model)
        run("prune", *said, "--force", check=True)

    def test_keys_are_the_long_names_of_options(self):
        self.refused("stepz = 3\n", "run.toml:1", "unknown key 'stepz'", "did you mean 'steps'?")
        self.refused("[train]\n\nvalid_every = 3\n", "run.toml:3", "'valid_every'", "did you mean 'valid-every'?")
        self.refused("o = 'x'\n", "unknown key 'o'")
        self.refused("[trian]\nsteps = 3\n", "run.toml:1", "'[trian]'", "did you mean 'train'?")
        self.refused("config = 'x'\n", "'config'", "command line alone")
        self.refused("[train]\nsteps.x = 1\n", "run.toml:2", "'steps'", "a table")

    def test_what_is_given_twice(self):
        self.refused("steps = 1\nsteps = 2\n", "run.toml:2", "steps", status=3)
        self.refused("lr = 1\nlearning-rate = 2\n", "run.toml:2", "'learning-rate'", "line 1", "'lr'")
        self.assert_error(run("train", "--config", "a", "--config", "b"), 2, "--config is given 2 times")

    def test_types(self):
        self.refused("steps = true\n", "run.toml:1", "'steps' takes a number")
        self.refused("steps = [1, 2]\n", "'steps' takes one value")
        self.refused("data = 5\n", "'data' takes a text", '"5"')
        self.refused("data = []\n", "empty array")
        self.refused("force = 1\n", "'force' is true or false, not a number")
        self.refused("steps = 1979-05-27\n", "a date")
        self.refused("\n[train]\nlr = nan\n", "run.toml:3", "--learning-rate", "nan")
        self.refused("batch = -1\n", "run.toml:1", "--batch", "-1")
        self.refused("schedule = 'cosin'\n", "run.toml:1", "did you mean 'cosine'?")
        done = run("train", "--config", self.file(f'data = "{self.corpus}"\ntokens = "1k"\nbatch = 1e1\n{SHAPE}'), "--dry-run",
                   "--output", self.path("m.h5"), check=True)
        self.assertIn("7 steps of 10 x 16", done.stderr)

    def test_what_is_no_toml(self):
        for text, line in (("steps =\n", 1), ('\nx = "a\\qb"\n', 2), ('x = "open\n', 1), ("[train\n", 1), ("a b\n", 1)):
            with self.subTest(text=text):
                self.refused(text, f"run.toml:{line}", "no valid TOML", status=3)
        self.refused(b"x = '\xff'\n", "no valid TOML", status=3)
        self.refused("# " + "x" * (1 << 20), "1 MiB", status=3)
        for path in (self.path("none.toml"), self.directory):
            self.assert_error(run("train", "--config", path, "--output", self.path("m.h5")), 3, "--config", "cannot be read")

    def test_help_needs_no_file(self):
        self.assertEqual(run("train", "--help", "--config", self.file("x = \n")).returncode, 0)


class Page(unittest.TestCase):
    def test_the_page_names_every_tool(self):
        with open(os.path.join(ROOT, "docs", "config.md")) as file:
            page = file.read()
        for name in tools():
            self.assertIn(f"[{name}]", page)


if __name__ == "__main__":
    unittest.main()
