"""What the tools say: names, near spellings, one line, help that fits, values that cannot be, columns that stay."""

import csv
import io
import os
import pty
import re
import subprocess
import unittest

from hone_cli import CliTest, corpus, help_of, run, run_json, tiny_model, tool, tools, write


class Help(unittest.TestCase):
    def test_it_fits_the_width_that_is_given_and_100_columns_elsewhere(self):
        for name in tools():
            for columns, width in (("60", 60), ("132", 132), ("", 100)):
                with self.subTest(tool=name, columns=columns):
                    text = help_of(name, columns)
                    options = text[: text.index("Example:")]
                    self.assertLessEqual(max(map(len, (line for line in options.splitlines() if " " in line.strip()))), width)
        self.assertNotEqual(help_of("train", "60"), help_of("train", "100"))

    def test_an_option_stands_there_once(self):
        for name in tools():
            text = help_of(name)
            options = re.findall(r"^  (?:-\w,\s*)?(--[\w-]+)", text[: text.index("Example:")], re.M)
            self.assertEqual(sorted(set(options)), sorted(options), name)

    def test_it_shows_what_is_required_and_no_machine_limits(self):
        for name, required in (("train", "--output FILE"), ("prune", "MODEL --output FILE"), ("quantize", "MODEL --output FILE"),
                               ("eval", "MODEL... --data FILE"), ("generate", "MODEL"), ("inspect", "MODEL [OTHER]")):
            text = help_of(name)
            self.assertIn(f"Usage: {name} {required}", text)
            self.assertIn("REQUIRED", text)
        for name in tools():
            text = help_of(name)
            self.assertNotRegex(text, r"e[+-]30[0-9]|2147483647|9223372036854775807")
            self.assertNotRegex(text, r"(?m)^ +--[\w-]+ (INT|UINT|FLOAT|TEXT):")  # types of the library's own

    def test_help_and_version_to_a_full_device_fail(self):
        for name in tools():
            for option in ("--help", "--version"):
                with self.subTest(tool=name, option=option), open("/dev/full", "w") as full:
                    done = subprocess.run([tool(name), option], stdout=full, stderr=subprocess.PIPE, text=True)
                    self.assertEqual(done.returncode, 3)
                    self.assertIn("standard output", done.stderr)


class Errors(CliTest):
    def test_they_name_the_installed_tool(self):
        for name in tools():
            installed = self.path("hone-" + name)
            os.symlink(tool(name), installed)
            done = subprocess.run([installed, "--nonsense"], capture_output=True, text=True)
            self.assert_error(done, 2, f"see hone-{name} --help")
            text = subprocess.run([installed, "--help"], capture_output=True, text=True).stdout
            self.assertIn(f"Usage: hone-{name} ", text)
            self.assertIn(f"  hone-{name} ", text)
            self.assertRegex(subprocess.run([installed, "--version"], capture_output=True, text=True).stdout, f"^hone-{name} ")

    def test_the_option_of_what_the_library_says_in_words(self):
        model = tiny_model(self.directory)
        out = write(self.path("o.h5"), "theirs")
        self.assert_error(run("prune", model, "--sparsity", 0.5, "--output", out), 2, "replaced by force (--force) only")
        done = run("eval", model, "--data", corpus(self.directory), "--require", "loss <= baseline")
        self.assert_error(done, 2, "a baseline model (--baseline)")
        learned = tiny_model(self.directory, "learned.h5", positions="learned")
        self.assert_error(run("bench", learned, "--prompt", 30, "--generate", 3), 2, "a shorter prompt (--prompt)",
                          "fewer tokens after it (--generate)")
        checkpoint = ["--data", self.path("corpus.txt"), "--steps", 2, "--layers", 1, "--dim", 32, "--heads", 1, "--context", 16,
                      "--checkpoint", self.path("c.h5"), "--output", self.path("m.h5"), "--force", "--batch"]
        run("train", *checkpoint, 2, check=True)
        self.assert_error(run("train", *checkpoint, 3, "--resume", self.path("c.h5")), 2, "'batch'", "a new run (--init)")
        table = run("inspect", self.path("c.h5"), check=True).stdout
        self.assertRegex(table, r"(?m)^  continue it with \S*train --resume$")

    def test_near_spellings(self):
        for arguments, near in ((["train", "--stepz", "5"], "--steps"), (["train", "--valid_every=5"], "--valid-every"),
                                (["train", "--learning"], "--learning-rate"), (["eval", "--basline", "x"], "--baseline"),
                                (["prune", "m.h5", "--sparsty", "0.5"], "--sparsity"), (["train", "--schedule", "cosin"], "cosine"),
                                (["quantize", "m.h5", "--type", "int-8"], "int8"), (["train", "--log-level", "warn"], "warning"),
                                (["inspect", "m.h5", "--format", "jsno"], "json")):
            with self.subTest(arguments):
                self.assert_error(run(*arguments, "--output", self.path("o.h5")) if arguments[0] not in ("inspect", "eval")
                                  else run(*arguments), 2, f"did you mean '{near}'?")
        done = run("train", "--colour", "red", "--output", self.path("o.h5"))
        self.assert_error(done, 2, "unknown option '--colour'")
        self.assertNotIn("did you mean", done.stderr)

    def test_a_line_of_at_most_200_characters(self):
        long = "x" * 3000
        for arguments in (["inspect", self.path(long)], ["train", "--" + long], ["train", "--steps", long], ["train", "--config", long],
                          ["prune", long, "--output", long], ["eval", long, "--data", "a\nb" + long]):
            with self.subTest(arguments[0]):
                done = run(*arguments)
                error, = [line for line in done.stderr.splitlines() if line.startswith("error:")]
                self.assertLessEqual(len(error), 200)

    def test_values_that_cannot_be(self):
        data = ["train", "--data", corpus(self.directory), "--output", self.path("o.h5")]
        # What each option's own range has to refuse, and one of what is no number, in turn.
        cases = [(data, option, value)
                 for turn, option in enumerate(("--lr", "--weight-decay", "--clip", "--beta1", "--epochs", "--dropout", "--valid-fraction",
                                                "--rope-theta", "--init-std", "--capacity-factor", "--router-z-loss", "--z-loss",
                                                "--logit-softcap", "--norm-epsilon", "--upcycle-noise"))
                 for value in ("nan", "inf", "-1", ("-inf", "1e400", "", "1x")[turn % 4])]
        cases += [(data, option, value)
                  for turn, option in enumerate(("--steps", "--batch", "--context", "--warmup", "--layers", "--seed", "--threads"))
                  for value in ("-1", ("99999999999999999999", "1e30")[turn % 2], ("nan", "1.5", "")[turn % 3])]
        cases += [(data, "--epochs", "1e30"), (data, "--epochs", "0"), (data, "--tokens", "0"), (data, "--beta2", "1"),
                  (data, "--batch", "0"), (data, "--batch", "9223372036854775807"), (data, "--log-every", "0"),
                  (["prune", "m.h5", "--output", "o.h5"], "--sparsity", "nan"), (["prune", "m.h5", "--output", "o.h5"], "--sparsity", "110%"),
                  (["bench", "m.h5"], "--prompt", "0"), (["bench", "m.h5"], "--repeat", "-1"), (["bench", "m.h5"], "--batch", "1,nan"),
                  (["eval", "m.h5", "--data", "x"], "--context", "0"), (["eval", "m.h5", "--data", "x"], "--stride", "nan")]
        for arguments, option, value in cases:
            with self.subTest(tool=arguments[0], option=option, value=value):
                done = run(*arguments, option, value)
                self.assert_error(done, 2, "--learning-rate" if option == "--lr" else option)
                self.assertNotRegex(done.stderr, r"e[+-]30[0-9]")
        self.assertFalse(os.path.exists(self.path("o.h5")))

    def test_options_without_effect(self):
        model = tiny_model(self.directory)
        out = ["--output", self.path("o.h5")]
        self.assert_error(run("quantize", model, *out, "--type", "bf16", "--group", 32), 2, "--group 32", "no effect")
        self.assert_error(run("quantize", model, *out, "--type", "bf16", "--calibration", model), 2, "--calibration", "no effect")
        self.assert_error(run("quantize", model, *out, "--calibration-windows", 3), 2, "--calibration-windows", "no effect")
        self.assert_error(run("prune", model, *out, "--sparsity", 0.5, "--calibration-context", 8), 2, "--calibration-context")
        self.assert_error(run("prune", model, *out, "--method", "magnitude", "--sparsity", 0.5, "--calibration", model), 2, "--calibration")

    def test_what_calibrates_nothing_is_refused_at_its_default_too(self):
        model = tiny_model(self.directory)
        out = ["--output", self.path("o.h5"), "--dry-run"]
        for tool_, more in (("quantize", []), ("prune", ["--sparsity", 0.5])):
            for option in ("--calibration-windows", "--calibration-context"):
                with self.subTest(tool=tool_, option=option):
                    done = run(tool_, model, *out, *more, option, 128)
                    self.assert_error(done, 2, f"{option} has no effect without --calibration")
            done = run(tool_, model, *out, *more, "--precision", "f32", check=True)
            self.assertIn("warning: --precision has no effect without --calibration", done.stderr)

    def test_idle_options_are_said(self):
        model, text = tiny_model(self.directory), corpus(self.directory)
        cases = [
            (["bench", model, "--train", "--generate", 4, "--prefill-chunk", 8], "--prefill-chunk and --generate have no effect with --train"),
            (["bench", model, "--steps", 2], "--steps has no effect without --train"),
            (["bench", model, "--force"], "--force has no effect without --plot"),
            (["bench", "--kernels", "--only", "attention", "--batch", 1, "--prompt", 512, "--warmup", 1],
             "--prompt, --batch and --warmup have no effect with --kernels"),
            (["eval", model, "--data", text, "--force"], "--force has no effect without a file"),
            (["eval", model, "--data", text, "--no-speed", "--prefill-chunk", 64], "--prefill-chunk has no effect"),
            (["train", "--steps", 0, "--lr", 0.1, "--batch", 2, "--keep", "last", "--output", self.path("o.h5")],
             "--batch and --learning-rate have no effect without steps"),
        ]
        for arguments, said in cases:
            with self.subTest(arguments=arguments):
                done = run(*arguments, "--dry-run", check=True)
                self.assertIn("warning: " + said, done.stderr)
                self.assertNotIn("--no-speed has", done.stderr)
        done = run("bench", model, "--generate", 4, "--prefill-chunk", 8, "--dry-run", check=True)
        self.assertNotIn("no effect", done.stderr)
        done = run("eval", model, "--data", text, "--no-speed", "--prefill-chunk", 16, "--dry-run", check=True)
        self.assertNotIn("no effect", done.stderr)


class Progress(CliTest):
    def test_the_last_line_is_whole(self):
        model = tiny_model(self.directory)
        leader, follower = pty.openpty()
        process = subprocess.Popen([tool("prune"), model, "--sparsity", "0.5", "--output", self.path("p.h5"), "--report", self.path("r.csv")],
                                   stdout=subprocess.DEVNULL, stderr=follower, stdin=subprocess.DEVNULL)
        self.assertEqual(process.wait(60), 0)
        os.close(follower)
        shown = os.read(leader, 1 << 16).decode()
        os.close(leader)
        last = re.findall(r"pruned (\d+) of (\d+) parts\x1b?\[?K?\r\n", shown)
        self.assertEqual(len(last), 1, shown)
        self.assertEqual(last[0][0], last[0][1])
        self.assertTrue(shown.endswith("\n"), shown)


class Reports(CliTest):
    def header(self, text):
        return next(csv.reader(io.StringIO(text)))

    def test_columns_of_csv_are_the_same_whatever_was_scored(self):
        data = corpus(self.directory, count=40)
        a = tiny_model(self.directory, "a.h5", layers=1)
        moe = tiny_model(self.directory, "moe.h5", experts=8, top_k=2)
        answers = write(self.path("q.jsonl"), '{"prompt": "the river ", "answer": "follows"}\n' * 5)
        headers = [self.header(run("eval", *arguments, "--format", "csv", "-q", check=True).stdout) for arguments in
                   ([a, "--data", data, "--no-speed"], [moe, "--data", data], [a, moe, "--data", data, "--no-speed", "--limit", 50],
                    [a, "--data", data, "--baseline", a, "--no-speed"], [a, "--data", answers, "--answers", "--no-speed"])]
        for header in headers[1:]:
            self.assertEqual(header, headers[0])
        self.assertEqual(len(set(headers[0])), len(headers[0]))

    def test_columns_of_layer_reports_are_the_same_with_and_without_calibration(self):
        data = corpus(self.directory)
        model = tiny_model(self.directory)
        for name, options in (("prune", ["--sparsity", 0.5]), ("quantize", [])):
            headers = []
            for i, more in enumerate(([], ["--calibration", data] + (["--method", "wanda"] if name == "prune" else []))):
                report = self.path(f"{name}{i}.csv")
                run(name, model, *options, *more, "--output", self.path(f"{name}{i}.h5"), "--report", report, "-q", check=True)
                with open(report) as file:
                    headers.append(self.header(file.read()))
            self.assertEqual(headers[0], headers[1])
        same = run("inspect", model, model, "--format", "csv", "-q", check=True).stdout
        other = run("inspect", model, self.path("prune0.h5"), "--format", "csv", "-q", check=True).stdout
        self.assertEqual(self.header(same), self.header(other))

    def test_a_column_of_a_table_has_one_unit(self):
        text = run("inspect", tiny_model(self.directory), "-q", check=True).stdout
        lines = text.splitlines()
        begin = next(i for i, line in enumerate(lines) if line.startswith("parameter "))
        rows = lines[begin + 1 : next(i for i, line in enumerate(lines) if line.startswith("total:"))]
        self.assertGreater(len(rows), 5)
        self.assertEqual(len({row.split()[-1] for row in rows}), 1)

    def test_a_checkpoint_is_readable(self):
        point = self.path("c.h5")
        tiny_model(self.directory, "m.h5", data=corpus(self.directory), steps=4, batch=2, valid_fraction=0.2, valid_every=2, keep="best",
                   checkpoint=point)
        state = run_json("inspect", point)["run"]
        for key in ("smoothed", "lowest", "best_loss"):
            self.assertTrue(0 < state[key] < 20, (key, state[key]))
        text = run("inspect", point, "-q", check=True).stdout
        self.assertNotRegex(text, r"\d{16}")
        self.assertIn("learning_rate 0.001", " ".join(text.split()))  # wherever its lines end


class Threads(unittest.TestCase):
    def test_their_number_is_said_with_its_reason(self):
        def said(command, **variables):
            environment = {k: v for k, v in os.environ.items() if k not in ("HONE_THREADS", "OMP_NUM_THREADS")}
            done = subprocess.run(command + ["/nonexistent.h5"], capture_output=True, text=True, env={**environment, **variables})
            return done.stderr
        inspect = tool("inspect")
        self.assertIn("2 threads (--threads)", said([inspect, "--threads", "2"]))
        self.assertIn("3 threads (HONE_THREADS)", said([inspect], HONE_THREADS="3", OMP_NUM_THREADS="2"))
        self.assertIn("2 threads (OMP_NUM_THREADS)", said([inspect], OMP_NUM_THREADS="2"))
        cpu = min(os.sched_getaffinity(0))
        if os.cpu_count() > 1:
            self.assertRegex(said(["taskset", "-c", str(cpu), inspect]), r"1 thread \((affinity mask: 1 of \d+ CPUs|CPU quota of .*)\)")


if __name__ == "__main__":
    unittest.main()
