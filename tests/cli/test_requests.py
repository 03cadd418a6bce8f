"""bench --requests: traces and random requests, ways of batching, simulation, formats, plots and refusals. No speed is asserted."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import time
import unittest

from hone_cli import CliTest, run, tiny_model, tool, write


def line(timestamp, input_length, output_length, *ids, **other):
    return json.dumps({"timestamp": timestamp, "input_length": input_length, "output_length": output_length,
                       **({"hash_ids": list(ids)} if ids else {}), **other})


class RequestsTest(CliTest):
    def setUp(self):
        super().setUp()
        self.model = tiny_model(self.directory, context=256)

    def trace(self, *lines):
        return write(self.path("trace.jsonl"), "\n".join(lines) + "\n")

    def bench(self, *args, **options):
        return run("bench", self.model, *args, **options)

    def rows(self, *args):
        done = self.bench(*args, "--format", "jsonl", check=True)
        return [json.loads(one) for one in done.stdout.splitlines()], done.stderr

    def test_a_trace(self):
        # 600 tokens are two blocks; the second request shares the first one's first block, which /4 makes 128 tokens.
        trace = self.trace(line(0, 600, 8, 1, 2), line(40, 700, 12, 1, 3), line(60, 5000, 8), line(90, 20, 4))
        rows, said = self.rows("--requests", trace, "--divide", 4, "--slo", "first_token=100s,token=1ms",
                               "--batching", "none", "--batching", "static:2", "--batching", "continuous")
        self.assertEqual([r["batching"] for r in rows], ["none", "static:2", "continuous"])
        self.assertIn("line 3 is longer than the 256 tokens", said)
        self.assertEqual(said.count("is longer than"), 1)
        for row in rows:
            self.assertEqual((row["served"], row["too_long"], row["failed"], row["requests"]), (3, 1, 0, trace))
            self.assertEqual(row["prompt_tokens"], 150 + 175 + 5)
            self.assertEqual(row["cache_tokens"], 16 * 256 + 3 * 128)  # of all texts, and of the blocks 1, 2 and 3
            self.assertEqual(row["read_tokens"], 150 + 175 - 128 + 5)
            self.assertAlmostEqual(row["cached_fraction"], 128 / 330)
            self.assertGreaterEqual(row["seconds"], 0.09)
            self.assertLessEqual(row["busy_fraction"], 1)
            self.assertGreater(row["engine_fraction"], row["choice_fraction"])
            self.assertLessEqual(row["first_token_ms_p50"], row["request_ms_p50"])
            self.assertAlmostEqual(row["requests_per_second"], 3 / row["seconds"])
            self.assertLessEqual(row["goodput_requests_per_second"], row["requests_per_second"])
            self.assertGreater(row["page_utilization"], 0.3)
            self.assertLessEqual(row["page_utilization"], 1)
        self.assertEqual(rows[0]["running_max"], 1)
        self.assertEqual({row["order"] for row in rows}, {"fifo"})
        rows, _ = self.rows("--requests", trace, "--divide", 4, "--order", "shortest", "--batching", "none")
        self.assertEqual([(r["order"], r["served"]) for r in rows], [("shortest", 3)])
        rows, _ = self.rows("--requests", trace, "--divide", 4, "--no-reuse", "--count", 2, "--speed", "1,4")
        self.assertEqual([(r["load"], r["served"], r["read_tokens"], r["cached_fraction"]) for r in rows], [(1, 2, 325, 0), (4, 2, 325, 0)])
        self.assertAlmostEqual(rows[1]["offered_requests_per_second"], 4 * rows[0]["offered_requests_per_second"])

    def test_random_requests_simulated(self):
        costs = self.path("costs.json")
        options = ("--requests", "poisson:20,2000", "--prompt", "16:96", "--generate", "4:40", "--count", 300, "--simulate", "--costs", costs,
                   "--batching", "static:4", "--batching", "continuous", "--slo", "first_token=50ms", "--parallel", 8)
        plot = self.path("load.svg")
        rows, said = self.rows(*options, "--plot", plot)
        self.assertEqual([(r["batching"], r["load"]) for r in rows],
                         [("static:4", 20), ("static:4", 2000), ("continuous", 20), ("continuous", 2000)])
        for row in rows:
            self.assertEqual((row["served"], row["simulated"]), (300, "yes"))
            self.assertNotIn("engine_fraction", row)
        self.assertGreater(rows[1]["queue_max"], rows[0]["queue_max"])
        self.assertEqual(len(re.findall("the objective is met by 90% of the requests", said)), 2)
        with open(plot) as file:
            svg = file.read()
        for title in ("first token, percentile 50", "requests that wait", "continuous, 20 requests/s"):
            self.assertIn(title, svg)
        # From the file: the same to the last digit.
        drop = lambda r: {k: v for k, v in r.items() if k != "wall_seconds"}
        again, said = self.rows(*options)
        self.assertEqual([drop(r) for r in again], [drop(r) for r in rows])
        self.assertNotIn("measured in", said)
        self.assert_error(self.bench(*options, "--busy-chunk", 128), 3, costs, "busy_chunk")
        self.assert_error(self.bench(*options, "--threads", "1,2"), 3, costs, "threads")
        other = tiny_model(self.directory, "other.h5", context=256, heads=4)
        self.assertEqual(os.path.getsize(other), os.path.getsize(self.model))
        self.assert_error(run("bench", other, *options), 3, costs, "configuration")
        write(costs, "{}")
        self.assert_error(self.bench(*options), 3, costs)

    def test_a_signal_ends_the_wait_for_the_next_request(self):
        process = subprocess.Popen([tool("bench"), self.model, "--requests", self.trace(line(0, 5, 2), line(600000, 5, 2))],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while "/2 requests" not in (text := process.stderr.readline()):
            self.assertTrue(text)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        self.assertEqual(process.wait(timeout=60), 128 + signal.SIGTERM)
        self.assertLess(time.monotonic() - began, 5)

    def test_formats(self):
        options = ("--requests", "poisson:500", "--prompt", 20, "--generate", 3, "--count", 5)
        text = {f: self.bench(*options, "--format", f, check=True).stdout for f in ("table", "md", "csv", "json")}
        self.assertIn("first_token_ms_p50", text["table"])
        self.assertIn("| ", text["md"])
        row = json.loads(text["json"])["rows"][0]
        cells, = csv.DictReader(io.StringIO(text["csv"]))
        self.assertEqual([name for name in row if name not in cells], [])
        simulated = self.bench(*options, "--simulate", "--slo", "token=1s", "--format", "csv", check=True).stdout
        self.assertEqual(simulated.splitlines()[0], text["csv"].splitlines()[0])
        done = self.bench(*options, "--dry-run", check=True)
        self.assertEqual(done.stdout, "")
        self.assertIn("would replay 5 requests", done.stderr)

    def test_refusals(self):
        good = self.trace(line(0, 50, 8))
        deep = line(0, 50, 8, other=json.loads("[" * 70 + "]" * 70))
        for lines, part in (((line(5, 50, 8), line(4, 50, 8)), "line 2"), ((deep,), "line 1: it is nested more than 64"),
                            ((line(0, 50, 8), line(10**12, 50, 8)), "line 2: it comes 1e+09 s"), ((line(0, -5, 8),), "input_length"), ((line(0, 5, 0),), "output_length"),
                            (("{",), "not JSON"), ((line(0, 600, 8, 1),), "hash_ids"), (("",), "no line"), ((line(0, 5000, 8),), "every request")):
            with self.subTest(lines=lines):
                path = write(self.path("bad.jsonl"), "\n".join(lines) + "\n")
                done = self.bench("--requests", path)
                self.assert_error(done, 3, part)
                self.assertEqual(done.stdout, "")
        self.assert_error(self.bench("--requests", self.path("none.jsonl")), 3, "none.jsonl")
        drawn = ("--requests", "poisson:5")
        for options, part in (((*drawn, "--batching", "dynamic"), "dynamic"), ((*drawn, "--batching", "static:99"), "--parallel"),
                              ((*drawn, "--batching", "static:"), "--batching: '' is not a count"),
                              ((*drawn, "--batching", "static:x"), "--batching: 'x'"), ((*drawn, "--slo", "token=nan"), "--slo: 'nan'"),
                              ((*drawn, "--speed", "x"), "--speed: 'x'"), (("--requests", "poisson:5,x"), "--requests: 'x'"),
                              ((*drawn, "--slo", "first=1s"), "first_token"), ((*drawn, "--slo", "token=1"), "500ms"),
                              (("--requests", "poisson:0"), "above 0"), (("--requests", "poisson:x"), "'x'"), (("--requests", "poisson:"), "''"),
                              ((*drawn, "--prompt", "9:3"), "--prompt"), ((*drawn, "--generate", "0"), "--generate"),
                              ((*drawn, "--generate", "0:3"), "--generate"), ((*drawn, "--prompt", "4,8"), "--prompt"),
                              ((*drawn, "--divide", 2), "--divide"), ((*drawn, "--train"), "--train"), ((*drawn, "--kernels"), "--kernels"),
                              (("--requests", good, "--prompt", "4:8"), "--prompt"), (("--prompt", "4:8"), "--requests"),
                              (("--requests", good, "--speed", "-1"), "--speed"), ((*drawn, "--page", 100), "--page"),
                              ((self.model, *drawn, "--simulate", "--costs", self.path("c.json")), "--costs"),
                              ((*drawn, "--simulate", "--costs", "/dev/zero"), "not a regular file")):
            with self.subTest(options=options):
                done = self.bench(*options)
                self.assert_error(done, 2, part)
                self.assertEqual(done.stdout, "")
        done = self.bench("--requests", good, "--prompt", 9, "--batch", 2, "--costs", "x", check=True)
        for part in ("--prompt", "with a trace", "--batch", "with --requests", "--costs", "without --simulate"):
            self.assertIn(part, done.stderr)
        self.assertFalse(os.path.exists(self.path("c.json")))


if __name__ == "__main__":
    unittest.main()
