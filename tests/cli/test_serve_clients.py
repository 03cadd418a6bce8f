"""serve, as clients that others wrote ask it: OpenAI's, which read objects of its form, and harnesses, which score prompts."""

import http.client
import json
import os
import re
import tempfile
import time
import unittest

from hone_cli import corpus, run_json, tiny_model, write
from serving import Server

# A context, and what may follow it: a harness scores each, and takes the most probable.
QUESTIONS = (("the old king ", ("remembers", "Q", "%%%%")), ("the ri", ("ver", "xx")), ("a child", (" sees the stone bridge.", " zz")))


def events(text):
    """The objects of a stream."""
    data = [part[len("data: "):] for part in text.split("\n\n") if part]
    assert data[-1] == "[DONE]", data
    return [json.loads(one) for one in data[:-1]]


class ServeClientsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.dir = cls.temporary.name
        cls.model = tiny_model(cls.dir, data=corpus(cls.dir), steps=40, context=256, batch=4)
        cls.server = Server(cls.model, "--parallel", 8, "--precision", "f32", "--queue", 2000)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.temporary.cleanup()

    def stream(self, **body):
        status, text = self.server.ask("POST", "/v1/completions", {**body, "stream": True})
        self.assertEqual(status, 200, text)
        return events(text)

    def test_a_harness_scores_what_eval_scores(self):
        lines = "".join(json.dumps({"prompt": p, "answers": list(a), "label": 0}) + "\n" for p, a in QUESTIONS)
        path, samples = write(os.path.join(self.dir, "q.jsonl"), lines), os.path.join(self.dir, "samples.jsonl")
        run_json("eval", self.model, "--no-speed", "--data", path, "--answers", "--samples", samples, "--precision", "f32", "--force")
        with open(samples) as file:
            expected = [a["log_probability"] for line in file for a in json.loads(line)["answers"]]
        asked = [(prompt, answer) for prompt, answers in QUESTIONS for answer in answers]
        # Tokens, as harnesses send them: all prompts in one request, and one token more that they drop. Or texts, and none.
        as_tokens = [list((prompt + answer).encode()) for prompt, answer in asked]
        as_texts = [prompt + answer for prompt, answer in asked]
        for prompts, more in ((as_tokens, 1), (as_tokens, 0), (as_texts, 1), (as_texts, 0)):
            answer = self.server.complete(model="tiny", prompt=prompts, max_tokens=more, temperature=0, logprobs=1, seed=1234, echo=True)
            self.assertEqual([c["index"] for c in answer["choices"]], list(range(len(asked))))
            for choice, (prompt, text), log_probability in zip(answer["choices"], asked, expected):
                scores = choice["logprobs"]
                length = len(prompt) + len(text)
                for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                    self.assertEqual(len(scores[name]), length + more, name)
                self.assertAlmostEqual(sum(scores["token_logprobs"][len(prompt):length]), log_probability, delta=1e-4)
                for own, top in list(zip(scores["token_logprobs"], scores["top_logprobs"]))[1:]:
                    self.assertLessEqual(len(top), 2)
                    self.assertIn(own, top.values())
                    self.assertGreaterEqual(max(top.values()), own)

    def test_the_end_of_a_document_is_a_token_of_the_scores(self):
        """A harness that asks for one token more drops the last score: it is there also where that token ends the text."""
        for seed in range(20):
            asked = {"prompt": "abc", "n": 100, "max_tokens": 4, "temperature": 50, "seed": seed, "logprobs": 1, "echo": True}
            ended = [c for c in self.server.complete(**asked)["choices"] if c["finish_reason"] == "stop"]
            if ended:
                break
        self.assertTrue(ended)
        streamed = {c["index"]: c for e in self.stream(**asked) for c in e["choices"] if c["finish_reason"]}
        for choice in ended:
            scores = choice["logprobs"]
            self.assertEqual(scores["tokens"][-1], "\0")  # the byte that stands between documents, and in no text
            self.assertNotIn("\0", choice["text"])
            self.assertEqual({len(scores[name]) for name in scores}, {len(scores["tokens"])})
            self.assertLess(scores["token_logprobs"][-1], 0)
            self.assertEqual(scores["text_offset"][-1], len(choice["text"]))
            self.assertEqual(streamed[choice["index"]]["logprobs"], scores)

    def test_events_have_the_form_that_clients_read(self):
        for usage in (False, True):
            options = {"stream_options": {"include_usage": True}} if usage else {}
            all_events = self.stream(prompt=["the river", "a"], max_tokens=6, n=2, temperature=0, ignore_end=True, **options)
            self.assertEqual(len({(e["id"], e["created"], e["model"], e["object"]) for e in all_events}), 1)
            self.assertEqual(all_events[0]["object"], "text_completion")
            if usage:
                last = all_events.pop()
                self.assertEqual(last["choices"], [])
                self.assertEqual((last["usage"]["completion_tokens"], last["usage"]["total_tokens"]), (24, 24 + 10))
            for event in all_events:
                self.assertEqual(event.get("usage", "none"), None if usage else "none")
                choice, = event["choices"]
                self.assertEqual(set(choice), {"index", "text", "logprobs", "finish_reason"})
            for index in range(4):
                reasons = [c["finish_reason"] for e in all_events for c in e["choices"] if c["index"] == index]
                self.assertEqual(reasons, [None] * (len(reasons) - 1) + ["length"])

    def test_log_probabilities_without_alternatives(self):
        choice = self.server.complete(prompt="the", max_tokens=3, temperature=0, logprobs=0, ignore_end=True)["choices"][0]
        self.assertEqual(len(choice["logprobs"]["token_logprobs"]), 3)
        self.assertEqual(choice["logprobs"]["top_logprobs"], [None] * 3)
        self.assertIsNone(self.server.complete(prompt="the", max_tokens=3)["choices"][0]["logprobs"])

    def test_null_is_as_if_not_given(self):
        asked = {"prompt": "the river", "max_tokens": 8, "temperature": 0}
        nothing = dict.fromkeys(("stop", "suffix", "best_of", "logprobs", "user", "logit_bias", "n", "echo", "seed", "stream", "stream_options",
                                 "top_p", "frequency_penalty", "presence_penalty", "model"))
        self.assertEqual(self.server.complete(**asked, **nothing)["choices"], self.server.complete(**asked)["choices"])
        beginning = self.server.complete(prompt="", max_tokens=8, temperature=0)["choices"]
        for prompt in ({}, {"prompt": None}):
            self.assertEqual(self.server.complete(max_tokens=8, temperature=0, **prompt)["choices"], beginning)
        harmless = {"suffix": "", "best_of": 1, "n": 1, "user": "somebody", "logit_bias": {}, "frequency_penalty": 0, "presence_penalty": 0.0}
        self.assertEqual(self.server.complete(**asked, **harmless)["choices"], self.server.complete(**asked)["choices"])

    def test_a_seed_is_any_whole_number_of_64_bits(self):
        text = lambda seed: self.server.complete(prompt="the", max_tokens=30, seed=seed, temperature=2, ignore_end=True)["choices"][0]["text"]
        for seed in (-5, -2**63, 2**63 - 1, 0):
            self.assertEqual(text(seed), text(seed))
        self.assertEqual(len({text(seed) for seed in (-5, 5, 0, -2**63)}), 4)
        status, said = self.server.ask("POST", "/v1/completions", {"prompt": "x", "seed": 1.5})
        self.assertEqual((status, json.loads(said)["error"]["param"]), (400, "seed"))

    def test_a_connection_stays_open_as_long_as_answers_say(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        said = re.fullmatch(r"timeout=(\d+), max=(\d+)", answer.headers["Keep-Alive"])
        self.assertGreater(int(said.group(2)), 50)
        socket = connection.sock
        time.sleep(0.6 * int(said.group(1)))  # no nearer: the machine may be busy
        for _ in range(20):
            connection.request("GET", "/health")
            self.assertEqual(connection.getresponse().read(), b'{"status":"ok"}')
            self.assertIs(connection.sock, socket)  # the same, and no new one
        connection.close()

    def test_what_is_not_here_is_an_error_of_openais_form(self):
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            status, text = self.server.ask("POST", path, {"model": "tiny", "messages": []})
            self.assertEqual((status, json.loads(text)["error"]["type"]), (404, "invalid_request_error"))
        for body, param in (({"suffix": "x"}, "suffix"), ({"best_of": 3}, "best_of"), ({"frequency_penalty": 0.5}, "frequency_penalty"),
                            ({"stream_options": {"include_usage": True}}, "stream_options"), ({"prompt": ["a", [99]], "n": 0}, "n")):
            status, text = self.server.ask("POST", "/v1/completions", {"prompt": "x", **body})
            error = json.loads(text)["error"]
            self.assertEqual((status, error["param"], set(error)), (400, param, {"message", "type", "param", "code"}))
        status, text = self.server.ask("POST", "/v1/completions", {"prompt": "x" * 300})
        self.assertEqual((status, json.loads(text)["error"]["code"]), (400, "context_length_exceeded"))
        status, text = self.server.ask("POST", "/v1/completions", {"prompt": "x", "model": "other"})
        self.assertEqual((status, json.loads(text)["error"]["code"]), (404, "model_not_found"))


if __name__ == "__main__":
    unittest.main()
