"""serve: OpenAI's completions over HTTP, from python's own client."""

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from hone_cli import corpus, run, run_json, tiny_model, tool, write


class Server:
    def __init__(self, model, *options):
        self.process = subprocess.Popen([tool("serve"), model, "--port", "0", *map(str, options)], stderr=subprocess.PIPE, text=True)
        self.log = []
        while True:
            line = self.process.stderr.readline()
            self.log.append(line)
            found = re.search(r"http://[^ ]*:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
            if not line:
                raise AssertionError("".join(self.log))
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body if body is None or isinstance(body, (str, bytes)) else json.dumps(body), headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def complete(self, **body):
        status, text = self.ask("POST", "/v1/completions", body)
        if status != 200:
            raise AssertionError(f"{status} {text}")
        return json.loads(text)

    def metric(self, name):
        return float(re.search(rf"^hone_{name} (\S+)$", self.ask("GET", "/metrics")[1], re.M).group(1))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


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
            ("{", 400, None), ("[]", 400, None), ({}, 400, "prompt"), ({"prompt": 3}, 400, "prompt"), ({"prompt": []}, 400, "prompt"),
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
            if self.server.metric("requests_running") + self.server.metric("requests_waiting") == 0:
                break
            time.sleep(0.1)
        self.assertEqual(self.server.metric("pages_in_use"), 0)
        self.assertGreater(self.server.metric("requests_cancelled_total"), 0)
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
            self.assertEqual((status, json.loads(text)["error"]["code"]), (429, "queue_full"))
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
        while server.metric("requests_total") < 1:
            time.sleep(0.002)
        status = server.stop()
        thread.join()
        self.assertEqual(status, 128 + signal.SIGTERM)
        self.assertEqual(result[0]["usage"]["completion_tokens"], 200)


if __name__ == "__main__":
    unittest.main()
