"""A server that tests start, ask and stop."""

import http.client
import json
import re
import signal
import subprocess
import threading
import time

from hone_cli import tool


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
            plain = body is None or isinstance(body, (str, bytes)) or hasattr(body, "__next__")
            connection.request(method, path, body if plain else json.dumps(body), headers or {})
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

    def wait_until(self, holds, what):
        for _ in range(600):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError(what)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)
