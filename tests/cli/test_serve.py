"""serve: OpenAI's completions over HTTP, from python's own client."""

import gzip
import http.client
import json
import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
import unittest

import h5py
import numpy as np

from hone_cli import corpus, run, run_json, tiny_model, write
from model_files import xxh3
from serving import Server


def events(text):
    """The objects of a stream."""
    data = [part[len("data: "):] for part in text.split("\n\n") if part]
    assert data[-1] == "[DONE]", data
    return [json.loads(one) for one in data[:-1]]


class ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.dir = cls.temporary.name
        cls.model = tiny_model(cls.dir, data=corpus(cls.dir), steps=40, context=256, batch=4)
        cls.server = Server(cls.model, "--parallel", 8, "--max-body", 20000)
        cls.half = cls.half_a_request(cls.server)  # for the last test, which waits less by all that the others take

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.temporary.cleanup()

    def alone(self, prompt, *options):
        return run_json("generate", self.model, "--prompt", prompt, *options)["rows"][0]

    def test_a_completion_is_what_generate_writes(self):
        answer = self.server.complete(model="tiny", prompt="the river", max_tokens=20, temperature=0)
        mine, row = answer["choices"][0], self.alone("the river", "--tokens", 20, "--temperature", 0)
        self.assertEqual(mine["text"], row["text"])
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["usage"]["prompt_tokens"], row["prompt_tokens"])
        self.assertEqual(answer["usage"]["completion_tokens"], row["tokens"])
        answer = self.server.complete(prompt=["a child", "the north wind"], max_tokens=30, seed=5, n=2, stop=["."], temperature=0.9)
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
        for index, prompt in ((0, "a child"), (2, "the north wind")):
            row = self.alone(prompt, "--tokens", 30, "--seed", 5, "--stop", ".", "--temperature", 0.9)
            self.assertEqual(answer["choices"][index]["text"], row["text"])
            self.assertEqual(answer["choices"][index]["finish_reason"], {"length": "length"}.get(row["finish_reason"], "stop"))
        tokens = self.server.complete(prompt=[97, 32, 99, 104, 105, 108, 100], max_tokens=9, temperature=0)
        self.assertEqual(tokens["choices"][0]["text"], self.alone("a child", "--tokens", 9, "--temperature", 0)["text"])

    def test_a_stream_says_the_same(self):
        body = {"prompt": "the old king", "max_tokens": 40, "seed": 3, "n": 2, "logprobs": 1}
        whole = self.server.complete(**body)
        status, text = self.server.ask("POST", "/v1/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual(status, 200)
        all_events = events(text)
        self.assertEqual(all_events[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])
        for choice in whole["choices"]:
            parts = [c for e in all_events for c in e["choices"] if c["index"] == choice["index"]]
            self.assertEqual("".join(p["text"] for p in parts), choice["text"])
            self.assertEqual(parts[-1]["finish_reason"], choice["finish_reason"])
            for name in ("tokens", "token_logprobs", "text_offset"):
                self.assertEqual(sum((p["logprobs"][name] for p in parts), []), choice["logprobs"][name])

    def test_echo_scores_a_prompt(self):
        prompt = "the river follows the stone bridge."
        scored = self.server.complete(prompt=prompt, max_tokens=0, echo=True, logprobs=1)["choices"][0]
        logprobs = scored["logprobs"]
        self.assertEqual(scored["text"], prompt)
        self.assertEqual("".join(logprobs["tokens"]), prompt)
        self.assertEqual(logprobs["text_offset"], list(range(len(prompt))))
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertTrue(all(x <= 0 for x in logprobs["token_logprobs"][1:]))
        # The mean is eval's loss of the text, but for the first token, which eval predicts from a separator.
        text = write(os.path.join(self.dir, "scored.txt"), prompt)
        ids = [0] + list(prompt.encode())
        from_separator = self.server.complete(prompt=ids, max_tokens=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
        loss = -sum(from_separator["token_logprobs"][1:]) / len(prompt)
        evaluated = run_json("eval", self.model, "--data", text, "--no-speed")["rows"][0]
        self.assertAlmostEqual(loss, evaluated["loss"], delta=0.15)  # eval's may leave the first one out
        longer = self.server.complete(prompt=prompt, max_tokens=4, echo=True, logprobs=1, temperature=0)["choices"][0]
        self.assertEqual(longer["logprobs"]["token_logprobs"][:len(prompt)], logprobs["token_logprobs"])
        self.assertEqual(len(longer["logprobs"]["tokens"]), len(prompt) + 4)
        self.assertTrue(longer["text"].startswith(prompt))

    def test_models_health_metrics(self):
        listed = json.loads(self.server.ask("GET", "/v1/models")[1])
        self.assertEqual([m["id"] for m in listed["data"]], ["tiny"])
        self.assertEqual(self.server.ask("GET", "/v1/models/tiny")[0], 200)
        self.assertEqual(self.server.ask("GET", "/v1/models/other")[0], 404)
        self.assertEqual(self.server.ask("GET", "/health"), (200, '{"status":"ok"}'))
        self.assertGreater(self.server.metric("pages"), 0)

    def test_bad_requests_are_refused_in_openais_form(self):
        for body, status, param in (
            ("{", 400, None), ("[]", 400, None), ({"prompt": "x", "top_p": -1}, 400, "top_p"),
            ({"prompt": "x", "stream": True, "stream_options": {"include_usage": 3}}, 400, "stream_options.include_usage"),
            ('{"prompt": ' + "[" * 70 + "]" * 70 + "}", 400, None),
            ({"prompt": 3}, 400, "prompt"), ({"prompt": []}, 400, "prompt"),
            ({"prompt": "x", "model": "gpt"}, 404, "model"), ({"prompt": "x", "max_tokens": -1}, 400, "max_tokens"),
            ({"prompt": "x", "max_tokens": 1.5}, 400, "max_tokens"), ({"prompt": "x", "max_tokens": 1000}, 400, None),
            ({"prompt": "x" * 300}, 400, None), ({"prompt": "x", "n": 0}, 400, "n"), ({"prompt": "x", "temperature": -1}, 400, "temperature"),
            ({"prompt": "x", "colour": 1}, 400, "colour"), ({"prompt": "x", "stop": [""]}, 400, "stop"),
            ({"prompt": "x", "logit_bias": {"5": 1}}, 400, "logit_bias"), ({"prompt": [99999]}, 400, "prompt"),
            ({"prompt": "x" * 30000}, 413, None),
        ):
            got, text = self.server.ask("POST", "/v1/completions", body)
            self.assertEqual(got, status, (body, text))
            error = json.loads(text)["error"]
            self.assertEqual(error["param"], param, (body, text))
            self.assertTrue(error["message"])
            self.assertEqual(error["type"], "invalid_request_error")
        self.assertEqual(self.server.ask("GET", "/nowhere")[0], 404)
        self.assertIn("error", json.loads(self.server.ask("GET", "/nowhere")[1]))
        self.assertEqual(self.server.ask("POST", "/nowhere", "x" * 3000)[0], 404)

    def test_a_body_is_json_however_it_is_sent_and_no_larger_than_it_may_be(self):
        body = json.dumps({"prompt": "the river", "max_tokens": 3}).encode()
        padded = body + b" " * 12000
        for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}, {}):
            self.assertEqual(self.server.ask("POST", "/v1/completions", padded, headers)[0], 200)
        for data, status in ((padded, 200), (body + b" " * 30000, 413)):
            # http.client sends an iterator in chunks.
            pieces = iter([data[i:i + 700] for i in range(0, len(data), 700)])
            got, text = self.server.ask("POST", "/v1/completions", pieces)
            self.assertEqual(got, status, text)
            if status == 413:
                self.assertIn("20000 bytes", json.loads(text)["error"]["message"])
        status, text = self.server.ask("POST", "/v1/completions", gzip.compress(body), {"Content-Encoding": "gzip"})
        self.assertEqual(status, 415)
        self.assertIn("gzip", json.loads(text)["error"]["message"])
        self.assertEqual(self.server.ask("POST", "/v1/completions", b"--x--", {"Content-Type": "multipart/form-data; boundary=x"})[0], 415)
        self.assertEqual(self.server.ask("POST", "/v1/completions", b"")[0], 400)
        # What is left of a refused body is not taken for the next request.
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        for path, status in (("/nowhere", 404), ("/v1/completions", 200)):
            connection.request("POST", path, body)
            answer = connection.getresponse()
            self.assertEqual((answer.status, bool(answer.read())), (status, True))
        connection.close()

    def test_log_probabilities_end_where_the_text_does(self):
        asked = {"prompt": "the old king", "max_tokens": 40, "temperature": 0, "ignore_end": True}
        whole = self.server.complete(**asked)["choices"][0]["text"]
        stop = whole[20:23]
        asked.update(logprobs=0, stop=stop)
        choice = self.server.complete(**asked)["choices"][0]
        self.assertEqual(choice["text"], whole[:whole.index(stop)])
        self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])
        stream = events(self.server.ask("POST", "/v1/completions", {**asked, "stream": True})[1])
        streamed = [c for e in stream for c in e["choices"]]
        self.assertEqual(sum((c["logprobs"]["tokens"] for c in streamed), []), choice["logprobs"]["tokens"])
        # A byte that is no character is one of the text.
        echoed = self.server.complete(prompt=[200, 97, 228], max_tokens=0, echo=True, logprobs=0)["choices"][0]
        self.assertEqual(echoed["text"], "\ufffda\ufffd")
        self.assertEqual(echoed["logprobs"]["text_offset"], [0, 1, 2])

    def test_requests_and_texts_are_counted_apart(self):
        before = [self.server.metric(name) for name in ("requests_total", "texts_total")]
        self.server.complete(prompt=["a", "b"], n=3, max_tokens=1)
        after = [self.server.metric(name) for name in ("requests_total", "texts_total")]
        self.assertGreaterEqual(after[0], before[0] + 1)
        self.assertGreaterEqual(after[1] - before[1], 6)

    def test_a_crowd_some_of_it_rude(self):
        """Many at once, some broken, some gone before the end: nothing is lost, every page comes back."""
        prompts = [f"the {word}" for word in ("river", "bird", "king", "wind", "child", "road", "coin", "house")]
        expected = {p: self.server.complete(prompt=p, max_tokens=30, temperature=0)["choices"][0]["text"] for p in prompts}
        failures = []

        def client(number):
            rng = random.Random(number)
            for _ in range(12):
                prompt = rng.choice(prompts)
                kind = rng.random()
                try:
                    if kind < 0.1:  # nonsense
                        if self.server.ask("POST", "/v1/completions", "{]")[0] != 400:
                            failures.append("nonsense was taken")
                    elif kind < 0.25:  # gone
                        with socket.create_connection(("127.0.0.1", self.server.port)) as s:
                            body = json.dumps({"prompt": prompt, "max_tokens": 200, "stream": rng.random() < 0.5, "ignore_end": True})
                            s.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                            if rng.random() < 0.5:
                                s.recv(40)
                    else:
                        text = self.server.complete(prompt=prompt, max_tokens=30, temperature=0)["choices"][0]["text"]
                        if text != expected[prompt]:
                            failures.append((prompt, text))
                except Exception as error:  # noqa: BLE001
                    failures.append(repr(error))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        for _ in range(100):
            if self.server.metric("texts_running") + self.server.metric("texts_waiting") == 0:
                break
            time.sleep(0.1)
        self.assertEqual(self.server.metric("pages_in_use"), 0)
        self.assertGreater(self.server.metric("texts_cancelled_total"), 0)
        self.assertGreater(self.server.metric("cached_tokens_total") + 1, 0)

    def test_a_key_a_full_queue_and_a_port_in_use(self):
        key = write(os.path.join(self.dir, "key"), "secret\n")
        server = Server(self.model, "--key-file", key, "--parallel", 1, "--queue", 1)
        try:
            self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": "x"})[0], 401)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            headers = {"Authorization": "Bearer secret"}
            self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": "x"}, headers)[0], 200)
            status, text = server.ask("POST", "/v1/completions", {"prompt": ["x", "y"]}, headers)
            self.assertEqual((status, json.loads(text)["error"]["code"]), (400, "too_many_texts"))  # never, however long one waits
            self.assertEqual(json.loads(text)["error"]["param"], "prompt")
            status, text = server.ask("POST", "/v1/completions", {"prompt": "x", "n": 2}, headers)
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, "n"))
            self.assertEqual(run("serve", self.model, "--queue", 0).returncode, 2)
            taken = run("serve", self.model, "--port", server.port)
            self.assertEqual(taken.returncode, 3)
            self.assertIn(str(server.port), taken.stderr)
        finally:
            server.stop()

    def test_sigterm_drains(self):
        server = Server(self.model)
        result = []
        body = {"prompt": "the river", "max_tokens": 200, "temperature": 0, "ignore_end": True}
        thread = threading.Thread(target=lambda: result.append(server.complete(**body)))
        thread.start()
        while server.metric("texts_total") < 1:
            time.sleep(0.002)
        status = server.stop()
        thread.join()
        self.assertEqual(status, 128 + signal.SIGTERM)
        self.assertEqual(result[0]["usage"]["completion_tokens"], 200)

    # Texts that take long together, one after the other.
    LONG = {"prompt": "the river", "n": 100, "max_tokens": 240, "ignore_end": True}

    def test_what_takes_too_long_or_waits_behind_too_many_has_a_status(self):
        server = Server(self.model, "--parallel", 1, "--queue", 120, "--timeout", 0.05)
        try:
            status, text = server.ask("POST", "/v1/completions", self.LONG)
            self.assertEqual((status, json.loads(text)["error"]["code"]), (504, "timeout"))
            server.wait_until(lambda: server.metric("texts_waiting") == 0, "the texts that were given up still wait")
            status, text = server.ask("POST", "/v1/completions", {**self.LONG, "stream": True})
            self.assertEqual(status, 200)
            last = json.loads(text.strip().split("\n\n")[-1][len("data: "):])
            self.assertEqual(last["error"]["code"], "timeout")
        finally:
            server.stop()
        server = Server(self.model, "--parallel", 1, "--queue", 120)
        try:
            thread = threading.Thread(target=lambda: server.ask("POST", "/v1/completions", self.LONG))
            thread.start()
            server.wait_until(lambda: server.metric("texts_waiting") > 60, "nothing waits")
            status, text = server.ask("POST", "/v1/completions", self.LONG)
            self.assertEqual((status, json.loads(text)["error"]["code"]), (429, "queue_full"))
            thread.join()
        finally:
            server.stop()

    def test_a_request_behind_a_full_queue_is_not_read(self):
        server, threads, status = Server(self.model, "--parallel", 1, "--queue", 100), [], 0

        def begin(texts):
            threads.append(threading.Thread(target=server.ask, args=("POST", "/v1/completions", {**self.LONG, "n": texts})))
            threads[-1].start()

        try:
            begin(100)
            server.wait_until(lambda: server.metric("texts_waiting") > 60, "nothing waits")
            for _ in range(50):  # the queue is full until the next text begins
                begin(max(1, 100 - int(server.metric("texts_waiting"))))
                status = server.ask("POST", "/v1/completions", {"prompt": 7})[0]
                if status == 429:
                    break
            self.assertEqual(status, 429)
            for thread in threads:
                thread.join()
            self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": 7})[0], 400)
        finally:
            server.stop()

    @staticmethod
    def half_a_request(server):
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")
        return half

    def answer_to(self, connection):
        """The status, and the error's message, of what a raw connection is told before it is closed."""
        connection.settimeout(120)
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)["error"]["message"]

    def test_when_a_request_is_not_whole_in_time_or_has_too_large_headers(self):
        with self.half as half:
            with socket.create_connection(("127.0.0.1", self.server.port)) as large:
                large.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (64 << 10) + b"\r\n\r\n")
                self.assertEqual(self.answer_to(large), (431, "the headers are too large"))
            self.assertEqual(self.answer_to(half), (408, "the request was not whole after 30 seconds"))

    def test_a_model_whose_numbers_are_not_finite(self):
        broken = shutil.copyfile(self.model, os.path.join(self.dir, "broken.h5"))
        with h5py.File(broken, "r+") as file:
            gain = file["parameters/norm/gain/values"]
            gain[...] = np.full(gain.shape, 3e38, np.float32)  # finite, as all that are read must be; the logits are not
            gain.attrs.modify("checksum", np.bytes_(xxh3(gain[()].tobytes())))
        server = Server(broken)
        try:
            for stream in (False, True):
                status, text = server.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 3, "stream": stream})
                self.assertEqual(status, 200 if stream else 500)
                error = json.loads(text.removeprefix("data: "))["error"]
                self.assertEqual((error["message"], error["type"]), ("the model gives numbers that are not finite", "server_error"))
        finally:
            server.stop()

    def test_connections_beyond_the_limit_are_told_so(self):
        server = Server(self.model, "--connections", 1)
        try:
            with self.half_a_request(server):
                answers = []
                server.wait_until(lambda: answers.append(server.ask("GET", "/health")) or answers[-1][0] == 503, "both are served")
                error = json.loads(answers[-1][1])["error"]
                self.assertEqual(error["code"], "too_many_connections")
                self.assertIn("1 connections", error["message"])
            server.wait_until(lambda: server.ask("GET", "/health")[0] == 200, "the place is not free again")
        finally:
            server.stop()

    def test_a_server_that_is_told_to_stop_does_not_wait_for_ever(self):
        server = Server(self.model, "--parallel", 1, "--drain", 0.1)
        answers = []
        with self.half_a_request(server):
            thread = threading.Thread(target=lambda: answers.append(server.ask("POST", "/v1/completions", self.LONG)))
            thread.start()
            server.wait_until(lambda: server.metric("texts_waiting") > 60, "nothing waits")
            began = time.monotonic()
            self.assertEqual(server.stop(), 128 + signal.SIGTERM)
            self.assertLess(time.monotonic() - began, 8)
            thread.join()
        self.assertEqual(answers[0][0], 503)
        self.assertIn("shut down", json.loads(answers[0][1])["error"]["message"])
        server.wait_until(lambda: any("given up" in line for line in server.log), server.log)

    def test_an_address_with_colons_stands_in_brackets(self):
        if not socket.has_ipv6:
            self.skipTest("no IPv6")
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            self.skipTest("no IPv6")
        server = Server(self.model, "--host", "::1")
        try:
            self.assertRegex("".join(server.log), r"http://\[::1\]:\d+")
        finally:
            server.stop()


if __name__ == "__main__":
    unittest.main()
